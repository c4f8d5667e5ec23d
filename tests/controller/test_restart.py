"""Kill -9 and SIGTERM at many points: nothing is lost, counted twice or stuck, and the search goes on as if undisturbed."""
import os
import random
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/controller"))
from taut_wire import *

TRIALS = 40
JOB = custom_job(budget={"evaluations": TRIALS}, search={"population": 6})


def summary(d, job):
    c = d.conn()
    trials = c.call("trial.list", job=job)
    get = c.call("job.get", id=job)
    c.close()
    return ([(t["trial"], t["arch_id"], t["state"], t["metrics"]) for t in trials], get["state"], get["evaluations"], get["reference"],
            get["hypervolume"])


def undisturbed():
    d = Daemon()
    job = d.conn().call("job.submit", job=JOB)["id"]
    Evaluator(d.conn()).run()
    s = summary(d, job)
    d.end()
    return s


def disturbed(seed, hard, claims):
    """One evaluator; at every step the daemon may be ended. claims: it names what it holds when it comes back."""
    rnd = random.Random(seed)
    d = Daemon()
    job = d.conn().call("job.submit", job=JOB)["id"]
    stops = wrong = 0
    e = Evaluator(d.conn())
    lease = None

    def stop():
        nonlocal e, lease, stops, wrong
        stops += 1
        d.restart(hard=hard)
        holds = [{"lease": lease["lease"], "epoch": lease["epoch"]}] if lease and claims else []
        e = Evaluator(d.conn(), holds=holds)
        if e.reg["held"] == [h["lease"] for h in holds]:
            return
        if holds and e.reg["held"] == []:  # the report was durable, or the lease was not
            lease = None
            return
        wrong += 1

    while True:
        if rnd.random() < 0.15:
            stop()
        if lease is None or not claims:
            lease = e.next(1)
            if lease is None:
                break
        if rnd.random() < 0.15:
            stop()
            if not claims:
                continue  # given back at register: asks again
        if lease is None:
            continue
        e.c.call("evaluator.progress", lease=lease["lease"], epoch=lease["epoch"], step=1, tokens=10,
                 curve=[[10, 1.5]] if rnd.random() < 0.3 else [])
        if rnd.random() < 0.2:  # the report is on its way when the end comes
            e.c.send("evaluator.report", lease=lease["lease"], epoch=lease["epoch"], status="ok", metrics=score(lease["arch"]))
            stop()
            if lease is None or not claims:
                lease = None
                continue
            code, text = e.c.code("evaluator.report", lease=lease["lease"], epoch=lease["epoch"], status="ok", metrics=score(lease["arch"]))
            wrong += code not in (0, -32010)
        else:
            e.report(lease)
        lease = None
    s = summary(d, job)
    v = verify(d.dir)
    d.end()
    return s, stops, wrong, v


want = undisturbed()
same((want[1], want[2]), ("done", TRIALS), "an undisturbed search of %d trials" % TRIALS)
for seed, hard, claims in ((1, True, True), (2, True, False), (3, True, True), (4, False, True), (5, False, False)):
    got, stops, wrong, v = disturbed(seed, hard, claims)
    what = "%s, evaluator %s" % ("kill -9" if hard else "SIGTERM", "claims what it holds" if claims else "comes back with nothing")
    ok(stops > 5, "%s: ended %d times" % (what, stops))
    same(wrong, 0, "%s: leases are as register says" % what)
    same(got, want, "%s: the search is the undisturbed one" % what)
    same((v.returncode, v.stderr), (0, ""), "%s: %s" % (what, v.stdout.strip()))

# A lease from before a restart that nobody claims expires.
d = Daemon("--lease", "0.3")
c = d.conn()
job = c.call("job.submit", job=JOB)["id"]
e = Evaluator(d.conn(), "gone")
l = e.next()
d.restart()
c = d.conn()
g = c.call("job.get", id=job)
same((g["state"], g["trials"]["leased"], g["running"][0]["connected"]), ("running", 1, False), "after a restart the lease is still out")
other = Evaluator(d.conn(), "other")
first = other.next()
ok(first["trial"] != l["trial"], "another evaluator gets another trial")
other.report(first)
c.call("job.watch", id=job, after=0)
p = c.until(lambda p: p["type"] == "returned")
same((p["trial"], p["busy_s"]), (l["trial"], 0), "unclaimed, it expires, and its time counts for nothing")
again = other.next()
same((again["trial"], again["epoch"]), (l["trial"], 2), "then it is leased again, before anything new")
d.end()

# Two evaluators of one name: each keeps its own.
d = Daemon()
job = d.conn().call("job.submit", job=JOB)["id"]
a, b = Evaluator(d.conn(), "twin"), Evaluator(d.conn(), "twin")
la, lb = a.next(), b.next()
d.restart()
b2 = Evaluator(d.conn(), "twin", holds=[{"lease": lb["lease"], "epoch": 1}])
a2 = Evaluator(d.conn(), "twin", holds=[{"lease": la["lease"], "epoch": 1}, {"lease": 77, "epoch": 1}])
same((b2.reg["held"], a2.reg["held"]), ([lb["lease"]], [la["lease"]]), "twins come back in another order and keep what they hold")
same((a2.report(la), b2.report(lb)), ({}, {}), "and report it")
c3 = d.conn()
l = a2.next()
a3 = Evaluator(c3, "twin-new", holds=[{"lease": l["lease"], "epoch": 1}])
same(a3.reg["held"], [l["lease"]], "a claim holds also while the old connection is still open")
same(a3.report(l), {}, "and its report counts")
# a report without registering again: whoever knows lease and epoch has it
l = b2.next()
d.restart()
c = d.conn()
same(c.call("evaluator.progress", lease=l["lease"], epoch=1, step=3), {"go": True}, "progress right after a restart")
same(c.call("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics=score(l["arch"])), {}, "and the report")
same(verify(d.dir).returncode, 0, "events and tables agree")
d.end()

# A report to a job that is paused, and whose results are not in memory yet.
d = Daemon()
c = d.conn()
job = c.call("job.submit", job=JOB)["id"]
e = Evaluator(d.conn())
e.report(e.next())
l = e.next()
c.call("job.pause", id=job)
d.restart()
e = Evaluator(d.conn(), holds=[{"lease": l["lease"], "epoch": 1}])
same(e.c.call("evaluator.progress", lease=l["lease"], epoch=1), {"go": False}, "after a restart a paused job is still paused")
same(e.report(l), {}, "a report to it counts")
c = d.conn()
same((c.call("job.get", id=job)["state"], c.call("job.get", id=job)["evaluations"]), ("paused", 2), "and it stays paused")
p = subprocess.run([TAUTD, "--dir", d.dir + "/other", "--socket", d.socket], capture_output=True, text=True)
same((p.returncode, "another tautd" in p.stderr), (1, True), "the socket of a living tautd is not taken over: %s" % p.stderr.strip())
same(c.call("server.info")["jobs"], {"paused": 1}, "which goes on")
d.end()

# Readers.
d = Daemon()
job = d.conn().call("job.submit", job=JOB)["id"]
e = Evaluator(d.conn())
l = e.next()
d.term()
d.start("--reader", "--lease", "0.01")
c = d.conn()
same(c.call("server.info")["reader"], True, "a reader says that it is one")
same(c.call("job.get", id=job)["trials"]["leased"], 1, "it expires nothing")
same(c.code("evaluator.register", name="x", device="cpu")[0], -32002, "and takes no evaluators")
same(c.code("evaluator.report", lease=l["lease"], epoch=1, status="ok", metrics=score(l["arch"]))[0], -32002, "nor reports")
same(c.call("job.submit", job=custom_job(seed=5))["id"], job + 1, "but jobs are submitted")
same(c.call("job.get", id=job + 1)["state"], "waiting", "and wait")
c2 = d.conn()
c.close()
same(c2.call("server.info")["reader"], True, "it stays while anybody is connected")
c2.close()
same(d.p.wait(20), 0, "and leaves with its last connection")
d.start()
e = Evaluator(d.conn(), holds=[{"lease": l["lease"], "epoch": 1}])
same(e.reg["held"], [l["lease"]], "the lease is still there afterwards")
same(e.report(l), {}, "and its report counts")
same(subprocess.run([TAUTD, "--dir", d.dir], capture_output=True, text=True).returncode, 1, "a second tautd on the store is refused")

# The lifeline.
os.close(d.life)
same(d.p.wait(20), 0, "tautd leaves when its lifeline is gone")
d.life = os.open("/dev/null", os.O_RDONLY)
ok(not os.path.exists(d.socket), "and its socket with it")
d.end()
done()
