#!/usr/bin/env python3
"""Golden numbers for model/mamba2.c: tiny BambaForCausalLM of Mamba-2 layers alone, as make_llama.py makes its own.

    python3 make_bamba.py            # writes bamba_*.safetensors and bamba_bias_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.23 (their PyTorch path, no kernels). Tensors under Taut's names:
the class calls the norms pre_ff_layernorm and final_layernorm, and the feed-forward feed_forward. Its scan and its norms ask for f32 numbers, which
would be most of the error in a model of doubles: here they keep what they have.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BambaConfig, BambaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19
convert = torch.Tensor.to
torch.Tensor.float = lambda x: x
torch.Tensor.to = lambda x, *args, **named: x if args == (torch.float32,) and x.dtype == torch.float64 else convert(x, *args, **named)


def ours(key):
    return key.replace("pre_ff_layernorm", "post_attention_layernorm").replace("final_layernorm", "norm").replace("feed_forward", "mlp")


def make(name, model):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "A_log" in key:
                p.copy_(torch.log(1 + 4 * torch.rand_like(p)))
            elif "dt_bias" in key:
                p.copy_(torch.randn_like(p) - 2)
            elif "norm" in key or key.endswith(".D"):
                p.copy_(1 + 0.3 * torch.randn_like(p))
            else:
                p.copy_((0.6 if "conv1d" in key else 0.25) * torch.randn_like(p))
    save_file({ours(k): p.detach().contiguous() for k, p in model.named_parameters()}, f"{HERE}/{name}_weights.safetensors")
    model = model.double()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out |= {f"grad.{ours(k)}": p.grad.type(torch.float32).contiguous() for k, p in model.named_parameters()}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", loss.item())


same = dict(vocab_size=V, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=None, attn_layer_indices=None,
            mamba_expand=2, mamba_n_heads=4, mamba_d_head=12, mamba_d_conv=4, mamba_chunk_size=5, attn_implementation="eager")
make("bamba", BambaForCausalLM(BambaConfig(mamba_n_groups=2, mamba_d_state=10, **same)))
make("bamba_bias", BambaForCausalLM(BambaConfig(mamba_n_groups=1, mamba_d_state=7, mamba_proj_bias=True, mlp_bias=True, **same)))
