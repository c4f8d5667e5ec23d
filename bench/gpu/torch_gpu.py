"""The PyTorch side of check-gpu: lines NAME <TAB> VALUE as bench_gpu prints them, same names, same units, same shapes.

    torch_gpu.py FOLDER BENCH_TORCH      FOLDER: bench_gpu's --weights: NAME.json, NAME.safetensors, NAME.txt of each model; BENCH_TORCH: cli/bench_torch.py

Models: torch.compile with CUDA graphs (mode="reduce-overhead"), without, and eager, the fastest that runs; bf16 autocast, attention by scaled_dot_product_attention (FlashAttention-2 on such cards), fused AdamW. Attention alone:
SDPBackend.FLASH_ATTENTION with deterministic algorithms, causal, the operands that bench_gpu takes.
"""
import glob
import json
import os
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def seconds(run, rounds=7):
    """Median of rounds between two events, each at least 20 ms long."""
    run()
    times, out = 1, []
    for i in range(rounds + 1):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        for _ in range(times):
            run()
        b.record()
        b.synchronize()
        each = a.elapsed_time(b) * 1e-3 / times
        if i:
            out.append(each)
        else:
            times = max(1, min(1000, int(0.02 / each)))
    return sorted(out)[len(out) // 2]


def attention():
    torch.use_deterministic_algorithms(True)
    for K in (64, 128):
        for T in (1024, 4096):
            B, H = 65536 // T, 2048 // K
            q, k, v = (torch.randn(B, T, H, K, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3))
            half = 2.0 * B * H * T * T * K
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                s = seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
                print(f"attention.k{K}.t{T}\t{half / s * 1e-12:.4g}", flush=True)
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                dy = torch.randn_like(y)
                s = seconds(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
                print(f"attention_bwd.k{K}.t{T}\t{2.5 * half / s * 1e-12:.4g}", flush=True)


def models(folder, script):
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        name = os.path.basename(path)[:-5]
        arch, text = json.load(open(path)), path[:-5] + ".txt"
        batch = (os.path.getsize(text) - 1) // arch["context"]
        best = None
        for mode in ("graphed-bf16", "compiled-bf16", "eager-bf16"):
            r = subprocess.run([sys.executable, script, path, path[:-5] + ".safetensors", text, mode, "8", str(batch), "30"], capture_output=True, text=True,
                               env=dict(os.environ, TAUT_TORCH_DEVICE="cuda"))
            if r.returncode:
                print(f"torch_gpu: {name}, {mode}: {r.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            answer = json.loads(r.stdout.strip().splitlines()[-1])
            ms = sorted(answer["ms"][6:])
            rate = batch * arch["context"] / ms[len(ms) // 2] * 1e3
            if best is None or rate > best[0]:
                best = rate, answer["losses"][0]
        if best:
            print(f"train.{name}\t{best[0]:.4g}\nloss.{name}\t{best[1]:.4g}", flush=True)


try:
    attention()
except Exception as e: # no such backend for these shapes: the models are still worth a comparison
    print(f"torch_gpu: attention: {e}", file=sys.stderr)
models(*sys.argv[1:3])
