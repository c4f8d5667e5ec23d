#!/usr/bin/env python3
"""What bf16 products do to what is learnt: `taut train` in f32 and in bf16, the same seed, data and recipe.

    bench/precision.py --data corpus.txt [--build DIR] [--models ab] [--steps 1000] [--threads 2] [--seeds 1]

Prints valid_bpb of both and how far they are apart (wanted: within 0.3 % after 1000 steps of 16 x 256 tokens), beside what another seed does to it
where --seeds is more than 1. A text for --data: anything that is not random, 2 MB and more.
"""
import argparse
import json
import os
import subprocess
import tempfile

from train_vs_torch import MODELS, B, T, arch_json


def train(o, arch, precision, seed):
    out = subprocess.run([f"{o.build}/taut", "train", arch, "--data", o.data, "--tokens", str(o.steps * B * T), "--seed", str(seed), "--threads", str(o.threads),
                          "--precision", precision, "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return next(r["valid_bpb"] for r in reversed(rows) if "valid_bpb" in r), rows[-1]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=".")
    p.add_argument("--data", required=True)
    p.add_argument("--models", default="ab")
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seeds", type=int, default=1)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in o.models:
            arch = os.path.join(folder, f"{name}.json")
            with open(arch, "w") as f:
                json.dump(arch_json(MODELS[name]), f)
            for seed in range(1, o.seeds + 1):
                f32, bf16 = (train(o, arch, k, seed)[0] for k in ("f32", "bf16"))
                print(f"{name}, seed {seed}, {o.steps} steps: valid_bpb {f32:.5f} in f32, {bf16:.5f} in bf16, {100 * (bf16 - f32) / f32:+.3f} %", flush=True)


if __name__ == "__main__":
    main()
