"""A tautd made of this file alone, and taut-evaluator at work for it: what it says, and what it is told, is the test's to decide."""
import hashlib
import json
import os
import queue
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

BUILD = os.environ.get("TAUT_BUILD", ".")
EVALUATOR = os.path.join(BUILD, "taut-evaluator")
HANG = 120  # seconds until what does not come is missing

dir = tempfile.mkdtemp(prefix="taut-worker-")
os.environ["TAUT_LOCKS"] = os.path.join(dir, "locks")


def path(name):
    return os.path.join(dir, name)


def put(name, data):
    with open(path(name), "wb" if isinstance(data, bytes) else "w") as f:
        f.write(data)
    return path(name)


def sha(p):
    with open(p, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def prose(n, seed=1):
    r = random.Random(seed)
    words = "the sea was wide and cold, ships went home under stars".split()
    text = ""
    while len(text) < n:
        text += r.choice(words) + " "
    return text[:n]


class Fake:
    """Answers every call. leases: what next hands out; progress(params) -> result; report(params) -> result or error dict."""

    def __init__(self):
        self.path = tempfile.mktemp(prefix="s", dir=dir)
        self.leases, self.reports, self.registers = queue.Queue(), queue.Queue(), queue.Queue()
        self.progress = lambda p: {"go": True}
        self.report = lambda p: {}
        self.heartbeat = 0.03  # beats every 10 ms
        self.conns = []
        self.up()

    def up(self):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen()
        threading.Thread(target=self.accept, args=(self.s,), daemon=True).start()

    def down(self):
        """As if tautd had been killed."""
        self.s.close()
        os.unlink(self.path)
        self.drop()

    def drop(self):
        for c in self.conns:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.conns = []

    def accept(self, s):
        while True:
            try:
                c = s.accept()[0]
            except OSError:
                return
            if s is not self.s:
                c.close()
                return
            self.conns.append(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        r = None
        try:
            for line in c.makefile("rb"):
                v = json.loads(line)
                r = self.answer(v["method"].split(".")[1], v["params"])
                key = "error" if isinstance(r, dict) and "code" in r else "result"
                c.sendall((json.dumps({"jsonrpc": "2.0", "id": v["id"], key: r}) + "\n").encode())
                r = None
        except OSError:
            if r and "task" in r:  # a lease that nobody was there to take
                self.leases.put(r)

    def answer(self, method, p):
        if method == "register":
            self.registers.put(p)
            return {"evaluator": 1, "heartbeat_s": self.heartbeat, "lease_s": 60, "held": p.get("holds", [])}
        if method == "info":
            return {}
        if method == "list":
            return []
        if method == "next":
            try:
                return self.leases.get(timeout=0.05)
            except queue.Empty:
                return None
        if method == "progress":
            return self.progress(p)
        r = self.report(p)
        if "code" not in r:
            self.reports.put(p)
        return r

    def reported(self):
        return self.reports.get(timeout=HANG)


class Worker:
    def __init__(self, fake, *args, work="work", fsize=None, env=None):
        os.makedirs(path(work), exist_ok=True)
        self.work = path(work)
        fd, self.log = tempfile.mkstemp(dir=dir, suffix=".log")
        preexec = None
        if fsize is not None:
            def preexec():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, resource.RLIM_INFINITY))
        life, self.life = os.pipe()  # it ends with this script, however that ends
        self.p = subprocess.Popen([EVALUATOR, "--socket", fake if isinstance(fake, str) else fake.path, "--work", self.work, "--threads", "1", "-v",
                                   "--lifeline", str(life), *args], stderr=fd, pass_fds=(life,), preexec_fn=preexec, env=dict(os.environ, **(env or {})))
        os.close(life)
        os.close(fd)

    def said(self):
        with open(self.log) as f:
            return f.read()

    def room(self):
        resource.prlimit(self.p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def term(self):
        self.p.send_signal(signal.SIGTERM)
        return self.end()

    def kill(self):
        self.p.kill()
        return self.end()

    def end(self):
        rc = self.p.wait(HANG)
        os.close(self.life)
        return rc


CONTEXT, BATCH = 32, 4
STEP = CONTEXT * BATCH  # tokens


def spec(file, share=0.1):
    return {"train": [{"path": file, "bytes": os.path.getsize(file), "sha256": sha(file)}], "valid": [], "valid_share": share, "tokenizer": "bytes",
            "vocab": 256, "context": CONTEXT}


def arch(width=32, **more):
    return dict({"taut": 1, "vocab": 256, "context": CONTEXT, "width": width, "tie_embeddings": True, "layers": [
        {"mixer": {"type": "attention", "heads": 2, "kv_heads": 1, "head_dim": 16}, "ffn": {"type": "swiglu", "hidden": 64}}]}, **more)


def lease(n, data, steps=60, metrics=("valid_bpb",), checkpoint=None, arch=arch(), train=None, task=None):
    v = {"lease": n, "epoch": 1, "job": 1, "trial": n, "arch": arch, "data": data, "rung": 0, "tokens": steps * STEP, "seed": 3, "metrics": list(metrics),
         "task": task or {"kind": "train", "context": CONTEXT, "precision": "f32",
                          "train": dict({"batch": BATCH, "lr": 3e-3, "lr_width_rule": "mup", "weight_decay": 0.1, "warmup": 0.02, "schedule": "wsd"},
                                        **(train or {}))}}
    if checkpoint:
        v["checkpoint"] = checkpoint
    return v


def finish():
    shutil.rmtree(dir, ignore_errors=True)
