#!/usr/bin/env python3
"""Golden numbers for gated_delta: a tiny Qwen3NextForCausalLM whose layers are all Gated DeltaNet, as make_llama.py makes them.

    python3 make_delta.py            # writes gated_delta_*.safetensors beside itself

Its norms multiply by 1 + w, so that what is written is 1 + w (the norm inside Gated DeltaNet holds w). in_proj_qkvz, in_proj_ba and conv1d
are written as matrices of their own (searchspace/gated_delta.c says how they lie in the class). The class computes the scan in f32 whatever
the model's type; here it is made to do so in f64. Made with torch 2.15, transformers 5.23.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19
D, HEADS, KEYS, K, VALUE, CONV = 24, 4, 2, 6, 5, 4


def split(name, w):
    """(name, tensor) of what the class keeps as one."""
    R, base = HEADS // KEYS, name.rsplit(".", 2)[0]
    if name.endswith("in_proj_qkvz.weight"):
        q, k, v, z = w.view(KEYS, 2 * K + 2 * R * VALUE, D).split([K, K, R * VALUE, R * VALUE], dim=1)
        return [(f"{base}.in_proj_{x}.weight", t.reshape(-1, D)) for x, t in zip("qkvz", (q, k, v, z))]
    if name.endswith("in_proj_ba.weight"):
        b, a = w.view(KEYS, 2 * R, D).split([R, R], dim=1)
        return [(f"{base}.in_proj_{x}.weight", t.reshape(-1, D)) for x, t in zip("ba", (b, a))]
    if name.endswith("conv1d.weight"):
        q, k, v = w.split([KEYS * K, KEYS * K, HEADS * VALUE], dim=0)
        return [(f"{base}.conv1d_{x}.weight", t) for x, t in zip("qkv", (q, k, v))]
    return [(name, w)]


def initial(name, p, plus):
    if name.endswith("A_log"):
        return torch.empty_like(p).uniform_(0.1, 4).log()
    if name.endswith("dt_bias"):
        return 0.5 * torch.randn_like(p)
    if "norm" in name:
        return 1 + 0.3 * torch.randn_like(p) - plus
    return (0.5 if "conv1d" in name else 0.25) * torch.randn_like(p)


torch.manual_seed(5)
model = Qwen3NextForCausalLM(Qwen3NextConfig(
    vocab_size=V, hidden_size=D, intermediate_size=36, num_hidden_layers=2, layer_types=["linear_attention"] * 2, mlp_only_layers=[0, 1],
    num_experts=0, linear_num_value_heads=HEADS, linear_num_key_heads=KEYS, linear_key_head_dim=K, linear_value_head_dim=VALUE,
    linear_conv_kernel_dim=CONV, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, attn_implementation="eager"))
named = list(model.named_parameters())
plus = {k: float("norm" in k and "linear_attn" not in k) for k, _ in named}
with torch.no_grad():
    for key, p in named:
        p.copy_(initial(key, p, plus[key]))
weights = {k: p.detach() + plus[k] for k, p in named}
save_file({n: t.contiguous() for k, w in weights.items() for n, t in split(k, w)}, f"{HERE}/gated_delta_weights.safetensors")
model = model.double()
with torch.no_grad():
    for k, p in named:
        p.copy_(weights[k].double() - plus[k])
torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
logits = model(input_ids=tokens, use_cache=False).logits
loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
loss.backward()
out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
for k, p in named:
    out |= {f"grad.{n}": t.type(torch.FloatTensor).contiguous() for n, t in split(k, p.grad)}
save_file(out, f"{HERE}/gated_delta_golden.safetensors")
print("gated_delta", sum(p.numel() for _, p in named), "parameters, loss", loss.item(), logits.dtype)
