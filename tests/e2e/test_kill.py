"""A small search run to its end; then the same one while tautd, taut-evaluator and taut run are killed (SIGKILL) at 50 random moments."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

KILLS = 50
EVALUATIONS = 16
SEED = int(os.environ.get("TAUT_KILL_SEED", "4"))

home = folder()
make_text(os.path.join(home, "text.txt"))
job = write_json(os.path.join(home, "job.json"), lm_job("text.txt", name="kill", fidelity={"tokens": 6000000}, budget={"evaluations": EVALUATIONS}))
calm, rough = os.path.join(home, "calm"), os.path.join(home, "rough")

r = Run(job, calm)
same((r.wait(), r.stderr()), (0, ""), "an undisturbed run")
want = trials(calm)
same((len(want), len({t[1] for t in want}), {t[2] for t in want}), (EVALUATIONS, EVALUATIONS, {"ok"}), "it evaluates %d different architectures" % EVALUATIONS)
ok(len({t[3][0] for t in want}) > EVALUATIONS / 2, "and their losses differ")

# Moments. Each kill draws what it waits for, then how long, then whom it hits.
#   start     a daemon or the command has just been started
#   leased    a trial is in the evaluator's hands: it trains
#   write     the store is being written: a report whose answer has not been seen, a lease, a restart
#   shutdown  Ctrl-C or a kill of the command has just made the rest leave
DELAY_S = {"start": 0.12, "leased": 0.3, "write": 0.002, "shutdown": 0.03}
PHASES = {"start": 12, "leased": 16, "write": 12, "shutdown": 10}
assert sum(PHASES.values()) == KILLS
# In good order, killed, or stopped before it had anything to put in order.
STOPPED = (130, 143, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)
PROGRAMS = ("tautd", "taut-evaluator", "taut")

print("# TAUT_KILL_SEED=%d" % SEED)
rnd = random.Random(SEED)
events = Events(rough)
reported = 0
kills = []
unexpected = []
run = Run(job, rough, "--threads", "1")
known = {run.p.pid}
wal = os.path.join(rough, "taut.db-wal")
end = time.monotonic() + 10 * HANG_S  # fifty starts, on a machine that may be busy


def again():
    """Whoever uses taut run starts it again when it is gone; True: the search is over."""
    global run
    if run.alive():
        return False
    rc = run.p.returncode
    if rc == 0:
        return True
    if rc not in STOPPED:
        unexpected.append((rc, run.stderr()))
    run = Run(job, rough, "--threads", "1")
    return False


def look():
    """New events, and whether a process has come that was not there before."""
    global reported, known
    new = events.new()
    reported += new.count("reported")
    now = {pid for pid, _ in processes(rough)}
    fresh = bool(now - known)
    known = now
    return new, fresh


def written():
    try:
        s = os.stat(wal)
        return s.st_mtime_ns, s.st_size
    except OSError:
        return None


def moment(phase, victim):
    """Waits for it. False: the search is over."""
    before, since = written(), time.monotonic()
    while time.monotonic() < end:
        if again():
            return False
        if phase == "write":
            for _ in range(20):
                if written() != before:
                    look()
                    return True
                time.sleep(0.001)
            continue
        new, fresh = look()
        if phase == "start" and fresh or phase == "leased" and events.leased():
            return True
        if phase == "start" and time.monotonic() - since > 0.3:  # nobody starts by himself
            kill("random", victim)
            since = time.monotonic()
        time.sleep(0.002)
    return False


def kill(phase, want_program):
    here = processes(rough)
    pids = [p for p, program in here if program == want_program] or [p for p, _ in here]
    if not pids:
        return False
    pid = rnd.choice(pids)
    program = dict(here)[pid]
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    kills.append((phase, program))
    PHASES[phase] = PHASES.get(phase, 0) - 1
    return True


over = False
while len(kills) < KILLS and not over and time.monotonic() < end:
    # Evaluations are to last as long as the kills. Where they are ahead, an evaluator is stopped soon after it has begun, whoever else is: nothing ends then.
    ahead = (EVALUATIONS - 4 - reported) - (KILLS - len(kills)) * (EVALUATIONS - 4) / KILLS
    todo = [p for p in PHASES if PHASES[p] > 0 and (ahead >= 1 or p != "write")]
    phase = rnd.choice(todo) if ahead >= 0 and todo else "leased"
    victim = rnd.choice(PROGRAMS) if ahead >= 0 else rnd.choice(("taut-evaluator", "taut"))
    delay = rnd.random() * DELAY_S[phase] * (1 if ahead >= 0 else 0.2)
    if phase == "shutdown":
        over = not moment("leased", victim) if rnd.random() < 0.5 else again()
        if over:
            break
        number = rnd.choice((signal.SIGINT, signal.SIGKILL, signal.SIGTERM))
        if number == signal.SIGKILL:
            run.signal(number)
            run.p.wait()
            kills.append((phase, "taut"))
            PHASES[phase] -= 1
        else:
            run.signal(number)
    else:
        over = not moment(phase, victim)
    if over:
        break
    time.sleep(delay)
    if len(kills) < KILLS:
        kill(phase, victim)
    if phase == "shutdown" and run.alive():
        rc = run.wait(60)
        if rc not in STOPPED + (0,):
            unexpected.append((rc, run.stderr()))
            run = Run(job, rough)

same(len(kills), KILLS, "killed at %d moments before the search was over" % KILLS)
while not again() and time.monotonic() < end:
    run.wait(60)
count = {}
for k in kills:
    count[k] = count.get(k, 0) + 1
for k in sorted(count):
    print("# %-9s %-15s %d" % (*k, count[k]))
for program in PROGRAMS:
    ok(sum(n for k, n in count.items() if k[1] == program) >= 3, "%s was among the killed" % program)
for phase in DELAY_S:
    ok(sum(n for k, n in count.items() if k[0] == phase) >= 3, "some at moments of: %s" % phase)
same((run.wait(), "taut:" in run.stderr()), (0, False), "then it ends as if nothing had been")
same([rc for rc, _ in unexpected], [], "taut run never gave up by itself%s" % "".join("; " + e.strip() for _, e in unexpected))
ok(gone(rough), "nobody stays behind")
events.close()
got = trials(rough)
same([(t[0], t[1]) for t in got], [(t[0], t[1]) for t in want], "the same sequence of architectures")
same([t[3] for t in got], [t[3] for t in want], "the same losses, to the bit")
same([t[4] for t in got], [t[4] for t in want], "the same weights, to the bit")
same({t[2] for t in got}, {"ok"}, "none failed")
check_store(rough, "killed")
same(weights_as_recorded(rough), [], "the files of weights are what the store says")
same([f for f in os.listdir(os.path.join(rough, "work")) if ".tmp" in f], [], "no half-written file is left")
done()
