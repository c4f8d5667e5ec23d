"""taut run: what it does the second time, when it is interrupted, beside others, and on awkward folders."""
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

SRC = os.environ.get("TAUT_SRC", ".")
home = folder()
make_text(os.path.join(home, "text.txt"), 6000)


def path(*names):
    return os.path.join(home, *names)


def write(file, **more):
    return write_json(path(file), lm_job("text.txt", **more))


def ends(r, rc, name):
    """Exit status; and nobody is left behind."""
    got = r.wait()
    if not ok(got == rc, "%s: exit status %s" % (name, rc)):
        print("#   got %s\n#   %s\n#   %s" % (got, r.stdout().strip().replace("\n", "\n#   "), r.stderr().strip().replace("\n", "\n#   ")))


def says(r, *words):
    for w in words:
        if not ok(w in r.stdout() + r.stderr(), "it says: %s" % w):
            print("#   " + (r.stdout() + r.stderr()).strip().replace("\n", "\n#   "))


def state(dir, job=1):
    return rows(dir, "SELECT state FROM job WHERE id = ?", job)[0][0]


def until(dir, r, type):
    """Waits until an event of that type was written, or r has left."""
    e = Events(dir)
    wait_until(lambda: type in e.new() or not r.alive(), HANG_S)
    e.close()


def told(r, words):
    return wait_until(lambda: words in r.stdout() + r.stderr() or not r.alive(), HANG_S)


LONG = {"tokens": 500000}  # trials that are caught at work

# ---- the same command again ----

dir = path("again")
job = write("again.json", name="again")
r = Run(job, dir, cwd="/")
ends(r, 0, "a first run, from another folder than the data's")
says(r, "job 1 'again'", "8/8", "is done: budget used up: 8 evaluations", "front: ")
ok(not processes(dir), "nobody is left behind")
first = trials(dir)
events = rows(dir, "SELECT count(*) FROM event")
r = Run(job, dir)
ends(r, 0, "the same again")
says(r, "is done: budget used up: 8 evaluations")
ok("continuing" not in r.stdout() and " trial 1 " not in r.stdout(), "shows the result, and does nothing")
same(rows(dir, "SELECT count(*) FROM event"), events, "nor records anything")
more = write("again.json", name="again", budget={"evaluations": 11})
r = Run(more, dir)
ends(r, 0, "a larger budget")
says(r, "job 1 'again': the budget is now 11 evaluations", "continuing job 1 'again': 8 of 11 evaluations done", "11/11")
same((len(trials(dir)), trials(dir)[:8]), (11, first), "the job is extended")
less = write("again.json", name="again", budget={"evaluations": 4})
r = Run(less, dir)
ends(r, 0, "a smaller one than what was used")
says(r, "is done")
same(len(trials(dir)), 11, "changes nothing")
other = write("again.json", name="again", seed=6, budget={"evaluations": 2})
r = Run(other, dir)
ends(r, 0, "another seed")
says(r, "is not what job 1 'again' was made of: this is a new one, job 2", "2/2")
same((len(trials(dir, 1)), len(trials(dir, 2))), (11, 2), "is another job")
os.makedirs(path("deep", "er"))
deep = write_json(path("deep", "er", "job.json"), lm_job("../../text.txt", name="deep", budget={"evaluations": 1}))
r = Run(os.path.relpath(deep, path("deep")), path("deep", "dir"), cwd=path("deep"))
ends(r, 0, "a path of data with .. in it, relative to the job file's folder")
write("here.json", name="he re/1", budget={"evaluations": 1})
r = Run("here.json", None, cwd=home)
ends(r, 0, "without --dir")
ok(os.path.exists(path("taut-he_re_1", "taut.db")), "the store is in ./taut-NAME")
says(r, "taut show 1 --dir taut-he_re_1")

quoted = path("it's here")
r = Run(write("a b.json", name="quoted", budget={"evaluations": 1}), quoted)
ends(r, 0, "a folder with a quote and a space in its name")
hint = [line.strip() for line in r.stdout().split("\n") if " show 1" in line]
v = subprocess.run(["sh", "-c", hint[0] if hint else "false"], capture_output=True, text=True, env=dict(os.environ, PATH=BUILD + ":" + os.environ["PATH"]))
ok(v.returncode == 0 and "trial 1  ok" in v.stdout, "what it says to type next can be typed: %s %s" % (hint, v.stderr.strip()))

# ---- interrupted ----

for number, rc, group in ((signal.SIGINT, 130, True), (signal.SIGTERM, 143, False), (signal.SIGHUP, 129, False)):
    name = signal.Signals(number).name
    dir = path(name)
    job = write(name + ".json", name=name, fidelity=LONG, budget={"evaluations": 2})
    r = Run(job, dir)
    until(dir, r, "leased")
    os.killpg(r.p.pid, number) if group else r.signal(number)
    ends(r, rc, name)
    ok(not processes(dir), "%s: everyone has left before the command" % name)
    says(r, "pausing job 1", "go on with: %s run %s --dir %s" % (TAUT, job, dir))
    same((state(dir), rows(dir, "SELECT count(*) FROM lease")), ("paused", [(0,)]), "%s: the job is paused, its trial given back" % name)
    same(rows(dir, "SELECT count(*) FROM event WHERE type = 'returned'")[0][0], 1, "%s: as preempted" % name)
    r = Run(job, dir)
    ends(r, 0, "%s: the same command" % name)
    says(r, "continuing job 1 '%s'" % name, "2/2")
    if number == signal.SIGINT:
        calm = path("calm")
        ends(Run(write("calm.json", name="calm", fidelity=LONG, budget={"evaluations": 2}), calm), 0, "the same search without a break")
        same(trials(dir), trials(calm), "has the same trials, losses and weights, to the bit")
        with open(os.path.join(dir, "log", "evaluator.log")) as f:
            ok("on from step" in f.read(), "the trial went on from its checkpoint")

# Killed with its tautd, while its evaluator hangs: the next one waits for it, since two of them would make another search of it.
dir = path("orphan")
job = write("orphan.json", name="calm", fidelity=LONG, budget={"evaluations": 2})
r = Run(job, dir)
until(dir, r, "leased")
who = {program: pid for pid, program in processes(dir)}
os.kill(who["taut-evaluator"], signal.SIGSTOP)
os.kill(who["taut"], signal.SIGKILL)
os.kill(who["tautd"], signal.SIGKILL)
r.wait()
r = Run(job, dir)
told(r, "waiting for the evaluator")
says(r, "waiting for the evaluator of an earlier command on this folder to leave")
same([pid for pid, program in processes(dir) if program == "taut-evaluator"], [who["taut-evaluator"]], "an evaluator that hangs: no other one is started beside it")
os.kill(who["taut-evaluator"], signal.SIGCONT)
ends(r, 0, "when it leaves, the search goes on")
same(trials(dir), trials(calm), "and is the undisturbed one")

dir = path("twice")
job = write("twice.json", name="twice", fidelity=LONG, budget={"evaluations": 1})
r = Run(job, dir)
until(dir, r, "leased")
evaluator = [p for p, program in processes(dir) if program == "taut-evaluator"]
os.kill(evaluator[0], signal.SIGSTOP)  # it will not leave
r.signal(signal.SIGINT)
told(r, "pausing")
r.signal(signal.SIGINT)
ends(r, 130, "Ctrl-C twice leaves at once")
os.kill(evaluator[0], signal.SIGCONT)
ok(gone(dir), "and the daemons follow")
ends(Run(job, dir), 0, "then the same command goes on")
same([t[2] for t in trials(dir)], ["ok"], "and ends well")

# ---- daemons that die, others on the same folder ----

dir = path("killed")
job = write("killed.json", name="killed", fidelity=LONG, budget={"evaluations": 6})
r = Run(job, dir)
for program in ("tautd", "taut-evaluator"):
    until(dir, r, "leased")
    os.kill([p for p, q in processes(dir) if q == program][0], signal.SIGKILL)
    told(r, program + " has ended")
    says(r, "%s has ended (ended by signal 9 (Killed)); starting it again" % program)
ends(r, 0, "both daemons killed once")
same([t[2] for t in trials(dir)], ["ok"] * 6, "all trials went well")
check_store(dir, "both killed")

# Evaluators that are killed again and again at work on one trial: it is given up in the end, the rest of the search is not.
dir = path("poison")
job = write("poison.json", name="poison", fidelity=LONG, budget={"evaluations": 2})
r = Run(job, dir, "--json")
e = Events(dir)
killed = 0
while r.alive():
    new = wait_until(lambda: e.new() or not r.alive(), HANG_S)
    if not isinstance(new, list):
        break
    if "reported" in new:
        break
    for pid, program in processes(dir) if "leased" in new else ():
        if program == "taut-evaluator":
            os.kill(pid, signal.SIGKILL)
            killed += 1
e.close()
same(killed, 20, "20 evaluators killed as soon as they had the trial")
ends(r, 0, "the search goes on with the next one")
same(rows(dir, "SELECT state FROM trial ORDER BY proposal"), [("failed",), ("ok",)], "that trial has failed")
lines = [json.loads(line) for line in r.stdout().splitlines()]
same([v["error"] for v in lines if v["event"] == "evaluation" and v["status"] == "failed"], ["its evaluator was lost 20 times while at work on it"], "with the reason")
same(len([v for v in lines if v["event"] == "note" and "taut-evaluator has ended" in v["text"]]), 20, "and --json tells of each as a note")

dir = path("both")
job = write("both.json", name="both", fidelity={"tokens": 400000}, budget={"evaluations": 4})
a = Run(job, dir)
until(dir, a, "leased")
b = Run(job, dir)
for verb in ("jobs",), ("status", "1"), ("status", "both"), ("front", "1"), ("watch", "1"):
    v = taut(*verb, "--dir", dir)
    ok(v.returncode == 0 or (verb[0] == "front" and v.returncode == 4), "taut %s beside it: %d %s" % (" ".join(verb), v.returncode, v.stderr.strip()))
    if verb[0] == "watch":
        ok("is done" in v.stdout, "taut watch stays to the end")
ends(a, 0, "two taut run on one folder: the first")
ends(b, 0, "the second")
same([t[2] for t in trials(dir)], ["ok"] * 4, "each trial once")
check_store(dir, "two at once")
same(rows(dir, "SELECT count(DISTINCT json_extract(body, '$.evaluator')) FROM event WHERE type = 'leased'"), [(1,)], "by one evaluator")

dir = path("heir")
job = write("heir.json", name="heir", fidelity=LONG, budget={"evaluations": 3})
a = Run(job, dir)
until(dir, a, "leased")
b = Run(job, dir)
told(b, "continuing")
a.signal(signal.SIGKILL)
a.wait()
ends(b, 0, "where the first is killed, the second goes on with daemons of its own")
same([t[2] for t in trials(dir)], ["ok"] * 3, "to the end")
check_store(dir, "an heir")

# ---- what comes out ----

dir = path("json")
job = write("json.json", name="json", budget={"evaluations": 3})
r = Run(job, dir, "--json")
ends(r, 0, "--json")
lines = [json.loads(line) for line in r.stdout().splitlines()]
same([v["event"] for v in lines], ["note"] + ["evaluation"] * 3 + ["end"], "every line is JSON: a note, evaluations, the end")
same([(v["evaluation"], v["status"], sorted(v["metrics"])[-1]) for v in lines[1:4]], [(i, "ok", "weight_bytes") for i in (1, 2, 3)], "numbered, with their metrics")
same(({t["trial"] for t in lines[4]["front"]} <= {1, 2, 3}, lines[4]["state"]), (True, "done"), "and the front")
dir = path("quiet")
r = Run(write("quiet.json", name="quiet", budget={"evaluations": 2}), dir, "-q")
ends(r, 0, "-q")
ok(" trial 1 " not in r.stdout() and "job 1 'quiet' is done" in r.stdout() and r.stderr() == "", "no progress, the result alone")
ok("\033" not in r.stdout(), "and no escapes where there is no terminal")

# ---- an evaluator of one's own ----

dir = path("custom")
r = Run(os.path.join(SRC, "examples", "custom.json"), dir)
told(r, "waiting for an evaluator of yours on ")
where = r.stdout().split("waiting for an evaluator of yours on ")[1].split("\n")[0]
e = subprocess.Popen([sys.executable, os.path.join(SRC, "examples", "evaluator.py"), where], stderr=subprocess.PIPE)
ends(r, 0, "examples/custom.json with examples/evaluator.py")
says(r, "100/100")
same((e.wait(30), e.stderr.read()), (0, b""), "which leaves quietly with it")
same(rows(dir, "SELECT count(*) FROM trial WHERE state = 'ok'"), [(100,)], "each trial once")
r = Run(os.path.join(SRC, "examples", "custom.json"), dir)
ends(r, 0, "once more")
bad = write_json(path("bad.json"), custom_job(name="bad", budget={"evaluations": 2}))
dir = path("bad")
r = Run(bad, dir)
told(r, "evaluator of yours on ")
e = Evaluator(Conn(r.stdout().split("evaluator of yours on ")[1].split("\n")[0]))
for i in range(2):
    e.report(e.next(30), "failed", error="no\033[5m\nluck", metrics={})
ends(r, 1, "no trial succeeded")
says(r, "taut: job 1 'bad': no trial succeeded; 2 of 2 failed with: no?[5m?luck")
ok("\033" not in r.stdout(), "in one line, whatever an evaluator sends")
same(state(dir), "failed", "the job has failed")
e.c.close()
r = Run(bad, dir)
ends(r, 1, "and says so again")

# ---- constraints that nothing meets ----

job = write("tight.json", name="tight", constraints=[{"metric": "valid_bpb", "max": 0.01}], budget={"evaluations": 2})
dir = path("ti'ght r\u00fcn")
r = Run(job, dir)
ends(r, 0, "trials that all break a constraint")
says(r, "none of the first 2 results meets the constraints; the closest, trial ", "is done: budget used up: 2 evaluations; no result meets the constraints, the closest is trial ", " (at most 0.01: ", "no front: no trial of 2 meets the constraints")
with open(os.path.join(dir, "report.html")) as f:
    ok("None of 2 results meets the constraints; the closest, trial " in f.read(), "so does the report")
v = taut("front", "tight", "--dir", dir)
same((v.returncode, v.stderr), (4, "taut: front: no trial of job 1 meets its constraints; 2 were measured\n"), "taut front says why there is none")
job = write("flat.json", name="flat", objectives=["valid_bpb", "params"], space={"type": "lm", "depth": [1, 1], "width": [16], "mixer": {"attention": {"heads": [1, 2, 4]}},
                                                                                "ffn": {"swiglu": {"ratio": [1]}}}, budget={"evaluations": 3})
r = Run(job, path("flat"))
ends(r, 0, "an objective that does not vary")
says(r, "params is the same in all of the first 3 results: it steers nothing, the search goes on by what varies")
with open(path("flat", "report.html")) as f:
    ok("params is the same in every result: it steers nothing." in f.read(), "so does the report")
job = write("never.json", name="never", constraints=[{"metric": "params", "max": 10}], space=dict(SPACE, depth=[1, 1], width=[16]))
r = Run(job, dir)
ends(r, 1, "a constraint that rules out the whole space")
ok(r.stderr().startswith("taut: job 2 'never': no trial succeeded: the space is used up: no candidate meets the constraints; the closest: params ") and
   "(at most 10: " in r.stderr() and r.stderr().count("\n") == 1, "is said once: " + r.stderr().strip())
v = taut("resume", "tight", "--evaluations", "3", "--dir", dir)
same((v.returncode, v.stdout), (0, "job 1 is waiting\n"), "a job that is extended where no tautd is")
ok("nobody works on it until: %sd --dir '%s" % (TAUT, dir.split("'")[0]) in v.stderr and "taut-evaluator --socket" in v.stderr, "waits, and for what is said: " + v.stderr.strip())

# ---- data that is no text ----

os.mkdir(path("pictures"))
make_text(path("pictures", "text.txt"), 6000)
with open(path("pictures", "a.png"), "wb") as f:
    f.write(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
job = write_json(path("pictures.json"), lm_job("pictures", name="pictures", budget={"evaluations": 1}))
r = Run(job, path("withpictures"))
ends(r, 0, "a folder with a picture among its texts")
same(r.stderr(), "not text: 1 of 2 data files, such as %s; trained on byte by byte all the same\n" % path("pictures", "a.png"), "it says so, once")

# ---- awkward folders ----

text = path("d\u00e4ta; it's")
os.mkdir(text)
make_text(os.path.join(text, "text.txt"), 6000)
job = write_json(os.path.join(text, "job.json"), lm_job(".", name="beside", budget={"evaluations": 2}))
r = Run(job, None, cwd=text)
ends(r, 0, "a search in a folder of its own within the folder of its text, with awkward characters in its path")
r = Run(job, os.path.join(text, "taut-beside"))
ends(r, 0, "the same again")
shown = [l for l in r.stdout().split("\n") if "taut front 1 --dir" in l]
same(subprocess.run(["sh", "-c", shown[0].strip()], capture_output=True, env=dict(os.environ, PATH="/usr/bin:/bin")).returncode if shown else None, 0,
     "the commands it names can be given to a shell: %s" % shown)

one = write("one.json", name="one", budget={"evaluations": 1})
dir = path("l" * 60, "o" * 60, "n" * 60)
run_dir = path("xdg")
os.mkdir(run_dir, 0o700)
r = Run(one, dir, env=dict(os.environ, XDG_RUNTIME_DIR=run_dir))
ends(r, 0, "a folder whose path is too long for a socket")
same([f for d in (dir, os.path.join(run_dir, "taut")) for f in os.listdir(d) if ".sock" in f], [], "has its socket elsewhere, and it is gone afterwards")
same(taut("status", "1", "--dir", dir, env=dict(os.environ, XDG_RUNTIME_DIR=run_dir)).returncode, 0, "and can be asked")
env = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
ends(Run(one, path("l" * 60, "o" * 60, "g" * 60), env=env), 0, "also without XDG_RUNTIME_DIR")
dir = path("stale")
os.mkdir(dir)
s = socket.socket(socket.AF_UNIX)
s.bind(os.path.join(dir, "tautd.sock"))
s.close()
ends(Run(one, dir), 0, "a socket that nobody listens on any more is replaced")
dir = path("notsock")
os.mkdir(dir)
write_json(os.path.join(dir, "tautd.sock"), 1)
r = Run(one, dir)
ends(r, 1, "a file in the socket's place")
same((r.stderr().count("\n"), "tautd.sock" in r.stderr(), open(os.path.join(dir, "tautd.sock")).read()), (1, True, "1"), "one line, and it stays: %s" % r.stderr().strip())
r = Run(one, os.path.join(path("text.txt"), "x"))
ends(r, 2, "a folder inside a file")
same(r.stderr().count("\n"), 1, "one line: %s" % r.stderr().strip())
dir = path("readonly")
os.mkdir(dir)
mounted = subprocess.run(["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro tmpfs "$1"', "sh", dir], capture_output=True).returncode == 0
shell = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro tmpfs "$1" && exec "$2" run "$3" --dir "$1"', "sh", dir, TAUT, one]
if not mounted:
    os.chmod(dir, 0o500)
    shell = [TAUT, "run", one, "--dir", dir]
if mounted or os.geteuid() != 0:
    v = subprocess.run(shell, capture_output=True, text=True, timeout=HANG_S)
    ok(v.returncode == 1 and v.stdout == "" and v.stderr.startswith("taut: ") and v.stderr.count("\n") == 1, "a folder that cannot be written: %d %s" % (v.returncode, v.stderr.strip()))
else:
    skip("a folder that cannot be written", "root may write everywhere here, and mount is not allowed")

# A tautd that meets the lock of one that is on its way out, and is then asked after when that one has left.
bin = path("bin")
os.mkdir(bin)
shutil.copy(TAUT, os.path.join(bin, "taut"))
os.symlink(os.path.abspath(EVALUATOR), os.path.join(bin, "taut-evaluator"))
with open(os.path.join(bin, "tautd"), "w") as f:
    f.write("""#!%s
import fcntl, os, subprocess, sys
real, dir, met = %r, sys.argv[sys.argv.index("--dir") + 1], os.path.join(os.path.dirname(os.path.abspath(__file__)), "met")
if os.path.exists(met):
    os.execv(real, [real] + sys.argv[1:])
with open(os.path.join(dir, "taut.lock"), "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    rc = subprocess.call([real] + sys.argv[1:], close_fds=False)
open(met, "w").write(str(rc))
sys.exit(rc)
""" % (sys.executable, os.path.abspath(TAUTD)))
os.chmod(os.path.join(bin, "tautd"), 0o755)
dir = path("leaving")
r = subprocess.run([os.path.join(bin, "taut"), "run", one, "--dir", dir], capture_output=True, text=True, timeout=HANG_S)
same((r.returncode, r.stderr, state(dir)), (0, "", "done"), "taut run whose tautd met one that was leaving starts another")
same(open(os.path.join(bin, "met")).read(), "1", "… which had met it")
os.unlink(os.path.join(bin, "met"))
r = subprocess.run([os.path.join(bin, "taut"), "jobs", "--dir", dir], capture_output=True, text=True, timeout=HANG_S)
same((r.returncode, r.stderr, "done" in r.stdout), (0, "", True), "so does a command that reads")
ok(os.path.exists(os.path.join(bin, "met")), "… having met it")
done()
