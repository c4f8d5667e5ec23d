#!/usr/bin/env python3
"""A whole search against the clock: Optuna's NSGA-II over models trained in PyTorch, Taut's nsga2, and Taut with shared weights and auto, on the same space, text and cores.

    bench/e2e.py --peers DIR [--python PY] [--build build] [--minutes 30] [--own 30] [--supernet 0.25] [--kept e2e.json] [--only optuna,nsga2,shared,again]

DIR holds the peer, e2e_optuna_torch.py with its models.py, and corpus.py, which makes the text; PY is a Python with torch and optuna. This script's own needs numpy and
moocore. The space is the peer's: width 64 to 256 by 32, 2 to 6 layers, 2, 4 or 8 heads, of which 1, 2 or 4 share keys and values, feed-forward ratio 1 to 4,
bytes; so are the recipe's 200 steps of 16 x 256 tokens, AdamW at 3e-3, warm-up of a tenth (then Taut's decay in place of a cosine), and the objectives: held-out bits a
byte, ms a token at context 256, bytes of weights. One method runs at a time; the machine should have nothing else to do.

What counts is what a method had at a time: results by the seconds since its process started, and of those the front by its own figures (on the job's highest rung that has
results; filled up from the rung below), thinned to 16 members by hypervolume contribution. Every member is then trained alone by `taut train`, with another
seed than the search's, and timed by `taut profile`; the hypervolume is that of the values found there, from one reference point: the worst of all methods' last
fronts, a tenth further out. When a method has what Optuna had at the end is looked for by halving.

Whatever was run is kept in the file of --kept: parts may be run one by one, and each training is kept as it ends. --only runs the parts it names, kept or not, and nothing else
(again: the trainings); without it what is not kept yet is run."""
import argparse
import ast
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import moocore
import numpy as np

METHODS = {"optuna": "Optuna + PyTorch", "nsga2": "Taut, nsga2", "shared": "Taut, shared + auto"}
WANTED = {"nsga2": 12, "shared": 5}  # minutes to what Optuna + PyTorch has at the end
MEMBERS, BATCH, CONTEXT, SEED = 16, 16, 256, 2
OBJECTIVES = ("valid_bpb", "decode_ms@%d" % CONTEXT, "weight_bytes")


def lines(command, limit_s, **how):
    """(seconds since the process was started, line) of its standard output; with the first line after limit_s it is ended."""
    start = time.monotonic()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)
    try:
        for line in p.stdout:
            t = time.monotonic() - start
            if t > limit_s:
                p.terminate()
                p.wait()
                return
            yield t, line
    except BaseException:
        p.terminate()
        p.wait()
        raise
    if p.wait():
        sys.exit("%s: exit status %d" % (command[0], p.returncode))


def arch(width, layers, heads, kv, hidden):
    layer = {"mixer": {"type": "attention", "heads": heads, "kv_heads": kv, "head_dim": width // heads}, "ffn": {"type": "swiglu", "hidden": hidden}}
    return {"taut": 1, "vocab": 256, "context": CONTEXT, "width": width, "tie_embeddings": False, "layers": [layer] * layers}


def optuna(o, folder):
    """The peer prints a row a trial: number, seconds, layers, d, heads, kv, ffn, params in millions, …, val_bpb, eval_s, decode_ms, …"""
    command = [o.python, os.path.join(o.peers, "e2e_optuna_torch.py"), str(60 * o.minutes), "bf16", str(o.threads), os.path.join(folder, "rows.csv")]
    rows = []
    for t, line in lines(command, 60 * o.minutes, cwd=folder, env=dict(os.environ, PEER_DATA=o.data)):
        if line.startswith("["):
            r = ast.literal_eval(line)
            rows.append({"t": t, "rung": 0, "values": [r[10], r[12], r[7] * 4e6], "arch": arch(r[3], r[2], r[4], r[5], r[6])})
            print("optuna %.0f s: %s" % (t, rows[-1]["values"]), file=sys.stderr, flush=True)
    return rows


def job(o, search):
    """The budget in hours counts the evaluator's time: a second or two less than the clock's."""
    return {"name": "e2e", "data": {"train": os.path.join(o.data, "train.txt"), "valid": os.path.join(o.data, "valid.txt"), "context": CONTEXT},
            "space": {"type": "lm", "family": "llama", "depth": [2, 6], "width": list(range(64, 257, 32)), "tie_embeddings": [False],
                      "mixer": {"attention": {"heads": [2, 4, 8], "kv_ratio": [1, 2, 4]}}, "ffn": {"swiglu": {"ratio": [1, 1.5, 2, 3, 4]}}},
            "objectives": list(OBJECTIVES), "train": {"batch": BATCH, "lr": 3e-3, "lr_width_rule": "none", "weight_decay": 0.1, "warmup": 0.1},
            "fidelity": {"tokens": o.steps * BATCH * CONTEXT}, "search": dict(search, population=20), "budget": {"hours": o.minutes / 60}}


def taut(o, folder, search):
    path, store = os.path.join(folder, "job.json"), os.path.join(folder, "search")
    with open(path, "w") as f:
        json.dump(job(o, search), f)
    command, got = [o.taut, "run", path, "--dir", store, "--threads", str(o.threads), "--json"], []
    for t, line in lines(command, 60 * min(o.own, o.minutes)):
        e = json.loads(line)
        if e["event"] == "evaluation" and e["status"] == "ok" and all(m in e["metrics"] for m in OBJECTIVES):  # a repeat has some of them
            got.append((t, e))
            print("%s %.0f s: rung %d, %s" % (search["strategy"], t, e.get("rung", 0), [e["metrics"][m] for m in OBJECTIVES]), file=sys.stderr, flush=True)
        elif e["event"] == "note":
            print("%s %.0f s: %s" % (search["strategy"], t, e["text"]), file=sys.stderr, flush=True)
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(store, "taut.db"), uri=True)
    archs = {i: json.loads(text) for i, text in db.execute("SELECT id, canonical FROM arch")}
    db.close()
    return [{"t": t, "rung": e.get("rung", 0), "values": [e["metrics"][m] for m in OBJECTIVES], "arch": archs[e["arch_id"]]} for t, e in got]


def nsga2(o, folder):
    return taut(o, folder, {"strategy": "nsga2"})


def shared(o, folder):
    return taut(o, folder, {"strategy": "auto", "weights": "shared", "supernet": o.supernet})


# ---- fronts ----

def beyond(values):
    v = np.array(values)
    return v.max(axis=0) + 0.1 * np.abs(v.max(axis=0))


def front(rows):
    v = np.array([r["values"] for r in rows])
    return [r for r, on in zip(rows, moocore.is_nondominated(v)) if on]


def thin(rows, n):
    """At most n of a front: what adds least to the hypervolume leaves first."""
    rows = list(rows)
    ref = beyond([r["values"] for r in rows]) if rows else None
    while len(rows) > n:
        rows.pop(int(np.argmin(moocore.hv_contributions([r["values"] for r in rows], ref=ref))))
    return rows


def name_of(a):
    return json.dumps(a, sort_keys=True, separators=(",", ":"))


def front_at(rows, t):
    """The architectures that a method would name at t seconds."""
    seen, members = [r for r in rows if r["t"] <= t], {}
    for rung in sorted({r["rung"] for r in seen}, reverse=True):
        more = [r for r in front([r for r in seen if r["rung"] == rung]) if name_of(r["arch"]) not in members]
        members.update({name_of(r["arch"]): r["arch"] for r in thin(more, MEMBERS - len(members))})
    return members


# ---- trained and timed again ----

def last_json(command):
    r = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit("%s: exit status %d" % (" ".join(command), r.returncode))
    return json.loads(r.stdout.splitlines()[-1])


def alone(o, a, folder):
    path = os.path.join(folder, "arch.json")
    with open(path, "w") as f:
        json.dump(a, f)
    own = ["--threads", str(o.threads), "--json"]
    loss = last_json([o.taut, "train", path, "--data", os.path.join(o.data, "train.txt"), "--valid", os.path.join(o.data, "valid.txt"), "--tokens",
                      str(o.steps * BATCH * CONTEXT), "--batch", str(BATCH), "--lr", "3e-3", "--lr-width-rule", "none", "--warmup", "0.1", "--seed", str(SEED), *own])
    speed = last_json([o.taut, "profile", path, "--context", str(CONTEXT), "--batch", "1", *own])
    cost = last_json([o.taut, "cost", path, "--json"])
    return [loss["valid_bpb"], speed["metrics"][OBJECTIVES[1]]["median"], cost["weight_bytes"]]


class Again:
    def __init__(self, o, kept):
        self.o, self.kept = o, kept
        self.values = kept.setdefault("again", {})

    def __call__(self, members):
        """Their values; None where one is not kept and nothing is to be run."""
        for i, (name, a) in enumerate(members.items()):
            if name in self.values:
                continue
            if not self.o.again:
                return None
            with tempfile.TemporaryDirectory() as folder:
                self.values[name] = alone(self.o, a, folder)
            keep(self.o, self.kept)
            print("again %d of %d: %s" % (i + 1, len(members), self.values[name]), file=sys.stderr, flush=True)
        return [self.values[n] for n in members]


def volume(values, ref):
    v = np.array([x for x in values if (np.array(x) < ref).all()])
    return float(moocore.hypervolume(v, ref=ref)) if len(v) else 0.0


def keep(o, kept):
    with open(o.kept + ".tmp", "w") as f:
        json.dump(kept, f)
    os.replace(o.kept + ".tmp", o.kept)


# ---- the comparison ----

def table(o, kept):
    again, end, have = Again(o, kept), o.minutes, [m for m in METHODS if m in kept]
    ran = {m: min(end, kept.get("ran", {}).get(m, end)) for m in have}
    last = {m: again(front_at(kept[m], 60 * ran[m])) for m in have}
    if not last.get("optuna") or any(v is None for v in last.values()):
        print("kept so far: %s, %d trained again" % (", ".join("%s (%d results)" % (m, len(kept[m])) for m in have) or "nothing", len(again.values)))
        return
    ref = beyond([v for values in last.values() for v in values])
    print("supernet: %g trainings' tokens" % kept.get("supernet", np.nan))
    print("reference point: %s" % ", ".join("%s %.4g" % (n, x) for n, x in zip(OBJECTIVES, ref)))
    goal, at = volume(last["optuna"], ref), {}

    def ratio(m, t):
        if (m, t) not in at:
            values = again(front_at(kept[m], 60 * t))
            at[m, t] = np.nan if values is None else volume(values, ref) / goal
        return at[m, t]
    print("%-20s %6s %8s %8s %14s" % ("method", "minute", "results", "members", "hypervolume") + "   of what Optuna + PyTorch had after %g minutes" % end)
    times = {m: sorted({t for t in WANTED.values() if t < ran[m]} | {ran[m]}) for m in have}
    for m in have:
        for t in times[m]:
            print("%-20s %6g %8d %8d %14.6g   %.4f" % (METHODS[m], t, sum(r["t"] <= 60 * t for r in kept[m]), len(front_at(kept[m], 60 * t)), ratio(m, t) * goal, ratio(m, t)))
    for m in [m for m in have if m in WANTED]:
        high = next((t for t in times[m] if ratio(m, t) >= 1), None)
        if high is None:
            print("%s: not in %g minutes (wanted %d)" % (METHODS[m], ran[m], WANTED[m]))
            continue
        low = max([t for t in times[m] if t < high], default=0)
        while high - low > end / 60 and not np.isnan(ratio(m, (low + high) / 2)):
            mid = (low + high) / 2
            low, high = (low, mid) if ratio(m, mid) >= 1 else (mid, high)
        print("%s: what Optuna + PyTorch had after %g minutes in %.1f (not yet in %.1f; wanted %d)" % (METHODS[m], end, high, low, WANTED[m]))


def make_text(o):
    """For Taut under names that say text: to it a .bin is token shards."""
    os.makedirs(o.data, exist_ok=True)
    if not os.path.exists(os.path.join(o.data, "corpus_val.bin")):
        subprocess.run([o.python, os.path.join(o.peers, "corpus.py")], check=True, env=dict(os.environ, PEER_DATA=o.data), stdout=sys.stderr)
    for theirs, ours in (("corpus_train.bin", "train.txt"), ("corpus_val.bin", "valid.txt")):
        shutil.copyfile(os.path.join(o.data, theirs), os.path.join(o.data, ours))


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    o.add_argument("--peers", required=True, help="folder of e2e_optuna_torch.py and corpus.py")
    o.add_argument("--python", default=sys.executable, help="a Python with torch and optuna")
    o.add_argument("--build", default="build")
    o.add_argument("--minutes", type=float, default=30)
    o.add_argument("--own", type=float, default=30, help="minutes after which a search of Taut's is broken off; its budget is --minutes all the same (default: 30)")
    o.add_argument("--supernet", type=float, default=0.25, help="tokens of the supernet, in those of a candidate (default: 0.25; after 200 steps candidates differ by how fast they begin)")
    o.add_argument("--kept", default="e2e.json")
    o.add_argument("--data", help="folder of the text, made there where it is not (default: e2e-data beside --kept)")
    o.add_argument("--only", default="", help="of optuna, nsga2, shared, again")
    o.add_argument("--threads", type=int, default=2)
    o.add_argument("--steps", type=int, default=200, help="of training in Taut; the peer has its own 200")
    o = o.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and whatever runs ends with it
    o.taut, o.kept, o.peers = (os.path.abspath(x) for x in (os.path.join(o.build, "taut"), o.kept, o.peers))
    o.data = os.path.abspath(o.data or os.path.join(os.path.dirname(o.kept), "e2e-data"))
    only = [x for x in o.only.split(",") if x]
    if set(only) - set(METHODS) - {"again"}:
        sys.exit("--only takes some of optuna, nsga2, shared, again")
    o.again = not only or "again" in only
    kept = json.load(open(o.kept)) if os.path.exists(o.kept) else {}
    about = {"minutes": o.minutes, "threads": o.threads, "steps": o.steps}
    if kept.setdefault("about", about) != about:
        sys.exit("%s is of another comparison: %s" % (o.kept, kept["about"]))
    make_text(o)
    for m, run in (("optuna", optuna), ("nsga2", nsga2), ("shared", shared)):
        if m in only or not only and m not in kept:
            with tempfile.TemporaryDirectory(prefix="taut-bench-e2e-") as folder:
                kept[m] = run(o, folder)
            kept.setdefault("ran", {})[m] = o.minutes if m == "optuna" else o.own
            if m == "shared":
                kept["supernet"] = o.supernet
            keep(o, kept)
    table(o, kept)


if __name__ == "__main__":
    main()
