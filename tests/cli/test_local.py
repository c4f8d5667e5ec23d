"""The verbs that work without a search: cost, space, score, train, profile, doctor. Numbers against what Python works out by itself."""
import array
import fcntl
import itertools
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios

SRC = os.environ.get("TAUT_SRC", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import *

TAUT = os.path.join(BUILD, "taut")
HANG = 300
D = tempfile.mkdtemp(prefix="taut-local-")
os.environ["TAUT_LOCKS"] = os.path.join(D, "locks") # other work on this machine has no part in this
WORDS = "the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were".split()


def path(name):
    return os.path.join(D, name)


def write(name, data):
    with open(path(name), "wb" if isinstance(data, bytes) else "w") as f:
        f.write(data)
    return path(name)


def taut(*args, env=None):
    return subprocess.run([TAUT, *map(str, args)], capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL, env=env)


def good(*args):
    r = taut(*args)
    if r.returncode or r.stderr:
        print("# taut %s: %d %s" % (" ".join(map(str, args)), r.returncode, r.stderr), flush=True)
    return r.stdout


def rows(*args):
    return [json.loads(line) for line in good(*args).splitlines()]


def near(a, b, rel=1e-12):
    return abs(a - b) <= rel * max(abs(a), abs(b))


def attention(heads, kv, dim, window=0, **more):
    return dict({"type": "attention", "heads": heads, "kv_heads": kv, "head_dim": dim, "window": window}, **more)


def swiglu(hidden, rank=0):
    return {"type": "swiglu", "hidden": hidden, "rank": rank}


def mlp(hidden, act="relu2"):
    return {"type": "mlp", "hidden": hidden, "act": act}


NONE = {"type": "none"}


def arch(width, *layers, vocab=256, context=64, **more):
    return dict({"taut": 1, "vocab": vocab, "context": context, "width": width, "layers": [{"mixer": m, "ffn": f} for m, f in layers]}, **more)


ARCHS = {
    "plain": arch(64, (attention(2, 2, 32), swiglu(96))),
    "mixed": arch(96, (attention(4, 2, 16, 8), swiglu(128)), (NONE, swiglu(160, 8)), (attention(3, 1, 32, rope=False), NONE), context=32, tie_embeddings=False),
    "biased": arch(48, (attention(4, 2, 16), mlp(96)), (NONE, swiglu(64, 8)), (attention(3, 3, 16), mlp(100, "gelu")), norm="layer", bias=True),
    "odd": arch(50, (attention(5, 5, 6, 100), swiglu(33)), vocab=77, context=7),
}


# ---- the closed forms ----

def norm_params(a):
    return a["width"] * (2 if a.get("norm") == "layer" else 1)


def part_params(p, a):
    width, bias = a["width"], a.get("bias", False)
    if p["type"] == "none":
        return 0
    if p["type"] == "attention":
        q, kv = p["heads"] * p["head_dim"], p["kv_heads"] * p["head_dim"]
        return norm_params(a) + width * (2 * q + 2 * kv) + bias * (q + 2 * kv + width)
    if p["type"] == "mlp":
        return norm_params(a) + 2 * width * p["hidden"] + bias * (p["hidden"] + width)
    return norm_params(a) + 3 * (p["rank"] * (width + p["hidden"]) if p["rank"] else width * p["hidden"]) + bias * (2 * p["hidden"] + width)


def part_flops(p, width, positions):
    """Of one token at each of those positions, pair by pair."""
    if p["type"] == "none":
        return 0
    if p["type"] == "attention":
        q, kv = p["heads"] * p["head_dim"], p["kv_heads"] * p["head_dim"]
        pairs = sum(min(i + 1, p["window"] or i + 1) for i in positions)
        return len(positions) * 2 * width * (2 * q + 2 * kv) + pairs * 2 * (2 * q)
    if p["type"] == "mlp":
        return len(positions) * 2 * 2 * width * p["hidden"]
    return len(positions) * 2 * 3 * (p["rank"] * (width + p["hidden"]) if p["rank"] else width * p["hidden"])


def part_state(p, context):
    return 4 * 2 * p["kv_heads"] * p["head_dim"] * min(context, p["window"] or context) if p["type"] == "attention" else 0


def parts(a):
    return [p for l in a["layers"] for p in (l["mixer"], l["ffn"])]


def params(a):
    return sum(part_params(p, a) for p in parts(a)) + norm_params(a) + a["vocab"] * a["width"] * (1 if a.get("tie_embeddings", True) else 2)


def flops(a, positions, heads):
    return sum(part_flops(p, a["width"], positions) for p in parts(a)) + heads * 2 * a["vocab"] * a["width"]


def cost():
    for name, a in ARCHS.items():
        f = write(name + ".json", json.dumps(a))
        L = [1, 5, 64, 300]
        v, = rows("cost", f, "--json", "--context", ",".join(map(str, L)))
        same((v["params"], v["active_params"], v["weight_bytes"]), (params(a), params(a), 4 * params(a)), name + ": parameters")
        ok(near(v["flops_per_token"], flops(a, range(a["context"]), a["context"]) / a["context"]), name + ": FLOPs a token, mean of a window")
        same(v["state_bytes"], {str(n): sum(part_state(p, n) for p in parts(a)) for n in L}, name + ": state, windows kept in bounds")
        same(v["decode_flops"], {str(n): flops(a, [n], 1) for n in L}, name + ": FLOPs to decode")
        same(v["prefill_flops"], {str(n): flops(a, range(n), 1) for n in L}, name + ": FLOPs to prefill")
        layers = v["layers"]
        for key in ("params", "active_params", "weight_bytes"):
            same(sum(r[key] for r in layers), v[key], "%s: the layers' %s add up" % (name, key))
        ok(near(sum(r["flops_per_token"] for r in layers), v["flops_per_token"]), name + ": the layers' FLOPs add up")
        for key in ("state_bytes", "decode_flops", "prefill_flops"):
            same({n: sum(r[key][n] for r in layers) for n in v[key]}, v[key], "%s: the layers' %s add up" % (name, key))
        want = [("embedding",)] + [(i, what, l[what]["type"]) for i, l in enumerate(a["layers"]) for what in ("mixer", "ffn") if l[what]["type"] != "none"]
        same([tuple(r[k] for k in ("layer", "part", "type") if k in r) for r in layers], want + [("norm",), ("head",)], name + ": one row a part")
        text = good("cost", f)
        ok("{:,}".format(params(a)) in text and "total" in text and v["arch_id"][:8] in text, name + ": for people")
    v, = rows("cost", path("plain.json"), "--json", "--batch", "4")
    w, = rows("cost", path("plain.json"), "--json", "--batch", "8")
    slabs = 4 * v["weight_bytes"]
    ok(v["batch"] == 4 and slabs < v["train_bytes_planned"] < w["train_bytes_planned"] < slabs + 2 * (v["train_bytes_planned"] - slabs) + 4096,
       "memory to train: four times the weights, and activations that grow with the batch")
    half, full = (rows("cost", path("plain.json"), "--json", "--precision", k)[0] for k in ("bf16", "f32"))
    same([half["train_precision"], full["train_precision"]], ["bf16", "f32"], "in the precision that is asked for")
    ok(4 * half["weight_bytes"] < half["train_bytes_planned"] < full["train_bytes_planned"] and half["state_bytes"] == full["state_bytes"], "with less between products in bf16")
    ok(v["train_precision"] in ("bf16", "f32") and "products in bf16" in good("cost", path("plain.json"), "--precision", "bf16"), "which is said")
    ok("attention heads 2" in good("cost", path("plain.json"), "--context", "128") and "state@128" in good("cost", path("plain.json"), "--context", "128"), "a column of state")


# ---- space ----

def space():
    knobs = {"heads": [1, 2, 3], "kv_ratio": [1, 2], "window": [0, 16]}
    job = {"name": "little", "data": {"train": "nowhere.txt", "context": 32}, "objectives": ["valid_bpb", "state_bytes@1024"], "constraints": [{"metric": "params", "max": 20000}],
           "space": {"type": "lm", "depth": [1, 2], "width": [32, 48], "mixer": {"attention": knobs, "none": {}}, "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}}}
    f = write("space.json", json.dumps(job))

    def layers(width):
        mixers = [(h, r, w) for h, r, w in itertools.product([1, 2, 3], [1, 2], [0, 16]) if h % r == 0 and width % h == 0 and width // h % 2 == 0] + [None]
        ffns = {-(-int(q * width) // 32) * 32 for q in (1, 2)} | {None}
        return len(mixers) * len(ffns) - 1

    size = sum(layers(w) + layers(w) ** 2 for w in (32, 48))
    v, = rows("space", f, "--json", "--sample", "40")
    same((v["type"], v["size"], v["exact"]), ("lm", size, True), "the space is as large as counted by hand")
    same(len({r["arch_id"] for r in v["sample"]}), 40, "40 different ones")
    ok({k["name"] for k in v["knobs"]} >= {"depth", "width", "mixer", "ffn", "attention.heads", "swiglu.ratio"}, "knobs")
    fine = True
    for r in v["sample"]:
        a, m = r["arch"], r["metrics"]
        for l in a["layers"]:
            l["mixer"].setdefault("window", 0)
            l["ffn"].setdefault("rank", 0)
        fine &= a["width"] in (32, 48) and len(a["layers"]) <= 2 and a["context"] == 32
        fine &= m["params"] == params(a) and m["weight_bytes"] == 4 * params(a) and near(m["flops_per_token"], flops(a, range(32), 32) / 32)
        fine &= m["state_bytes@1024"] == sum(part_state(p, 1024) for p in parts(a)) and r["fits"] == (params(a) <= 20000)
        fine &= all(v["ranges"][k]["low"] <= x <= v["ranges"][k]["high"] for k, x in m.items())
    ok(fine, "each of the sample is in the space, its paper costs are the closed forms' and within the ranges")
    ok(v["ranges"]["params"]["low"] < v["ranges"]["params"]["median"] < v["ranges"]["params"]["high"] and v["drawn"] >= 1000, "ranges over at least 1000 draws")
    ok(0 < v["fitting"] < v["drawn"] and v["different"] <= size, "some draws meet the constraint")
    ids = [[r["arch_id"] for r in rows("space", f, "--json", "--seed", s)[0]["sample"]] for s in (1, 1, 2)]
    ok(ids[0] == ids[1] != ids[2] and len(ids[0]) == 10, "a seed, a sample")
    text = good("space", f, "--sample", "3")
    ok("{:,}".format(size) in text and "attention.kv_ratio" in text and "meet the job's constraints" in text, "for people")
    few = write("few.json", json.dumps(dict(job, space={"type": "lm", "depth": [1, 1], "width": [32], "mixer": {"none": {}}, "ffn": {"swiglu": {"ratio": [1, 2]}}})))
    v, = rows("space", few, "--json", "--sample", "30")
    same((v["size"], len(v["sample"]), v["different"]), (2, 2, 2), "a sample larger than the space is the space")
    custom = {"name": "c", "evaluator": "external", "objectives": ["f"], "space": {"type": "custom", "knobs": {"a": {"choice": ["x", "y"]}, "b": {"int": [1, 5], "repeat": 2}}}}
    v, = rows("space", write("custom.json", json.dumps(custom)), "--json", "--sample", "100")
    same((v["type"], v["size"], v["exact"], len(v["sample"]), v["ranges"]), ("custom", 50, True, 50, {}), "a custom space, all of it")
    ok(all(r["arch"]["a"] in "xy" and len(r["arch"]["b"]) == 2 and all(1 <= b <= 5 for b in r["arch"]["b"]) for r in v["sample"]), "its candidates")
    custom["space"]["knobs"]["c"] = {"log": [1e-4, 1]}
    v, = rows("space", write("real.json", json.dumps(custom)), "--json")
    same(v["size"], None, "real knobs: without number")
    ok("without number" in good("space", path("real.json")) and "c=" in good("space", path("real.json")), "for people")


# ---- train ----

def text_of(n, seed):
    r = random.Random(seed)
    out = ""
    while len(out) < n:
        out += r.choice(WORDS) + r.choice([" ", " ", " ", ", ", ".\n"])
    return out[:n].encode()


B, T = 4, 32
SMALL = arch(32, (attention(2, 1, 16, 8), swiglu(64)), (attention(2, 2, 16), swiglu(64, 8)), context=T)
STILL = ("--lr", "1e-12", "--weight-decay", "0") # weights stay what they are: losses depend on the batch alone


def train(*args, steps=12, data=None, name="small.json"):
    r = rows("train", path(name), "--data", data or path("text.txt"), "--tokens", steps * B * T, "--batch", B, "--json", *args)
    return [x["loss"] for x in r[:-1]], (r[-1] if r else {})


def learning():
    write("small.json", json.dumps(SMALL))
    corpus = text_of(60000, 1)
    write("text.txt", corpus)
    write("held.txt", text_of(5000, 2))
    r = rows("train", path("small.json"), "--data", path("text.txt"), "--tokens", 30 * B * T - 5, "--batch", B, "--json", "--save", path("w.safetensors"))
    first, last, end = r[0], r[-2], r[-1]
    same([x["step"] for x in r[:-1]], list(range(1, 31)), "a line a step; tokens are rounded up to whole steps")
    same([x["tokens"] for x in r[:-1]], [n * B * T for n in range(1, 31)], "with the tokens so far")
    ok(abs(first["loss"] - math.log(256)) < 0.15, "a fresh model knows nothing: its loss is about ln 256")
    ok(last["loss"] < first["loss"] - 0.5, "and it learns")
    ok(near(end["valid_bpb"], end["valid_loss"] / math.log(2)), "a token is a byte")
    ok(end["train_tokens_per_s"] > 0 and near(end["train_tokens_per_s"], 30 * B * T / end["train_seconds"], 1e-9), "rate")
    same(end["params"], params(SMALL), "parameters")
    planned = rows("cost", path("small.json"), "--json", "--batch", B)[0]["train_bytes_planned"]
    ok(planned <= end["train_bytes"] < planned + (64 << 20), "measured memory is what was planned, and the kernels' scratch")
    for k in ("f32", "bf16"):
        r = taut("train", path("small.json"), "--data", path("text.txt"), "--tokens", B * T, "--batch", B, "--json", "--precision", k)
        if r.returncode:
            ok(k == "bf16" and "bf16" in r.stderr, "no bf16 on this machine: refused")
            continue
        planned = rows("cost", path("small.json"), "--json", "--batch", B, "--precision", k)[0]["train_bytes_planned"]
        ok(planned <= json.loads(r.stdout.splitlines()[-1])["train_bytes"] < planned + (64 << 20), "and so in %s" % k)
    head = json.loads(open(path("w.safetensors"), "rb").read()[8:].split(b"}}")[0] + b"}}")
    same(sum(math.prod(v["shape"]) for k, v in head.items() if k != "__metadata__"), params(SMALL), "the saved weights are all of them")

    same(train(steps=12)[0], train(steps=12)[0], "the same call, the same losses")
    one, two = train("--threads", 1), train("--threads", 2)
    same((one[0], one[1]["valid_loss"]), (two[0], two[1]["valid_loss"]), "one thread, two threads: the same bits")
    ok(train("--seed", 2)[0][0] != one[0][0], "another seed, another loss")
    ok(train("--schedule", "constant")[0][:9] == one[0][:9] and train("--schedule", "constant")[1]["valid_loss"] != one[1]["valid_loss"], "constant differs where wsd decays")
    ok(train("--lr-width-rule", "none")[0] != one[0] and train("--warmup", "0.5")[0] != one[0], "width rule and warm-up matter")

    again = train("--init", path("w.safetensors"), *STILL, steps=3)
    fresh = train(*STILL, steps=3)
    ok(again[0][0] < fresh[0][0] - 0.5, "saved weights start lower than fresh ones")
    ok(near(again[1]["valid_loss"], end["valid_loss"], 1e-6), "and score as they did")

    seq = train("--order", "sequential", "--valid", path("held.txt"), *STILL, steps=8)[0]
    write("one.txt", corpus[:B * T + 1])
    one = train("--order", "sequential", "--valid", path("held.txt"), *STILL, data=path("one.txt"), steps=1)[0]
    ok(near(one[0], seq[0], 1e-6), "sequential: step 1 is the text's first windows")
    for s in (1, 3, 6):
        write("rest.txt", corpus[s * B * T:])
        rest = train("--order", "sequential", "--valid", path("held.txt"), *STILL, data=path("rest.txt"), steps=1)[0]
        ok(near(rest[0], seq[s], 1e-9), "sequential: step %d stands at byte %d" % (s + 1, s * B * T))
    ok(not near(train("--valid", path("held.txt"), *STILL, steps=8)[0][1], seq[1], 1e-9), "random is something else")
    write("short.txt", corpus[:2 * B * T + 1])
    wrap = train("--order", "sequential", "--valid", path("held.txt"), *STILL, data=path("short.txt"), steps=5)[0]
    ok(near(wrap[0], wrap[2], 1e-9) and near(wrap[1], wrap[3], 1e-9) and not near(wrap[0], wrap[1], 1e-9), "at the text's end it begins again")
    os.mkdir(path("folder"))
    write("folder/a.txt", corpus[:30000])
    write("folder/b.txt", corpus[30000:])
    same(train(data=path("folder"))[0], train(data=path("folder/*.txt"))[0], "a folder and a pattern name the same files")

    text = good("train", path("small.json"), "--data", path("text.txt"), "--tokens", 8 * B * T, "--batch", B)
    ok("step 8/8" in text and "valid_bpb" in text and "tokens/s" in text, "plain lines for people")
    ok("step" not in good("train", path("small.json"), "--data", path("text.txt"), "--tokens", 8 * B * T, "--batch", B, "-q"), "-q: the result alone")


def stands(pipe):
    """A condition that holds once nothing more comes: whoever writes waits for room. (On a slow machine it may be about to.)"""
    seen = [-1] * 20

    def look():
        n = array.array("i", [0])
        fcntl.ioctl(pipe, termios.FIONREAD, n)
        seen.pop(0)
        seen.append(n[0])
        return len(set(seen)) == 1
    return look


def resuming():
    args = ["train", path("small.json"), "--data", path("text.txt"), "--tokens", str(400 * B * T), "--batch", str(B), "--json"]
    whole = rows(*args)
    ckpt = path("go.ckpt")
    got = []
    for cut in (30, 160):
        # a narrow pipe: it cannot run far ahead of its reader, and the signal meets it while it waits to write
        p = subprocess.Popen([TAUT, *args, "--checkpoint", ckpt], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, pipesize=4096)
        for line in iter(p.stdout.readline, b""):
            got.append(json.loads(line))
            if got[-1].get("step", 0) == cut:
                wait_until(stands(p.stdout), HANG)
                p.send_signal(signal.SIGINT)
        err = p.stderr.read().decode()
        rc = p.wait(HANG)
        ok(rc == 130 and "goes on" in err and "step" in got[-1] and got[-1]["step"] < 400, "Ctrl-C after step %d: kept, exit 130" % cut)
    end = rows(*args, "--checkpoint", ckpt)
    got += end
    ok([r["step"] for r in got[:-1]] == list(range(1, 401)), "no step twice, none left out")
    ok([r["loss"] for r in got[:-1]] == [r["loss"] for r in whole[:-1]], "stopped twice and gone on: the same losses to the bit")
    same((end[-1]["valid_loss"], end[-1]["from_step"] >= 160), (whole[-1]["valid_loss"], True), "and the same result")
    end = rows(*args, "--checkpoint", ckpt)
    same((len(end), end[0]["valid_loss"], end[0]["from_step"]), (1, whole[-1]["valid_loss"], 400), "what is done is not done again")
    p = subprocess.Popen([TAUT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.send_signal(signal.SIGTERM)
    err = p.communicate()[1]
    ok(p.returncode == 143 and "nothing was kept" in err, "SIGTERM without a checkpoint")


def shards():
    r = random.Random(3)
    tokens = [r.randrange(50) if r.random() < 0.3 else i % 50 for i in range(20000)]
    bare = struct.pack("<%dH" % len(tokens), *tokens)
    write("bare.bin", bare)
    write("llmc.bin", struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0") + bare)
    write("shard.json", json.dumps(dict(SMALL, vocab=50)))
    a = train("--vocab", 50, data=path("bare.bin"), name="shard.json")
    b = train("--vocab", 50, data=path("llmc.bin"), name="shard.json")
    same((a[0], a[1]["valid_loss"]), (b[0], b[1]["valid_loss"]), "nanoGPT's and llm.c's shards of the same tokens")
    ok("valid_bpb" not in a[1] and abs(a[0][0] - math.log(50)) < 0.15, "no bits per byte: nobody knows the bytes")
    late = list(tokens)
    late[-200] = 51
    write("late.bin", struct.pack("<%dH" % len(late), *late))
    write("beyond.bin", struct.pack("<%dH" % len(late), *([60] * len(late))))


# ---- score ----

PROXIES = "params decoder_params flops gradnorm snip grasp synflow fisher jacov naswot zico dss wpca".split()


def score(*args, name="small.json"):
    r = rows("score", path(name), "--json", *args)
    return r[0]["metrics"] if r else {}


def scoring():
    text = ("--data", path("text.txt"))
    v, = rows("score", path("small.json"), *text, "--threads", "1", "--json")
    m = v["metrics"]
    same(list(m), ["proxy." + p for p in PROXIES], "every proxy, in their order")
    ok(all(isinstance(x, (int, float)) and math.isfinite(x) for x in m.values()) and v["seed"] == 1 and v["device"]["kind"] == "cpu", "a number each; seed and device")
    same(score(*text, "--threads", "2"), m, "the same bits on two threads")
    stack = 256 * SMALL["width"] + norm_params(SMALL)
    same((m["proxy.params"], m["proxy.decoder_params"], m["proxy.flops"]), (params(SMALL), params(SMALL) - stack, flops(SMALL, range(T), T) / T),
         "those on paper, by their closed forms")
    same(score("--proxies", "flops,params"), {"proxy.flops": m["proxy.flops"], "proxy.params": m["proxy.params"]}, "which need no text")
    same(score(*text, "-p", "zico,snip"), {"proxy.zico": m["proxy.zico"], "proxy.snip": m["proxy.snip"]}, "some alone: the same numbers, as asked for")
    other = score(*text, "--seed", "2")
    ok(all((other["proxy." + p] == m["proxy." + p]) == (p in PROXIES[:3]) for p in PROXIES if p != "wpca"), "another seed: other numbers, but for those on paper (and a count)")
    write("words.txt", text_of(9000, 99))
    other = score("--data", path("words.txt"))
    ok(all((other["proxy." + p] == m["proxy." + p]) == (p in PROXIES[:3] + ["synflow"]) for p in PROXIES if p != "wpca"), "another text: likewise, and synflow looks at none")
    write("bare.json", json.dumps(arch(32, (attention(2, 1, 16), NONE), context=T, norm="layer")))
    m = score(*text, name="bare.json")
    for p, why in (("naswot", "feed-forward"), ("synflow", "layer norm")):
        x = m["proxy." + p]
        ok(isinstance(x, dict) and list(x) == ["unavailable"] and why in x["unavailable"], "what does not apply says why: %s" % p)
    ok(isinstance(m["proxy.snip"], float), "and the others stand")
    out = good("score", path("bare.json"), *text)
    ok("proxy.zico" in out and [l for l in out.splitlines() if "proxy.naswot" in l and "feed-forward" in l], "for people")


# ---- profile ----

def flocks(pid, kind="WRITE"):
    """Does the process hold a flock of that kind?"""
    with open("/proc/locks") as f:
        return any(x[1] == "FLOCK" and x[3] == kind and x[4] == str(pid) for x in map(str.split, f) if len(x) > 4)


def aside():
    args = [TAUT, "train", path("small.json"), "--data", path("text.txt"), "--tokens", str(600 * B * T), "--batch", str(B), "--json"]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, bufsize=0, pipesize=4096, preexec_fn=os.setpgrp)
    lines, held, stops = 0, 0, 0
    for line in iter(p.stdout.readline, b""):
        lines += 1
        if lines in (20, 200, 400):
            p.send_signal(signal.SIGTSTP)
            stops += os.WIFSTOPPED(os.waitpid(p.pid, os.WUNTRACED)[1])
            held += flocks(p.pid) + flocks(p.pid, "READ")
            p.send_signal(signal.SIGCONT)
    same((p.wait(HANG), lines, stops, held), (0, 601, 3, 0), "put aside with Ctrl-Z it does not hold the machine, and goes on to its end")
    p.stdout.close()


def profile():
    names = ["%s@%d" % (m, L) for L in (16, 64) for m in ("prefill_ms", "decode_ms", "infer_bytes")] + ["throughput@%dx%d" % (b, L) for L in (16, 64) for b in (1, 3)]
    v, = rows("profile", path("small.json"), "--context", "16,64", "--batch", "1,3", "--limit", "0.5", "--threads", "1", "--json")
    m = v["metrics"]
    same(sorted(m), sorted(names), "all metrics at all contexts")
    ok(all(x["low"] <= x["median"] <= x["high"] for x in m.values()), "medians lie in their intervals")
    times = {k: x for k, x in m.items() if not k.startswith("infer_bytes")}
    ok(all(x["n"] >= 30 and (x["high"] - x["low"]) / 2 <= 0.02 * x["median"] for k, x in times.items() if x["converged"] and not k.startswith("throughput")), "converged means: n >= 30 and +-2 %")
    ok(all(x["ratio_low"] <= x["ratio"] <= x["ratio_high"] and x["rejected"] >= 0 and 0 <= x["disturbed"] <= 1 for x in times.values()), "each with its ratio to the anchor")
    ok(v["device"]["kind"] == "cpu" and v["device"]["threads"] == 1 and v["device"]["anchor"] == v["anchor"], "it says on what device")
    planned, = rows("cost", path("small.json"), "--context", "16,64", "--json")
    for L in ("16", "64"):
        got, want = m["infer_bytes@" + L], planned["infer_bytes_planned"][L]
        ok(got["n"] == 1 and want <= got["median"] < want + (16 << 20), "memory to decode at %s is what was planned, and the kernels' scratch" % L)
    fewer, = rows("profile", path("small.json"), "--context", "16", "--limit", "0.05", "--threads", "1", "--weights", "int8", "--json")
    saved = m["infer_bytes@16"]["median"] - fewer["metrics"]["infer_bytes@16"]["median"]
    ok(0 < saved < 3 * params(json.load(open(path("small.json")))), "in int8 the weights take less room: %d bytes" % saved)
    v, = rows("profile", path("small.json"), "--context", "64", "--limit", "0.001", "--json")
    ok(not any(x["converged"] for k, x in v["metrics"].items() if k.startswith("decode")), "stopped by --limit: not converged")
    long = ["profile", path("small.json"), "--context", "8192", "--limit", "0.001", "--threads", "1"]
    v, = rows(*long, "--json")
    x = v["metrics"]["prefill_ms@8192"]
    ok((x["n"], x["converged"], x.get("overlong")) == (1, False, True) and x["median"] > 1, "a call that is longer than --limit: timed once, and said")
    line, = [l for l in good(*long).splitlines() if "prefill_ms@8192" in l]
    ok("one call takes longer than --limit" in line, "to people as well")
    text = good("profile", path("small.json"), "--context", "16", "--limit", "0.05")
    ok("95 % interval" in text and "decode_ms@16" in text and "thread" in text, "for people")
    p = subprocess.Popen([TAUT, "profile", path("small.json"), "--limit", "86400", "--context", "4096", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    held = wait_until(lambda: flocks(p.pid) or p.poll() is not None, HANG)
    ok(held and p.poll() is None, "it has the machine's lock to itself")
    p.send_signal(signal.SIGINT)
    ok(p.wait(HANG) == 130 and p.stdout.read() == b"", "Ctrl-C ends it, without half a result")
    p.stdout.close()
    p.stderr.close()
    with open(os.path.join(os.environ["TAUT_LOCKS"], "cpu.work")) as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        p = subprocess.Popen([TAUT, "profile", path("small.json"), "--context", "16", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: flocks(p.pid) or p.poll() is not None, HANG)
        ok(p.poll() is None, "it waits for a trainer")
        p.send_signal(signal.SIGINT)
        same((p.wait(HANG), p.stdout.read()), (130, b""), "and Ctrl-C ends the waiting")
        p.stdout.close()
        p.stderr.close()


# ---- a store's architectures ----

def by_id():
    d = Daemon()
    c = d.conn()
    c.call("job.submit", job={"data": {"train": path("text.txt"), "context": T}, "space": "lm-tiny", "objectives": ["params", "valid_loss"], "fidelity": {"tokens": 16 * T}})
    e = Evaluator(d.conn(), spaces=["lm"], provides=["valid_bpb", "valid_loss", "train_bytes", "train_tokens_per_s"])
    l = e.next()
    e.report(l, metrics={m: 1.0 for m in l["metrics"]})
    job = c.call("job.submit", job=custom_job())["id"]
    e2 = Evaluator(d.conn())
    l2 = e2.next()
    e2.report(l2)
    trial = c.call("trial.get", id=l["trial"])
    v, = rows("cost", trial["arch_id"][:8], "--socket", d.socket, "--json")
    same((v["arch_id"], v["arch"]), (trial["arch_id"], l["arch"]), "cost of an architecture by its id")
    same(rows("cost", str(l["trial"]), "--socket", d.socket, "--json")[0]["arch_id"], trial["arch_id"], "and by its trial's number")
    same(rows("profile", trial["arch_id"][:6].upper(), "--dir", d.dir, "--json", "--context", "8", "--limit", "0.01")[0]["arch_id"], trial["arch_id"], "profile, by --dir")
    r = taut("train", str(l["trial"]), "--socket", d.socket, "--data", path("text.txt"), "--tokens", 16 * T, "--json")
    same((r.returncode, json.loads(r.stdout.splitlines()[-1])["arch_id"]), (0, trial["arch_id"]), "train, by the trial's number")
    for args, rc, part in ((("cost", str(l2["trial"])), 2, "custom space"), (("cost", "99999"), 4, "99999"), (("cost", "ffffff"), 4, "ffffff"), (("train", "99999", "--data", path("text.txt"), "--tokens", "1e6"), 4, "99999")):
        r = taut(*args, "--socket", d.socket)
        ok(r.returncode == rc and part in r.stderr and r.stderr.count("\n") == 1, "taut %s: %d" % (" ".join(args[:2]), rc))
    del job
    d.end()


# ---- doctor ----

def doctor():
    v = json.loads(taut("doctor", "--json", "--dir", D).stdout)
    state = {x["name"]: x["state"] for x in v["checks"]}
    ok({"taut", "tautd", "taut-evaluator", "processor", "cores", "memory", "caches", "clock", "energy", "graphics card", "English text", "folder", "disk space", "runtime", "socket"} <= set(state),
       "what doctor looks at")
    ok(set(state.values()) <= {"ok", "warn", "bad"} and [state[k] for k in ("taut", "tautd", "taut-evaluator", "processor")] == ["ok"] * 4, "the programs are found")
    same((v["ok"], v["bad"]), ("bad" not in state.values(), list(state.values()).count("bad")), "the sum")
    cores = len(os.sched_getaffinity(0))
    ok(1 <= int(next(x["what"] for x in v["checks"] if x["name"] == "cores").split()[0]) <= cores, "no more cores than this process may use")
    alone = path("alone")
    os.mkdir(alone)
    shutil.copy(TAUT, alone)
    r = subprocess.run([os.path.join(alone, "taut"), "doctor", "--json", "--dir", D], capture_output=True, text=True)
    bad = {x["name"]: x for x in json.loads(r.stdout)["checks"] if x["state"] == "bad"}
    ok(r.returncode == 1 and {"tautd", "taut-evaluator"} <= set(bad) and "todo" in bad["tautd"], "alone in a folder: its siblings are missed")
    r = taut("doctor", "--json", env=dict(os.environ, XDG_RUNTIME_DIR="/no/such/folder"))
    ok(r.returncode == 1 and "/no/such/folder" in r.stdout, "a runtime folder that is not there")
    r = taut("doctor", "--json", env=dict(os.environ, TAUT_SOCKET="/" + "x" * 120))
    ok(r.returncode == 1 and "too long for a socket" in r.stdout, "a socket's path that is too long")
    r = taut("doctor", "--dir", path("text.txt"))
    ok(r.returncode == 1 and "is no folder" in r.stdout and r.stderr.count("\n") == 1, "a store's folder that is a file")
    ok("tautd" in taut("doctor").stdout and taut("doctor", "-q", "--dir", D).stdout.count("ok  ") == 0, "for people; -q: what is wrong alone")


# ---- bad calls ----

def wrong():
    small, text = path("small.json"), path("text.txt")
    go = ["train", small, "--data", text, "--tokens", "10k", "--batch", "4"]
    write("empty.txt", "")
    write("tiny.txt", "x" * T)
    write("notjson", "{")
    write("list.json", "[]")
    write("big.json", json.dumps(arch(65536, *[(attention(64, 64, 1024), swiglu(262144))] * 100, context=T)))
    write("v128.json", json.dumps(dict(SMALL, vocab=128)))
    write("deep.json", json.dumps(dict(SMALL, layers=[])))
    write("sizeless.json", json.dumps(dict(SMALL, layers=[{"mixer": {"type": "linear"}, "ffn": NONE}])))
    write("other.json", json.dumps(dict(SMALL, width=48)))
    good("train", path("other.json"), "--data", text, "--tokens", B * T, "--batch", B, "--save", path("other.safetensors"), "--json")
    good(*go, "--checkpoint", path("mine.ckpt"), "--json")
    weights = open(path("w.safetensors"), "rb").read()
    write("cut.safetensors", weights[:-7])
    n = struct.unpack("<Q", weights[:8])[0] + 8
    write("huge.safetensors", weights[:n] + struct.pack("<f", 3e38) * ((len(weights) - n) // 4))
    table = [
        (["cost"], 2, "needs ARCH"),
        (["cost", path("none.json")], 2, "no such file"),
        (["cost", D], 2, "cannot be read"),
        (["cost", path("notjson")], 2, "notjson:1"),
        (["cost", path("list.json")], 2, "object"),
        (["cost", text], 2, "text.txt"),
        (["cost", path("deep.json")], 2, "layers"),
        (["cost", path("sizeless.json")], 2, "layers[0].mixer.heads"),
        (["cost", small, "extra"], 2, "too many"),
        (["cost", small, "--context", "0"], 2, "--context"),
        (["cost", small, "--context", "1,x"], 2, "--context"),
        (["cost", small, "--context", "99999999"], 2, "--context"),
        (["cost", small, "--batch", "0"], 2, "--batch"),
        (["cost", small, "--precision", "f16"], 2, "f16"),
        (["cost", small, "--contxt", "1"], 2, "did you mean --context"),
        (["cost", "abcdef", "--dir", path("nostore")], 4, "no store there"),
        (["cost", "abcdef", "--socket", path("nosock")], 3, "no tautd"),
        (["space"], 2, "needs JOB.json"),
        (["space", path("none.json")], 2, "no such file"),
        (["space", small], 2, "unknown key"),
        (["space", path("space.json"), "--sample", "-1"], 2, "--sample"),
        (["space", path("space.json"), "--sample", "1.5"], 2, "whole number"),
        (["space", path("space.json"), "--seed", "x"], 2, "--seed"),
        (["train", small], 2, "--data"),
        (["train", small, "--data", text], 2, "--tokens"),
        (["train", "--data", text, "--tokens", "1e6"], 2, "needs ARCH"),
        (["train", path("none.json")] + go[2:], 2, "no such file"),
        (go[:5] + ["0"], 2, "--tokens"),
        (go[:5] + ["-5"], 2, "--tokens"),
        (go[:5] + ["many"], 2, "--tokens"),
        (go[:5] + ["1e18"], 2, "--tokens"),
        (go[:5] + ["100.5"], 2, "whole number"),
        (go[:5] + ["100"] + go[6:], 2, "less than one step"),
        (["train", small, "--data", path("none.txt")] + go[4:], 2, "none.txt"),
        (["train", small, "--data", path("no*.txt")] + go[4:], 2, "no file matches"),
        (["train", small, "--data", path("empty.txt")] + go[4:], 2, "empty"),
        (["train", small, "--data", path("tiny.txt")] + go[4:], 2, "window of context + 1"),
        (["train", small, "--data", ""] + go[4:], 2, "--data"),
        (["train", path("v128.json")] + go[2:], 2, "vocabulary of 128"),
        (["train", path("big.json")] + go[2:], 1, "MiB"),
        (go + ["--valid", "0"], 2, "--valid"),
        (go + ["--valid", "0.95"], 2, "--valid"),
        (go + ["--valid", path("none.txt")], 2, "--valid"),
        (go + ["--valid", path("tiny.txt")], 2, "--valid"),
        (go + ["--batch", "0"], 2, "--batch"),
        (go + ["--batch", "65537"], 2, "--batch"),
        (go + ["--lr", "0"], 2, "--lr"),
        (go + ["--lr", "nan"], 2, "--lr"),
        (go + ["--weight-decay", "-1"], 2, "--weight-decay"),
        (go + ["--warmup", "0.9"], 2, "--warmup"),
        (go + ["--schedule", "cosine"], 2, "--schedule"),
        (go + ["--lr-width-rule", "wide"], 2, "--lr-width-rule"),
        (go + ["--order", "backwards"], 2, "--order"),
        (go + ["--seed", "-1"], 2, "--seed"),
        (go + ["--threads", "0"], 2, "--threads"),
        (go + ["--device", "cuda:99"], 2, "CUDA"),
        (go + ["--device", "abacus"], 2, "abacus"),
        (go + ["--vocab", "50"], 2, "leave out --vocab"),
        (["train", small, "--data", path("bare.bin")] + go[4:], 2, "--vocab N"),
        (["train", small, "--data", path("bare.bin")] + go[4:] + ["--vocab", "300"], 2, "vocabulary of 256"),
        (["train", small, "--data", path("bare.bin")] + go[4:] + ["--vocab", "1"], 2, "--vocab"),
        (["train", path("shard.json"), "--data", path("beyond.bin")] + go[4:] + ["--vocab", "50"], 2, "token 60 at position"),
        (["train", path("shard.json"), "--data", path("late.bin")] + go[4:] + ["--vocab", "50"], 2, "token 51 at position"),
        (go + ["--init", path("none.safetensors")], 2, "none.safetensors"),
        (go + ["--init", text], 2, "text.txt"),
        (go + ["--init", path("cut.safetensors")], 2, "cut.safetensors"),
        (go + ["--init", path("other.safetensors")], 2, "shape"),
        (go + ["--init", path("huge.safetensors"), "--precision", "f32"], 1, "step 1 of"),
        (go + ["--save", path("nowhere/w.safetensors")], 2, "cannot be written"),
        (go + ["--save", D], 2, "not a regular file"),
        (go + ["--save", ""], 2, "--save"),
        (go + ["--checkpoint", "/proc/none/x"], 2, "cannot be written"),
        (go + ["--checkpoint", path("same"), "--save", path("same")], 2, "same file"),
        (go + ["--checkpoint", path("w.safetensors")], 2, "--checkpoint"),
        (go + ["--checkpoint", path("mine.ckpt"), "--seed", "2"], 2, "another training"),
        (go + ["--checkpoint", path("mine.ckpt"), "--lr", "1e-3"], 2, "another training"),
        (go + ["--checkpoint", path("mine.ckpt"), "--init", path("w.safetensors")], 2, "another training"),
        (["score"], 2, "needs ARCH"),
        (["score", path("none.json"), "--data", text], 2, "no such file"),
        (["score", small], 2, "needs --data"),
        (["score", small, "--proxies", "params,snip"], 2, "needs --data"),
        (["score", small, "--data", text, "--proxies", "synflw"], 2, "did you mean 'synflow'"),
        (["score", small, "--data", text, "--proxies", "snip,,zico"], 2, "unknown proxy ''"),
        (["score", small, "--data", text, "--proxies", "snip,zico,snip"], 2, "'snip' stands there twice"),
        (["score", small, "--data", text, "--proxies", "auto"], 2, "unknown proxy 'auto'"),
        (["score", small, "--data", path("none.txt")], 2, "none.txt"),
        (["score", small, "--data", path("tiny.txt")], 2, "window of context + 1"),
        (["score", small, "--data", text, "--valid", "0"], 2, "--valid"),
        (["score", small, "--data", text, "--vocab", "50"], 2, "leave out --vocab"),
        (["score", path("v128.json"), "--data", text], 2, "vocabulary of 128"),
        (["score", path("big.json"), "--data", text], 1, "MiB"),
        (["score", small, "--data", text, "--seed", "-1"], 2, "--seed"),
        (["score", small, "--data", text, "--threads", "0"], 2, "--threads"),
        (["score", small, "--data", text, "--device", "cuda:99"], 2, "CUDA"),
        (["profile"], 2, "needs ARCH"),
        (["profile", path("none.json")], 2, "no such file"),
        (["profile", small, "--context", "-1"], 2, "--context"),
        (["profile", small, "--context", "16777217"], 2, "--context: '@16777217' is not of the form '@1024' (context from 1 to 16777216)"),
        (["cost", small, "--context", "16777217"], 2, "--context: '@16777217' is not of the form '@1024' (context from 1 to 16777216)"),
        (["show", small, "--context", "16777217"], 2, "--context: '@16777217' is not of the form '@1024' (context from 1 to 16777216)"),
        (["profile", path("big.json"), "--context", "16777216", "-q"], 1, "prefill_ms@16777216"),
        (["profile", small, "--batch", "x"], 2, "--batch"),
        (["profile", small, "--batch", "100000"], 2, "--batch"),
        (["profile", small, "--limit", "0"], 2, "--limit"),
        (["profile", small, "--weights", "int4"], 2, "int8"),
        (["profile", small, "--threads", "9999"], 2, "--threads"),
        (["profile", small, "--device", "cuda:99"], 2, "CUDA"),
        (["profile", path("big.json"), "--context", "8"], 1, "MiB"),
        (["doctor", "now"], 2, "too many"),
        (["doctor", "--fast"], 2, "--fast"),
    ]
    before = sorted(os.listdir(D))
    for args, rc, part in table:
        r = taut(*args)
        shown = " ".join(a.replace(D, "…") for a in args)
        fine = r.returncode == rc and part in r.stderr and r.stderr.startswith("taut: ") and r.stderr.count("\n") == 1
        if args[0] == "train":
            fine &= "loss" not in r.stdout
        if not ok(fine, "exit %d: taut %s" % (rc, shown)):
            print("#   exit %d, stdout %r, stderr %r" % (r.returncode, r.stdout[-200:], r.stderr), flush=True)
    r = taut("profile", path("big.json"), "--context", "16777216")
    words = "'@16777216' is not of the form '%s' (context from 1 to 16777215%s)"
    left = ["decode_ms@16777216 is left out: " + words % ("@1024", ""), "throughput@8x16777216 is left out: " + words.replace("'@16777216'", "'@8x16777216'") % ("@8x1024", ", batch from 1 to 65536"),
            "infer_bytes@16777216 is left out: " + words % ("@1024", "")]
    same((r.returncode, r.stderr.splitlines()[:3], "prefill_ms@16777216" in r.stderr.splitlines()[-1]), (1, left, True), "at the longest context a prefill is measured, and what a job refuses there is left out, in a job's words")
    same(taut("cost", small, "--context", "16777216").returncode, 0, "what the longest context costs on paper is told")
    same(sorted(os.listdir(D)), before, "no bad call left a file behind")
    for verb in ("cost", "space", "score", "train", "profile", "doctor"):
        out = good(verb, "--help")
        ok("taut %s" % verb in out.split("\n", 1)[1] and "--json" in out, "taut %s --help, with an example" % verb)


try:
    cost()
    space()
    learning()
    scoring()
    resuming()
    aside()
    shards()
    profile()
    by_id()
    doctor()
    wrong()
finally:
    shutil.rmtree(D, ignore_errors=True)
done()
