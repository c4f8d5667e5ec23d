#!/usr/bin/env python3
"""Golden numbers for proxies/: every proxy of Hugging Face networks with the weights of make_llama.py, make_bamba.py, make_moe.py and
make_mlp.py, by autograd in float64, as the published implementations have them.

    python3 make_proxies.py            # writes proxies_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.23. Each file: tokens and targets I32 [4,B,T], and a number F64 [1] for each
proxy (proxies/proxy.h says what is summed over what). Nothing here follows the C code: singular values are torch's, the Hessian's product is a second
pass of autograd, gradients of activations come from hooks.
"""
import os
import re

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (BambaConfig, BambaForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM,
                          NemotronHConfig, NemotronHForCausalLM, Qwen3NextConfig)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextSparseMoeBlock

HERE = os.path.dirname(os.path.abspath(__file__))
BATCHES, B, T, V, AUX = 4, 4, 12, 19, 0.01
convert = torch.Tensor.to
torch.Tensor.float = lambda x: x  # networks of doubles throughout, where classes ask for f32
torch.Tensor.to = lambda x, *args, **named: x if args == (torch.float32,) and x.dtype == torch.float64 else convert(x, *args, **named)
softmax = F.softmax
F.softmax = torch.nn.functional.softmax = lambda x, *args, dtype=None, **named: softmax(x, *args, **named)

RENAME = [("pre_ff_layernorm", "post_attention_layernorm"), ("final_layernorm", "norm"), ("feed_forward", "mlp"), ("mlp.shared_expert.", "mlp.shared_experts.")]


def ours(name, t):
    """Their tensor under our names: halves of what they keep together."""
    for old, new in RENAME:
        name = name.replace(old, new)
    if name.endswith("experts.gate_up_proj"):
        return {name.replace("gate_up", part): half for part, half in zip(("gate", "up"), t.chunk(2, 1))}
    return {name: t}


def of_nemotron(key, t):
    m = re.match(r"model\.layers\.(\d+)\.(.*)", key)
    if not m:
        return {key.replace("model.embeddings", "model.embed_tokens").replace("norm_f", "norm"): t}
    block, rest = int(m[1]), m[2]
    if rest.startswith("norm."):
        rest = rest.replace("norm", "post_attention_layernorm" if block % 2 else "input_layernorm")
    return {f"model.layers.{block // 2}." + rest.replace("mixer.", "mlp." if block % 2 else "self_attn."): t}


def is_matrix(name):
    return ".layers." in name and "norm" not in name and "conv1d" not in name and not name.endswith((".A_log", ".D", ".dt_bias", ".bias"))


class Net:
    """parts: names of a layer's mixer and ffn; k: experts a token; ours: their tensor under our names."""

    def __init__(self, model, weights, parts, k=0, ours=ours):
        self.model, self.k, self.ours, self.routers = model, k, ours, []
        self.layers = model.config.num_hidden_layers * len(parts) // 2  # of a mixer and an ffn
        self.parts = [getattr(layer, part) for layer in model.model.layers for part in parts]
        have = load_file(f"{HERE}/{weights}_weights.safetensors")
        with torch.no_grad():
            for name, p in model.named_parameters():
                for key, part in ours(name, p).items():
                    part.copy_(have.pop(key))
        assert not have, have.keys()
        model.double()
        for module in model.modules():
            if type(module).__name__.endswith("Router"):
                module.register_forward_hook(lambda _m, _i, out: self.routers.append(out[0]))

    def logits(self, tokens=None, embedded=None):
        self.routers.clear()
        return self.model(input_ids=tokens, inputs_embeds=embedded, use_cache=False).logits

    def loss(self, tokens, targets):
        logits = self.logits(tokens)
        aux = sum(load_balancing_loss_func((z.double(),), z.shape[-1], self.k) / self.k for z in self.routers) if self.routers else 0
        return F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1)) + AUX * aux

    def named(self, tensors):
        """A tensor a parameter, under our names: the matrices inside the layers."""
        out = {}
        for (name, _), t in zip(self.model.named_parameters(), tensors):
            out |= {key: part for key, part in self.ours(name, t).items() if is_matrix(key)}
        return out

    def weights(self):
        return self.named([p.detach() for p in self.model.parameters()])

    def gradients(self, value):
        params = list(self.model.parameters())
        return self.named([torch.zeros_like(p) if g is None else g for p, g in zip(params, torch.autograd.grad(value, params, allow_unused=True))])


def nuclear(t):
    return torch.linalg.svdvals(t).sum(-1)


def grasp(net, tokens, targets):
    params = [p for name, p in net.model.named_parameters() if all(map(is_matrix, net.ours(name, p)))]
    fixed = torch.autograd.grad(net.loss(tokens, targets), params, allow_unused=True)
    again = torch.autograd.grad(net.loss(tokens, targets), params, create_graph=True, allow_unused=True)
    z = sum((a.detach() * b).sum() for a, b in zip(fixed, again) if a is not None)
    return -sum((p.detach() * h).sum() for p, h in zip(params, torch.autograd.grad(z, params, allow_unused=True)) if h is not None)


def synflow(net):
    kept = [p.detach().clone() for p in net.model.parameters()]
    with torch.no_grad():
        for p in net.model.parameters():
            p.abs_()
    g = net.gradients(net.logits(embedded=torch.ones(1, T, net.model.config.hidden_size, dtype=torch.float64)).sum())
    total = sum((g[key] * w).abs().sum() for key, w in net.weights().items())
    with torch.no_grad():
        for p, k in zip(net.model.parameters(), kept):
            p.copy_(k)
    return total


def fisher(net, tokens, targets):
    outputs = []

    def keep(_m, _i, out):
        y = out[0] if isinstance(out, tuple) else out
        y.retain_grad()
        outputs.append(y)

    hooks = [part.register_forward_hook(keep) for part in net.parts]
    net.loss(tokens, targets).backward()
    for h in hooks:
        h.remove()
    net.model.zero_grad()
    return sum(((y * y.grad).sum(1) ** 2).sum() / (2 * B) for y in outputs)


def jacov(net, batches):
    rows = []
    for tokens, _ in batches:
        embedded = net.model.get_input_embeddings()(tokens).detach().requires_grad_()
        rows.append(torch.autograd.grad(net.logits(embedded=embedded).sum(), embedded)[0].reshape(B, -1))
    v = torch.linalg.eigvalsh(torch.corrcoef(torch.cat(rows)))
    return -(torch.log(v + 1e-5) + 1 / (v + 1e-5)).sum()


def moe_on(block, x):
    """Of each token, every expert's units: on where the gate of an expert that the token is sent to is above 0."""
    x = x.reshape(-1, x.shape[-1])
    chosen = F.one_hot((x @ block.gate.weight.T).topk(block.gate.top_k).indices, block.gate.weight.shape[0]).sum(1).bool()
    gate = torch.einsum("nd,efd->nef", x, block.experts.gate_up_proj.chunk(2, 1)[0])
    on = [((gate > 0) & chosen[:, :, None]).flatten(1)]
    if hasattr(block, "shared_expert"):
        on.append(block.shared_expert.gate_proj(x) > 0)
    return torch.cat(on, 1)


def naswot(net, batches):
    codes = []
    for tokens, _ in batches:
        on, hooks = [], []
        for module in net.model.modules():
            if hasattr(module, "experts"):
                hooks.append(module.register_forward_hook(lambda m, i, _o: on.append(moe_on(m, i[0]).reshape(B, -1))))
            elif hasattr(module, "up_proj") and not hasattr(module, "gate_up_proj"):
                gate = getattr(module, "gate_proj", module.up_proj)
                hooks.append(gate.register_forward_hook(lambda _m, _i, out: on.append((out > 0).reshape(B, -1)) if out.dim() == 3 else None))
        with torch.no_grad():
            net.logits(tokens)
        for h in hooks:
            h.remove()
        codes.append(torch.cat(on, 1))
    x = torch.cat(codes).double()
    return torch.linalg.slogdet(x @ x.T + (1 - x) @ (1 - x.T))[1]


def wpca(net, tokens):
    units, hooks = [], []
    for module in net.model.modules():
        if hasattr(module, "experts"):
            def experts(block, i, _o):
                x = i[0].reshape(-1, i[0].shape[-1])
                chosen = F.one_hot((x @ block.gate.weight.T).topk(block.gate.top_k).indices, block.gate.weight.shape[0]).sum(1).bool()
                gates = block.experts.gate_up_proj.chunk(2, 1)[0]
                units.extend(x[chosen[:, e]] @ w.T for e, w in enumerate(gates))
            hooks.append(module.register_forward_hook(experts))
        elif hasattr(module, "up_proj") and not hasattr(module, "gate_up_proj"):
            gate = getattr(module, "gate_proj", module.up_proj)
            hooks.append(gate.register_forward_hook(lambda _m, _i, out: units.append(out.reshape(-1, out.shape[-1]))))
    with torch.no_grad():
        net.logits(tokens)
    for h in hooks:
        h.remove()
    directions = 0
    for u in units:
        v = torch.linalg.eigvalsh(torch.cov(u.T)).flip(0)
        directions += int((v.cumsum(0) / v.sum() <= 0.99).sum()) + 1
    return sum(p.numel() for p in net.model.parameters()) * torch.tensor(directions / net.layers, dtype=torch.float64)


def zico(net, batches):
    g = [net.gradients(net.loss(*batch)) for batch in batches]
    total = 0
    for key in g[0]:
        all_g = torch.stack([one[key].flatten() for one in g])
        std, mean = all_g.std(0, correction=0), all_g.abs().mean(0)
        some = (mean[std > 0] / std[std > 0]).sum()
        total += some.log() if some > 0 else 0
    return total


def make(name, net):
    torch.manual_seed(7)
    tokens, targets = torch.randint(V, (BATCHES, B, T)), torch.randint(V, (BATCHES, B, T))
    batches = list(zip(tokens, targets))
    w, g = net.weights(), net.gradients(net.loss(*batches[0]))
    mixers = [key for key in w if ".mlp." not in key]
    stack = [p.numel() for key, p in net.model.named_parameters() if ".layers." not in key]
    out = {"params": torch.tensor(float(sum(p.numel() for p in net.model.parameters()))),
           "gradnorm": sum(t.norm() for t in g.values()),
           "snip": sum((g[key] * w[key]).abs().sum() for key in w),
           "grasp": grasp(net, *batches[0]),
           "synflow": synflow(net),
           "fisher": fisher(net, *batches[0]),
           "jacov": jacov(net, batches),
           "naswot": naswot(net, batches),
           "zico": zico(net, batches),
           "wpca": wpca(net, tokens[0]),
           "dss": sum((nuclear(g[key]) * nuclear(w[key])).sum() if key in mixers else (g[key] * w[key]).abs().sum() for key in w)}
    out["decoder_params"] = out["params"] - sum(stack)
    save_file({"tokens": tokens.int(), "targets": targets.int()} | {key: v.detach().double().reshape(1) for key, v in out.items()},
              f"{HERE}/proxies_{name}.safetensors")
    print(name, {key: f"{v.item():.8g}" for key, v in out.items()})


def eager(config):
    config._experts_implementation = "eager"
    return config


same = dict(vocab_size=V, hidden_size=24, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
            tie_word_embeddings=False)
rope = dict(head_dim=6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
make("llama", Net(LlamaForCausalLM(LlamaConfig(intermediate_size=36, num_hidden_layers=2, **same, **rope)), "llama", ("self_attn", "mlp")))
make("bamba", Net(BambaForCausalLM(BambaConfig(intermediate_size=36, num_hidden_layers=2, pad_token_id=None, attn_layer_indices=None, mamba_expand=2,
                                               mamba_n_heads=4, mamba_d_head=12, mamba_d_conv=4, mamba_chunk_size=5, mamba_n_groups=2, mamba_d_state=10,
                                               attn_implementation="eager", **same)), "bamba", ("mamba", "feed_forward")))
make("moe_mixtral", Net(MixtralForCausalLM(eager(MixtralConfig(intermediate_size=10, num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=2,
                                                               **same, **rope))), "moe_mixtral", ("self_attn", "mlp"), 2))
shared = LlamaForCausalLM(LlamaConfig(intermediate_size=10, num_hidden_layers=1, **same, **rope))
shared.model.layers[0].mlp = Qwen3NextSparseMoeBlock(eager(Qwen3NextConfig(num_experts=5, num_experts_per_tok=2, norm_topk_prob=True, hidden_act="silu",
                                                                           shared_expert_intermediate_size=10, hidden_size=24, moe_intermediate_size=10)))
make("moe_qwen3next", Net(shared, "moe_qwen3next", ("self_attn", "mlp"), 2))
nemotron = NemotronHForCausalLM(NemotronHConfig(
    intermediate_size=36, layer_types=["full_attention", "mlp"] * 2, num_hidden_layers=4, head_dim=8, mlp_bias=True, mlp_hidden_act="relu2",
    layer_norm_epsilon=1e-5, attn_implementation="eager", **{key: v for key, v in same.items() if key != "rms_norm_eps"}))
for block in nemotron.model.layers[::2]:
    for proj in ("q_proj", "k_proj", "v_proj", "o_proj"):
        old = getattr(block.mixer, proj)
        setattr(block.mixer, proj, torch.nn.Linear(old.in_features, old.out_features))
make("nemotron_mlp", Net(nemotron, "nemotron_mlp", ("mixer",), ours=of_nemotron))
