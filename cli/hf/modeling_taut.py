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


def rotate(x, theta):
    """RoPE on [..., T, d]: halves, as Llama has it."""
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
        self.theta = config.arch.get("rope_theta", 10000.0)
        self.q_proj = linear(self.heads * self.head_dim, width)
        self.k_proj = linear(self.kv_heads * self.head_dim, width)
        self.v_proj = linear(self.kv_heads * self.head_dim, width)
        self.o_proj = linear(width, self.heads * self.head_dim)

    def forward(self, x):
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.rope:
            q, k = rotate(q, self.theta), rotate(k, self.theta)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal(T, self.window, x.device))
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


def causal(T, window, device):
    """What query i sees: key j with i - window < j <= i (window 0: j <= i)."""
    i = torch.arange(T, device=device)
    seen = i[None, :] <= i[:, None]
    return seen & (i[None, :] > i[:, None] - window) if window else seen


class SwiGLU(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, hidden, rank = config.arch["width"], part["hidden"], part.get("rank", 0)
        self.gate_proj = linear(hidden, width, rank)
        self.up_proj = linear(hidden, width, rank)
        self.down_proj = linear(width, hidden, rank)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


# layer type: the name that its weights stand under, and its class
PARTS = {
    "attention": ("self_attn", Attention),
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

    def forward(self, x):
        for norm, name in self.branches:
            x = x + getattr(self, name)(getattr(self, norm)(x))
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
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
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
