#!/usr/bin/env python3
"""Golden numbers for model/: tiny networks of Hugging Face transformers, their logits, loss and gradients in float64.

    python3 make_llama.py            # writes llama_*.safetensors and mistral_*.safetensors beside itself

Needs torch, transformers and safetensors; made with torch 2.15, transformers 5.23. *_weights: the parameters (F32, exact).
*_golden: tokens and targets I32 [B,T], logits F64 [B,T,V], loss F64 [1], grad.<parameter> F32.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V = 2, 12, 19


def make(name, model):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(1 + 0.3 * torch.randn_like(p) if "norm" in key else 0.25 * torch.randn_like(p))
    save_file({k: p.detach().contiguous() for k, p in model.named_parameters()}, f"{HERE}/{name}_weights.safetensors")
    model = model.double()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    out |= {f"grad.{k}": p.grad.float().contiguous() for k, p in model.named_parameters()}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", loss.item())


same = dict(vocab_size=V, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
make("llama", LlamaForCausalLM(LlamaConfig(head_dim=6, mlp_bias=False, **same)))
make("mistral", MistralForCausalLM(MistralConfig(head_dim=8, sliding_window=5, **same)))
