"""What `make install` puts where, and that it works from there: programs that find each other, manual pages, completion, units, the extension. Whether
the tarball would have every file that git has."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

SRC = os.environ.get("TAUT_SRC", ".")
BUILD = os.environ.get("TAUT_BUILD", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import *

HANG = 900
ENV = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "TAUT_SOCKET")}


def run(*args, **more):
    return subprocess.run(args, capture_output=True, text=True, env=ENV, timeout=HANG, **more)


def make(*args):
    return run("make", "-s", "-C", BUILD, *args)


def files(top):
    return sorted(os.path.relpath(os.path.join(d, f), top) for d, _, names in os.walk(top) for f in names)


top = tempfile.mkdtemp(prefix="taut-install-")
dest = os.path.join(top, "dest")
where = {v: os.path.join(dest, "inst", v) for v in ("bin", "lib", "share")}
r = make("install", "DESTDIR=" + dest, "prefix=/inst")
ok(r.returncode == 0, "make install with DESTDIR%s" % ("" if r.returncode == 0 else ": " + r.stderr[-500:]))
docs = sorted(f for f in os.listdir(os.path.join(SRC, "docs")) if f.endswith(".md"))
examples = sorted(f for f in os.listdir(os.path.join(SRC, "examples")) if "." in f)
want = ["bin/taut", "bin/taut-evaluator", "bin/tautd", "lib/sysusers.d/taut.conf", "lib/systemd/system/taut-evaluator@.service",
        "lib/systemd/system/tautd.service", "lib/systemd/user/taut-evaluator@.service", "lib/systemd/user/tautd.service", "lib/taut/taut_pareto.so",
        "share/bash-completion/completions/taut", "share/doc/taut/README.md", "share/fish/vendor_completions.d/taut.fish", "share/man/man1/taut-evaluator.1",
        "share/man/man1/taut.1", "share/man/man8/tautd.8", "share/zsh/site-functions/_taut"]
want += ["share/doc/taut/" + f for f in docs] + ["share/doc/taut/examples/" + f for f in examples]
same(files(os.path.join(dest, "inst")), sorted(want), "what is installed")
same(os.listdir(dest), ["inst"], "and nothing outside the prefix")

# ---- the programs ----

version = re.search(r"^#define PACKAGE_VERSION_TEXT \"(.*)\"", open(os.path.join(BUILD, "config.h")).read(), re.M).group(1)
taut = os.path.join(where["bin"], "taut")
for p in ("taut", "tautd", "taut-evaluator"):
    r = run(os.path.join(where["bin"], p), "--version")
    ok(r.returncode == 0 and (" " + version) in r.stdout and r.stdout.count("\n") == 1 and not r.stderr, "%s --version" % p)
text = os.path.join(top, "text.txt")
with open(text, "w") as f:
    f.write("".join("It was the %d. of many days, and the %d. night was no shorter.\n" % (i, 7 * i % 31) for i in range(4000)))
job = os.path.join(top, "job.json")
with open(job, "w") as f:
    json.dump({"name": "one", "data": {"train": text, "context": 32}, "space": "lm-tiny", "objectives": ["valid_bpb", "params"],
               "train": {"batch": 4}, "fidelity": {"tokens": 2000}, "search": {"population": 2}, "budget": {"evaluations": 1}}, f)
store = os.path.join(top, "store")
r = run(taut, "run", job, "--dir", store, "--json", cwd=top)
end = json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else {}
same((r.returncode, end.get("state"), len(end.get("front", []))), (0, "done", 1), "a search with the installed programs%s" % r.stderr[-300:])

# ---- the extension ----

so = os.path.join(where["lib"], "taut/taut_pareto.so")
if "asan" in run("ldd", so).stdout:
    skip("the extension loads", "a library with sanitizers does not load into a program without")
elif not shutil.which("sqlite3"):
    skip("the extension loads", "no sqlite3 here")
else:
    r = run("sqlite3", ":memory:", ".load " + so[:-3], "create table t(a, b)", "insert into t values (1, 3), (2, 2), (3, 1), (3, 3)",
            "select count(*) from pareto('select a, b from t', 'a, b')")
    same((r.stdout, r.stderr), ("3\n", ""), "the extension loads, and finds a front")

# ---- manual pages ----

for page in ("man1/taut.1", "man1/taut-evaluator.1", "man8/tautd.8"):
    path = os.path.join(where["share"], "man", page)
    if not shutil.which("groff"):
        skip("%s renders" % page, "no groff here")
        continue
    r = run("groff", "-man", "-Tutf8", "-ww", "-P-cbou", path)
    ok(r.returncode == 0 and not r.stderr and "SYNOPSIS" in r.stdout, "%s renders without warnings%s" % (page, r.stderr[:300]))
man = {p: open(os.path.join(where["share"], "man", p)).read().replace("\\-", "-") for p in ("man1/taut.1", "man1/taut-evaluator.1", "man8/tautd.8")}
for program, page in (("tautd", "man8/tautd.8"), ("taut-evaluator", "man1/taut-evaluator.1")):
    options = set(re.findall(r"--[a-z][a-z-]+", run(os.path.join(where["bin"], program), "--help").stdout))
    same(sorted(o for o in options if o not in man[page]), [], "%s has every option of --help" % page)
verbs = re.findall(r"^  ([a-z]+) +", run(taut, "help").stdout, re.M)
ok(len(verbs) > 8 and all("taut %s" % v in man["man1/taut.1"] for v in verbs), "taut.1 has every command")

# ---- completion ----

bash = os.path.join(where["share"], "bash-completion/completions/taut")


def complete(*words):
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taut; printf "%s\\n" "${COMPREPLY[@]}"'
    return run("bash", "-c", script, "bash", bash, *words, cwd=top).stdout.split("\n")[:-1]


if not shutil.which("bash"):
    skip("bash completion", "no bash here")
else:
    r = run("bash", "-n", bash)
    same((r.returncode, r.stderr), (0, ""), "bash reads its completion")
    with open(os.path.join(top, "my job.json"), "w") as f:
        f.write("{}")
    for words, want in ((("taut", "fr"), ["front"]), (("taut", "front", "--obj"), ["--objectives"]), (("taut", "front", "1", "--format", "c"), ["csv"]),
                        (("taut", "front", "1", "--format", "=", "j"), ["json"]), (("taut", "front", "-f", ""), ["table", "csv", "json"]),
                        (("taut", "front", "1", "--format", "="), ["table", "csv", "json"]), (("taut", "help", "wat"), ["watch"]), (("taut", "export", "1", "--family", "lf"), ["lfm2"]),
                        (("taut", "completion", "z"), ["zsh"]), (("taut", "submit", "my"), ["my job.json"]), (("taut", "jobs", "--dir", "st"), ["store"]),
                        (("taut", "jobs", "--dir", "tex"), []), (("taut", "nonsense", ""), [])):
        got = [w for w in complete(*words) if w]
        same(got, want, "completion of %s" % " ".join(words))
    same(sorted(w for w in complete("taut", "") if not w.startswith("-")), sorted(verbs), "every command completes")
for shell, file in (("zsh", "share/zsh/site-functions/_taut"), ("fish", "share/fish/vendor_completions.d/taut.fish")):
    if not shutil.which(shell):
        skip("%s reads its completion" % shell, "no %s here" % shell)
        continue
    r = run(shell, "-n", os.path.join(dest, "inst", file))
    same((r.returncode, r.stderr), (0, ""), "%s reads its completion" % shell)

# ---- units ----

units = os.path.join(where["lib"], "systemd")
starts = [l for u in files(units) for l in open(os.path.join(units, u)) if l.startswith("ExecStart=")]
ok(len(starts) == 4 and all("@" not in l.split()[0] and l.split()[0].endswith(("/bin/tautd", "/bin/taut-evaluator")) for l in starts), "units start the programs by their paths")
if shutil.which("systemd-analyze"):
    flat = os.path.join(top, "units")
    for kind in ("system", "user"):
        d = os.path.join(flat, kind)
        os.makedirs(d)
        for u in ("tautd.service", "taut-evaluator@.service"):
            with open(os.path.join(units, kind, u)) as f, open(os.path.join(d, u.replace("@", "@cpu")), "w") as g:
                g.write(re.sub(r"^ExecStart=\S*/bin/", "ExecStart=%s/" % where["bin"], f.read(), flags=re.M))
        ENV.update(XDG_RUNTIME_DIR=top, SYSTEMD_UNIT_PATH=d + ":")
        r = run("systemd-analyze", "--" + kind, "verify", "--man=no", *(os.path.join(d, u) for u in sorted(os.listdir(d))))
        same((r.returncode, r.stderr), (0, ""), "systemd finds nothing wrong with the %s's units" % kind)
    ENV.pop("SYSTEMD_UNIT_PATH")
else:
    skip("units", "no systemd here")

# ---- and away again; the tarball ----

r = make("uninstall", "DESTDIR=" + dest, "prefix=/inst")
same((r.returncode, files(dest)), (0, []), "make uninstall takes all of it away")
r = shutil.which("git") and run("git", "-C", SRC, "ls-files")
if not r or r.returncode or not os.path.exists(os.path.join(SRC, ".git")):
    skip("the tarball has every file", "no git, or not a checkout")
else:
    dist = os.path.join(top, "tarball")
    m = make("distdir", "distdir=" + dist, "am__remove_distdir=:")
    missing = sorted(set(r.stdout.split()) - set(files(dist)))
    same((m.returncode, missing), (0, []), "the tarball would have every file that git has%s" % m.stderr[-300:])
r = run("sh", os.path.join(os.path.abspath(SRC), "configure"), "-q", "--with-cuda=/no/such/cuda", cwd=top)
ok(r.returncode != 0 and "no nvcc in /no/such/cuda/bin" in r.stderr, "--with-cuda of a folder without nvcc is refused")
shutil.rmtree(top)
done()
