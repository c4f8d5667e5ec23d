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
    same("".join(m.MODELS), "abd", "bench/precision.py: its models")
    v = json.loads(taut("models", "--quick", "--model", "a,b,d", "--threads", 1, "--json").stdout)
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


def wrong():
    for args, words in ((["sums"], "no part 'sums'"), (["--model", "a,f"], "'f'"), (["--model", "a,a"], "twice"), (["--model", ""], "empty"), (["--model", "a,"], "''"),
                        (["--threads", "0"], "--threads"), (["--threads", "x"], "--threads"), (["--precision", "f16"], "f16"), (["--device", "cuda:0"], "CUDA"),
                        (["--skip", "wall"], "--compare-torch"), (["--rounds", "3"], "--compare-torch"), (["--compare-torch", "--skip", "lunch"], "'lunch'"),
                        (["--compare-torch", "--rounds", "0"], "--rounds"), (["--device", "ref"], "ref"), (["--device", "moon"], "moon"), (["--colour"], "--colour"), (["limits", "ops", "models", "ops"], "ops"),
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
    wrong()
finally:
    shutil.rmtree(D, ignore_errors=True)
done()
