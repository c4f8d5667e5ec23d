"""Wrong command lines and wrong surroundings of the three programs: the exit status, one line that names the culprit, nothing on stdout, nothing made.
And right ones: --help of every verb, --json of every verb that prints, what a closed or full stdout does."""
import csv
import fcntl
import io
import json
import math
import os
import pty
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios

SRC = os.environ.get("TAUT_SRC", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import *

HANG = 120
TAUT, EVALUATOR = os.path.abspath(os.path.join(BUILD, "taut")), os.path.abspath(os.path.join(BUILD, "taut-evaluator"))
DAEMON = os.path.abspath(TAUTD)
top = tempfile.mkdtemp(prefix="taut-calls-")


def path(*names):
    return os.path.join(top, *names)


def write(name, data):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path(name)


cwd = path("empty")
os.mkdir(cwd)
BASE = {"PATH": os.environ["PATH"], "HOME": path("home"), "XDG_RUNTIME_DIR": path("run"), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
BASE.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
os.mkdir(path("home"))
os.mkdir(path("run"))


def call(program, *args, env=None, **more):
    e = dict(BASE)
    for k, v in (env or {}).items():
        e.pop(k, None)
        if v is not None:
            e[k] = v
    more.setdefault("stdin", subprocess.DEVNULL)
    more.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([program, *args], stderr=subprocess.PIPE, env=e, cwd=cwd, timeout=HANG, **more)


# ---- a search to ask about, and stores that are none ----

d = Daemon()
S = ["--socket", d.socket]
c = d.conn()
job = c.call("job.submit", job=custom_job(name="toy, the \"first\""))["id"]
e = Evaluator(c)
e.run()
c.call("job.submit", job=custom_job(name="new"))  # nobody measures for it
c.call("job.pause", id=2)
text = path("text.txt")
with open(text, "w") as f:
    f.write("to be or not to be " * 1000)
c.call("job.submit", job={"name": "lm", "data": {"train": text}, "space": "lm-tiny", "objectives": ["valid_bpb", "decode_ms@128", "weight_bytes"], "budget": {"evaluations": 3}})
lm = Evaluator(d.conn(), "lm", spaces=["lm"])
for i in range(3):
    lm.report(lm.next(10), metrics={"valid_bpb": 2.5 - 0.25 * i, "decode_ms@128": 0.125, "train_tokens_per_s": 3e5})

os.mkdir(path("nostore"))
write("file", "x")
write("foreign/taut.db", "")
os.unlink(path("foreign/taut.db"))
db = sqlite3.connect(path("foreign/taut.db"))
db.execute("create table t(x)")
db.commit()
db.close()
for name in ("newer", "corrupt", "short"):
    s = Daemon(dir=path(name))
    s.conn().call("job.submit", job=custom_job())
    s.end()
db = sqlite3.connect(path("newer/taut.db"))
db.execute("pragma user_version = 9999")
db.commit()
db.close()
with open(path("corrupt/taut.db"), "r+b") as f:
    f.seek(4096)
    f.write(os.urandom(3 * 4096))
with open(path("short/taut.db"), "r+b") as f:
    f.truncate(700)
write("text/taut.db", "This is a letter and no store of searches. " * 40)
os.makedirs(path("folder/taut.db"))
for name in ("stale.sock",):  # a socket that nobody listens on
    s = socket.socket(socket.AF_UNIX)
    s.bind(path(name))
    s.close()
deaf = socket.socket(socket.AF_UNIX)  # one that listens and is no tautd
deaf.bind(path("deaf.sock"))
deaf.listen(1)

good = json.dumps(custom_job())
write("good.json", good)
write("empty.json", "")
write("words.json", "a job, please")
write("array.json", "[1, 2]")
write("cut.json", good[:-5])
write("twice.json", '{"name": "a", "name": "b"}')
write("deep.json", "[" * 100000)
write("latin.json", good.replace("toy", "t\u00f6y").encode("latin-1"))
write("nul.json", good.replace("toy", "t\0y"))
write("big.json", '{"name": "' + "x" * (70 << 20) + '"}')
os.mkdir(path("dir.json"))
for name, more in (("key", {"bugdet": {}}), ("space", {"space": {"type": "custom", "knobs": {"x": {"flaot": [0, 1]}}}}), ("objective", {"objectives": ["f1", "f1"]}),
                   ("strategy", {"search": {"strategy": "nsga3"}}), ("budget", {"budget": {"evaluations": -1}})):
    write("%s.json" % name, json.dumps(custom_job(**more)))
write("data.json", json.dumps({"data": {"train": "no/such/text.txt"}, "space": "lm-tiny", "objectives": ["valid_bpb"]}))
write("metric.json", json.dumps({"data": {"train": path("file")}, "space": "lm-tiny", "objectives": ["valid_bpp"]}))
long = path("x" * 90, "y" * 90, "tautd.sock")
NOBODY = {"TAUT_SOCKET": path("none.sock")}

# ---- the table: program, arguments, exit status, what the line must name; surroundings ----

table = []


def bad(status, words, *args, program=TAUT, env=None):
    table.append((program, [str(a) for a in args], status, [words] if isinstance(words, str) else words, env))


# the command line
bad(2, ["no command 'forn'", "taut front"], "forn")
bad(2, "no command 'x'", "x")
bad(2, "no command ''", "")
bad(2, "--frobnicate", "--frobnicate")
bad(2, ["--objektives", "--objectives"], "front", "1", "--objektives", "a")
bad(2, "--nothing-like-it", "jobs", "--nothing-like-it")
bad(2, "-Z", "jobs", "-Z")
bad(2, "-Z", "jobs", "-qZ")
bad(2, ["--where", "value"], "front", "1", "--where")
bad(2, ["-n", "value"], "front", "1", "-n")
bad(2, ["--dir", "value"], "jobs", "--dir")
bad(2, "--plot", "front", "1", "--plot=yes")
bad(2, "--json", "jobs", "--json=1")
bad(2, ["xml", "table"], "front", "1", "--format", "xml")
bad(2, ["--format", "csv"], "front", "1", "--format=")
bad(2, "JOB", "front")
bad(2, "JOB", "status")
bad(2, "JOB", "pause", "--")
bad(2, "JOB.json", "submit")
bad(2, "'2'", "front", "1", "2")
bad(2, "'extra'", "jobs", "extra")
bad(2, "'--json'", "jobs", "--", "--json")
bad(2, ["--limit", "'0'"], "front", "1", "--limit", "0", *S)
bad(2, ["--limit", "'-3'"], "front", "1", "--limit", "-3", *S)
bad(2, ["--limit", "'many'"], "front", "1", "--limit", "many", *S)
bad(2, ["--limit", "'1.5'"], "front", "1", "--limit", "1.5", *S)
bad(2, ["--limit", "'nan'"], "front", "1", "-n", "nan", *S)
bad(2, ["--limit", "''"], "front", "1", "--limit=", *S)
bad(2, ["--evaluations", "'1e99'"], "resume", "1", "--evaluations", "1e99", *S)
bad(2, ["--evaluations", "'0'"], "resume", "1", "--evaluations", "0", *S)
bad(2, ["--hours", "'-1'"], "resume", "1", "--hours", "-1", *S)
bad(2, ["--hours", "'inf'"], "resume", "1", "--hours", "inf", *S)
bad(2, ["--state", "'lost'"], "jobs", "--state", "lost", *S)
bad(2, ["--threads", "'0'"], "run", path("good.json"), "--threads", "0")
bad(2, ["--device", "CUDA"], "run", path("good.json"), "--device", "cuda:99")
bad(2, ["--dir", "--socket"], "jobs", "--dir", path("nostore"), *S)
bad(2, "--dir is empty", "jobs", "--dir", "")
bad(2, "--socket is empty", "jobs", "--socket", "")
bad(2, "tcsh", "completion", "tcsh")
bad(2, "'forn'", "help", "forn")
bad(2, "--tokens is missing", "predict", "1")
bad(2, "--tokens", "predict", "1", "--tokens", "0")
bad(2, "--width", "predict", "1", "--tokens", "1e9", "--width", "0")

# filters and objectives
for f, words in (("f1 <", "where"), ("f1 << 2", "where"), ("< 2", "where"), ("f1 < 2 and", "where"), ("(f1 < 2", "where"), ("f1 < 2)", "where"), ("f1 2", "where"),
                 ("f1 < two", "'two'"), ("not", "where"), ("f1 < 2 f2 < 3", "where"), ("f1 < 2 & f2 < 3", "where"), ("(" * 5000, "where")):
    bad(2, words, "front", "1", "--where", f, *S)
bad(2, "f3", "front", "1", "--objectives", "f1,f3", *S)
bad(2, "objectives", "front", "1", "--objectives", "", *S)
bad(2, "objectives", "front", "1", "--objectives", "f1,,f2", *S)
bad(2, "'f1' stands twice", "front", "1", "--objectives", "f1,f1", *S)
bad(2, "objectives", "front", "1", "--objectives", ",".join("f%d" % i for i in range(40)), *S)
bad(2, ["valid_bbp", "did you mean 'valid_bpb'"], "front", "lm", "--objectives", "valid_bbp,params", *S)
bad(2, ["decode_ms", "@"], "front", "lm", "--objectives", "decode_ms,params", *S)
bad(2, ["where", "parms", "params"], "front", "lm", "--where", "parms < 5e6", *S)
bad(2, ["--plot", "two"], "front", "1", "--objectives", "f1", "--plot", *S)

# jobs and trials that are not there, states that do not allow it
for verb in ("status", "watch", "front", "pause", "resume", "cancel"):
    bad(4, ["nobody", "taut jobs"], verb, "nobody", *S)
bad(4, "99", "front", "99", *S)
bad(4, "0", "front", "0", *S)
bad(4, "99999999999999999999", "status", "99999999999999999999", *S)
bad(4, "-1", "status", *S, "--", "-1")
bad(4, "no job", "status", "", *S)
bad(4, "a?b", "status", "a\nb", *S)
bad(4, "job 2", "front", "2", *S)
bad(4, "filter", "front", "1", "--where", "f1 > 1e9", *S)
bad(1, "done", "pause", "1", *S)
bad(1, "budget", "resume", "1", *S)
bad(1, "budget", "resume", "1", "--evaluations", "5", *S)

# no daemon
bad(3, [path("none.sock"), "tautd --dir DIR --socket"], "jobs", "--socket", path("none.sock"))
bad(3, [path("none.sock"), "tautd --dir DIR"], "jobs", env=NOBODY)
bad(3, [path("run/taut/tautd.sock"), "tautd --dir DIR --socket " + path("run/taut/tautd.sock") + " &"], "jobs")
bad(3, "stale.sock", "jobs", "--socket", path("stale.sock"))
bad(3, "no/such/folder", "jobs", "--socket", path("no/such/folder/tautd.sock"))
bad(3, path("file"), "jobs", "--socket", path("file"))
bad(3, path("file"), "jobs", env={"TAUT_SOCKET": path("file")})
bad(3, "x.sock", "jobs", "--socket", path("file/x.sock"))
bad(3, path("nostore"), "jobs", "--socket", path("nostore"))
bad(2, "too long", "jobs", "--socket", long)
bad(2, "too long", "jobs", env={"TAUT_SOCKET": long})
bad(2, "too long", "jobs", env={"XDG_RUNTIME_DIR": path("z" * 120)})
bad(3, "tautd", "jobs", env={"XDG_RUNTIME_DIR": None})
bad(3, "tautd", "jobs", env={"XDG_RUNTIME_DIR": "relative"})
bad(3, "tautd", "jobs", env={"XDG_RUNTIME_DIR": "", "HOME": None})
bad(3, "tautd", "front", "1", "--json")
bad(3, "tautd", "submit", path("good.json"))
bad(3, "none.sock", "jobs", env=dict(NOBODY, LC_ALL="C", TERM="dumb"))
bad(3, "none.sock", "jobs", env=dict(NOBODY, LC_ALL="xx_YY.nonsense", TERM=None))

# stores
bad(4, [path("nostore"), "no store"], "jobs", "--dir", path("nostore"))
bad(4, ["missing", "no store"], "front", "1", "--dir", path("missing"))
bad(4, path("file"), "jobs", "--dir", path("file"))
bad(1, ["foreign/taut.db", "Taut"], "jobs", "--dir", path("foreign"))
bad(1, ["newer/taut.db", "9999"], "jobs", "--dir", path("newer"))
bad(1, "corrupt/taut.db", "jobs", "--dir", path("corrupt"))
bad(1, "short/taut.db", "jobs", "--dir", path("short"))
bad(1, "text/taut.db", "jobs", "--dir", path("text"))
bad(1, "folder/taut.db", "jobs", "--dir", path("folder"))
bad(2, path("file"), "submit", path("good.json"), "--dir", path("file"))
bad(2, path("file"), "submit", path("good.json"), "--dir", path("file/below"))
bad(2, path("file"), "run", path("good.json"), "--dir", path("file"))
bad(4, "no store", "jobs", "--dir", "/dev/null")
bad(4, "no store", "jobs", "--dir", path("n" * 300))

# job files
for verb in ("submit", "run"):
    at = S if verb == "submit" else ["--dir", path("never")]
    bad(2, ["missing.json", "no such file"], verb, path("missing.json"), *at)
    bad(2, "dir.json", verb, path("dir.json"), *at)
    bad(2, "empty.json", verb, path("empty.json"), *at)
    bad(2, "words.json", verb, path("words.json"), *at)
    bad(2, "array.json", verb, path("array.json"), *at)
    bad(2, "cut.json", verb, path("cut.json"), *at)
    bad(2, ["twice.json", "name"], verb, path("twice.json"), *at)
    bad(2, "deep.json", verb, path("deep.json"), *at)
    bad(2, ["latin.json", "UTF-8"], verb, path("latin.json"), *at)
    bad(2, "nul.json", verb, path("nul.json"), *at)
    bad(2, ["big.json", "MiB"], verb, path("big.json"), *at)
    bad(2, ["key.json", "bugdet", "budget"], verb, path("key.json"), *at)
    bad(2, ["space.json", "flaot"], verb, path("space.json"), *at)
    bad(2, ["objective.json", "f1"], verb, path("objective.json"), *at)
    bad(2, ["strategy.json", "nsga3"], verb, path("strategy.json"), *at)
    bad(2, ["budget.json", "evaluations"], verb, path("budget.json"), *at)
    bad(2, ["metric.json", "valid_bpp", "valid_bpb"], verb, path("metric.json"), *at)
    bad(2, ["data", "no/such/text.txt"], verb, path("data.json"), *at)
    bad(2, "no such file", verb, "", *at)
bad(2, "file/x.json", "submit", path("file/x.json"), *S)

# tautd
for words, args in (("--nothing", ["--nothing"]), ("--dir", ["--dir"]), ("--dir", ["--dir", ""]), ("--socket", ["--socket", ""]), ("extra", ["extra"]), ("-Z", ["-Z"]),
                    ("--heartbeat", ["--heartbeat", "soon"]), ("--lease", ["--lease", "-1"]), ("--lifeline", ["--lifeline", "x"]), ("--ready", ["--ready", "1.5"]),
                    ("--listen", ["--listen", "localhost:99"]), ("--key", ["--key", "f"]), ("--verify", ["--verify=1"])):
    bad(2, words, *args, program=DAEMON)
bad(2, "--dir", program=DAEMON, env={"HOME": None, "TAUT_DIR": None, "XDG_DATA_HOME": None})
bad(1, path("file"), "--dir", path("file"), program=DAEMON)
bad(1, path("file"), "--dir", path("file/below"), program=DAEMON)
bad(1, "foreign/taut.db", "--dir", path("foreign"), program=DAEMON)
bad(1, "newer/taut.db", "--dir", path("newer"), program=DAEMON)
bad(1, "corrupt/taut.db", "--dir", path("corrupt"), program=DAEMON)
bad(1, "too long", "--dir", path("nostore2"), "--socket", long, program=DAEMON)
bad(1, d.dir, "--dir", d.dir, program=DAEMON)
bad(1, d.dir, "--dir", d.dir, "--socket", path("other.sock"), program=DAEMON)
bad(1, d.socket, "--dir", path("nostore3"), "--socket", d.socket, program=DAEMON)
bad(1, "nostore", "--dir", path("nostore"), "--verify", program=DAEMON)
bad(1, "foreign", "--dir", path("foreign"), "--verify", program=DAEMON)

# taut-evaluator
for words, args in (("--nothing", ["--nothing"]), ("--threads", ["--threads", "0"]), ("--threads", ["--threads", "two"]), ("--threads", ["--threads", ""]),
                    ("--checkpoint", ["--checkpoint", "often"]), ("--checkpoint", ["--checkpoint", "-1"]), ("--checkpoint", ["--checkpoint", "nan"]), ("--socket", ["--socket"]),
                    ("--connect", ["--connect", "h:1"]), ("extra", ["extra"]), ("--lifeline", ["--lifeline", "x"]), ("--lifeline", ["--lifeline", ""]), ("CUDA", ["--device", "cuda:99"]),
                    ("'gpu'", ["--device", "gpu"]), ("--name", ["--name", ""]), ("too long", ["--socket", long])):
    bad(2, words, "--work", path("work"), *args, program=EVALUATOR)
bad(3, "none.sock", "--work", path("work"), "--socket", path("none.sock"), program=EVALUATOR)
bad(3, "none.sock", "--work", path("work"), program=EVALUATOR, env=NOBODY)
bad(1, path("file"), "--work", path("file/below"), "--socket", path("none.sock"), program=EVALUATOR)
bad(1, path("file"), "--work", path("file"), "--socket", path("none.sock"), program=EVALUATOR)

before = sorted(os.listdir(top))
for program, args, status, words, env in table:
    r = call(program, *args, env=env)
    err = r.stderr.decode(errors="replace")
    name = os.path.basename(program)
    shown = " ".join(a.replace(top, "…") if len(a) < 200 else a[:20] + "…" for a in args).replace("\n", "\\n")
    fine = (r.returncode == status and not r.stdout and err.startswith(name + ": ") and err.count("\n") == 1 and err.endswith("\n") and len(err) < 1500 and
            all(w in err for w in words))
    if not ok(fine, "%d: %s %s%s" % (status, name, shown, " " + " ".join("%s=%s" % kv for kv in env.items()).replace(top, "…")[:80] if env else "")):
        print("#   exit %d, stdout %r, stderr %r; wanted %s" % (r.returncode, r.stdout[-200:], err[:600], words), flush=True)
same(os.listdir(cwd), [], "nothing was made in the folder")
same([f for f in sorted(os.listdir(top)) if f not in before and f not in ("nostore2", "nostore3")], [], "nor beside it")
same([j["state"] for j in c.call("job.list")], ["done", "paused", "done"], "and nothing has changed in the store")

# ---- as a user who may not ----

locked = path("locked")
os.mkdir(locked)
Daemon(dir=locked).end()
os.chmod(locked, 0)
other = (lambda: os.setuid(65534)) if os.geteuid() == 0 else None
os.chmod(top, 0o755)
try:
    can = call(TAUT, "--version", preexec_fn=other).returncode == 0
except PermissionError:
    can = False
for words, status, args in ((["locked", "Permission denied"], 4, ["jobs", "--dir", locked]), (["locked", "Permission denied"], 1, ["submit", path("good.json"), "--dir", locked]),
                            (["locked/below", "Permission denied"], 1, ["submit", path("good.json"), "--dir", os.path.join(locked, "below")]),
                            ([d.socket, "Permission denied"], 3, ["jobs", *S])):
    shown = " ".join(args).replace(top, "…")
    if not can or (other is None and args[-1] == d.socket):
        skip(shown, "no other user to be")
        continue
    r = call(TAUT, *args, preexec_fn=other)
    err = r.stderr.decode()
    if not ok(r.returncode == status and not r.stdout and err.startswith("taut: ") and err.count("\n") == 1 and all(w in err for w in words), "%d: %s" % (status, shown)):
        print("#   exit %d, stderr %r" % (r.returncode, err), flush=True)
os.chmod(locked, 0o755)

# ---- right calls ----

def fine(name, *args, **more):
    r = call(TAUT, *args, **more)
    if not ok(r.returncode == 0 and not r.stderr, name):
        print("#   exit %d, stderr %r" % (r.returncode, r.stderr[-500:]), flush=True)
    return (r.stdout or b"").decode()


help_all = fine("taut help", "help")
same(fine("taut --help", "--help"), help_all, "is taut --help")
r = call(TAUT)
same((r.returncode, r.stdout, r.stderr.decode()), (2, b"", help_all), "taut alone: the same on stderr, exit 2")
verbs = [l.split()[0] for l in help_all.splitlines() if l.startswith("  ") and l[2:3] != " "]
ok(len(verbs) > 8 and "front" in verbs, "it names the commands")
completion = fine("taut completion bash", "completion", "bash")
for v in verbs:
    text = fine("taut %s --help" % v, v, "--help")
    same(fine("taut help %s" % v, "help", v), text, "is taut help %s" % v)
    block = completion.split("\n    %s)\n" % v)[1].split("-W '")[1].split("'")[0]
    missing = [o for o in block.split() if o not in text]
    ok(text.startswith("usage: taut %s" % v) and not missing and "--dir" in text and "--json" in text, "help of %s has its options %s" % (v, missing))
    ok(fine("taut %s -h, whatever else is there" % v, v, "x", "-h") == text, "and -h is the same")
r = call(TAUT, "front", "1", "--where", "f1 <", "--json", *S)
same((r.returncode, r.stdout, r.stderr.count(b"\n")), (2, b"", 1), "with --json an error is still one line on stderr")

rows = json.loads(fine("front --json", "front", "1", "--json", *S))
same(rows, c.call("job.front", id=1), "is what tautd says")
same(json.loads(fine("front --format json", "front", "1", "--format", "json", *S)), rows, "and the same")
same(json.loads(fine("front of a name", "front", 'toy, the "first"', "--json", *S)), rows, "and the same")
same(json.loads(fine("jobs --json", "jobs", "--json", *S)), c.call("job.list"), "is what tautd says")
same(json.loads(fine("jobs --state", "jobs", "--state", "cancelled", "--json", *S)), [], "none is an empty list")
g = json.loads(fine("status --json", "status", "1", "--json", *S))
same(g["id"], 1, "an object")
events = [json.loads(l) for l in fine("watch --json of a finished job", "watch", "1", "--from-start", "--json", *S).splitlines()]
same([v["seq"] for v in events], list(range(1, g["last_seq"] + 1)), "every event, a line each")
same(json.loads(fine("submit --json", "submit", path("good.json"), "--json", *S)), {"id": 4}, "an id")
same(fine("submit", "submit", path("good.json"), *S), "5\n", "the id alone")
for verb, state in (("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled")):
    same(json.loads(fine("%s --json" % verb, verb, "4", "--json", *S))["id"], 4, "an object with its id")
same(c.call("job.get", id=4)["state"], "cancelled", "which did what it says")

# ---- csv ----

text = fine("front --format csv", "front", "1", "--format", "csv", *S)
table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
same(table[0], ["trial", "arch_id", "f1", "f2"], "csv: trial, architecture, objectives")
same([[int(t), a, float(x), float(y)] for t, a, x, y in table[1:]], [[t["trial"], t["arch_id"], t["metrics"]["f1"], t["metrics"]["f2"]] for t in rows],
     "csv: every value, to the bit")
ok(text.count("\n") == len(table) and text.endswith("\n"), "csv: a line each")
table = list(csv.DictReader(io.StringIO(fine("all metrics of a language-model search", "front", "lm", "--format", "csv", *S)), strict=True))
lm_rows = c.call("job.front", id=3)
same([{k: float(v) for k, v in t.items() if k not in ("trial", "arch_id")} for t in table], [t["metrics"] for t in lm_rows], "csv: every metric")

# ---- numbers with their units, once ----

text = fine("status of a language-model search", "status", "lm", *S)
best = {l.split()[1]: " ".join(l.split()[2:]) for l in text.splitlines() if l.startswith("best")}
bytes = min(t["metrics"]["weight_bytes"] for t in c.call("trial.list", job=3))
ok(set(best) == {"valid_bpb", "decode_ms@128", "weight_bytes"} and re.fullmatch(r"2 bits/byte \(trial \d+\)", best["valid_bpb"]) and
   re.fullmatch(r"0\.1250 ms \(trial \d+\)", best["decode_ms@128"]) and re.fullmatch(r"[\d.]+ [kM]B \(trial \d+\)", best["weight_bytes"]), "each best value with its unit: %s" % best)
size = re.match(r"([\d.]+) ([kM])B", best["weight_bytes"])
ok(abs(float(size[1]) * {"k": 1e3, "M": 1e6}[size[2]] - bytes) < 0.006 * bytes, "a size in the unit that it names")

# ---- where the output goes ----

wide = fine("a table", "front", "1", *S)
ok("\033" not in wide, "no colours into a pipe")
plain = fine("LC_ALL=C", "front", "1", "--plot", *S, env={"LC_ALL": "C"})
ok(plain.isascii() and not fine("a plot", "front", "1", "--plot", *S).isascii(), "ASCII in the C locale")
for verb in (["jobs"], ["status", "1"], ["front", "1"], ["front", "1", "--json"], ["front", "1", "--format", "csv"], ["help"], ["help", "--man"], ["--version"], ["completion", "zsh"],
             ["front", "--help"], ["watch", "1"]):
    at = S if verb[0] in ("jobs", "status", "front", "watch") else []
    shown = " ".join(verb)
    with open("/dev/full", "wb") as full:
        r = call(TAUT, *verb, *at, stdout=full)
    ok(r.returncode == 1 and r.stderr.startswith(b"taut: standard output: ") and r.stderr.count(b"\n") == 1, "%s to a full disk: exit 1 and a line" % shown)
    r = call(TAUT, *verb, *at, stdout=None, preexec_fn=lambda: os.close(1))
    ok(r.returncode == 1 and r.stderr.startswith(b"taut: standard output: ") and r.stderr.count(b"\n") == 1, "%s with stdout closed: the same" % shown)
    a, b = os.pipe()
    os.close(a)
    with open(b, "wb") as gone:
        r = call(TAUT, *verb, *at, stdout=gone)
    same((r.returncode, r.stderr), (1, b""), "%s into a pipe that nobody reads: quietly" % shown)
for args in (["--from-start"], ["--from-start", "--json"], []):  # job 2 waits, and no line comes that would find out
    a, b = os.pipe()
    p = subprocess.Popen([TAUT, "watch", "2", *args, *S], stdin=subprocess.DEVNULL, stdout=b, stderr=subprocess.PIPE, cwd=cwd, env=BASE)
    os.close(b)
    if args:
        os.read(a, 10)
    os.close(a)
    same((p.wait(HANG), p.stderr.read()), (1, b""), "watch %s ends with its reader" % " ".join(args))
fine("stdin closed", "front", "1", *S, stdin=None, preexec_fn=lambda: os.close(0))
r = call(TAUT, "jobs", "--socket", path("none.sock"), preexec_fn=lambda: os.close(2))
same((r.returncode, r.stdout), (3, b""), "stderr closed: the exit status says it")


def on_terminal(columns, *args, env=None):
    """What taut prints on a terminal of that width, without carriage returns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    p = subprocess.Popen([TAUT, *args], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=cwd, env=dict(BASE, **(env or {})))
    os.close(slave)
    got = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        got += part
    os.close(master)
    return p.wait(HANG), got.decode().replace("\r\n", "\n")


def seen(text):
    return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", text)


rc, text = on_terminal(100, "front", "1", *S)
ok(rc == 0 and "\033[1m" in text, "colours on a terminal")
for name, args, env in (("--no-color", ["--no-color"], {}), ("NO_COLOR", [], {"NO_COLOR": "1"}), ("TERM=dumb", [], {"TERM": "dumb"})):
    rc, text = on_terminal(100, "front", "1", *args, *S, env=env)
    ok(rc == 0 and "\033[" not in text, "none with %s" % name)
for columns in (40, 80, 120):
    for verb in (["front", "1", "--plot"], ["front", "1"], ["front", "lm", "--plot"], ["jobs"]):
        if columns == 40 and verb != ["front", "1", "--plot"]:
            continue
        rc, text = on_terminal(columns, *verb, *S)
        longest = max((len(l) for l in seen(text).split("\n") if not l.startswith("arch: ")), default=0)  # what the signs mean is prose
        if not ok(rc == 0 and 0 < longest <= columns, "%s fits %d columns: %d" % (" ".join(verb), columns, longest)):
            print("# " + seen(text).replace("\n", "\n# "), flush=True)

# how sure the front is: two measurements whose intervals overlap, one far off
doubt = c.call("job.submit", job=custom_job(name="doubt", budget={"evaluations": 3}))["id"]
for v, low, high in ((1.0, 0.8, 1.2), (1.1, 0.9, 1.3), (9.0, 8.9, 9.1)):
    l = e.next(10)
    while l["job"] != doubt:  # other jobs of this file wait too
        e.report(l)
        l = e.next(10)
    e.report(l, metrics={"f1": {"median": v, "low": low, "high": high, "n": 9}, "f2": 1.0})


def front(*args):
    return subprocess.run([TAUT, "front", "doubt", *args, *S], capture_output=True, text=True).stdout


rows = json.loads(front("--uncertain", "--json"))
p = 0.5 * math.erfc(-0.1 / math.hypot(0.2, 0.2) * 1.959963984540054 / math.sqrt(2))
ok([r["on_front"] for r in rows] == [True, False] and abs(rows[0]["probability"] - p) < 0.06 and abs(rows[1]["probability"] - (1 - p)) < 0.06,
   "two in doubt, as often as the normal distribution says (%.2f), the third left out: %s" % (p, [r["probability"] for r in rows]))
text = front("--uncertain")
ok(re.search(r"sure", text) and re.search(r"^ *\d+ .* %.0f %%" % (100 * rows[0]["probability"]), text, re.M) and "~%.0f %%" % (100 * rows[1]["probability"]) in text,
   "the table says how sure, and marks who is off the front by the medians")
same(front("--uncertain", "--format", "csv").split("\n")[0].split(",")[:4], ["trial", "arch_id", "probability", "on_front"], "so does csv")
ok("probability" not in front("--json") and "sure" not in front(), "not unless asked")
c.close()
d.end()
shutil.rmtree(top)
done()
