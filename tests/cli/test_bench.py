"""taut bench: what it counts, against counts made here; what it measures is there and in order. Times themselves are not judged: this machine is never alone."""
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

SRC = os.environ.get("TAUT_SRC", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import *

TAUT = os.path.join(BUILD, "taut")
HANG = 300
D = tempfile.mkdtemp(prefix="taut-bench-test-")
os.environ["TAUT_LOCKS"] = os.path.join(D, "locks")
os.environ["TMPDIR"] = D
B, T, V = 2, 64, 256 # of --quick
DENSE = {"a": (4, 128, 4, 4, 384), "b": (6, 256, 8, 2, 704), "c": (8, 512, 8, 8, 1408)} # depth, width, heads, of keys and values, hidden


def taut(*args, env=None):
    return subprocess.run([TAUT, "bench", *map(str, args)], capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL, env=env)


def rate(r):
    return 0 < r["low"] <= r["median"] <= r["high"] < math.inf


def near(a, b):
    return abs(a - b) <= 1e-9 * abs(b)


def pairs(n):
    return n * (n + 1) / 2


def matrices(m):
    """Numbers in the matrices that a token goes through."""
    depth, d, h, g, f = DENSE[m]
    k = d // h
    return depth * (d * (h + 2 * g) * k + h * k * d + 3 * d * f) + d * V


def flops_per_token(m):
    """Of a trained token: forward, and twice as much for both gradients."""
    depth, d, h, g, f = DENSE[m]
    return 3 * (2 * matrices(m) + depth * 4 * d * pairs(T) / T)


def decode_bytes(m, context):
    depth, d, h, g, f = DENSE[m]
    norms = (2 * depth + 1) * d
    return 4 * (matrices(m) + norms + depth * context * 2 * g * (d // h))


def limits(r):
    l = r["limits"]
    ok(l["products"] and all(rate(p["flops"]) and rate(p["flops_1"]) for p in l["products"]), "peaks of products")
    sets = l["memory"]
    ok(len(sets) > 1 and all(rate(s[k]) for s in sets for k in ("read", "read_1", "copy", "copy_1")), "bandwidths")
    same([s["bytes"] for s in sets], sorted(s["bytes"] for s in sets), "of growing working sets")
    ok(all(s["level"] in ("L1", "L2", "L3", "memory") for s in sets), "each with the cache it lies in")
    ok(rate(l["fork_join_ns"]) and 0 <= l["others"] <= 1, "a fork and join, and what others took")


def counts(r):
    """Operations and bytes of ops, from their shapes."""
    n, (depth, d, h, g, f) = B * T, DENSE["b"]
    k = d // h
    op = {(o["op"], o["pass"], o["shape"]): o for o in r["ops"] if o["model"] == "b"}
    x = op["gemm", "forward", f"qkv {n}x{d}x{(h + 2 * g) * k}"]
    same([x["flops"], x["bytes"]], [2 * n * d * (h + 2 * g) * k, 4 * (n * d + d * (h + 2 * g) * k + n * (h + 2 * g) * k)], "a product: 2 m n p, each operand once")
    x = op["gemm", "decode", f"down 1x{f}x{d}"]
    same([x["flops"], x["bytes"]], [2 * d * f, 4 * (d * f + d + f)], "a product of one row")
    x = op["attention", "forward", f"{B}x{T}x{h}/{g}x{k}"]
    same(x["flops"], B * h * pairs(T) * (4 * k + 3), "attention: causal pairs alone")
    x = op["attention", "decode", f"1x1x{h}/{g}x{k} at 64"]
    same([x["flops"], x["bytes"]], [h * 64 * (4 * k + 3), 4 * (2 * h * k + 2 * 64 * g * k)], "attention of one token: its cache once")
    x = op["swiglu", "forward", f"{n}x{f}"]
    same([x["flops"], x["bytes"]], [5 * n * f, 12 * n * f], "SwiGLU")
    passes = {(o["op"], o["pass"]) for o in r["ops"]}
    for want in (("attention_bwd", "backward"), ("swiglu_bwd", "backward"), ("rmsnorm", "forward"), ("rmsnorm_bwd", "backward"), ("rope", "forward"), ("embed", "forward"),
                 ("embed_bwd", "backward"), ("head_ce", "forward"), ("head_ce", "backward"), ("adamw", "backward"), ("gemm", "backward")):
        ok(want in passes, "%s %s is among them" % want)
    ok(all(rate(o["us"]) for o in r["ops"]), "all have times, least <= median <= most")
    ok(all(0 < o["share"] < 1000 and o["bound"] in ("products", "reading", "copying") for o in r["ops"]), "and a share of what binds them")
    peak = max(p["flops"]["high"] for p in r["limits"]["products"] if p["dtype"] == "f32")
    bound = [o for o in r["ops"] if o["bound"] == "products"]
    ok(bound and all(near(o["share"], o["flops"] / peak / (o["us"]["median"] * 1e-6)) for o in bound), "the share is operations / peak / time where products bind")


def whole(r, m):
    w, = [x for x in r["models"] if x["model"] == m]
    depth, d, h, g, f = DENSE[m]
    same(w["params"], matrices(m) + V * d + (2 * depth + 1) * d, "model %s: parameters" % m)
    ok(near(w["flops_per_token"], flops_per_token(m)), "operations a token")
    ok(rate(w["tokens_per_s"]) and rate(w["product_flops"]), "rates")
    ok(near(w["share"], w["tokens_per_s"]["median"] * w["flops_per_token"] / w["product_flops"]["high"]), "the share is what the formula says")
    ok("recurrence" in r["formula"], "which is printed")
    ok(w["train_bytes"] > 16 * w["params"], "weights, gradients and two moments at least are planned")
    ok(w["process_bytes"] > w["train_bytes"], "and the process that trains takes more than that")
    s, = w["decode"]
    same(s["context"], 128, "one context with --quick")
    ok(rate(s["decode_ms"]) and rate(s["prefill_ms"]) and s["prefill_share"] > 0, "decoding and prefill")
    ok(near(s["to_bound"], s["decode_ms"]["median"] / s["bound_ms"]), "x bound")
    sets = r["limits"]["memory"]
    i = next((i for i, x in enumerate(sets) if x["bytes"] >= decode_bytes(m, 128)), len(sets))
    reads = [x["read"]["high"] for x in sets[max(i - 1, 0):i + 1]]
    ok(min(reads) * 0.999 <= decode_bytes(m, 128) / (s["bound_ms"] * 1e-3) <= max(reads) * 1.001, "the bound is bytes / reading at a set of that size")
    ok(0 <= w["others"] <= 1 and 0 <= w["others_decode"] <= 1, "what others took")


def everything():
    r = taut("--quick", "--model", "a,b", "--threads", 2, "--precision", "f32", "--json")
    same(r.returncode, 0, "taut bench --quick")
    v = json.loads(r.stdout)
    same([v["quick"], v["batch"], v["context"], v["precision"], v["device"]["threads"]], [True, B, T, "f32", 2], "what was measured")
    limits(v)
    counts(v)
    same([x["model"] for x in v["models"]], ["a", "b"], "two models")
    for m in "ab":
        whole(v, m)
    ok(all(rate(x["tokens_per_s_1"]) and near(x["scaling"], x["tokens_per_s"]["median"] / x["tokens_per_s_1"]["median"]) for x in v["models"]), "one thread, and the scaling")
    ok(("others took" in r.stderr) == (v["others"] > 0.05), "over 5 %% taken by others is said (%.0f %%)" % (100 * v["others"]))


def parts():
    v = json.loads(taut("limits", "--quick", "--threads", 1, "--json").stdout)
    ok("limits" in v and "ops" not in v and "models" not in v, "limits alone")
    v = json.loads(taut("ops", "--quick", "--model", "a", "--op", "swiglu", "--json").stdout)
    ok("models" not in v and "limits" not in v and {o["op"] for o in v["ops"]} == {"swiglu", "swiglu_bwd"}, "ops of one kind alone")
    v = json.loads(taut("models", "--quick", "--model", "a", "--threads", 1, "--json").stdout)
    ok("ops" not in v and len(v["models"]) == 1 and "scaling" not in v["models"][0], "models alone, on one thread: no scaling")
    v = json.loads(taut("models", "--quick", "--model", "d,e", "--threads", 1, "--json").stdout)
    e = v["models"][1]
    if "params" in e: # a token goes through two of eight experts and the router
        layer = 256 * 12 * 32 + 256 * 256 + 256 * 8
        same(e["params"], 6 * (layer + 8 * 3 * 256 * 256 + 2 * 256) + 2 * V * 256 + 256, "model e: all experts are parameters")
        ok(near(e["flops_per_token"], 3 * (2 * (6 * (layer + 2 * 3 * 256 * 256) + 256 * V) + 6 * 4 * 256 * pairs(T) / T)), "two of them are work")
    v2 = json.loads(taut("ops", "--quick", "--model", "e", "--threads", 1, "--json").stdout)
    found = {(o["op"], o["pass"]) for o in v2["ops"]}
    ok("params" not in e or {("route", "forward"), ("gather", "forward"), ("gemm_grouped", "forward"), ("gemm_grouped_sum", "backward"), ("expert_act_bwd", "backward")} <= found,
       "and the mixture's ops are measured")
    ok(all("us" in o for o in v2["ops"]), "all of them")
    v3 = json.loads(taut("ops", "--quick", "--model", "d", "--threads", 1, "--json").stdout)
    found = {(o["op"], o["pass"]) for o in v3["ops"] if "us" in o}
    ok({("conv", "forward"), ("conv_bwd", "backward"), ("ssd", "forward"), ("ssd_bwd", "backward"), ("ssd", "decode"), ("gatednorm_bwd", "backward")} <= found,
       "and those of mamba2")
    other = {(o["op"], o["pass"]): o for o in v3["ops"] if o["op"] in ("delta_gates", "delta_gates_bwd", "delta_rule", "delta_rule_bwd", "logsigmoid", "logsigmoid_bwd", "gla", "gla_bwd")}
    ok(len(other) == 10 and all(rate(o["us"]) and o["share"] > 0 for o in other.values()), "and those of gated_delta and linear, which model d might have instead, with their shares")
    n, h, k = B * T, 8, 32
    for name, cell, rest, numbers in (("delta_rule", 7, 8 * k, 4 * k + 2), ("gla", 5, k, 5 * k)):
        same([other[name, "forward"]["flops"], other[name, "forward"]["bytes"]], [n * h * (cell * k * k + rest), 4 * n * h * numbers], "%s: its recurrence, each operand once" % name)
        ok(other[name, "decode"]["bytes"] >= 4 * h * 2 * k * k, "of one token: the state in and out")
    ok(any(o["shape"].startswith("gated_delta in %dx256x%d" % (n, 4 * 256 + 16)) for o in v3["ops"]) and any(o["shape"].startswith("linear gate %dx16x256" % n) for o in v3["ops"]),
       "their products as well")
    ok(all(("tokens_per_s" in x) != ("not_built" in x) for x in v["models"]) and [x["model"] for x in v["models"]] == ["d", "e"], "a model is measured, or said to be not built")
    r = taut("--quick", "--model", "a", "--op", "rmsnorm")
    lines = r.stdout.splitlines()
    same(r.returncode, 0, "for people")
    ok(any("rmsnorm_bwd" in x and "%" in x for x in lines) and any(x.startswith("limits") for x in lines) and any("tokens/s" in x for x in lines), "tables of all three")
    ok("\r" not in r.stdout and "\033" not in r.stdout, "no progress where there is no terminal")


def precision():
    """bench/precision.py has the same models, and tells a difference of rounding from that of a seed."""
    path = os.path.join(SRC, "bench/precision.py")
    spec = importlib.util.spec_from_file_location("precision", path)
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    same("".join(m.MODELS), "abde", "bench/precision.py: its models")
    v = json.loads(taut("models", "--quick", "--model", "a,b,d,e", "--threads", 1, "--json").stdout)
    for x in v["models"]:
        arch = os.path.join(D, "arch.json")
        with open(arch, "w") as f:
            json.dump(dict(m.MODELS[x["model"]], context=T), f)
        c = json.loads(subprocess.run([TAUT, "cost", arch, "--json"], capture_output=True, text=True, timeout=HANG).stdout)
        same([c["params"], 3 * c["flops_per_token"]], [x["params"], x["flops_per_token"]], "model %s is that of taut bench" % x["model"])
        os.unlink(arch)
    text = os.path.join(D, "text")
    with open(text, "w") as f:
        f.write("".join("%d and %d are %d\n" % (i, i * i % 97, i * i % 89) for i in range(4000)))
    r = subprocess.run([sys.executable, path, "--data", text, "--build", BUILD, "--models", "a", "--steps", "2", "--seeds", "2"], capture_output=True, text=True, timeout=HANG)
    os.unlink(text)
    if r.returncode and "bf16" in r.stderr:
        ok(len(r.stderr.splitlines()) == 1, "no bf16 on this machine: bench/precision.py says so")
        return
    lines = r.stdout.splitlines()
    apart = [float(x.split()[-2]) for x in lines[:2]]
    ok(r.returncode == 0 and len(lines) == 5 and all(x.startswith("a, seed ") for x in lines[:2]), "bench/precision.py: a line a seed")
    same(lines[2:3], ["a: bf16 against f32, 2 seeds: mean %+.3f %%, least %+.3f, most %+.3f" % tuple(float(x) for x in re.findall(r"[-+][\d.]+", lines[2]))], "mean and spread of rounding")
    ok(abs(sum(apart) / 2 - float(lines[2].split("mean ")[1].split()[0])) < 0.002, "which are of those lines")
    ok(all("one seed against another in " + k in x for k, x in zip(("f32", "bf16"), lines[3:])), "beside what a seed does")
    r = subprocess.run([sys.executable, path, "--data", text, "--models", "c"], capture_output=True, text=True, timeout=HANG)
    ok(r.returncode == 2 and "--models" in r.stderr, "a model that it lacks is refused")


def bf16():
    """A machine that has such products says so among its limits."""
    v = json.loads(taut("limits", "--quick", "--json").stdout)
    has = [p for p in v["limits"]["products"] if p["dtype"] == "bf16"]
    r = taut("ops", "models", "--quick", "--model", "a", "--op", "swiglu", "--precision", "bf16", "--json")
    if not has:
        ok(r.returncode == 2 and "bf16" in r.stderr, "no bf16 on this machine: refused")
        return
    v = json.loads(r.stdout)
    ok(r.returncode == 0 and v["precision"] == "bf16" and rate(v["models"][0]["tokens_per_s"]) and rate(v["models"][0]["product_flops"]), "in bf16")
    v = json.loads(taut("limits", "ops", "--quick", "--model", "d", "--op", "ward", "--precision", "bf16", "--json").stdout)
    peak = {p: max(x["flops"]["high"] for x in v["limits"]["products"] if x["dtype"] == p) for p in ("f32", "bf16")}
    for name, p in (("ssd", "bf16"), ("delta_rule", "f32"), ("gla", "f32")):
        o, = [o for o in v["ops"] if o["op"] == name and o["pass"] == "forward"]
        ok(o["bound"] == "products" and near(o["share"], o["flops"] / peak[p] / (o["us"]["median"] * 1e-6)), "%s is held against the peak of %s products" % (name, p))


FAKE = r"""#!%s
import json, os, sys
if sys.argv[1] == "-c":
    sys.exit(0)
script, arch, weights, text, mode, threads, batch = sys.argv[1:8]
assert "torch" in open(script).read() and os.path.getsize(text) > 1000
arch = json.load(open(arch))
with open(weights, "rb") as f:
    names = json.loads(f.read(int.from_bytes(f.read(8), "little")))
assert "model.embed_tokens.weight" in names and "OPENBLAS_CORETYPE" not in os.environ
if os.environ.get("FAKE_DIES") == mode:
    sys.exit("Error: no " + mode)
ms = {"eager-f32": 40, "eager-bf16": 30, "compiled-f32": 20, "compiled-bf16": 10, "eager-decode": 8, "compiled-decode": 5}[mode]
loss = 5.5
if len(sys.argv) > 8:
    print(json.dumps({"ms": [ms] * int(sys.argv[8]), "losses": [loss]}))
    sys.exit()
print("chatter\n" + json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    word, *n = line.split()
    n = [int(x) for x in n]
    print(json.dumps({"steps": lambda: {"ms": [ms] * n[0], "losses": [loss] * n[0]}, "decode": lambda: {"ms": [ms] * n[1]}, "product": lambda: {"flops": 1e15},
                      "memory": lambda: {"bytes": 10**9}}[word]()), flush=True)
"""


def fake_torch():
    """The comparison, with a program in PyTorch's place whose answers are known."""
    fake = os.path.join(D, "fake-python")
    with open(fake, "w") as f:
        f.write(FAKE % sys.executable)
    os.chmod(fake, 0o755)
    env = dict(os.environ, TAUT_TORCH_PYTHON=fake, OPENBLAS_CORETYPE="x")
    r = taut("--compare-torch", "--quick", "--model", "a", "--rounds", 3, "--wall-steps", 3, "--threads", 2, "--json", env=env)
    same(r.returncode, 0, "against a program in PyTorch's place")
    line = {x["what"]: x for x in json.loads(r.stdout)["compare"]}
    x = line["training, tokens/s"]
    same(x["torch"], "12,800 (compiled-bf16)", "its best mode: 128 tokens in 10 ms")
    mine = float(x["taut"].split()[0].replace(",", ""))
    ok(0 < x["low"] <= x["figure"] <= x["high"] and abs(x["figure"] - mine / 12800) < 0.01 * x["figure"], "the ratio is that of the rates")
    same([x["target"], x["met"], x["at_most"]], [2.0, x["figure"] >= 2, False], "with its target")
    x = line["first losses, f32: largest difference"]
    ok(abs(float(x["taut"]) - math.log(V)) < 0.2 and x["torch"] == "5.500000" and 0 < x["figure"] < 1 and not x["met"], "losses that differ are shown as missed")
    x = line.get("share of the bf16 product's rate", {})
    ok("not_built" in x or abs(x["figure"] - mine * flops_per_token("a") / 1e15) < 0.01 * x["figure"], "the share is of the faster product of both")
    x = line["memory of a training process, most"]
    ok(x["torch"].startswith("1.00 GB") and 0 < x["figure"] < 1 and x["met"] == (x["figure"] <= 0.5) and x["at_most"], "memory")
    x = line["decoding, f32, ms a token"]
    ok(x["torch"] == "5.000 (compiled-decode)" and abs(x["figure"] - 5 / float(x["taut"].split()[0])) < 0.05 * x["figure"], "decoding")
    ok(line["decoding, times its bound"]["figure"] > 0 and line["scaling from one thread"]["figure"] > 0 and line["steps from process start"]["taut"].startswith("3 in "), "the rest")
    r = taut("--compare-torch", "--quick", "--model", "a,b", "--rounds", 1, "--skip", "wall,memory", "--threads", 1, env=env)
    same([r.returncode, r.stdout.count("against PyTorch"), r.stdout.count("training, tokens/s"), r.stdout.count("process start,"), r.stdout.count("memory of")], [0, 2, 2, 0, 0],
         "for people: a table a model, without what is skipped")
    env["FAKE_DIES"] = "compiled-f32"
    r = taut("--compare-torch", "--quick", "--model", "a", "--rounds", 1, "--json", env=env)
    ok(r.returncode == 1 and not r.stdout and "no compiled-f32" in r.stderr, "a mode that fails says why")
    r = taut("--compare-torch", "--quick", env=dict(os.environ, TAUT_TORCH_PYTHON="/bin/false"))
    ok(r.returncode == 1 and "TAUT_TORCH_PYTHON" in r.stderr, "no torch: one line that says what to set")
    os.unlink(fake)


FAKE_LLAMA = r"""#!%s
import json, os, struct, sys
if "--help" in sys.argv:
    sys.exit()
o = dict(zip(sys.argv[1::2], sys.argv[2::2]))
data, at = open(o["-m"], "rb").read(), 0
def take(fmt):
    global at
    v, = struct.unpack_from("<" + fmt, data, at)
    at += struct.calcsize("<" + fmt)
    return v
def text():
    n = take("Q")
    return struct.unpack("%%ds" %% n, bytes(take("c")[0] for _ in range(n)))[0].decode()
assert [take("I"), take("I")] == [0x46554747, 3]
n, nfields = take("Q"), take("Q")
fields = {text(): {4: lambda: take("I"), 6: lambda: take("f"), 8: text}[take("I")]() for _ in range(nfields)}
tensors = {text(): ([take("Q") for _ in range(take("I"))], take("I"), take("Q")) for _ in range(n)}
start = (at + 31) // 32 * 32
count = lambda dims: dims[0] * (dims[1] if len(dims) > 1 else 1)
size = {0: lambda n: 4 * n, 30: lambda n: 2 * n, 8: lambda n: n // 32 * 34}
end = 0
for dims, kind, offset in tensors.values(): # one behind the other, on multiples of 32
    assert offset == end
    end = (offset + size[kind](count(dims)) + 31) // 32 * 32
assert start + end == len(data)
def numbers(name):
    dims, kind, offset = tensors[name]
    n, raw = count(dims), data[start + offset:start + offset + size[kind](count(dims))]
    if kind == 0:
        return struct.unpack("<%%df" %% n, raw)
    if kind == 30:
        return struct.unpack("<%%df" %% n, b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2)))
    return [x * d for d, *v in struct.iter_unpack("<e32b", raw) for x in v]
with open(os.path.join(os.path.dirname(o["-m"]), "weights.safetensors"), "rb") as f:
    names = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    weights = f.read()
# Ours of the other's row r: heads of k rows, whose halves became neighbours.
k = fields["llama.attention.key_length"]
turned = lambda r: r // k * k + r %% k // 2 + r %% 2 * (k // 2)
worst = {}
for theirs, ours, row in (("token_embd", "embed_tokens", None), ("output_norm", "norm", None), ("blk.1.attn_norm", "layers.1.input_layernorm", None),
                          ("blk.1.attn_q", "layers.1.self_attn.q_proj", turned), ("blk.2.attn_k", "layers.2.self_attn.k_proj", turned), ("blk.2.attn_v", "layers.2.self_attn.v_proj", None),
                          ("blk.3.ffn_down", "layers.3.mlp.down_proj", None)):
    t = names["model." + ours + ".weight"]
    x, y = struct.unpack("<%%df" %% count(t["shape"]), weights[slice(*t["data_offsets"])]), numbers(theirs + ".weight")
    d = t["shape"][-1]
    if row:
        x = [v for r in range(t["shape"][0]) for v in x[row(r) * d:(row(r) + 1) * d]]
    kind = tensors[theirs + ".weight"][1]
    block = [max(map(abs, x[i:i + 32])) for i in range(0, len(x), 32)]
    allowed = {0: lambda i: 1e-30, 30: lambda i: abs(x[i]) / 256, 8: lambda i: block[i // 32] * (0.5 / 127 + 1 / 1024)}[kind]
    assert list(reversed(tensors[theirs + ".weight"][0])) == t["shape"]
    worst[theirs] = max(abs(a - b) / allowed(i) for i, (a, b) in enumerate(zip(x, y)))
with open(os.environ["FAKE_SEEN"], "a") as f:
    f.write(json.dumps({"args": o, "fields": fields, "worst": worst, "names": sorted(tensors)}) + "\n")
kind = tensors["token_embd.weight"][1]
how = os.environ.get("FAKE_LLAMA", "") if kind else ""
if how == "fails":
    sys.exit("loading\nerror: out of luck")
if how == "umlauts":
    sys.stdout.flush()
    sys.stderr.buffer.write(("loading\n" + os.environ["FAKE_WORDS"]).encode())
    sys.exit(1)
prompt, gen, depth = int(o["-p"]), int(o["-n"]), int(o["-d"])
for flash in (0, 1):
    ms = ((8, 4)[flash] * gen + (50, 70)[flash] * (prompt > 0)) * {0: 1, 30: 2, 8: 3}[kind]
    answer = {"n_prompt": prompt, "n_gen": gen, "n_depth": depth, "n_threads": int(o["-t"]), "flash_attn": flash, "samples_ns": [ms * 10**6] * int(o["-r"])}
    if how == "other tokens":
        answer["n_gen"] += 1
    if how == "no times":
        answer["samples_ns"] = []
    if how != "words" and (how != "half" or flash):
        print("chatter\n" + json.dumps(answer), flush=True)
if how == "words":
    print("all is well\n[]\n{}")
"""


def llama():
    """Rows for llama.cpp, with a program in llama-bench's place that reads the file and whose answers are known."""
    bin, seen = os.path.join(D, "bin"), os.path.join(D, "seen")
    os.mkdir(bin)
    fake = os.path.join(bin, "llama-bench")
    with open(fake, "w") as f:
        f.write(FAKE_LLAMA % sys.executable)
    os.chmod(fake, 0o755)
    bare = {k: v for k, v in os.environ.items() if k != "TAUT_LLAMA_BENCH"}
    env = dict(bare, TAUT_LLAMA_BENCH=fake, FAKE_SEEN=seen)

    def look():
        with open(seen) as f:
            v = [json.loads(x) for x in f]
        os.unlink(seen)
        return v

    def rows(r):
        return {x["what"]: x for x in json.loads(r.stdout)["compare"]}

    r = taut("--compare-torch", "--quick", "--model", "b,d", "--rounds", 3, "--threads", 2, "--skip", "torch", "--json", env=env)
    same([r.returncode, [x for x in r.stderr.splitlines() if "llama" in x]], [0, ["model d is left out: llama.cpp does not have it: layers[0].mixer.type: family 'llama' does not hold 'mamba2' here"]], "llama.cpp alone; what it does not have is left out, with a line")
    line, calls = rows(r), look()
    for names in ("d", "d,e"):
        r = taut("--compare-torch", "--quick", "--model", names, "--skip", "torch", env=env)
        ok(r.returncode == 2 and not r.stdout and "nothing is left to compare: llama.cpp does not have model " + names[-1] in r.stderr and len(r.stderr.splitlines()) == 1, "nothing but %s: exit 2: %s" % (names, r.stderr.strip()))
    same([len(line), {x["model"] for x in line.values()}], [6, {"b"}], "two rows a precision, of the model that it holds")
    for i, kind in enumerate(("f32", "bf16", "int8")):
        for what, ms, flash in (("llama.cpp: decoding, %s, ms a token" % kind, 4, " (flash attention)"), ("llama.cpp: prefill, %s, ms" % kind, 50, "")):
            x = line[what]
            ours, ms = float(x["taut"]), ms * (i + 1)
            same(x["llama"], "%.3f%s" % (ms, flash), "%s: the faster of its two" % what)
            ok(0 < x["low"] <= x["figure"] <= x["high"] and abs(x["figure"] - ms / ours) <= x["figure"] * 0.0006 / ours, "its time over ours (%g of %g / %g)" % (x["figure"], ms, ours))
            same([x["target"], x["met"], x["at_most"], 0 <= x["others"] <= 1], [1.0, x["figure"] >= 1, False, True], "wanted: 1")
    same([(c["args"]["-p"], c["args"]["-n"], c["args"]["-d"]) for c in calls], [("0", "4", "64"), ("64", "0", "0")] * 9, "asked in turns: tokens after 64, a prefill of 64")
    same({(c["args"]["-t"], c["args"]["-ngl"], c["args"]["-o"]) for c in calls}, {("2", "0", "jsonl")}, "as many threads, no other device")
    depth, d, h, g, f = DENSE["b"]
    want = {"general.architecture": "llama", "llama.vocab_size": V, "llama.embedding_length": d, "llama.block_count": depth, "llama.attention.head_count": h,
            "llama.attention.head_count_kv": g, "llama.attention.key_length": d // h, "llama.attention.value_length": d // h, "llama.rope.dimension_count": d // h,
            "llama.feed_forward_length": f, "llama.rope.freq_base": 10000.0, "tokenizer.ggml.model": "no_vocab"}
    got = calls[0]["fields"]
    same({k: got.get(k) for k in want}, want, "the file says what the model is")
    ok(abs(got["llama.attention.layer_norm_rms_epsilon"] - 1e-5) < 1e-12, "and the norm's epsilon")
    parts = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    same(calls[0]["names"], sorted([x + ".weight" for x in ("token_embd", "output", "output_norm")] + ["blk.%d.%s.weight" % (i, x) for i in range(depth) for x in parts]), "all tensors")
    ok(all(w <= 1 for c in calls for w in c["worst"].values()), "whose numbers are the model's, rounded as they should: %s" % [max(c["worst"].values()) for c in calls[::6]])

    fake_python = os.path.join(D, "fake-python")
    with open(fake_python, "w") as f:
        f.write(FAKE % sys.executable)
    os.chmod(fake_python, 0o755)
    both = dict(bare, TAUT_TORCH_PYTHON=fake_python, FAKE_SEEN=seen, PATH=bin + os.pathsep + bare.get("PATH", ""))
    r = taut("--compare-torch", "--quick", "--model", "b", "--rounds", 1, "--skip", "wall,memory,decode", env=both)
    same([r.returncode, r.stdout.count("model b"), r.stdout.count("against llama.cpp"), r.stdout.count("llama.cpp: prefill"), "Q8_0" in r.stdout], [0, 2, 1, 3, True],
         "found on the path; for people: a table of its own")
    same(len(look()), 6, "one round")
    r = taut("--compare-torch", "--quick", "--model", "b", "--rounds", 1, "--skip", "wall,memory,decode,llama", "--json", env=both)
    ok(r.returncode == 0 and not os.path.exists(seen) and not any("llama" in x for x in rows(r)) and "llama" not in r.stderr, "--skip llama: not looked for")
    alone = dict(both, PATH=os.path.join(D, "nowhere"))
    r = taut("--compare-torch", "--quick", "--model", "b", "--rounds", 1, "--skip", "wall,memory,decode", "--json", env=alone)
    ok(r.returncode == 0 and "training, tokens/s" in rows(r) and not any("llama" in x for x in rows(r)), "no llama-bench: the rest is compared")
    same([x for x in r.stderr.splitlines() if "llama" in x], ["llama.cpp is left out: there is no llama-bench on the path, and TAUT_LLAMA_BENCH names none"], "and a line says so")
    for e, what in ((alone, "nothing to compare with"), (dict(env, TAUT_LLAMA_BENCH="/nowhere/llama-bench"), "one that is not there")):
        r = taut("--compare-torch", "--quick", "--skip", "torch", env=e)
        ok(r.returncode == 1 and "TAUT_LLAMA_BENCH" in r.stderr and "llama-bench cannot be run" in r.stderr and len(r.stderr.splitlines()) == 1, "%s: exit 1" % what)

    for how, words in (("fails", "error: out of luck"), ("words", "not what llama-bench"), ("half", "not what llama-bench"), ("other tokens", "not what llama-bench"),
                       ("no times", "not what llama-bench")):
        r = taut("--compare-torch", "--quick", "--model", "a", "--rounds", 1, "--skip", "torch", "--json", env=dict(env, FAKE_LLAMA=how))
        line = rows(r)
        same([r.returncode, sorted(line)], [1, ["llama.cpp: bf16", "llama.cpp: decoding, f32, ms a token", "llama.cpp: prefill, f32, ms"]], "%s, in bf16: f32 stays, exit 1" % how)
        ok(words in line["llama.cpp: bf16"]["failed"] and any("model a" in x and words in x for x in r.stderr.splitlines()), "and a line says why")
        look()
    for n in range(3):  # wherever it is cut, it is not in the middle of a character
        said = "x" * n + "\u20ac" * 900
        r = taut("--compare-torch", "--quick", "--model", "a", "--rounds", 1, "--skip", "torch", "--json", env=dict(env, FAKE_LLAMA="umlauts", FAKE_WORDS=said))
        got = rows(r)["llama.cpp: bf16"].get("failed", "")
        ok(said.startswith(got) and 150 < len(got.encode()) < 160 and "\ufffd" not in r.stderr, "a long reason in other letters, %d: %d bytes" % (n, len(got.encode())))
        look()
    r = taut("--compare-torch", "--quick", "--model", "a,b", "--rounds", 1, "--skip", "torch", env=dict(env, FAKE_LLAMA="fails"))
    same([r.returncode, len(re.findall("  llama.cpp: bf16 +failed", r.stdout)), r.stderr.count("out of luck")], [1, 2, 2], "for people: each model's table and line")
    for f in (fake, fake_python, seen):
        os.unlink(f)
    os.rmdir(bin)


def wrong():
    for args, words in ((["sums"], "no part 'sums'"), (["--model", "a,f"], "'f'"), (["--model", "a,a"], "twice"), (["--model", ""], "empty"), (["--model", "a,"], "''"),
                        (["--threads", "0"], "--threads"), (["--threads", "x"], "--threads"), (["--precision", "f16"], "f16"), (["--device", "cuda:99"], "CUDA"),
                        (["--skip", "wall"], "--compare-torch"), (["--rounds", "3"], "--compare-torch"), (["--compare-torch", "--skip", "lunch"], "'lunch'"),
                        (["--compare-torch", "--skip", "torch,wall,llama"], "nothing is left"), (["--compare-torch", "--rounds", "0"], "--rounds"), (["--device", "ref"], "ref"), (["--device", "moon"], "moon"), (["--colour"], "--colour"), (["limits", "ops", "models", "ops"], "ops"),
                        (["ops", "--compare-torch"], "'ops'"), (["models", "--op", "gemm"], "--op")):
        r = taut(*args)
        ok(r.returncode == 2 and not r.stdout and words in r.stderr and len(r.stderr.splitlines()) == 1, "exit 2: taut bench %s" % " ".join(args))
    r = taut("ops", "--op", "nosuchop", "--model", "a", "--quick")
    ok(r.returncode == 4 and "'nosuchop'" in r.stderr, "no op of that name: said, exit 4")
    p = subprocess.Popen([TAUT, "bench", "ops", "--quick"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=HANG)
    ok(p.returncode == 130 and "stopped" in err, "Ctrl-C stops it")
    same([f for f in os.listdir(D) if f != "locks"], [], "nothing is left behind")


try:
    everything()
    parts()
    bf16()
    precision()
    fake_torch()
    llama()
    wrong()
finally:
    shutil.rmtree(D, ignore_errors=True)
done()
