#!/usr/bin/env python3
"""Golden numbers for model/short_conv.c, and for the attention beside it: tiny Lfm2ForCausalLM, as make_llama.py makes its own.

    python3 make_lfm2.py            # writes lfm2_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.24. Tensors under Taut's names: the class calls the
norms operator_norm, ffn_norm, embedding_norm, q_layernorm and k_layernorm, the feed-forward's matrices w1, w3, w2, and attention's last
one out_proj.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Lfm2Config, Lfm2ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19
OURS = {"operator_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "embedding_norm": "norm",
        "self_attn.q_layernorm": "self_attn.q_norm", "self_attn.k_layernorm": "self_attn.k_norm", "self_attn.out_proj": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj", "feed_forward.w3": "mlp.up_proj", "feed_forward.w2": "mlp.down_proj"}


def ours(key):
    for theirs, name in OURS.items():
        key = key.replace(theirs, name)
    return key


def make(name, model):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(1 + 0.3 * torch.randn_like(p) if "norm" in key else 0.25 * torch.randn_like(p))
            if "conv.conv" in key:
                p.mul_(3)
    save_file({ours(k): p.detach().contiguous() for k, p in model.named_parameters()}, f"{HERE}/{name}_weights.safetensors")
    model = model.double()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out |= {f"grad.{ours(k)}": p.grad.float().contiguous() for k, p in model.named_parameters()}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", loss.item())


for name, types in (("lfm2", ["conv", "conv"]), ("lfm2_attention", ["full_attention", "conv"])):
    make(name, Lfm2ForCausalLM(Lfm2Config(
        vocab_size=V, hidden_size=24, intermediate_size=36, num_hidden_layers=len(types), num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=None, conv_bias=False, conv_L_cache=3,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        block_auto_adjust_ff_dim=False, layer_types=types, attn_implementation="eager")))
