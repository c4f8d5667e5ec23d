#!/usr/bin/env python3
"""Golden numbers for linear: a tiny network of gated linear attention and swiglu, written out token by token, in float64.

    python3 make_linear.py           # writes linear_*.safetensors beside itself

There is no public class in transformers: the recurrence of searchspace/linear.c in torch, whose autograd gives the gradients. RMSNorm and
swiglu as in LlamaForCausalLM. Made with torch 2.15.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19
D, HIDDEN, LAYERS, HEADS, K, VALUE, RANK, EPS = 24, 36, 2, 3, 6, 5, 4, 1e-5


def shapes():
    yield "model.embed_tokens.weight", (V, D)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (D,)
        for name, shape in {"q_proj.weight": (HEADS * K, D), "k_proj.weight": (HEADS * K, D), "v_proj.weight": (HEADS * VALUE, D),
                            "g_proj.weight": (HEADS * VALUE, D), "gk_proj.0.weight": (RANK, D), "gk_proj.1.weight": (HEADS * K, RANK),
                            "o_proj.weight": (D, HEADS * VALUE), "gk_proj.1.bias": (HEADS * K,), "g_norm_swish_gate.weight": (VALUE,)}.items():
            yield p + "attn." + name, shape
        yield p + "post_attention_layernorm.weight", (D,)
        for name, shape in {"gate_proj": (HIDDEN, D), "up_proj": (HIDDEN, D), "down_proj": (D, HIDDEN)}.items():
            yield f"{p}mlp.{name}.weight", shape
    yield "model.norm.weight", (D,)
    yield "lm_head.weight", (V, D)


def rms(x, w):
    return w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


def mixer(x, w):
    q, k = ((x @ w[n].T).view(B, T, HEADS, K) for n in ("q_proj.weight", "k_proj.weight"))
    v, z = ((x @ w[n].T).view(B, T, HEADS, VALUE) for n in ("v_proj.weight", "g_proj.weight"))
    g = F.logsigmoid(x @ w["gk_proj.0.weight"].T @ w["gk_proj.1.weight"].T + w["gk_proj.1.bias"]).view(B, T, HEADS, K) / 16
    S, out = torch.zeros(B, HEADS, K, VALUE, dtype=x.dtype), []
    for t in range(T):
        S = g[:, t].exp().unsqueeze(-1) * S + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        out.append(torch.einsum("bhkv,bhk->bhv", S, q[:, t]) / K ** 0.5)
    o = rms(torch.stack(out, 1), w["g_norm_swish_gate.weight"]) * F.silu(z)
    return o.reshape(B, T, -1) @ w["o_proj.weight"].T


def forward(w, tokens):
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        inner = {k[len(p + "attn."):]: t for k, t in w.items() if k.startswith(p + "attn.")}
        x = x + mixer(rms(x, w[p + "input_layernorm.weight"]), inner)
        h = rms(x, w[p + "post_attention_layernorm.weight"])
        x = x + (F.silu(h @ w[p + "mlp.gate_proj.weight"].T) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
    return rms(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


torch.manual_seed(5)
weights = {k: 1 + 0.3 * torch.randn(s) if "norm" in k else (2 if "gk_proj" in k else 0.25) * torch.randn(s) for k, s in shapes()}
save_file(weights, f"{HERE}/linear_weights.safetensors")
w = {k: t.double().requires_grad_() for k, t in weights.items()}
tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
logits = forward(w, tokens)
loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
loss.backward()
out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
out |= {f"grad.{k}": t.grad.float().contiguous() for k, t in w.items()}
save_file(out, f"{HERE}/linear_golden.safetensors")
print("linear", sum(t.numel() for t in w.values()), "parameters, loss", loss.item())
