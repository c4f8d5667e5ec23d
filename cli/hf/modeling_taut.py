"""A network that Taut found, in plain PyTorch: every layer type, each with the parameters that Taut gives it, in the names of its weights.

Written to be read and to be right, not fast: no cache, no kernels; recurrent layers step token by token.
"""
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


class LayerNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def norm_of(config):
    """What stands before each part and at the end."""
    make = LayerNorm if config.arch.get("norm", "rms") == "layer" else RMSNorm
    return make(config.arch["width"], config.norm_eps)


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


class LowRank(nn.Module):
    """A product of two matrices."""

    def __init__(self, out, inn, rank, bias):
        super().__init__()
        self.a = nn.Linear(inn, rank, bias=False)
        self.b = nn.Linear(rank, out, bias=bias)

    def forward(self, x):
        return self.b(self.a(x))


def linear(out, inn, bias, rank=0):
    return LowRank(out, inn, rank, bias) if rank else nn.Linear(inn, out, bias=bias)


class Attention(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, bias = config.arch["width"], config.arch.get("bias", False)
        self.heads, self.kv_heads, self.head_dim = part["heads"], part["kv_heads"], part["head_dim"]
        self.window, self.rope = part.get("window", 0), part.get("rope", True)
        self.rope_dim = part.get("rope_dim", 0) or self.head_dim
        self.theta = config.arch.get("rope_theta", 10000.0)
        self.gate, self.share = part.get("gate", False), part.get("share_kv", False)
        self.q_proj = linear(self.heads * self.head_dim * (2 if self.gate else 1), width, bias)
        self.o_proj = linear(width, self.heads * self.head_dim, bias)
        self.q_norm = RMSNorm(self.head_dim, config.norm_eps) if part.get("qk_norm") else None
        if not self.share:
            self.k_proj = linear(self.kv_heads * self.head_dim, width, bias)
            self.v_proj = linear(self.kv_heads * self.head_dim, width, bias)
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


class MLA(nn.Module):
    """Latent attention, as DeepSeek-V3 has it; its inner norms have an eps of their own."""

    def __init__(self, config, part):
        super().__init__()
        width, bias, rank = config.arch["width"], config.arch.get("bias", False), part.get("q_rank", 0)
        self.heads, self.kv_rank = part["heads"], part["kv_rank"]
        self.nope, self.rope, self.v = part["nope_dim"], part["rope_dim"], part["v_dim"]
        self.theta, eps = config.arch.get("rope_theta", 10000.0), 1e-6
        if rank:
            self.q_a_proj, self.q_a_layernorm = linear(rank, width, bias), RMSNorm(rank, eps)
            self.q_b_proj = linear(self.heads * (self.nope + self.rope), rank, False)
        else:
            self.q_proj = linear(self.heads * (self.nope + self.rope), width, False)
        self.kv_a_proj_with_mqa, self.kv_a_layernorm = linear(self.kv_rank + self.rope, width, bias), RMSNorm(self.kv_rank, eps)
        self.kv_b_proj = linear(self.heads * (self.nope + self.v), self.kv_rank, False)
        self.o_proj = linear(width, self.heads * self.v, bias)

    def forward(self, x, shared):
        B, T, _ = x.shape
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))) if hasattr(self, "q_a_proj") else self.q_proj(x)
        q, q_turning = q.view(B, T, self.heads, -1).transpose(1, 2).split((self.nope, self.rope), -1)
        latent, k_turning = self.kv_a_proj_with_mqa(x).split((self.kv_rank, self.rope), -1)
        k, v = self.kv_b_proj(self.kv_a_layernorm(latent)).view(B, T, self.heads, -1).transpose(1, 2).split((self.nope, self.v), -1)
        # one key that carries the position, for all heads
        k_turning = rotate(k_turning, self.theta, self.rope)[:, None].expand(B, self.heads, T, self.rope)
        q, k = torch.cat((q, rotate(q_turning, self.theta, self.rope)), -1), torch.cat((k, k_turning), -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal(T, 0, x.device)).transpose(1, 2)
        return self.o_proj(y.reshape(B, T, -1))


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
        width, bias, hidden, rank = config.arch["width"], config.arch.get("bias", False), part["hidden"], part.get("rank", 0)
        self.gate_proj = linear(hidden, width, bias, rank)
        self.up_proj = linear(hidden, width, bias, rank)
        self.down_proj = linear(width, hidden, bias, rank)

    def forward(self, x, shared):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MLP(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, bias = config.arch["width"], config.arch.get("bias", False)
        self.act = part.get("act", "relu2")
        self.up_proj = linear(part["hidden"], width, bias)
        self.down_proj = linear(width, part["hidden"], bias)

    def forward(self, x, shared):
        h = self.up_proj(x)
        return self.down_proj(h.relu().square() if self.act == "relu2" else F.gelu(h, approximate="tanh"))


class Experts(nn.Module):
    """gate_proj, up_proj [E, F, D] and down_proj [E, D, F]; relu2 has no gate."""

    def __init__(self, experts, hidden, width, act):
        super().__init__()
        self.gate_proj = nn.Parameter(torch.zeros(experts, hidden, width)) if act == "swiglu" else None
        self.up_proj = nn.Parameter(torch.zeros(experts, hidden, width))
        self.down_proj = nn.Parameter(torch.zeros(experts, width, hidden))

    def forward(self, x, e):
        up = x @ self.up_proj[e].T
        h = up.relu().square() if self.gate_proj is None else F.silu(x @ self.gate_proj[e].T) * up
        return h @ self.down_proj[e].T


class Shared(nn.Module):
    def __init__(self, hidden, width, act):
        super().__init__()
        self.gate_proj = linear(hidden, width, False) if act == "swiglu" else None
        self.up_proj = linear(hidden, width, False)
        self.down_proj = linear(width, hidden, False)

    def forward(self, x):
        up = self.up_proj(x)
        return self.down_proj(up.relu().square() if self.gate_proj is None else F.silu(self.gate_proj(x)) * up)


class MoE(nn.Module):
    """The k experts of the largest router logits, weighted by their scores over the scores' sum; shared ones are always on."""

    def __init__(self, config, part):
        super().__init__()
        width, hidden, act = config.arch["width"], part["hidden"], part.get("act", "swiglu")
        self.active, self.router = part["active"], part.get("router", "softmax")
        self.gate = linear(part["experts"], width, False)
        self.experts = Experts(part["experts"], hidden, width, act)
        self.shared_experts = Shared(hidden * part["shared"], width, act) if part.get("shared") else None
        self.shared_expert_gate = linear(1, width, False) if part.get("shared") and part.get("shared_gate") else None

    def forward(self, x, shared):
        flat = x.reshape(-1, x.shape[-1])
        top, chosen = self.gate(flat).topk(self.active, -1)
        score = top.softmax(-1) if self.router == "softmax" else top.sigmoid()
        weight = score / score.sum(-1, keepdim=True)
        y = torch.zeros_like(flat)
        for e in range(self.gate.weight.shape[0]):
            token, place = torch.where(chosen == e)
            y.index_add_(0, token, weight[token, place, None] * self.experts(flat[token], e))
        y = y.view_as(x)
        if self.shared_experts is not None:
            always = self.shared_experts(x)
            y = y + (always if self.shared_expert_gate is None else self.shared_expert_gate(x).sigmoid() * always)
        return y


class Mamba2(nn.Module):
    def __init__(self, config, part):
        super().__init__()
        width, bias = config.arch["width"], config.arch.get("bias", False)
        self.inner, self.head_dim, self.state = width * part["expand"], part["head_dim"], part["state"]
        self.heads, self.groups, self.eps = self.inner // self.head_dim, part.get("groups", 1), config.norm_eps
        self.mixed = self.inner + 2 * self.groups * self.state
        self.in_proj = linear(self.inner + self.mixed + self.heads, width, bias)
        self.conv1d = CausalConv(self.mixed, part.get("conv", 4), True)
        self.dt_bias = nn.Parameter(torch.zeros(self.heads))
        self.A_log = nn.Parameter(torch.zeros(self.heads))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, self.eps)
        self.out_proj = linear(width, self.inner, bias)

    def forward(self, x, shared):
        B, T, _ = x.shape
        z, xbc, dt = self.in_proj(x).split((self.inner, self.mixed, self.heads), -1)
        u, b, c = F.silu(self.conv1d(xbc)).split((self.inner, self.groups * self.state, self.groups * self.state), -1)
        dt = F.softplus(dt + self.dt_bias)
        decay = torch.exp(-self.A_log.exp() * dt)
        u = u.view(B, T, self.heads, self.head_dim)
        b, c = (v.view(B, T, self.groups, self.state).repeat_interleave(self.heads // self.groups, 2) for v in (b, c))
        s, y = x.new_zeros(B, self.heads, self.head_dim, self.state), []
        for t in range(T):
            s = decay[:, t, :, None, None] * s + (dt[:, t, :, None] * u[:, t]).unsqueeze(-1) * b[:, t].unsqueeze(-2)
            y.append((s @ c[:, t].unsqueeze(-1)).squeeze(-1) + self.D[:, None] * u[:, t])
        y = torch.stack(y, 1).reshape(B, T, self.inner) * F.silu(z)
        y = y.view(B, T, self.groups, -1)
        y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).view(B, T, self.inner)
        return self.out_proj(self.norm.weight * y)


class GatedDelta(nn.Module):
    """A state [K, V] for each head: it decays, forgets what it says of a key, and learns the key's value."""

    def __init__(self, config, part):
        super().__init__()
        width = config.arch["width"]
        self.heads, self.key_heads, self.head_dim, self.value_dim = part["heads"], part["key_heads"], part["head_dim"], part["value_dim"]
        keys, values, taps = self.key_heads * self.head_dim, self.heads * self.value_dim, part.get("conv", 4)
        for name, rows in (("q", keys), ("k", keys), ("v", values), ("z", values), ("b", self.heads), ("a", self.heads)):
            setattr(self, "in_proj_" + name, linear(rows, width, False))
        self.conv1d_q = CausalConv(keys, taps, False)
        self.conv1d_k = CausalConv(keys, taps, False)
        self.conv1d_v = CausalConv(values, taps, False)
        self.A_log = nn.Parameter(torch.zeros(self.heads))
        self.dt_bias = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.value_dim, config.norm_eps)
        self.out_proj = linear(width, values, False)

    def forward(self, x, shared):
        B, T, _ = x.shape
        q, k = (F.silu(conv(of(x))).view(B, T, self.key_heads, -1) for conv, of in ((self.conv1d_q, self.in_proj_q), (self.conv1d_k, self.in_proj_k)))
        q, k = (u * torch.rsqrt(u.pow(2).sum(-1, keepdim=True) + 1e-6) for u in (q, k))
        q, k = (u.repeat_interleave(self.heads // self.key_heads, 2) for u in (q * self.head_dim**-0.5, k))
        v = F.silu(self.conv1d_v(self.in_proj_v(x))).view(B, T, self.heads, -1)
        beta = self.in_proj_b(x).sigmoid()
        decay = torch.exp(-self.A_log.exp() * F.softplus(self.in_proj_a(x) + self.dt_bias))
        s, y = x.new_zeros(B, self.heads, self.head_dim, self.value_dim), []
        for t in range(T):
            s = decay[:, t, :, None, None] * s
            new = beta[:, t, :, None] * (v[:, t] - (k[:, t].unsqueeze(-2) @ s).squeeze(-2))
            s = s + k[:, t].unsqueeze(-1) * new.unsqueeze(-2)
            y.append((q[:, t].unsqueeze(-2) @ s).squeeze(-2))
        y = self.norm(torch.stack(y, 1)) * F.silu(self.in_proj_z(x)).view(B, T, self.heads, -1)
        return self.out_proj(y.reshape(B, T, -1))


class LinearAttention(nn.Module):
    """A state [K, V] for each head, which decays row by row and takes in k (x) v."""

    def __init__(self, config, part):
        super().__init__()
        width = config.arch["width"]
        self.heads, self.head_dim, self.value_dim = part["heads"], part["head_dim"], part["value_dim"]
        keys, values, rank = self.heads * self.head_dim, self.heads * self.value_dim, part.get("gate_rank", 16)
        self.q_proj = linear(keys, width, False)
        self.k_proj = linear(keys, width, False)
        self.v_proj = linear(values, width, False)
        self.g_proj = linear(values, width, False)
        self.gk_proj = nn.Sequential(linear(rank, width, False), linear(keys, rank, True))
        self.g_norm_swish_gate = RMSNorm(self.value_dim, config.norm_eps)
        self.o_proj = linear(width, values, False)

    def forward(self, x, shared):
        B, T, _ = x.shape
        q, k, v, z = (of(x).view(B, T, self.heads, -1) for of in (self.q_proj, self.k_proj, self.v_proj, self.g_proj))
        decay = torch.exp(F.logsigmoid(self.gk_proj(x)) / 16).view(B, T, self.heads, -1)
        s, y = x.new_zeros(B, self.heads, self.head_dim, self.value_dim), []
        for t in range(T):
            s = decay[:, t].unsqueeze(-1) * s + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
            y.append((q[:, t].unsqueeze(-2) @ s).squeeze(-2) * self.head_dim**-0.5)
        y = self.g_norm_swish_gate(torch.stack(y, 1)) * F.silu(z)
        return self.o_proj(y.reshape(B, T, -1))


# layer type: the name that its weights stand under, and its class
PARTS = {
    "attention": ("self_attn", Attention),
    "mamba2": ("mamba", Mamba2),
    "mla": ("self_attn", MLA),
    "gated_delta": ("linear_attn", GatedDelta),
    "linear": ("attn", LinearAttention),
    "short_conv": ("conv", ShortConv),
    "swiglu": ("mlp", SwiGLU),
    "mlp": ("mlp", MLP),
    "moe": ("mlp", MoE),
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
            setattr(self, norm, norm_of(config))
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
        self.norm = norm_of(config)
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
