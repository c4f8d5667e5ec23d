"""A search with proxies: scored before training, searched by, filtered by, shown; the same numbers as taut score's."""
import os
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

home = folder()
text = os.path.join(home, "text.txt")
make_text(text, 6000)
dir = os.path.join(home, "store")
NAMES = ["decoder_params", "snip", "naswot", "zico"]
job = write_json(os.path.join(home, "job.json"), lm_job(
    "text.txt", objectives=["valid_bpb", "params", "proxy.synflow"], proxies=NAMES, constraints=[{"metric": "proxy.params", "min": 1000}, {"metric": "proxy.snip", "min": 0.001}]))

r = Run(job, dir)
same(r.wait(), 0, "a search with proxies ends well")
trials = dict(rows(dir, "SELECT id, arch FROM trial WHERE state = 'ok'"))
same(len(trials), 8, "all of its trials")
metrics = {t: dict(rows(dir, "SELECT name, median FROM metric WHERE trial = ? AND name LIKE 'proxy.%'", t)) for t in trials}
archs = {t: rows(dir, "SELECT canonical FROM arch WHERE id = ?", a)[0][0] for t, a in trials.items()}
has_ffn = {t: '"swiglu"' in a for t, a in archs.items()}
measured = ["proxy." + p for p in ("snip", "zico", "synflow")]
ok(all(set(measured) <= set(m) for m in metrics.values()), "each trial has them, an objective among them")
ok(all(("proxy.naswot" in metrics[t]) == has_ffn[t] for t in trials) and len(set(has_ffn.values())) == 2, "what does not apply is left out, and is no failure")
for t in list(trials)[:3]:
    out = taut("score", str(t), "--dir", dir, "--data", text, "--seed", "5", "--proxies", "snip,zico,synflow,decoder_params", "--json").stdout
    same(json.loads(out)["metrics"], {k: metrics[t][k] for k in json.loads(out)["metrics"]}, "trial %d: taut score says the same" % t)

most = sorted(m["proxy.snip"] for m in metrics.values())[len(trials) // 2]
rows_of = json.loads(taut("front", "1", "--dir", dir, "--where", "proxy.snip >= %r and proxy.decoder_params > 0" % most, "--json").stdout)
shown = {x["trial"] for x in (rows_of if isinstance(rows_of, list) else rows_of["rows"])}
ok(shown and all(metrics[t]["proxy.snip"] >= most for t in shown), "the front of those with enough")
bad = taut("front", "1", "--dir", dir, "--where", "proxy.snap > 1")
ok(bad.returncode == 2 and "proxy.snip" in bad.stderr, "a proxy that nobody knows, with the nearest: %s" % bad.stderr.strip())
t = min(trials)
out = taut("show", str(t), "--dir", dir).stdout
ok(all(k in out for k in measured), "taut show shows them")

again = os.path.join(home, "again")
same(Run(job, again).wait(), 0, "the same search once more")
twice = {t: dict(rows(again, "SELECT name, median FROM metric WHERE trial = ? AND name LIKE 'proxy.%'", t)) for t in trials}
same(twice, metrics, "the same scores, to the bit")
check_store(dir, "the store")
done()
