"""How taut-evaluator starts, or says why not: one line, and the exit status of docs/cli.md."""
import os
import socket
import subprocess
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
from taut_wire import ok, same, done
from fake import *


def run(*args, env=None):
    p = subprocess.run([EVALUATOR, *args], capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL, cwd=dir,
                       env=dict(os.environ, **(env or {})))
    return p.returncode, p.stdout, p.stderr


def refused(want, words, *args, env=None):
    rc, out, err = run(*args, env=env)
    same((rc, out), (want, ""), "exit %d: taut-evaluator %s" % (want, " ".join(a if len(a) < 40 else a[:20] + "…" for a in args)))
    ok(err.count("\n") == 1 and err.startswith("taut-evaluator: ") and all(w in err for w in words), "in one line: %s" % err.strip()[:200])


free = path("nobody.sock")
for args, words in [
        (["--nonsense"], ["--nonsense", "no such option"]), (["-x"], ["no such option"]), (["word"], ["word", "takes no arguments"]),
        (["--socket"], ["--socket", "needs a value"]), (["--threads", "0"], ["--threads"]), (["--threads", "-1"], ["--threads"]),
        (["--threads", "two"], ["--threads"]), (["--threads", "2x"], ["--threads"]), (["--threads", ""], ["--threads"]), (["--threads", "99999999999999999999"], ["--threads"]),
        (["--checkpoint", "soon"], ["--checkpoint"]), (["--checkpoint", "-1"], ["--checkpoint"]), (["--checkpoint", ""], ["--checkpoint"]),
        (["--checkpoint", "nan"], ["--checkpoint"]), (["--lifeline", "-1"], ["--lifeline"]), (["--lifeline", ""], ["--lifeline"]),
        (["--lifeline", "77"], ["--lifeline", "open"]), (["--name", ""], ["--name"]), (["--name", "n" * 129], ["--name"]),
        (["--device", "gpu"], ["gpu"]), (["--device", ""], ["device"]), (["--device", "cpu:sse"], ["cpu:sse"]),
        (["--connect", "host:1"], ["--connect", "not built yet"]), (["--key", "k"], ["--key", "not built yet"])]:
    refused(2, words, "--socket", free, *args) if args[0] != "--socket" else refused(2, words, *args)
same(os.path.exists(path("taut-work")), False, "nothing was made for a call that is wrong")

put("file", "")
refused(1, [path("file"), "cannot be made"], "--socket", free, "--work", path("file") + "/work")
refused(1, [path("file"), "is not a folder"], "--socket", free, "--work", path("file"))
refused(1, [path("file"), "lock files"], "--socket", free, "--work", path("w"), env={"TAUT_LOCKS": path("file")})
refused(3, [free, "nobody listens; start one: tautd --dir DIR --socket PATH"], "--socket", free, "--work", path("w"))
s = socket.socket(socket.AF_UNIX)
s.bind(path("dead.sock"))
refused(3, [path("dead.sock"), "nobody listens; start one: tautd"], "--socket", path("dead.sock"), "--work", path("w"))
refused(2, ["too long"], "--socket", path("s" * 200), "--work", path("w"))
same(os.path.exists(path("w")), False, "nor where there is no tautd")
refused(3, ["tautd.sock"], "--work", path("w"), env={"XDG_RUNTIME_DIR": path("run"), "TAUT_SOCKET": ""})

rc, out, err = run("--help")
ok(rc == 0 and err == "" and all(o in out for o in ("--socket", "--device", "--threads", "--work", "--name", "--checkpoint", "--lifeline")), "--help names its options")
rc, out, err = run("--version")
ok(rc == 0 and err == "" and out.startswith("taut-evaluator "), "--version")

# Whoever is on the socket does not speak our language, or does not want us.
f = Fake()
f.answer = lambda method, p: {"code": -32602, "message": "name: taken"}
refused(1, ["name: taken"], "--socket", f.path, "--work", path("w"))
f.answer = lambda method, p: None
rc, out, err = run("--socket", f.path, "--work", path("w"))
ok(rc == 1 and err.count("\n") == 1 and "no tautd" in err, "an answer that is none: %s" % err.strip())
finish()
done()
