"""Test helper: tautd as a process, and its wire. Python standard library alone."""
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("TAUT_BUILD", ".")
TAUTD = os.path.join(BUILD, "tautd")

_n = _bad = 0


def ok(cond, name):
    global _n, _bad
    _n += 1
    _bad += not cond
    print("%sok %d - %s" % ("" if cond else "not ", _n, name.replace("#", "%")), flush=True)
    return bool(cond)


def same(got, want, name):
    if not ok(got == want, name):
        print("#   got  %r\n#   want %r" % (got, want), flush=True)
    return got == want


def skip(name, why):
    global _n
    _n += 1
    print("ok %d - %s # SKIP %s" % (_n, name, why), flush=True)


def done():
    print("1..%d" % _n)
    sys.exit(1 if _bad else 0)


class RpcError(Exception):
    def __init__(self, error):
        super().__init__("%(code)d %(message)s" % error)
        self.code, self.message = error["code"], error["message"]


class Conn:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.buf = b""
        self.id = 0
        self.notes = []
        self.replies = {}

    def close(self):
        self.s.close()

    def send(self, method, **params):
        self.id += 1
        self.raw(json.dumps({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}) + "\n")
        return self.id

    def raw(self, text):
        self.s.sendall(text.encode())

    def line(self, timeout=60):
        while b"\n" not in self.buf:
            if not select.select([self.s], [], [], timeout)[0]:
                raise TimeoutError("no line within %s s" % timeout)
            got = self.s.recv(1 << 20)
            if not got:
                raise ConnectionError("closed")
            self.buf += got
        line, self.buf = self.buf.split(b"\n", 1)
        return json.loads(line)

    def wait(self, id, timeout=60):
        while id not in self.replies:
            v = self.line(timeout)
            if "method" in v:
                self.notes.append(v)
            else:
                self.replies[v["id"]] = v
        v = self.replies.pop(id)
        if "error" in v:
            raise RpcError(v["error"])
        return v["result"]

    def call(self, method, **params):
        return self.wait(self.send(method, **params))

    def code(self, method, **params):
        """(error code, message), or (0, result)."""
        try:
            return 0, self.call(method, **params)
        except RpcError as e:
            return e.code, e.message

    def note(self, timeout=60):
        while not self.notes:
            v = self.line(timeout)
            if "method" in v:
                self.notes.append(v)
            else:
                self.replies[v["id"]] = v
        return self.notes.pop(0)

    def until(self, want, timeout=60):
        """The first job.event for which want(params) holds."""
        while True:
            p = self.note(timeout)["params"]
            if want(p):
                return p


class Daemon:
    """tautd on a folder of its own."""

    def __init__(self, *args, dir=None, preexec=None, env=None):
        self.own = dir is None
        self.dir = dir or tempfile.mkdtemp(prefix="tautd-")
        self.args = args
        fd, self.log_path = tempfile.mkstemp(prefix="tautd-", suffix=".log")
        os.close(fd)
        self.preexec, self.env = preexec, env
        self.start()

    def start(self, *more):
        r, w = os.pipe()
        life, self.life = os.pipe()  # the daemon ends with this script, however that ends
        self.log = open(self.log_path, "ab+")
        self.p = subprocess.Popen([TAUTD, "--dir", self.dir, "--ready", str(w), "--lifeline", str(life), *self.args, *more],
                                  pass_fds=(w, life), stderr=self.log,
                                  preexec_fn=self.preexec, env=self.env)
        os.close(w)
        os.close(life)
        self.ready = os.read(r, 16)
        os.close(r)
        self.socket = os.path.join(self.dir, "tautd.sock")
        if not self.ready:
            self.p.wait()

    def conn(self):
        return Conn(self.socket)

    def kill(self):
        self.p.send_signal(signal.SIGKILL)
        self.p.wait()
        os.close(self.life)
        self.log.close()

    def term(self):
        self.p.send_signal(signal.SIGTERM)
        rc = self.p.wait(30)
        os.close(self.life)
        self.log.close()
        return rc

    def restart(self, *more, hard=True):
        if hard:
            self.kill()
        else:
            self.term()
        self.start(*more)

    def errors(self):
        self.log.flush()
        with open(self.log.name, "rb") as f:
            return f.read().decode(errors="replace")

    def end(self):
        rc = self.p.poll()
        if rc is None:
            rc = self.term()
        text = ""
        if os.path.exists(self.log.name):
            with open(self.log.name, "rb") as f:
                text = f.read().decode(errors="replace")
            os.unlink(self.log.name)
        if self.own:
            shutil.rmtree(self.dir, ignore_errors=True)
        if "Sanitizer" in text or "runtime error" in text:
            ok(False, "sanitizers are silent")
            print("#   " + text.replace("\n", "\n#   "))
        return rc


    def end_verified(self):
        """Leaves at a SIGTERM, and its tables are what its events say."""
        same(self.term(), 0, "tautd leaves")
        r = verify(self.dir)
        same(r.returncode, 0, "tables and events agree: %s" % r.stderr.strip())
        self.end()


def work_killed(d, measure, again=lambda first, l: None):
    """Evaluates until there is nothing more to do, with d killed after every second lease, which is then leased again, and after each report; [(trial, rung)] as they were reported."""
    got = []
    while True:
        e = Evaluator(d.conn())
        l = e.next()
        if l is None:
            return got
        if len(got) % 2 == 0:
            d.restart()
            first, e = l, Evaluator(d.conn())
            l = e.next()
            again(first, l)
        got.append((l["trial"], l["rung"]))
        e.report(l, metrics=measure(l), curve=[[l["tokens"], 2]])
        d.restart()


def verify(dir):
    return subprocess.run([TAUTD, "--dir", dir, "--verify"], capture_output=True, text=True)


def custom_job(**more):
    """Minimise (x^2 + drop, (x - 2)^2 + drop): the front is x in [0, 2], drop = 0."""
    job = {"name": "toy", "evaluator": "external",
           "space": {"type": "custom", "knobs": {"x": {"float": [-4, 4]}, "drop": {"float": [0, 1]},
                                                 "act": {"choice": ["relu", "gelu"]}, "block": {"choice": [0, 1, 2], "repeat": 3}}},
           "objectives": ["f1", "f2"], "search": {"population": 8}, "budget": {"evaluations": 20}}
    job.update(more)
    return job


def score(arch):
    return {"f1": arch["x"] ** 2 + arch["drop"], "f2": (arch["x"] - 2) ** 2 + arch["drop"]}


class Evaluator:
    def __init__(self, conn, name="py", **more):
        self.c = conn
        more.setdefault("device", {"kind": "cpu", "name": "test"})
        more.setdefault("spaces", ["custom"])
        self.reg = conn.call("evaluator.register", name=name, **more)
        self.id = self.reg["evaluator"]

    def next(self, wait=0):
        return self.c.call("evaluator.next", evaluator=self.id, wait_s=wait)

    def report(self, lease, status="ok", **more):
        if status == "ok" and "metrics" not in more:
            more["metrics"] = score(lease["arch"])
        return self.c.call("evaluator.report", lease=lease["lease"], epoch=lease["epoch"], status=status, **more)

    def run(self, n=10 ** 9, wait=0, metrics=None):
        """Evaluates until there is nothing more to do, to metrics(lease) where that is given; the leases it had."""
        had = []
        while len(had) < n:
            l = self.next(wait)
            if l is None:
                break
            self.report(l, **({"metrics": metrics(l)} if metrics else {}))
            had.append(l)
        return had


def wait_until(cond, timeout=30):
    """For what no event tells: polls."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        v = cond()
        if v:
            return v
        time.sleep(0.005)
    return None
