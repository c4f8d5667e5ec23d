#!/usr/bin/env python3
"""Decoding and prefill against llama.cpp: the same Llama-shaped network with random weights, the same precision, the same threads, in turns.

    python3 bench/llama_cpp.py --taut BUILD/taut --llama-bench PATH [--model b,c] [--precision f32,bf16,int8] [--threads 2] [--rounds 5]

llama-bench is llama.cpp's own (built with its native instruction set). Its figure is the better of flash attention on and off; its cache is f16, the
least that it rounds to, where Taut's is f32. int8 is q8_0 there: blocks of 32 with a scale, here rows with one.
Numbers do not depend on the weights' values. Prints medians with the least and the most, and the ratio (above 1: Taut is faster).
"""
import argparse
import array
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

SHAPES = {"a": (128, 4, 4, 4, 384), "b": (256, 6, 8, 2, 704), "c": (512, 8, 8, 8, 1408)}  # width, layers, heads, kv heads, hidden
VOCAB, CONTEXT, TOKENS = 256, 1024, 64
TYPES = {"f32": 0, "int8": 8, "bf16": 30}  # ggml's numbers


def numbers(count, kind):
    """count random weights, a run of 64 Ki repeated."""
    rng = random.Random(1)
    n = min(count, 1 << 16)
    floats = array.array("f", (rng.gauss(0, 0.02) for _ in range(n)))
    if kind == "f32":
        raw = floats.tobytes()
    elif kind == "bf16":
        raw = array.array("H", (u >> 16 for u in array.array("I", floats.tobytes()))).tobytes()
    else:
        raw = b"".join(struct.pack("<e", 0.02 / 127) + bytes(rng.randrange(256) for _ in range(32)) for _ in range(n // 32))
    size = {"f32": 4 * count, "bf16": 2 * count, "int8": count // 32 * 34}[kind]
    return (raw * (size // len(raw) + 1))[:size]


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write_gguf(path, shape, kind):
    """GGUF version 3 (ggml's docs/gguf.md): key-values, tensor descriptions, data on multiples of 32."""
    d, layers, heads, kv, f = shape
    k = d // heads
    fields = [("general.architecture", "llama"), ("llama.context_length", 4096), ("llama.embedding_length", d), ("llama.block_count", layers),
              ("llama.feed_forward_length", f), ("llama.attention.head_count", heads), ("llama.attention.head_count_kv", kv),
              ("llama.rope.dimension_count", k), ("llama.attention.layer_norm_rms_epsilon", 1e-5), ("llama.rope.freq_base", 1e4),
              ("llama.vocab_size", VOCAB), ("tokenizer.ggml.model", "no_vocab")]
    tensors = [("token_embd.weight", (d, VOCAB)), ("output_norm.weight", (d,)), ("output.weight", (d, VOCAB))]
    for i in range(layers):
        b = "blk.%d." % i
        tensors += [(b + "attn_norm.weight", (d,)), (b + "ffn_norm.weight", (d,)), (b + "attn_q.weight", (d, heads * k)), (b + "attn_k.weight", (d, kv * k)),
                    (b + "attn_v.weight", (d, kv * k)), (b + "attn_output.weight", (heads * k, d)), (b + "ffn_gate.weight", (d, f)),
                    (b + "ffn_up.weight", (d, f)), (b + "ffn_down.weight", (f, d))]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    for key, v in fields:
        head += text(key) + (struct.pack("<I", 8) + text(v) if isinstance(v, str) else struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v))
    at, data = 0, []
    for name, dims in tensors:
        t, n = "f32" if len(dims) == 1 else kind, dims[0] * (dims[1] if len(dims) > 1 else 1)
        head += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", x) for x in dims) + struct.pack("<IQ", TYPES[t], at)
        raw = struct.pack("<f", 1) * n if len(dims) == 1 else numbers(n, t)
        raw += b"\0" * (-len(raw) % 32)
        data.append(raw)
        at += len(raw)
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        for raw in data:
            out.write(raw)


def write_arch(path, shape):
    d, layers, heads, kv, f = shape
    layer = {"mixer": {"type": "attention", "heads": heads, "kv_heads": kv, "head_dim": d // heads, "window": 0, "rope": True}, "ffn": {"type": "swiglu", "hidden": f}}
    with open(path, "w") as out:
        json.dump({"taut": 1, "vocab": VOCAB, "context": 4096, "width": d, "tie_embeddings": False, "layers": [layer] * layers}, out)


def run(*argv):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit("llama_cpp.py: %s: exit status %d: %s" % (" ".join(argv), r.returncode, r.stderr.strip()[-500:]))
    return r.stdout


def llama(o, gguf):
    """ms of a token after CONTEXT, ms of a prefill of CONTEXT."""
    best = [float("inf")] * 2
    for flash in ("on", "off"):
        common = (o.llama_bench, "-m", gguf, "-t", str(o.threads), "-ngl", "0", "-fa", flash, "-r", "3", "-o", "json")
        token, = json.loads(run(*common, "-p", "0", "-n", str(TOKENS), "-d", str(CONTEXT)))
        prefill, = json.loads(run(*common, "-p", str(CONTEXT), "-n", "0"))
        best[0] = min(best[0], statistics.median(token["samples_ns"]) / TOKENS / 1e6)
        best[1] = min(best[1], statistics.median(prefill["samples_ns"]) / 1e6)
    return best


def taut(o, arch, kind):
    v = json.loads(run(o.taut, "profile", arch, "--context", str(CONTEXT), "--batch", "1", "--weights", kind, "--threads", str(o.threads), "--json"))
    return [v["metrics"]["%s_ms@%d" % (what, CONTEXT)]["median"] for what in ("decode", "prefill")]


def spread(v):
    return "%8.3f (%.3f to %.3f)" % (statistics.median(v), min(v), max(v))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--taut", required=True)
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--model", default="b,c")
    p.add_argument("--precision", default="f32,bf16,int8")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    o = p.parse_args()
    print("%-6s %-5s %-8s %32s %32s %8s" % ("model", "in", "ms", "Taut", "llama.cpp", "ratio"))
    with tempfile.TemporaryDirectory() as tmp:
        for name in o.model.split(","):
            arch = os.path.join(tmp, "arch.json")
            write_arch(arch, SHAPES[name])
            for kind in o.precision.split(","):
                gguf = os.path.join(tmp, "model.gguf")
                write_gguf(gguf, SHAPES[name], kind)
                ours, theirs = [], []
                for _ in range(o.rounds):
                    ours.append(taut(o, arch, kind))
                    theirs.append(llama(o, gguf))
                for i, what in enumerate(("decode", "prefill")):
                    x, y = [v[i] for v in ours], [v[i] for v in theirs]
                    ratio = statistics.median(b / a for a, b in zip(x, y))
                    print("%-6s %-5s %-8s %32s %32s %8.2f" % (name, kind, what, spread(x), spread(y), ratio), flush=True)


main()
