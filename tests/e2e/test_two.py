"""Two evaluators on one host for one search that times its candidates: each trial once, and nothing runs while another is timed."""
import os
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

home = folder()
make_text(os.path.join(home, "text.txt"), 6000)
dir = os.path.join(home, "search")
locks = os.environ["TAUT_LOCKS"] = os.path.join(home, "locks")  # these two alone, whatever else is timed on this machine
job = write_json(os.path.join(home, "job.json"), lm_job("text.txt", name="two", fidelity={"tokens": 100000}, objectives=["valid_bpb", "decode_ms@16", "prefill_ms@32"],
                                                        budget={"evaluations": 10}))
d = Daemon(dir=dir)
r = taut("submit", job, "--socket", d.socket)
same((r.returncode, r.stdout.strip(), r.stderr), (0, "1", ""), "taut submit prints the job's id")
ok("waiting" in taut("jobs", "--socket", d.socket).stdout, "without an evaluator it waits")
life, mine = os.pipe()
os.set_inheritable(life, True)
pids = {}
for name in ("one", "two"):
    p = subprocess.Popen([EVALUATOR, "--socket", d.socket, "--work", os.path.join(home, name), "--name", name, "--threads", "1", "--lifeline", str(life)],
                         close_fds=False, stdout=subprocess.DEVNULL)
    pids[p.pid] = p
os.close(life)

# Who holds the host's lock exclusively is timing; meanwhile the other one must not compute. Watched from outside: /proc/locks and each one's CPU time.
wait_until(lambda: os.path.exists(os.path.join(locks, "cpu.work")))
work = "%d" % os.stat(os.path.join(locks, "cpu.work")).st_ino


def holder():
    with open("/proc/locks") as f:
        for line in f:
            v = line.split()
            if v[1] == "FLOCK" and v[3] == "WRITE" and v[5].split(":")[2] == work and int(v[4]) in pids:
                return int(v[4])


def cpu_s(pid):
    total = 0
    for t in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
            total += int(f.read().split()[0]) / 1e9
    return total


timed = {pid: 0.0 for pid in pids}      # seconds that it was seen to time
at_work = {pid: 0.0 for pid in pids}    # CPU seconds of its own in them
meanwhile = {pid: 0.0 for pid in pids}  # CPU seconds of the other one
c = d.conn()
before = None
end = time.monotonic() + HANG_S
state = ""
while time.monotonic() < end and state not in ("done", "failed"):
    h = holder()
    now = (h, time.monotonic(), {pid: cpu_s(pid) for pid in pids})
    if before and h and before[0] == h and holder() == h:
        other = next(pid for pid in pids if pid != h)
        timed[h] += now[1] - before[1]
        at_work[h] += now[2][h] - before[2][h]
        meanwhile[h] += now[2][other] - before[2][other]
    before = now
    state = c.call("job.get", id=1)["state"]
    time.sleep(0.005)
same(state, "done", "the search is done")
for n, pid in enumerate(pids, 1):
    ok(timed[pid] > 0.05 and at_work[pid] > 0.2 * timed[pid], "evaluator %d was seen to time its candidates: %.2f s, %.2f s of CPU" % (n, timed[pid], at_work[pid]))
    ok(meanwhile[pid] < 0.05 * timed[pid], "the other one kept still meanwhile: %.4f s of CPU" % meanwhile[pid])
g = c.call("job.get", id=1)
same((g["evaluations"], g["trials"]["ok"], g["trials"]["failed"]), (10, 10, 0), "ten trials, all well")
leased = rows(dir, "SELECT json_extract(body, '$.trial'), json_extract(body, '$.evaluator') FROM event WHERE type = 'leased'")
same((sorted(t for t, _ in leased), len({e for _, e in leased})), (list(range(1, 11)), 2), "each leased once, by the two of them")
c.close()
os.close(mine)
same([p.wait(HANG_S) for p in pids.values()], [0, 0], "both leave with whoever started them")
d.term()
check_store(dir, "two evaluators")
same(weights_as_recorded(dir), [], "the files of weights are what the store says")
os.unlink(d.log_path)
done()
