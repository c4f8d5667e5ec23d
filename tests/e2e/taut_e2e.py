"""Test helper: `taut run` and its daemons as processes, and what a store says when they are gone. Python standard library alone."""
import atexit
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TAUT = os.path.join(BUILD, "taut")
EVALUATOR = os.path.join(BUILD, "taut-evaluator")
HANG_S = 240  # a guard against hanging, not a measure

os.environ.update({"LC_ALL": "C.UTF-8"})
for name in ("TAUT_SOCKET", "TAUT_DIR", "NO_COLOR"):
    os.environ.pop(name, None)


def folder(prefix="taut-e2e-"):
    """Removed at the end, with whatever still runs on it."""
    path = tempfile.mkdtemp(prefix=prefix)
    atexit.register(clean, path)
    return path


def clean(path):
    for pid, _ in processes(path):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    shutil.rmtree(path, ignore_errors=True)


def make_text(path, words=12000, seed=1):
    """Text with something to learn: each word has few that follow it."""
    rnd = random.Random(seed)
    vocabulary = ["".join(rnd.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rnd.randint(2, 7))) for _ in range(120)]
    follows = {w: [rnd.choice(vocabulary) for _ in range(4)] for w in vocabulary}
    out, w = [], vocabulary[0]
    for _ in range(words):
        out.append(w)
        w = rnd.choice(follows[w])
    with open(path, "w") as f:
        f.write(" ".join(out))


SPACE = {"type": "lm", "depth": [1, 3], "width": [16, 32],
         "mixer": {"attention": {"heads": [1, 2], "kv_ratio": [1, 2], "head_dim": [8]}, "none": {}},
         "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}}


def lm_job(data, **more):
    """Small, and nothing in it depends on the clock."""
    job = {"name": "small", "seed": 5, "data": {"train": data, "valid": 0.05, "context": 32}, "space": SPACE,
           "objectives": ["valid_bpb", "params"], "constraints": [{"metric": "weight_bytes", "max": 60000}],
           "train": {"batch": 4, "lr": 2e-2}, "fidelity": {"tokens": 20000}, "search": {"population": 6}, "budget": {"evaluations": 8}}
    job.update(more)
    return job


def write_json(path, v):
    with open(path, "w") as f:
        json.dump(v, f)
    return path


def processes(text):
    """(pid, program) of all of ours whose command line speaks of text."""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                args = f.read().decode(errors="replace").split("\0")
            with open("/proc/%s/stat" % pid) as f:
                state = f.read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        program = os.path.basename(args[0])
        if program in ("taut", "tautd", "taut-evaluator") and any(text in a for a in args[1:]) and state != "Z":
            found.append((int(pid), program))
    return found


def gone(dir, timeout=60):
    """All of its processes have left."""
    return wait_until(lambda: not processes(dir), timeout)


class Run:
    """taut run; its output goes to files, so that nobody has to read while it runs."""

    def __init__(self, job, dir=None, *args, **more):
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        more.setdefault("start_new_session", True)
        command = [TAUT, "run", job, *(["--dir", dir] if dir else []), *args]
        self.p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, **more)

    def signal(self, number):
        self.p.send_signal(number)

    def alive(self):
        return self.p.poll() is None

    def wait(self, timeout=HANG_S):
        try:
            return self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            return "hangs"

    @staticmethod
    def text(f):
        f.flush()
        at = f.tell()
        f.seek(0)
        t = f.read().decode(errors="replace")
        f.seek(at)
        return t

    def stdout(self):
        return self.text(self.out)

    def stderr(self):
        return self.text(self.err)


def taut(*args, timeout=HANG_S, **more):
    return subprocess.run([TAUT, *args], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **more)


class Events:
    """What a store's events say, read beside whoever writes them."""

    def __init__(self, dir):
        self.path = os.path.join(dir, "taut.db")
        self.db = None
        self.seq = 0

    def new(self, job=1):
        """Types of the events since the last call; [] also where the store is not there yet, or busy."""
        try:
            if not self.db:
                if not os.path.exists(self.path):
                    return []
                self.db = sqlite3.connect("file:%s?mode=ro" % self.path, uri=True, isolation_level=None)
            rows = self.db.execute("SELECT seq, type FROM event WHERE job = ? AND seq > ? ORDER BY seq", (job, self.seq)).fetchall()
        except sqlite3.Error:
            self.close()
            return []
        if rows:
            self.seq = rows[-1][0]
        return [t for _, t in rows]

    def leased(self):
        """Is a trial in someone's hands?"""
        try:
            return bool(self.db and self.db.execute("SELECT count(*) FROM lease").fetchone()[0])
        except sqlite3.Error:
            self.close()
            return False

    def close(self):
        if self.db:
            self.db.close()
        self.db = None


def rows(dir, sql, *args):
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(dir, "taut.db"), uri=True)
    try:
        return db.execute(sql, args).fetchall()
    finally:
        db.close()


def tensors(path):
    """SHA-256 over names, shapes and numbers of a safetensors file; its notes, which may tell of times, left out."""
    with open(path, "rb") as f:
        head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    head.pop("__metadata__", None)
    h = hashlib.sha256()
    for name in sorted(head):
        low, high = head[name]["data_offsets"]
        h.update(json.dumps([name, head[name]["dtype"], head[name]["shape"]]).encode() + data[low:high])
    return h.hexdigest()


def trials(dir, job=1):
    """By proposal: architecture, state, losses and the weights. Nothing that depends on the clock."""
    found = []
    for trial, proposal, arch, state in rows(dir, "SELECT id, proposal, arch, state FROM trial WHERE job = ? ORDER BY proposal", job):
        metrics = dict(rows(dir, "SELECT name, median FROM metric WHERE trial = ? AND name IN ('valid_bpb', 'valid_loss')", trial))
        weights = [tensors(path) for path, in rows(dir, "SELECT path FROM checkpoint WHERE trial = ?", trial) if os.path.exists(path)]
        found.append((proposal, arch, state, sorted(metrics.items()), weights))
    return found


def weights_as_recorded(dir):
    """Trials whose file of weights is not there or is not what the store says."""
    wrong = []
    for trial, path, hash, size in rows(dir, "SELECT trial, path, hash, bytes FROM checkpoint"):
        try:
            with open(path, "rb") as f:
                data = f.read()
        except OSError as e:
            wrong.append((trial, str(e)))
            continue
        if (hashlib.sha256(data).hexdigest(), len(data)) != (hash, size):
            wrong.append((trial, "differs"))
    return wrong


def check_store(dir, what, job=1):
    same(rows(dir, "PRAGMA integrity_check"), [("ok",)], "%s: integrity_check" % what)
    v = verify(dir)
    same((v.returncode, v.stderr), (0, ""), "%s: tautd --verify: the tables are what the events say" % what)
    twice = rows(dir, "SELECT json_extract(body, '$.trial'), count(*) FROM event WHERE job = ? AND type = 'reported' GROUP BY 1 HAVING count(*) > 1", job)
    same(twice, [], "%s: no trial was counted twice" % what)
    same(rows(dir, "SELECT count(*) FROM lease"), [(0,)], "%s: no trial is stuck in anyone's hands" % what)
