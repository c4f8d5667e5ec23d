#!/usr/bin/env python3
"""bench_trial.py [N...]: what tautd costs at N trials (100 and 100000): start, memory, a durable trial over the socket, reads.

Stores come from bench/gen_store (three objectives, some ten metrics and a curve a trial). CPU is tautd's own, from its scheduler statistics."""
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

SRC = os.environ.get("TAUT_SRC", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import BUILD, Daemon, Evaluator

TRIALS = 500
KIND = {"kind": "cpu", "isa": "avx512", "threads": 2}
METRICS = {"valid_bpb": 2.0, "valid_loss": 1.4, "prefill_ms@256": {"median": 1.0, "low": 0.9, "high": 1.1, "n": 12}, "infer_bytes@256": 1e6,
           "train_bytes": 2e6, "train_tokens_per_s": 1e5}
CURVE = [[i * 100000, 5.0 - i / 7.0] for i in range(1, 21)]


def cpu_s(pid):
    with open("/proc/%d/schedstat" % pid) as f:
        return int(f.read().split()[0]) / 1e9


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return [int(l.split()[1]) / 1024 for l in f if l.startswith("VmRSS")][0]


def clock(f, n=5):
    best = 1e9
    for _ in range(n):
        t = time.perf_counter()
        v = f()
        best = min(best, time.perf_counter() - t)
    return best * 1e3, v


for n in [int(a) for a in sys.argv[1:]] or [100, 100000]:
    dir = tempfile.mkdtemp(prefix="bench-trial-", dir=os.environ.get("BENCH_DIR"))
    subprocess.run([os.path.join(BUILD, "bench/gen_store"), dir, str(n), "--open"], check=True)
    db = sqlite3.connect(os.path.join(dir, "taut.db"))  # the generator's device says no kind in its body; evaluators' do
    db.execute("update device set body = ?", (json.dumps(KIND),))
    db.commit()
    db.close()
    t = time.perf_counter()
    d = Daemon(dir=dir)
    start = time.perf_counter() - t
    c = d.conn()
    e = Evaluator(c, "synthetic", device=KIND, spaces=["lm"])
    t = time.perf_counter()
    lease = e.next()
    e.report(lease, metrics=dict(METRICS, **{"decode_ms@256": 1.0}))
    lease = e.next()
    e.report(lease, metrics=dict(METRICS, **{"decode_ms@256": 1.0}))
    t = time.perf_counter()
    lease = e.next()  # nothing is back any more: the strategy absorbs the archive
    absorb = time.perf_counter() - t
    e.report(lease, metrics=dict(METRICS, **{"decode_ms@256": 1.0}))
    waits, cpu = {"next": [], "report": []}, cpu_s(d.p.pid)
    for i in range(TRIALS):
        t = time.perf_counter()
        lease = e.next()
        waits["next"].append(time.perf_counter() - t)
        m = dict(METRICS, **{"decode_ms@256": {"median": 1 + i % 7, "low": 1, "high": 8, "n": 30}})
        t = time.perf_counter()
        e.report(lease, metrics=m, curve=CURVE)
        waits["report"].append(time.perf_counter() - t)
    cpu = (cpu_s(d.p.pid) - cpu) / TRIALS
    print("%d trials: start %.0f ms, first proposal %.1f ms, memory %.0f MiB" % (n, start * 1e3, absorb * 1e3, rss_mib(d.p.pid)))
    print("  a durable trial: CPU of tautd %.0f us; next %.0f us, report %.0f us (medians, wall)" %
          (cpu * 1e6, *(statistics.median(waits[k]) * 1e6 for k in ("next", "report"))))
    ms, front = clock(lambda: c.call("job.front", id=1))
    print("  job.front: %.1f ms, %d members" % (ms, len(front)))
    for method, params in (("job.get", {"id": 1}), ("job.list", {}), ("job.progress", {"id": 1}), ("trial.list", {"job": 1}), ("trial.get", {"id": n // 2})):
        print("  %s: %.1f ms" % (method, clock(lambda: c.call(method, **params))[0]))
    print("  memory after that: %.0f MiB" % rss_mib(d.p.pid))
    t = time.perf_counter()
    d.term()
    print("  SIGTERM: %.0f ms" % ((time.perf_counter() - t) * 1e3))
    d.end()
    shutil.rmtree(dir)
