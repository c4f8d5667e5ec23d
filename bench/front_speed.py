#!/usr/bin/env python3
"""front_speed.py [N...]: how long `taut front` takes, whole process, on jobs of N trials and three objectives (100000 and 1000000).

Stores come from bench/gen_store, in a folder of their own under $BENCH_DIR (default: the system's folder for such things); a million trials take 3.2 GB
of it. TAUT_BUILD: the build folder (default: here). Each figure: median (least to most) of RUNS processes, milliseconds of wall time from fork to exit,
output to a pipe that is read. "first": the first call after tautd has begun to listen. "cold": no tautd; the command starts a reader on the store, the
file being in the page cache. CPU: of the command (user + system) and of tautd, means."""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("TAUT_BUILD", ".")
RUNS = 21
COLD_UP_TO = 100000


def program(name):
    return os.path.join(os.path.abspath(BUILD), name)


def once(args):
    t = time.perf_counter()
    out = subprocess.run([program("taut"), "front", "synthetic", *args], stdout=subprocess.PIPE, check=True).stdout
    return (time.perf_counter() - t) * 1e3, out


def several(label, args, pid=None):
    def used():
        r = resource.getrusage(resource.RUSAGE_CHILDREN)
        served = int(open("/proc/%d/schedstat" % pid).read().split()[0]) / 1e6 if pid else 0
        return (r.ru_utime + r.ru_stime) * 1e3, served

    a = used()
    ms = [once(args)[0] for _ in range(RUNS)]
    cpu = [(y - x) / RUNS for x, y in zip(a, used())]
    print("  %-34s %6.1f (%.1f to %.1f)   CPU %.1f%s" % (label, statistics.median(ms), min(ms), max(ms), cpu[0], " + %.1f" % cpu[1] if pid else ""), flush=True)


def serve(dir):
    r, w = os.pipe()
    life, hold = os.pipe()
    t = time.perf_counter()
    p = subprocess.Popen([program("tautd"), "--dir", dir, "--ready", str(w), "--lifeline", str(life)], pass_fds=(w, life))
    os.close(w)
    os.close(life)
    os.read(r, 16)
    os.close(r)
    return p, hold, (time.perf_counter() - t) * 1e3


for n in [int(a) for a in sys.argv[1:]] or [100000, 1000000]:
    dir = tempfile.mkdtemp(prefix="front-speed-", dir=os.environ.get("BENCH_DIR"))
    try:
        subprocess.run([program("bench/gen_store"), dir, str(n)], check=True)
        print("%d trials, %.0f MB, load %.1f" % (n, os.path.getsize(os.path.join(dir, "taut.db")) / 1e6, os.getloadavg()[0]))
        p, hold, started = serve(dir)
        at = ["--socket", os.path.join(dir, "tautd.sock")]
        ms, out = once(at)
        print("  tautd listens after %.0f; the first front %.0f; %d rows" % (started, ms, out.count(b"\n") - 1))
        several("table", at, p.pid)
        several("csv", at + ["--format", "csv"], p.pid)
        several("json", at + ["--json"], p.pid)
        several("--where 'decode_ms@256 <= 0.05'", at + ["--where", "decode_ms@256 <= 0.05"], p.pid)
        several("--limit 20", at + ["--limit", "20"], p.pid)
        os.close(hold)
        p.wait()
        if n <= COLD_UP_TO:
            several("cold", ["--dir", dir])
        print("  load %.1f" % os.getloadavg()[0])
    finally:
        shutil.rmtree(dir)
