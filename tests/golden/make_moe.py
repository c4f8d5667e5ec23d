#!/usr/bin/env python3
"""Golden numbers for mixtures of experts: Mixtral, and Llama with the experts of other classes of Hugging Face transformers in place of its own
feed-forward; logits, loss and gradients in float64 (their routers work in float32).

    python3 make_moe.py            # writes moe_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.23. Files as make_llama.py's, with Taut's names of tensors.
The loss is the cross-entropy; the gradients are those of cross-entropy + 0.01 * the sum over the layers of aux, the load-balance loss, F64 [1].
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import (DeepseekV3Config, GraniteMoeHybridConfig, Lfm2MoeConfig, LlamaConfig, LlamaForCausalLM, MixtralConfig,
                          MixtralForCausalLM, NemotronHConfig, Qwen3NextConfig)
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.granitemoehybrid.modeling_granitemoehybrid import GraniteMoeHybridMLP, GraniteMoeHybridMoE
from transformers.models.lfm2_moe.modeling_lfm2_moe import Lfm2MoeSparseMoeBlock
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMoE
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextSparseMoeBlock

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V, D, EXPERT = 2, 12, 19, 24, 10


class Granite(nn.Module):
    """As GraniteMoeHybridDecoderLayer has them side by side."""

    def __init__(self, config):
        super().__init__()
        self.block_sparse_moe, self.shared_mlp = GraniteMoeHybridMoE(config), GraniteMoeHybridMLP(config)

    def forward(self, x):
        return self.block_sparse_moe(x) + self.shared_mlp(x)


RENAME = [("mlp.block_sparse_moe.router.", "mlp.gate."), ("mlp.block_sparse_moe.", "mlp."), ("mlp.shared_mlp.output_linear", "mlp.shared_experts.down_proj"),
          ("mlp.shared_expert.", "mlp.shared_experts.")]


def ours(name, t):
    """Their tensor under our names: halves of what they keep together."""
    for old, new in RENAME:
        name = name.replace(old, new)
    if name.endswith("experts.gate_up_proj"):
        return {name.replace("gate_up", part): half.contiguous() for part, half in zip(("gate", "up"), t.chunk(2, 1))}
    if name.endswith("shared_mlp.input_linear.weight"):
        base = name.replace("shared_mlp.input_linear.weight", "shared_experts.")
        return {f"{base}{part}_proj.weight": half.contiguous() for part, half in zip(("gate", "up"), t.chunk(2, 0))}
    return {name: t.contiguous()}


def balance(z, k, sigmoid):
    """Theirs counts every slot: k times E sum_e f_e P_e."""
    if not sigmoid:
        return load_balancing_loss_func((z,), z.shape[-1], k) / k
    s = z.sigmoid()
    share = F.one_hot(s.topk(k).indices, s.shape[-1]).double().mean((0, 1))
    return s.shape[-1] * (share * (s / s.sum(-1, keepdim=True)).mean(0)).sum()


def make(name, model, k, sigmoid=False):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(1 + 0.3 * torch.randn_like(p) if "norm" in key else 0.25 * torch.randn_like(p))
    weights = {}
    for key, p in model.named_parameters():
        weights |= ours(key, p.detach())
    save_file(weights, f"{HERE}/moe_{name}_weights.safetensors")
    logits_of = []
    for key, m in model.named_modules():
        if type(m).__name__.endswith("Router") or type(m).__name__.endswith("TopkRouter"):
            m.register_forward_hook(lambda _m, _i, out: logits_of.append(out[0]))
    model = model.double()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    aux = sum(balance(z.double(), k, sigmoid) for z in logits_of)
    (loss + 0.01 * aux).backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1),
           "aux": aux.detach().double().reshape(1)}
    for key, p in model.named_parameters():
        out |= {f"grad.{n}": g for n, g in ours(key, p.grad.float()).items()}
    save_file(out, f"{HERE}/moe_{name}_golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters,", len(logits_of), "routers, loss", loss.item(), "aux", aux.item())


same = dict(vocab_size=V, hidden_size=D, num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=64, rms_norm_eps=1e-5,
            tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")


def llama(block):
    model = LlamaForCausalLM(LlamaConfig(intermediate_size=EXPERT, num_hidden_layers=1, **same))
    model.model.layers[0].mlp = block
    return model


def eager(config):
    config._experts_implementation = "eager"
    return config


size = dict(hidden_size=D, moe_intermediate_size=EXPERT)
flat = dict(n_group=1, topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=True)
make("mixtral", MixtralForCausalLM(eager(MixtralConfig(intermediate_size=EXPERT, num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=2,
                                                        **same))), 2)
make("deepseek", llama(DeepseekV3MoE(eager(DeepseekV3Config(n_routed_experts=6, num_experts_per_tok=3, n_shared_experts=2, hidden_act="silu", **size,
                                                            **flat)))), 3, True)
make("qwen3next", llama(Qwen3NextSparseMoeBlock(eager(Qwen3NextConfig(num_experts=5, num_experts_per_tok=2, norm_topk_prob=True, hidden_act="silu",
                                                                      shared_expert_intermediate_size=EXPERT, **size)))), 2)
make("granite", llama(Granite(eager(GraniteMoeHybridConfig(hidden_size=D, intermediate_size=EXPERT, shared_intermediate_size=3 * EXPERT, num_local_experts=4,
                                                           num_experts_per_tok=3, num_attention_heads=4, mamba_n_heads=4, mamba_d_head=12)))), 3)
make("nemotron", llama(NemotronHMoE(eager(NemotronHConfig(n_routed_experts=5, num_experts_per_tok=2, moe_shared_expert_intermediate_size=EXPERT,
                                                          mlp_hidden_act="relu2", mlp_bias=False, **size, **flat)))), 2, True)
make("lfm2", llama(Lfm2MoeSparseMoeBlock(eager(Lfm2MoeConfig(num_experts=4, num_experts_per_tok=2, use_expert_bias=True, norm_topk_prob=True,
                                                             routed_scaling_factor=1.0, **size)))), 2, True)
