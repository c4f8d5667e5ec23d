"""A network that Taut found, in plain PyTorch: every layer type, each with the parameters that Taut gives it, in the names of its weights.

Written to be read and to be right, not fast: no cache, no kernels; recurrent layers step token by token.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_taut import TautConfig


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotate(x, theta, r):
    """RoPE on the first r numbers of [..., T, d]: halves, as Llama has it."""
    if r < x.shape[-1]:
        return torch.cat((rotate(x[..., :r], theta, r), x[..., r:]), -1)
    T, d = x.shape[-2:]
    freq = theta ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float64) / d)
    angle = torch.arange(T, device=x.device, dtype=torch.float64)[:, None] * freq
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def linear(out, inn, rank=0):
    """rank > 0: a product of two matrices, a and b."""
    if not rank:
        return nn.Linear(inn, out, bias=False)
    both = nn.Sequential()
    both.add_module("a", nn.Linear(inn, rank, bias=False))
    both.add_module("b", nn.Linear(rank, out, bias=False))
    return both


class Attention(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width = config.arch["width"]
        self.heads, self.kv_heads, self.head_dim = part["heads"], part["kv_heads"], part["head_dim"]
        self.window, self.rope = part.get("window", 0), part.get("rope", True)
        self.rope_dim = part.get("rope_dim", 0) or self.head_dim
        self.theta = config.arch.get("rope_theta", 10000.0)
        self.gate, self.share = part.get("gate", False), part.get("share_kv", False)
        self.q_proj = linear(self.heads * self.head_dim * (2 if self.gate else 1), width)
        self.o_proj = linear(width, self.heads * self.head_dim)
        self.q_norm = RMSNorm(self.head_dim, config.norm_eps) if part.get("qk_norm") else None
        if not self.share:
            self.k_proj = linear(self.kv_heads * self.head_dim, width)
            self.v_proj = linear(self.kv_heads * self.head_dim, width)
            self.k_norm = RMSNorm(self.head_dim, config.norm_eps) if part.get("qk_norm") else None

    def heads_of(self, x, norm):
        """[B, T, h, d], normed, as [B, h, T, d], rotated."""
        x = (norm(x) if norm else x).transpose(1, 2)
        return rotate(x, self.theta, self.rope_dim) if self.rope else x

    def forward(self, x, shared):
        B, T, _ = x.shape
        q, gate = self.q_proj(x).view(B, T, self.heads, -1), None
        if self.gate:
            q, gate = q.chunk(2, -1)
        q = self.heads_of(q, self.q_norm)
        # a layer that shares takes keys and values of the nearest one before it that has its own, of the same kind
        kind = (self.kv_heads, self.head_dim, self.window, self.rope, self.rope_dim)
        if not self.share:
            k = self.heads_of(self.k_proj(x).view(B, T, self.kv_heads, -1), self.k_norm)
            v = self.v_proj(x).view(B, T, self.kv_heads, -1).transpose(1, 2)
            shared[kind] = k, v
        k, v = shared[kind]
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal(T, self.window, x.device)).transpose(1, 2)
        if self.gate:
            y = y * gate.sigmoid()
        return self.o_proj(y.reshape(B, T, -1))


def causal(T, window, device):
    """What query i sees: key j with i - window < j <= i (window 0: j <= i)."""
    i = torch.arange(T, device=device)
    seen = i[None, :] <= i[:, None]
    return seen & (i[None, :] > i[:, None] - window) if window else seen


class CausalConv(nn.Module):
    """Depthwise, along T: each channel a sum of its last taps' inputs."""

    def __init__(self, channels, taps, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, taps))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x):
        x = F.pad(x.transpose(1, 2), (self.weight.shape[-1] - 1, 0))
        return F.conv1d(x, self.weight, self.bias, groups=self.weight.shape[0]).transpose(1, 2)


class ShortConv(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, bias = config.arch["width"], config.arch.get("bias", False)
        self.in_proj = nn.Linear(width, 3 * width, bias=bias)
        self.conv = CausalConv(width, part.get("conv", 3), bias)
        self.out_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x, shared):
        b, c, x = self.in_proj(x).chunk(3, -1)
        return self.out_proj(c * self.conv(b * x))


class SwiGLU(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, hidden, rank = config.arch["width"], part["hidden"], part.get("rank", 0)
        self.gate_proj = linear(hidden, width, rank)
        self.up_proj = linear(hidden, width, rank)
        self.down_proj = linear(width, hidden, rank)

    def forward(self, x, shared):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


# layer type: the name that its weights stand under, and its class
PARTS = {
    "attention": ("self_attn", Attention),
    "short_conv": ("conv", ShortConv),
    "swiglu": ("mlp", SwiGLU),
}


class Layer(nn.Module):
    """A mixer and a feed-forward, each with a norm before it; a part of type none has neither."""

    def __init__(self, config, layer):
        super().__init__()
        self.branches = []
        for role, norm in (("mixer", "input_layernorm"), ("ffn", "post_attention_layernorm")):
            part = layer[role]
            if part["type"] == "none":
                continue
            name, make = PARTS[part["type"]]
            setattr(self, norm, RMSNorm(config.arch["width"], config.norm_eps))
            setattr(self, name, make(config, part))
            self.branches.append((norm, name))

    def forward(self, x, shared):
        for norm, name in self.branches:
            x = x + getattr(self, name)(getattr(self, norm)(x), shared)
        return x


class TautPreTrainedModel(PreTrainedModel):
    config_class = TautConfig
    base_model_prefix = "model"
    _no_split_modules = ["Layer"]
    _supports_sdpa = True


class TautModel(TautPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        arch = config.arch
        self.embed_tokens = nn.Embedding(arch["vocab"], arch["width"])
        self.layers = nn.ModuleList(Layer(config, layer) for layer in arch["layers"])
        self.norm = RMSNorm(arch["width"], config.norm_eps)
        self.post_init()

    def forward(self, input_ids):
        x, shared = self.embed_tokens(input_ids), {}
        for layer in self.layers:
            x = layer(x, shared)
        return self.norm(x)


class TautForCausalLM(TautPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = TautModel(config)
        self.lm_head = nn.Linear(config.arch["width"], config.arch["vocab"], bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("padded sequences are not supported: give one length a batch")
        logits = self.lm_head(self.model(input_ids))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
