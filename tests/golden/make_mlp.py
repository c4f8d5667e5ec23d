#!/usr/bin/env python3
"""Golden numbers for mlp, layer norm and biases: tiny networks of Hugging Face transformers, as make_llama.py makes its own.

    python3 make_mlp.py              # writes gpt2_*, nemotron_mlp_*, llama_bias_* and lfm2_bias_*.safetensors beside itself

gpt2: GPT2LMHeadModel (layer norm, gelu_new, biases everywhere), its learned positions set to zero; what its Conv1D modules hold is transposed,
and c_attn cut into q, k and v. nemotron_mlp: NemotronHForCausalLM of attention and mlp blocks in turn (relu2, no RoPE) with
mlp_bias: two of its blocks are one layer. llama_bias: LlamaForCausalLM with attention_bias and mlp_bias. lfm2_bias: Lfm2ForCausalLM with
conv_bias. Where the class has no bias to offer (NemotronH's attention, LFM2's feed-forward) its Linear modules are exchanged for ones with a
bias. Tensors under Taut's names. Needs torch, transformers and safetensors; made with torch 2.15,
transformers 5.23.
"""
import os
import re

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, Lfm2Config, Lfm2ForCausalLM, LlamaConfig, LlamaForCausalLM, NemotronHConfig,
                          NemotronHForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
B, T, V, D = 2, 12, 19, 24


def same(key, t):
    return {key: t}


def of_gpt2(key, t):
    for theirs, name in (("transformer.", "model."), ("wte", "embed_tokens"), (".h.", ".layers."), ("ln_1", "input_layernorm"),
                         ("ln_2", "post_attention_layernorm"), ("ln_f", "norm"), ("attn.c_proj", "self_attn.o_proj"),
                         ("mlp.c_fc", "mlp.up_proj"), ("mlp.c_proj", "mlp.down_proj")):
        key = key.replace(theirs, name)
    if "wpe" in key:
        return {}
    if t.dim() == 2 and re.search(r"c_attn|_proj", key):
        t = t.t()
    if "c_attn" not in key:
        return {key: t}
    return {key.replace("attn.c_attn", f"self_attn.{c}_proj"): t[i * D:(i + 1) * D] for i, c in enumerate("qkv")}


def of_nemotron(key, t):
    m = re.match(r"model\.layers\.(\d+)\.(.*)", key)
    if not m:
        return {key.replace("model.embeddings", "model.embed_tokens").replace("norm_f", "norm"): t}
    block, rest = int(m[1]), m[2]
    if rest.startswith("norm."):
        rest = rest.replace("norm", "post_attention_layernorm" if block % 2 else "input_layernorm")
    return {f"model.layers.{block // 2}." + rest.replace("mixer.", "mlp." if block % 2 else "self_attn."): t}


def of_lfm2(key, t):
    for theirs, name in (("operator_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"), ("embedding_norm", "norm"),
                         ("feed_forward.w1", "mlp.gate_proj"), ("feed_forward.w3", "mlp.up_proj"), ("feed_forward.w2", "mlp.down_proj")):
        key = key.replace(theirs, name)
    return {key: t}


def make(name, model, ours):
    torch.manual_seed(5)
    with torch.no_grad():
        for key, p in model.named_parameters():
            norm = re.search(r"norm.*weight|ln_.*weight", key)
            p.copy_(1 + 0.3 * torch.randn_like(p) if norm else 0.25 * torch.randn_like(p))
            if "wpe" in key:
                p.zero_()
    weights = {}
    for key, p in model.named_parameters():
        weights |= ours(key, p.detach())
    save_file({k: t.contiguous().clone() for k, t in weights.items()}, f"{HERE}/{name}_weights.safetensors")
    model = model.double().eval()
    tokens, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
    # not the class's own logits: NemotronH gives them in f32
    body = model.transformer if hasattr(model, "transformer") else model.model
    logits = model.lm_head(body(input_ids=tokens, use_cache=False).last_hidden_state)
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    out = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for key, p in model.named_parameters():
        out |= {f"grad.{k}": t.float().contiguous().clone() for k, t in ours(key, p.grad).items()}
    save_file(out, f"{HERE}/{name}_golden.safetensors")
    print(name, sum(t.numel() for t in weights.values()), "parameters, loss", loss.item())


def with_bias(module, *names):
    for name in names:
        old = getattr(module, name)
        setattr(module, name, torch.nn.Linear(old.in_features, old.out_features))


make("gpt2", GPT2LMHeadModel(GPT2Config(
    vocab_size=V, n_positions=64, n_embd=D, n_layer=2, n_head=4, n_inner=36, layer_norm_epsilon=1e-5, activation_function="gelu_new",
    resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, attn_implementation="eager")), of_gpt2)
nemotron = NemotronHForCausalLM(NemotronHConfig(
    vocab_size=V, hidden_size=D, intermediate_size=36, layer_types=["full_attention", "mlp"] * 2, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, mlp_bias=True, mlp_hidden_act="relu2", layer_norm_epsilon=1e-5,
    max_position_embeddings=64, tie_word_embeddings=False, attn_implementation="eager"))
for block in nemotron.model.layers[::2]:
    with_bias(block.mixer, "q_proj", "k_proj", "v_proj", "o_proj")
make("nemotron_mlp", nemotron, of_nemotron)
make("llama_bias", LlamaForCausalLM(LlamaConfig(
    vocab_size=V, hidden_size=D, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
    attention_bias=True, mlp_bias=True, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")), same)
lfm2 = Lfm2ForCausalLM(Lfm2Config(
    vocab_size=V, hidden_size=D, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=None, conv_bias=True, conv_L_cache=3,
    block_auto_adjust_ff_dim=False, layer_types=["conv", "conv"], attn_implementation="eager"))
for layer in lfm2.model.layers:
    with_bias(layer.feed_forward, "w1", "w3", "w2")
make("lfm2_bias", lfm2, of_lfm2)
