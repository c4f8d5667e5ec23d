"""docs/wire.md: every example is played, and the replies have the shape that it shows. examples/evaluator.py: a whole search."""
import json
import os
import subprocess
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import *


def shape(v, want):
    """None, or where v is not built like want."""
    if isinstance(want, dict):
        if "…" in want:
            return None
        if not isinstance(v, dict) or set(v) != set(want):
            return "keys %s, not %s" % (sorted(v) if isinstance(v, dict) else v, sorted(want))
        for k in want:
            s = shape(v[k], want[k])
            if s:
                return "%s: %s" % (k, s)
        return None
    if isinstance(want, list):
        if not isinstance(v, list) or len(v) != len(want):
            return "%r, not %d items" % (v, len(want))
        for a, b in zip(v, want):
            if shape(a, b):
                return shape(a, b)
        return None
    if isinstance(want, (int, float)) and not isinstance(want, bool):
        return None if isinstance(v, (int, float)) else "%r is no number" % v
    return None if type(v) is type(want) else "%r is not like %r" % (v, want)


d = Daemon()
c = d.conn()
with open(os.path.join(SRC, "docs/wire.md"), encoding="utf-8") as f:
    lines = [l.strip()[4:] for l in f if l.startswith(("    --> ", "    <-- "))]
methods = set()
for l in lines:
    v = json.loads(l)
    if "method" in v and "id" in v:
        c.raw(l + "\n")
        methods.add(v["method"])
        asked = v["method"]
    else:
        got = c.line()
        while v.get("method") is None and got.get("method"):  # events of the watch
            got = c.line()
        if "error" in v:
            same(got.get("error"), v["error"], "%s: the error as written" % asked)
        else:
            s = shape(got, v)
            ok(s is None, "%s: the reply as written%s" % (asked, ": " + s if s else ""))
with open(os.path.join(SRC, "wire/methods.def")) as f:
    names = {l.split('"')[1] for l in f if l.startswith("WIRE_METHOD")}
with open(os.path.join(SRC, "docs/wire.md"), encoding="utf-8") as f:
    text = f.read()
for n in sorted(names):
    ok(n in methods or n in text, "%s is described" % n)
c.close()

c = d.conn()
with open(os.path.join(SRC, "examples/custom.json")) as f:
    job = c.call("job.submit", job=json.load(f))["id"]
c.call("job.cancel", id=1)
p = subprocess.Popen([sys.executable, os.path.join(SRC, "examples/evaluator.py"), d.socket])
c.call("job.watch", id=job, after=0)
end = c.until(lambda p: p["type"] == "state" and p["state"] in ("done", "failed"))
same((end["state"], end["reason"]), ("done", "budget used up: 100 evaluations"), "the ten lines of Python evaluate a whole search")
front = c.call("job.front", id=job)
ok(len(front) > 2, "and it has a front")
best = c.call("job.get", id=job)["best"]
ok(best["error"]["value"] < 0.02 and best["speed"]["value"] == 100, "which is near the optimum")
p.kill()
p.wait()
same(d.end(), 0, "tautd leaves with 0")
done()
