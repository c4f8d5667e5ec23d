"""A store that cannot be written: what was acknowledged stays, nothing else happened, reading goes on, and so does the search once there is room."""
import os
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *


def search(d, make_room, what):
    c = d.conn()
    job = c.call("job.submit", job=custom_job(budget={"evaluations": 100000}))["id"]
    e = Evaluator(d.conn())
    done = full = 0
    curve = [[i, 2.0 + i / 7.0] for i in range(400)]
    lease = None
    while not full and done < 5000:
        code, v = e.c.code("evaluator.next", evaluator=e.id)
        if code:
            full = code
            break
        lease = v
        if lease is None:
            break
        code, v = e.c.code("evaluator.report", lease=lease["lease"], epoch=lease["epoch"], status="ok", metrics=score(lease["arch"]), curve=curve)
        if code:
            full = code
        else:
            done += 1
            lease = None
    same(full, -32004, "%s: after %d reports a call fails with -32004" % (what, done))
    g = c.call("job.get", id=job)
    same((g["evaluations"], g["trials"]["ok"]), (done, done), "%s: reading goes on, and counts what was acknowledged" % what)
    same(g["trials"]["leased"], 1 if lease else 0, "%s: a lease that was not acknowledged does not exist" % what)
    same(c.call("server.info")["writable"], False, "%s: server.info says that it cannot write" % what)
    ok(len(c.call("job.front", id=job)) > 0, "%s: job.front answers" % what)
    same(c.code("job.submit", job=custom_job())[0], -32004, "%s: a job is refused" % what)
    same(c.code("job.pause", id=job)[0], -32004, "%s: so is a pause" % what)
    same(c.call("job.get", id=job)["state"], "running", "%s: and it did not happen" % what)
    # An evaluator comes, asks and leaves meanwhile; the one with the lease is cut off.
    x = d.conn()
    same(x.code("evaluator.register", name="new", device="tpu")[0], -32004, "%s: a new device cannot be recorded" % what)
    x.close()
    e.c.close()
    wait_until(lambda: c.call("server.info")["evaluators"] == 0)
    same(d.errors().count("cannot be written"), 1, "%s: the log says so once: %s" % (what, d.errors().strip().split("\n")[-1]))
    make_room()
    ok(wait_until(lambda: c.call("server.info")["writable"]), "%s: with room again it goes on by itself" % what)
    e = Evaluator(d.conn())
    if lease:
        again = e.next(5)
        same((again["trial"], again["epoch"]), (lease["trial"], lease["epoch"] + 1), "%s: the lost lease was given back meanwhile" % what)
        e.report(again)
        done += 1
    same(len(e.run(5)), 5, "%s: the search goes on" % what)
    g = c.call("job.get", id=job)
    same((g["evaluations"], g["trials"]["ok"], g["trials"]["leased"]), (done + 5, done + 5, 0), "%s: every acknowledged report counts, once" % what)
    trials = c.call("trial.list", job=job, limit=10000)
    same([t["proposal"] for t in trials], list(range(len(trials))), "%s: proposals without a gap" % what)
    same(len({t["arch_id"] for t in trials}), len(trials), "%s: none twice" % what)
    v = verify(d.dir)
    same(v.returncode, 0, "%s: %s" % (what, v.stdout.strip()))


# A file size limit, lifted from outside by prlimit(2).
LIMIT = 1500000
d = Daemon(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY)))
search(d, lambda: resource.prlimit(d.p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)), "file size limit")
d.preexec = None
d.restart()
same(d.conn().call("server.info")["writable"], True, "file size limit: a restart finds a good store")
d.end()

# A disk that is full.
mount = tempfile.mkdtemp(prefix="tautd-full-")
if os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount], capture_output=True).returncode == 0:
    try:
        ballast = os.path.join(mount, "ballast")
        with open(ballast, "wb") as f:
            f.write(b"x" * 1200000)
        os.mkdir(os.path.join(mount, "store"))
        d = Daemon(dir=os.path.join(mount, "store"))
        search(d, lambda: os.unlink(ballast), "disk full")
        d.end()
    finally:
        subprocess.run(["umount", "-l", mount])
else:
    skip("a full disk", "needs root and mount")
os.rmdir(mount)
done()
