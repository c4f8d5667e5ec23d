#!/usr/bin/env python3
"""Golden numbers for attention's options: tiny networks of Hugging Face transformers, as make_llama.py makes them.

    python3 make_attention.py        # writes qwen3_*, qwen3_next_* and shared_kv_*.safetensors beside itself

qwen3: Qwen3ForCausalLM (norms of q and k). qwen3_next: Qwen3NextForCausalLM with full attention in every layer (norms, output gate, a
quarter of each head rotates); its norms multiply by 1 + w, so that what is written is 1 + w. shared_kv: LlamaForCausalLM whose layers 1 and 2
attend over the keys and values of layer 0 (no public class does exactly that): their k_proj and v_proj are left out.
Made with torch 2.15, transformers 5.23.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19


def make(name, model, one_more=False, without=()):
    """one_more: norms hold w, where the file has 1 + w. without: names of parameters that the network does not read."""
    torch.manual_seed(5)
    named = [(k, p) for k, p in model.named_parameters() if k not in without]
    plus = {k: float(one_more and "norm" in k) for k, _ in named}
    with torch.no_grad():
        for key, p in named:
            p.copy_(1 + 0.3 * torch.randn_like(p) - plus[key] if "norm" in key else 0.25 * torch.randn_like(p))
    # what is written is exact in f32; the model computes with that
    weights = {k: (p.detach() + plus[k]).contiguous() for k, p in named}
    save_file(weights, f"{HERE}/{name}_weights.safetensors")
    model = model.double()
    with torch.no_grad():
        for k, p in named:
            p.copy_(weights[k].double() - plus[k])
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out |= {f"grad.{k}": p.grad.float().contiguous() for k, p in named}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(p.numel() for _, p in named), "parameters, loss", loss.item())


same = dict(vocab_size=V, hidden_size=24, intermediate_size=36, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=False, attn_implementation="eager")
rope = {"rope_type": "default", "rope_theta": 10000.0}


def share(model, lender, borrowers):
    """Borrowers meet the lender's keys and values: its k_proj and v_proj, applied to the input that the lender saw."""
    layers, seen = model.model.layers, {}
    first = layers[lender].self_attn
    first.register_forward_pre_hook(lambda m, args, kw: seen.update(x=kw["hidden_states"]), with_kwargs=True)
    left_out = []
    for i in borrowers:
        attn = layers[i].self_attn
        for which in ("k_proj", "v_proj"):
            left_out.append(f"model.layers.{i}.self_attn.{which}.weight")
            getattr(attn, which).forward = lambda x, which=which: getattr(first, which)(seen["x"])
    return left_out


make("qwen3", Qwen3ForCausalLM(Qwen3Config(head_dim=6, num_hidden_layers=2, rope_parameters=rope, **same)))
make("qwen3_next", Qwen3NextForCausalLM(Qwen3NextConfig(
    head_dim=8, num_hidden_layers=2, layer_types=["full_attention"] * 2, mlp_only_layers=[0, 1], num_experts=0,
    rope_parameters=rope | {"partial_rotary_factor": 0.25}, **same)), one_more=True)
llama = LlamaForCausalLM(LlamaConfig(head_dim=6, num_hidden_layers=3, mlp_bias=False, rope_parameters=rope, **same))
make("shared_kv", llama, without=share(llama, 0, (1, 2)))
