#!/usr/bin/env python3
"""Golden numbers for model/mla.c: tiny DeepseekV3ForCausalLM with dense feed-forwards alone, as make_llama.py makes its own.

    python3 make_mla.py            # writes mla_*.safetensors, mla_rank_*.safetensors and mla_pairs_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.23. The norms of the class ask for f32 numbers, which would be most of
the error in a model of doubles: here they keep what they have. mla_pairs has rope_interleave: its rotating rows are written in the order
0, 2, 4, ..., 1, 3, 5, ..., as Taut wants them.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19
H, R, DN, DR, DV = 4, 10, 6, 4, 5
convert = torch.Tensor.to
torch.Tensor.to = lambda x, *args, **named: x if args == (torch.float32,) and x.dtype == torch.float64 else convert(x, *args, **named)


def ours(key, t, pairs):
    """Taut's order of rows."""
    if not pairs:
        return t.contiguous()
    turn = torch.cat([torch.arange(0, DR, 2), torch.arange(1, DR, 2)])
    if "q_proj" in key or "q_b_proj" in key:
        rows = torch.cat([torch.cat([torch.arange(DN), DN + turn]) + h * (DN + DR) for h in range(H)])
        return t[rows].contiguous()
    if "kv_a_proj" in key:
        return t[torch.cat([torch.arange(R), R + turn])].contiguous()
    return t.contiguous()


def biased(model):
    """The class has biases in attention alone; an architecture of Taut has them in the feed-forward too."""
    for layer in model.model.layers:
        for name, old in list(layer.mlp.named_children()):
            if isinstance(old, torch.nn.Linear):
                setattr(layer.mlp, name, torch.nn.Linear(old.in_features, old.out_features))
    return model


def make(name, model, pairs=False):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(1 + 0.3 * torch.randn_like(p) if "norm" in key else 0.25 * torch.randn_like(p))
    save_file({k: ours(k, p.detach(), pairs) for k, p in model.named_parameters()}, f"{HERE}/{name}_weights.safetensors")
    model = model.double()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out |= {f"grad.{k}": ours(k, p.grad.type(torch.float32), pairs) for k, p in model.named_parameters()}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", loss.item())


same = dict(vocab_size=V, hidden_size=24, intermediate_size=36, num_hidden_layers=2, first_k_dense_replace=2, num_attention_heads=H,
            num_key_value_heads=H, kv_lora_rank=R, qk_nope_head_dim=DN, qk_rope_head_dim=DR, v_head_dim=DV, max_position_embeddings=64,
            rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=None, num_mtp_layers=0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
make("mla", DeepseekV3ForCausalLM(DeepseekV3Config(q_lora_rank=None, rope_interleave=False, **same)))
make("mla_rank", biased(DeepseekV3ForCausalLM(DeepseekV3Config(q_lora_rank=7, rope_interleave=False, attention_bias=True, **same))))
make("mla_pairs", DeepseekV3ForCausalLM(DeepseekV3Config(q_lora_rank=9, rope_interleave=True, **same)), pairs=True)
