#!/usr/bin/env python3
"""A tautd whose lists do not go on: whoever pages through them ends, with a line."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "controller"))
from taut_wire import BUILD, Daemon, Evaluator, custom_job, done, ok, same

TAUT = os.path.join(BUILD, "taut")
HANG_S = 60  # a guard against hanging, not a measure
PAD = "x" * (2 << 20)  # a page that is not the last is so long


class Liar:
    """In front of a tautd: lie(method, params, result) is what is answered."""

    def __init__(self, real, lie):
        self.real, self.lie = real, lie
        self.path = tempfile.mktemp(prefix="liar-")
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        real = socket.socket(socket.AF_UNIX)
        real.connect(self.real)
        with conn, real, conn.makefile("rb") as asked, real.makefile("rb") as said:
            while True:
                try:
                    line = asked.readline()
                except ConnectionResetError:
                    return
                if not line:
                    return
                call = json.loads(line)
                real.sendall(line)
                reply = json.loads(said.readline())
                if "result" in reply:
                    reply["result"] = self.lie(call["method"], call.get("params", {}), reply["result"])
                try:
                    conn.sendall(json.dumps(reply).encode() + b"\n")
                except OSError:
                    return  # it has left

    def end(self):
        self.s.close()
        os.unlink(self.path)


def taut(lie, *args):
    """Exit status and stderr; None where it does not end."""
    liar = Liar(d.socket, lie)
    try:
        r = subprocess.run([TAUT, *args, "--socket", liar.path], capture_output=True, text=True, timeout=HANG_S)
        return r.returncode, r.stderr
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        liar.end()


def refused(lie, name, *args, says):
    rc, err = taut(lie, *args)
    if not ok(rc == 1 and err.count("\n") == 1 and says in err, "%s: %s" % (name, err.strip())):
        print("#   exit status %s" % rc)


def long_front(pages):
    """job.front in pages: the list of trials each ends with, round and round."""
    asked = []

    def lie(method, params, result):
        if method != "job.front":
            return result
        asked.append(1)
        last = pages[(len(asked) - 1) % len(pages)]
        row = {"trial": 1, "arch_id": "0" * 32, "metrics": {"f1": 1, "f2": 1}}
        return [dict(row, pad=PAD), {"metrics": {}} if last is None else dict(row, trial=last)]

    return lie


def trials(change):
    return lambda method, params, result: change(params, result) if method == "trial.list" else result


d = Daemon()
c = d.conn()
job = str(c.call("job.submit", job=custom_job())["id"])
Evaluator(d.conn()).run()
bad = str(c.call("job.submit", job=custom_job(name="bad", budget={"evaluations": 3}))["id"])
e = Evaluator(d.conn())
for i in range(3):
    e.report(e.next(), status="failed", error="out of luck")
same(c.call("job.get", id=int(bad))["state"], "failed", "a search that failed")

same(taut(lambda m, p, r: r, "report", job, "-o", "/dev/null"), (0, ""), "an honest one")
for verb in (["report", job, "-o", "/dev/null"], ["front", job]):
    refused(long_front([7]), "%s: the same page of a front" % verb[0], *verb, says="job.front: a page ends with trial 7, as one before it did")
    refused(long_front([7, 9, 8]), "%s: three pages in turn" % verb[0], *verb, says="job.front: a page ends with trial 7, as one before it did")
    refused(long_front([None]), "%s: rows that are no trials" % verb[0], *verb, says="job.front: a page does not end with a trial")
first = {}


def same_page(params, result):
    first.setdefault(params["job"], result)
    return first[params["job"]]


REPORT = ["report", job, "-o", "/dev/null"]
same(taut(trials(same_page), *REPORT), (0, ""), "report: the same page of trials for ever")
refused(trials(lambda p, r: [{"trial": 3, "state": "ready"}] if p.get("after", 0) < 5 else r), "report: the first page twice", *REPORT,
        says="trial.list: after trial 3 comes a page that ends with trial 3")
refused(trials(lambda p, r: [{"state": "ok"}]), "report: rows without a number", *REPORT, says="trial.list: after trial 0 comes a page that ends with no trial")
rc, err = taut(trials(lambda p, r: [{"trial": p["after"] + 1, "state": "ready"}]), *REPORT)
same((rc, err), (0, ""), "report: trials without end are looked at as far as there were any")
first.clear()
same(taut(trials(same_page), "status", bad), (0, ""), "status of a failed job ends as well")
ok("out of luck" in subprocess.run([TAUT, "status", bad, "--socket", d.socket], capture_output=True, text=True).stdout, "an honest one says its reason")
c.close()
d.end()
done()
