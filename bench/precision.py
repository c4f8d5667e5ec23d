#!/usr/bin/env python3
"""What bf16 products do to what is learnt: `taut train` in f32 and in bf16, the same seed, data and recipe.

    bench/precision.py --data corpus.txt [--build DIR] [--models abd] [--steps 1000] [--threads 2] [--seeds 3]

Prints valid_bpb of both and how far they are apart (wanted: within 0.3 % after 1000 steps of 16 x 256 tokens). At the end for each model the mean and the
spread of bf16 against f32, and beside it what another seed does in one precision: a difference below that tells nothing of rounding.
A text for --data: anything that is not random, 2 MB and more.
"""
import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

B, T = 16, 256
GQA = {"type": "attention", "heads": 8, "kv_heads": 2, "head_dim": 32}
MAMBA2 = {"type": "mamba2", "expand": 2, "head_dim": 64, "state": 64}


def arch(width, mixers, ffn):
    layers = [{"mixer": m, "ffn": ffn} for m in mixers]
    return {"taut": 1, "vocab": 256, "context": T, "width": width, "tie_embeddings": False, "layers": layers}


def swiglu(hidden):
    return {"type": "swiglu", "hidden": hidden}


# Those of `taut bench`.
MODELS = {"a": arch(128, [{"type": "attention", "heads": 4, "kv_heads": 4, "head_dim": 32}] * 4, swiglu(384)),
          "b": arch(256, [GQA] * 6, swiglu(704)),
          "d": arch(256, [MAMBA2, MAMBA2, GQA, MAMBA2, MAMBA2, GQA], swiglu(704)),
          "e": arch(256, [GQA] * 6, {"type": "moe", "experts": 8, "active": 2, "hidden": 256})}


def train(o, path, precision, seed):
    """valid_bpb at the end."""
    r = subprocess.run([f"{o.build}/taut", "train", path, "--data", o.data, "--tokens", str(o.steps * B * T), "--batch", str(B), "--seed", str(seed),
                        "--threads", str(o.threads), "--precision", precision, "--json"], stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(r.returncode)
    rows = [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]
    return next(row["valid_bpb"] for row in reversed(rows) if "valid_bpb" in row)


def percent(x, y):
    return 100 * (y - x) / x


def spread(v):
    return "mean %+.3f %%, least %+.3f, most %+.3f" % (statistics.mean(v), min(v), max(v))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=".")
    p.add_argument("--data", required=True)
    p.add_argument("--models", default="abd")
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seeds", type=int, default=3)
    o = p.parse_args()
    if o.steps < 1 or o.seeds < 1 or not o.models or set(o.models) - set(MODELS):
        p.error("--models takes letters of %s; --steps and --seeds are 1 or more" % "".join(MODELS))
    got = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in o.models:
            path = os.path.join(folder, f"{name}.json")
            with open(path, "w") as f:
                json.dump(MODELS[name], f)
            rows = got[name] = []
            for seed in range(1, o.seeds + 1):
                f32, bf16 = (train(o, path, k, seed) for k in ("f32", "bf16"))
                rows.append((f32, bf16))
                print(f"{name}, seed {seed}, {o.steps} steps: valid_bpb {f32:.5f} in f32, {bf16:.5f} in bf16, {percent(f32, bf16):+.3f} %", flush=True)
    for name, rows in got.items():
        print(f"{name}: bf16 against f32, {len(rows)} seed{'s' * (len(rows) > 1)}: {spread([percent(*r) for r in rows])}")
        for i, precision in enumerate(("f32", "bf16")):
            apart = [abs(percent(x[i], y[i])) for x, y in itertools.combinations(rows, 2)]
            if apart:
                print(f"{name}: one seed against another in {precision}, how far apart: {spread(apart)}")


if __name__ == "__main__":
    main()
