"""taut show and taut export: what they say against what the store and the files hold, read here by other means."""
import hashlib
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

home = folder("taut-show-")
text = os.path.join(home, "text.txt")
make_text(text, 6000)
dir = os.path.join(home, "search")
job = write_json(os.path.join(home, "job.json"), lm_job("text.txt", budget={"evaluations": 4}))
r = Run(job, dir)
same((r.wait(), r.stderr()), (0, ""), "a search of four")
said = r.stdout()


def show(*args):
    return taut("show", *args, "--dir", dir)


def export(*args):
    return taut("export", *args, "--dir", dir)


def good(r, name):
    return same((r.returncode, r.stderr), (0, ""), name)


def bad(r, rc, words, name):
    ok(r.returncode == rc and r.stdout == "" and r.stderr.startswith("taut: ") and r.stderr.count("\n") == 1 and all(w in r.stderr for w in words),
       "%s: %d %s" % (name, r.returncode, r.stderr.strip()))


def tensors(path):
    """name -> (dtype, shape, bytes), and the metadata."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    meta = head.pop("__metadata__", {})
    ends = sorted(t["data_offsets"] for t in head.values())
    whole = ends[0][0] == 0 and ends[-1][1] == len(data) and all(a[1] == b[0] for a, b in zip(ends, ends[1:]))
    return {k: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for k, t in head.items()}, meta, whole and n % 8 == 0


def params(arch):
    """By hand, for this test's space: norms, attention, SwiGLU, tied embedding."""
    w = arch["width"]
    n = arch["vocab"] * w + w
    for layer in arch["layers"]:
        m, f = layer["mixer"], layer["ffn"]
        if m["type"] == "attention":
            n += w + w * m["head_dim"] * (2 * m["heads"] + 2 * m["kv_heads"])
        if f["type"] == "swiglu":
            n += w + 3 * w * f["hidden"]
    return n


# ---- show ----

r = show("2", "--json")
good(r, "show --json")
v = json.loads(r.stdout)
state, arch_id, proposal = rows(dir, "SELECT state, arch, proposal FROM trial WHERE id = 2")[0]
same((v["id"], v["state"], v["arch_id"], v["proposal"], v["job_name"]), (2, state, arch_id, proposal, "small"), "it is what the store says")
same(v["costs"]["params"], params(v["arch"]), "its parameters, counted by hand")
same(sum(l["params"] for l in v["layers"]), v["costs"]["params"], "and its layers add up to them")
same({k: m["median"] for k, m in v["metrics"].items() if k.startswith("valid_")},
     dict(rows(dir, "SELECT name, median FROM metric WHERE trial = 2 AND name LIKE 'valid_%'")), "measured: as stored")
same([tuple(p) for p in v["curve"]], rows(dir, "SELECT tokens, loss FROM curve WHERE trial = 2 ORDER BY tokens"), "the learning curve too")
same(v["checkpoint"]["path"], rows(dir, "SELECT path FROM checkpoint WHERE trial = 2")[0][0], "and where the weights are")
r = show("2")
good(r, "show for people")
part = [k for layer in v["arch"]["layers"] for k in (layer["mixer"]["type"], layer["ffn"]["type"]) if k != "none"]
lines = r.stdout.split("\n")
same([k for k in (l.split()[2] if len(l.split()) > 2 else "" for l in lines) if k in ("attention", "swiglu")], part, "layer by layer, as it is built")
for words in ("trial 2  ok  %s" % arch_id, "1 'small'", "proposal 1", "valid_bpb  ", "%.4g" % v["metrics"]["valid_bpb"]["median"], v["checkpoint"]["path"],
              "█", "drawn at random", "20.1 k tokens", "{:,}".format(params(v["arch"])), "state@1024"):
    ok(words in r.stdout, "it says: %s" % words)
ok("\033" not in r.stdout, "without colours where there is no terminal")
ok("taut show %s --dir" % json.loads(taut("front", "1", "--dir", dir, "--json").stdout)[0]["trial"] in said, "taut run names it for the first of the front")
good(show("2", "--context", "64,65536"), "show --context")
ok("state@65536" in show("2", "--context", "64,65536").stdout, "with other columns")
same(json.loads(show(arch_id[:6], "--json").stdout)["id"], 2, "by six digits of the architecture's id")
same(json.loads(show(arch_id.upper(), "--json").stdout)["id"], 2, "by all of them, in capitals")
file = write_json(os.path.join(home, "arch.json"), v["arch"])
f = json.loads(taut("show", file, "--json").stdout)
canonical = json.dumps(v["arch"], separators=(",", ":"))
same((f["arch_id"], f["costs"], f["layers"]), (hashlib.sha256(canonical.encode()).hexdigest()[:32], v["costs"], v["layers"]), "an architecture's file: the same costs")
r = taut("show", file)
good(r, "and for people")
ok("architecture  %s" % arch_id in r.stdout and "measured" not in r.stdout, "says what it is, and no more")
plain = taut("show", "2", "--dir", dir, env=dict(os.environ, LC_ALL="C"))
ok(plain.returncode == 0 and plain.stdout.isascii(), "in a locale without UTF-8 it is plain ASCII")
bad(show("99"), 4, ["no trial 99"], "a trial that is not there")
bad(show("abcdef012345"), 4, ["abcdef012345"], "an architecture that is not there")
bad(show("12ab"), 2, ["12ab"], "neither number nor id nor file")
bad(taut("show", os.path.join(home, "none.json")), 2, ["no such file"], "a file that is not there")
bad(taut("show", job), 2, ["job.json"], "a file that is no architecture")
bad(show("2", "--context", "0"), 2, ["--context"], "a context of 0")
bad(taut("show", "2", "--dir", home), 4, ["no store"], "a folder without a store")

# What an evaluator of one's own may bring.
other = os.path.join(home, "other")
d = Daemon(dir=other)
c = d.conn()
e = Evaluator(d.conn())
c.call("job.submit", job=custom_job(budget={"evaluations": 2}))
l = e.next()
e.report(l, metrics={"f1": {"median": 2.5, "low": 2.25, "high": 2.75, "n": 30, "ratio": [0.5, 0.45, 0.55], "anchor": "ab" * 16, "converged": False,
                            "disturbed": 0.25, "rejected": 3}, "f2": 1})
bad_one = e.next()
e.report(bad_one, "failed", error="fell\nover \033[31mred", metrics={})
shown = taut("show", str(l["trial"]), "--dir", other)
good(shown, "a trial of a custom space")
row = [x for x in shown.stdout.split("\n") if x.strip().startswith("f1 ")][0]
same(" ".join(row.split()), "f1 2.500 2.250 to 2.750 30 0.5000 (0.4500 to 0.5500) not converged; 25 % of samples disturbed; 3 samples left out",
     "a measurement with all that belongs to it")
ok("act" in shown.stdout and str(l["arch"]["block"]).replace(" ", "") in shown.stdout, "its knobs")
shown = taut("show", str(bad_one["trial"]), "--dir", other)
good(shown, "a failed one")
ok("fell?over ?[31mred" in shown.stdout and "\033" not in shown.stdout, "its reason, with control characters made visible")
bad(taut("export", str(l["trial"]), "--dir", other, "--format", "arch"), 2, ["custom space"], "a custom space has no architecture to export")

# ---- export ----

was = tensors(v["checkpoint"]["path"])[0]
out = os.path.join(home, "out")
r = export("2", "-o", out, "--json")
good(r, "export")
x = json.loads(r.stdout)
weights = os.path.join(out, "model.safetensors")
got, meta, tidy = tensors(weights)
same(sorted(os.listdir(out)), ["arch.json", "model.safetensors"], "weights, the architecture beside them, nothing else")
ok(got == was and tidy, "the same tensors, bit for bit, in a sound file")
ok(any(k.startswith("model.layers.0.") for k in got) and "model.embed_tokens.weight" in got, "under Llama's names")
same((meta["format"], meta["taut.arch_id"]), ("pt", arch_id), "its metadata says whose they are")
same((x["arch_file"], x["weights"]["path"], x["weights"]["params"], x["weights"]["hash"]),
     (os.path.join(out, "arch.json"), weights, params(v["arch"]), hashlib.sha256(open(weights, "rb").read()).hexdigest()), "--json says the same")
same(json.load(open(os.path.join(out, "arch.json"))), v["arch"], "the architecture is the trial's")
same(json.loads(taut("cost", os.path.join(out, "arch.json"), "--json").stdout)["params"], params(v["arch"]), "taut cost reads it")
t = taut("train", os.path.join(out, "arch.json"), "--data", text, "--tokens", "128", "--batch", "4", "--lr", "1e-12", "--weight-decay", "0", "--init", weights, "--json")
loss = json.loads(t.stdout.strip().split("\n")[-1])["valid_loss"] if t.returncode == 0 else None
ok(loss and abs(loss / v["metrics"]["valid_loss"]["median"] - 1) < 1e-5, "taut train --init has the trial's loss: %s, was %s %s" % (loss, v["metrics"]["valid_loss"]["median"], t.stderr))
stamp = os.stat(weights).st_mtime_ns, os.stat(weights).st_ino
good(export("2", "-o", out), "once more")
same((os.stat(weights).st_mtime_ns, os.stat(weights).st_ino), stamp, "leaves what is the same alone")
bad(export("3", "-o", out), 2, ["there already", "--force"], "another trial's files are not replaced")
ok(tensors(weights)[0] == was and sorted(os.listdir(out)) == ["arch.json", "model.safetensors"], "nor half of them")
good(export("3", "-o", out, "--force"), "but with --force")
three = json.loads(show("3", "--json").stdout)
ok(tensors(weights)[0] == tensors(three["checkpoint"]["path"])[0] and json.load(open(os.path.join(out, "arch.json"))) == three["arch"], "both are the other's then")
os.unlink(os.path.join(out, "arch.json"))
bad(export("2", "-o", out), 2, ["model.safetensors", "there already"], "weights of another trial alone stop it too")
same(os.listdir(out), ["model.safetensors"], "and nothing is written")
good(export("2", "-o", os.path.join(home, "w.safetensors")), "to a file")
ok(tensors(os.path.join(home, "w.safetensors"))[0] == was and json.load(open(os.path.join(home, "w.json"))) == v["arch"], "has its architecture beside it")
r = export("2", "--format", "arch")
same((r.returncode, r.stdout, r.stderr), (0, canonical + "\n", ""), "--format arch: the canonical form on standard output")
good(export("2", "-f", "arch", "-o", os.path.join(home, "a.json")), "to a file")
same(open(os.path.join(home, "a.json")).read(), canonical + "\n", "the same")
r = taut("export", "2", "--dir", dir, cwd=home)
ok(r.returncode == 0 and sorted(os.listdir(os.path.join(home, "trial-2"))) == ["arch.json", "model.safetensors"], "without -o: a folder trial-N")
bad(export("2", "--format", "gguf"), 2, ["gguf", "not built yet"], "gguf")
bad(export("2", "--format", "onnx"), 2, ["onnx"], "a format nobody knows")
bad(export("2", "-o", ""), 2, ["-o"], "an empty -o")
bad(export("2", "-o", text + "/x.safetensors"), 1, ["cannot be written"], "a file in what is no folder")
bad(export("2", "-o", text + "/x"), 2, [text], "a folder in what is no folder")
bad(export("77"), 4, ["no trial 77"], "a trial that is not there")
path = v["checkpoint"]["path"]
data = open(path, "rb").read()
clean_out = os.path.join(home, "clean")
with open(path, "r+b") as f:
    f.seek(len(data) - 1)
    f.write(bytes([data[-1] ^ 1]))
bad(export("2", "-o", clean_out), 1, ["trial 2", "has changed"], "weights of which one bit has changed")
with open(path, "wb") as f:
    f.write(data[:100])
bad(export("2", "-o", clean_out), 1, ["trial 2"], "weights that were cut short")
os.unlink(path)
bad(export("2", "-o", clean_out), 1, ["trial 2", "gone"], "weights that are gone")
same(os.listdir(clean_out), [], "nothing is left of these attempts")

# A training that is half-way, with the optimiser's states in its checkpoint; one without any weights.
c.call("job.submit", job=lm_job(text, budget={"evaluations": 2}))
e = Evaluator(d.conn(), "lm", spaces=["lm"])
lease = e.next(5)
half = os.path.join(home, "half.safetensors")
numbers = {"model.norm.weight": b"\1\2\3\4" * 16, "optimizer.m.model.norm.weight": b"\5\0\0\0" * 16, "model.embed_tokens.weight": b"\6\0\0\0" * 32,
           "optimizer.v.model.norm.weight": b"\7\0\0\0" * 16}
head, at = {"__metadata__": {"optimizer.step": "7", "taut.training": "{}"}}, 0
for k, b in numbers.items():
    head[k] = {"dtype": "F32", "shape": [len(b) // 4], "data_offsets": [at, at + len(b)]}
    at += len(b)
raw = json.dumps(head).encode()
raw = struct.pack("<Q", len(raw)) + raw + b"".join(numbers.values())
open(half, "wb").write(raw)
first = taut("export", str(lease["trial"]), "--dir", other, "-o", os.path.join(home, "half"))
bad(first, 1, ["trial %d" % lease["trial"], "no weights"], "a trial without weights")
e.c.call("evaluator.progress", lease=lease["lease"], epoch=lease["epoch"], tokens=640, checkpoint={"path": half, "hash": hashlib.sha256(raw).hexdigest(),
                                                                                              "bytes": len(raw), "tokens": 640})
r = taut("export", str(lease["trial"]), "--dir", other, "-o", os.path.join(home, "half"))
good(r, "a trial half-way")
ok("not finished" in r.stdout and "640 tokens" in r.stdout, "says that it is: %s" % r.stdout.strip().split("\n")[1])
got, meta, tidy = tensors(os.path.join(home, "half", "model.safetensors"))
same({k: t[2] for k, t in got.items()}, {k: b for k, b in numbers.items() if not k.startswith("optimizer.")}, "its parameters, without the optimiser's states")
ok(tidy and "optimizer.step" not in meta and "taut.training" not in meta, "nor the training's own notes")
d.end()
done()
