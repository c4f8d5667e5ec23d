#!/usr/bin/env python3
"""The same training in Taut and in plain eager PyTorch: losses step by step, tokens/s in turns.

    python3 bench/train_vs_torch.py --build BUILD --data corpus.bin [--models abc] [--steps 20] [--rounds 5] [--threads 2] [--program taut|bench_train]

Needs torch, numpy and safetensors. Each model is built in PyTorch, its first weights go to a safetensors file under Taut's names, and both sides train
from it: f32, 16 sequences of 256 bytes a step, in the text's order, AdamW (0.9, 0.95, 1e-8, weight decay 0.1 on everything), norm clipped at 1, the
schedule of `taut train` (warm-up 2 %, last 20 % linear), hidden matrices at lr * 128 / width. Rounds alternate, so that both see the same machine;
a round's figure is the median step, the result the median of rounds.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

B, T, V, LR, BASE = 16, 256, 256, 3e-3, 128
MODELS = {"a": dict(depth=4, width=128, heads=4, kv_heads=4, hidden=384),
          "b": dict(depth=6, width=256, heads=8, kv_heads=2, hidden=704),
          "c": dict(depth=8, width=512, heads=8, kv_heads=8, hidden=1408)}


def arch_json(c):
    layer = {"mixer": {"type": "attention", "heads": c["heads"], "kv_heads": c["kv_heads"], "head_dim": c["width"] // c["heads"]},
             "ffn": {"type": "swiglu", "hidden": c["hidden"]}}
    return {"taut": 1, "vocab": V, "context": T, "width": c["width"], "tie_embeddings": False, "layers": [layer] * c["depth"]}


def lr_at(step, steps):
    warm, decay, left = max(1, round(0.02 * steps)), round(0.2 * steps), steps - step
    lr = LR * min(1, (step + 1) / warm)
    return lr * left / (decay + 1) if left <= decay else lr


def build(c):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    D, H, G = c["width"], c["heads"], c["kv_heads"]
    K = D // H

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(D))

        def forward(self, x):
            return F.rms_norm(x, (D,), self.weight, 1e-5)

    angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, K, 2) / K)
    cos, sin = angle.cos(), angle.sin()

    def turn(x):
        a, b = x[..., : K // 2], x[..., K // 2:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            self.qkv = nn.Linear(D, (H + 2 * G) * K, bias=False)
            self.o = nn.Linear(H * K, D, bias=False)
            self.gate_up = nn.Linear(D, 2 * c["hidden"], bias=False)
            self.down = nn.Linear(c["hidden"], D, bias=False)

        def forward(self, x):
            n = x.shape[0]
            heads = self.qkv(self.norm1(x)).view(n, -1, H + 2 * G, K).transpose(1, 2)
            q, k, v = heads.split([H, G, G], 1)
            q, k = turn(q), turn(k)
            if G != H:
                k, v = k.repeat_interleave(H // G, 1), v.repeat_interleave(H // G, 1)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).reshape(n, -1, H * K))
            g, u = self.gate_up(self.norm2(x)).chunk(2, -1)
            return x + self.down(F.silu(g) * u)

    class LM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(V, D)
            self.layers = nn.ModuleList(Layer() for _ in range(c["depth"]))
            self.norm = Norm()
            self.head = nn.Linear(D, V, bias=False)
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, tokens, targets):
            x = self.embed(tokens)
            for layer in self.layers:
                x = layer(x)
            return F.cross_entropy(self.head(self.norm(x)).view(-1, V), targets.reshape(-1))

    torch.manual_seed(1)
    return LM()


def named_weights(model, c):
    K = c["width"] // c["heads"]
    out = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm.weight, "lm_head.weight": model.head.weight}
    for i, layer in enumerate(model.layers):
        q, k, v = layer.qkv.weight.split([c["heads"] * K, c["kv_heads"] * K, c["kv_heads"] * K])
        gate, up = layer.gate_up.weight.chunk(2)
        for name, p in {"input_layernorm": layer.norm1.weight, "post_attention_layernorm": layer.norm2.weight, "self_attn.q_proj": q, "self_attn.k_proj": k,
                        "self_attn.v_proj": v, "self_attn.o_proj": layer.o.weight, "mlp.gate_proj": gate, "mlp.up_proj": up,
                        "mlp.down_proj": layer.down.weight}.items():
            out[f"model.layers.{i}.{name}.weight"] = p
    return {k: p.detach().clone().contiguous() for k, p in out.items()}


def torch_side(name, data, steps, threads, init):
    """Prints {"losses", "ms"}; a process of its own, so that neither side warms the other's caches."""
    import numpy as np
    import torch
    torch.set_num_threads(threads)
    c = MODELS[name]
    model = build(c)
    if init:
        from safetensors.torch import save_file
        save_file(named_weights(model, c), init)
        return
    hidden = [p for n, p in model.named_parameters() if n.startswith("layers.") and p.dim() == 2]
    ids = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in ids]
    groups = [{"params": hidden, "scale": BASE / c["width"]}, {"params": others, "scale": 1.0}]
    opt = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    text = torch.from_numpy(np.fromfile(data, dtype=np.uint8, count=steps * B * T + 1).astype(np.int64))
    losses, ms = [], []
    for s in range(steps):
        at = time.perf_counter()
        tokens, targets = text[s * B * T:(s + 1) * B * T].view(B, T), text[s * B * T + 1:(s + 1) * B * T + 1].view(B, T)
        for g in opt.param_groups:
            g["lr"] = lr_at(s, steps) * g["scale"]
        loss = model(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        losses.append(loss.item())
        ms.append((time.perf_counter() - at) * 1e3)
    print(json.dumps({"losses": losses, "rate": B * T / statistics.median(ms[2:]) * 1e3}))


def run(cmd):
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    return subprocess.run(cmd, check=True, capture_output=True, text=True, env=env).stdout


def taut_side(o, name, weights, folder):
    if o.program == "bench_train":
        out = run([f"{o.build}/bench/bench_train", name, "--steps", str(o.steps), "--threads", str(o.threads), "--data", o.data, "--init", weights])
        lines = [line.split() for line in out.splitlines()]
        return {"losses": [float(w[3]) for w in lines if w[0] == "step"], "rate": next(float(w[-1]) for w in lines if w[0] == "median")}
    arch = os.path.join(folder, f"{name}.json")
    with open(arch, "w") as f:
        json.dump(arch_json(MODELS[name]), f)
    out = run([f"{o.build}/taut", "train", arch, "--data", o.data, "--tokens", str(o.steps * B * T), "--init", weights, "--order", "sequential", "--precision", "f32",
               "--threads", str(o.threads), "--json"])
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    steps = [r for r in rows if "step" in r]
    return {"losses": [r["loss"] for r in steps], "rate": B * T / statistics.median(r["ms"] for r in steps[2:]) * 1e3}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=".")
    p.add_argument("--data", required=True)
    p.add_argument("--models", default="abc")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--program", default="taut", choices=["taut", "bench_train"])
    p.add_argument("--side", help=argparse.SUPPRESS)
    p.add_argument("--init", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.side:
        return torch_side(o.side, o.data, o.steps, o.threads, o.init)
    me = [sys.executable, os.path.abspath(__file__), "--data", o.data, "--steps", str(o.steps), "--threads", str(o.threads)]
    with tempfile.TemporaryDirectory() as folder:
        for name in o.models:
            weights = os.path.join(folder, f"{name}.safetensors")
            run(me + ["--side", name, "--init", weights])
            taut, torch = [], []
            for _ in range(o.rounds):
                taut.append(taut_side(o, name, weights, folder))
                torch.append(json.loads(run(me + ["--side", name])))
            x, y = taut[0]["losses"], torch[0]["losses"]
            apart = [abs(a - b) / b for a, b in zip(x, y, strict=True)]
            t, u = (statistics.median(r["rate"] for r in side) for side in (taut, torch))
            print(f"{name}: taut {t:.0f} tokens/s, torch {u:.0f} tokens/s, ratio {t / u:.2f} (median of {o.rounds}; ratios of rounds "
                  + " ".join(f"{a['rate'] / b['rate']:.2f}" for a, b in zip(taut, torch)) + ")")
            print(f"   loss {x[0]:.6f} -> {x[-1]:.6f} (torch {y[0]:.6f} -> {y[-1]:.6f}); largest relative difference {max(apart):.1e} at step {apart.index(max(apart))}",
                  flush=True)


if __name__ == "__main__":
    main()
