"""taut run on a disk that fills up under it: it stops with a clear line, and goes on by itself once there is room; nothing fails, nothing is lost."""
import os
import signal
import subprocess
import sys

if "--inside" not in sys.argv:
    # A small disk of one's own: a mount that nobody else sees.
    for how in (["unshare", "-rm"], ["unshare", "-m"]):
        if subprocess.run([*how, "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"], capture_output=True).returncode == 0:
            os.execvp(how[0], [*how, sys.executable, os.path.abspath(__file__), "--inside"])
    print("no small disk can be mounted here: neither user namespaces nor root")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

FULL = "the disk is full, or cannot be written: going on as soon as there is room"
home = folder()
make_text(os.path.join(home, "text.txt"), 6000)
job = write_json(os.path.join(home, "job.json"), lm_job("text.txt", name="full", fidelity={"tokens": 400000}, budget={"evaluations": 8}))
calm = os.path.join(home, "calm")
r = Run(job, calm)
same((r.wait(), r.stderr()), (0, ""), "an undisturbed run")
want = trials(calm)

disk = os.path.join(home, "disk")
os.mkdir(disk)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
atexit.register(subprocess.run, ["umount", "-l", disk])
dir = os.path.join(disk, "search")
ballast = os.path.join(disk, "ballast")


def fill():
    """To the last byte."""
    f = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    size = 1 << 16
    while size:
        try:
            os.write(f, b"x" * size)
        except OSError:
            size //= 2
    os.close(f)


def busy():
    return rows(dir, "SELECT count(*) FROM event WHERE type = 'reported'")[0][0]


def told(run, words):
    return wait_until(lambda: words in run.stdout() or not run.alive(), HANG_S) and words in run.stdout()


def stops(run, what):
    """Fills the disk; how many were reported by then."""
    fill()
    ok(told(run, FULL), "%s: taut run says that the disk is full" % what)
    fill()  # what was given back meanwhile
    c = Conn(os.path.join(dir, "tautd.sock"))
    g = c.call("job.get", id=1)
    same((run.alive(), g["trials"]["failed"], g["evaluations"]), (True, 0, busy()), "%s: it waits, nothing has failed, reading goes on" % what)
    c.close()
    return g["evaluations"]


run = Run(job, dir)
wait_until(lambda: os.path.exists(os.path.join(dir, "taut.db")) and rows(dir, "SELECT count(*) FROM sqlite_master WHERE name = 'event'")[0][0] and
           rows(dir, "SELECT count(*) FROM event WHERE type = 'leased'")[0][0], HANG_S)
stood = stops(run, "full during the first trial")
os.unlink(ballast)
ok(told(run, "there is room again: going on"), "with room it goes on by itself, and says so")
wait_until(lambda: busy() >= stood + 1, HANG_S)
same(run.stdout().count(FULL), 1, "one line for one full disk")
stood = stops(run, "full later")
run.signal(signal.SIGINT)
same(run.wait(), 130, "Ctrl-C with nowhere to write to")
ok(not processes(dir), "nobody is left behind")
run = Run(job, dir)
ok(told(run, FULL) or (not run.alive() and run.stderr().count("\n") == 1), "the same command on the full disk: %s" % (run.stderr().strip() or "waits"))
os.unlink(ballast)
if not run.alive():
    run = Run(job, dir)
same((run.wait(), run.stderr()), (0, ""), "to its end")
same(trials(dir), want, "the trials are the undisturbed run's: architectures, losses, weights")
check_store(dir, "full")
same(weights_as_recorded(dir), [], "the files of weights are what the store says")
same([f for f in os.listdir(os.path.join(dir, "work")) if ".tmp" in f], [], "no half-written file is left")

# From the start on a full disk.
dir = os.path.join(disk, "none")
fill()
v = taut("run", job, "--dir", dir)
ok(v.returncode == 1 and v.stdout == "" and v.stderr.startswith("taut: ") and v.stderr.count("\n") == 1 and "full" in v.stderr, "a search begun on a full disk: %d %s" % (v.returncode, v.stderr.strip()))
os.unlink(ballast)
v = taut("run", job, "--dir", dir)
same((v.returncode, v.stderr), (0, ""), "begins when there is room")
done()
