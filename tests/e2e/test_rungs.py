"""A search on three rungs that prunes, run to its end; then the same one while its programs are killed (SIGKILL) all the time; and a search of the top rung alone, whose
results must be the same bits."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

KILLS, EVALUATIONS, TOKENS = 20, 24, 360000
home = folder()
make_text(os.path.join(home, "text.txt"))
space = {"type": "lm", "depth": [1, 3], "width": [16, 32, 64], "mixer": {"attention": {"heads": [1, 2], "kv_ratio": [1, 2], "head_dim": [8]}, "none": {}},
         "ffn": {"swiglu": {"ratio": [1, 2]}, "none": {}}}
spec = lm_job("text.txt", name="rungs", space=space, objectives=["valid_bpb", "params"], train={"batch": 4}, fidelity={"tokens": TOKENS, "rungs": 3},
              search={"population": 6}, budget={"evaluations": EVALUATIONS}, audit=0)
job = write_json(os.path.join(home, "job.json"), spec)
calm, rough, top = (os.path.join(home, n) for n in ("calm", "rough", "top"))


def story(dir):
    """What was promoted and what was pruned, in order; what each trial was reported with on each rung; its weights. Nothing that depends on the clock."""
    moves = rows(dir, "SELECT type, json_extract(body, '$.trial'), json_extract(body, '$.rung'), json_extract(body, '$.tokens'), json_extract(body, '$.low') FROM event"
                      " WHERE job = 1 AND type IN ('promoted', 'pruned') ORDER BY seq")
    results = rows(dir, "SELECT trial, metric.rung, name, median FROM metric WHERE name IN ('valid_bpb', 'valid_loss') ORDER BY 1, 2, 3")
    state = rows(dir, "SELECT id, arch, rung, state FROM trial ORDER BY id")
    curves = rows(dir, "SELECT trial, rung, tokens, loss FROM curve ORDER BY 1, 2, 3")
    weights = [(t, tensors(p)) for t, p in rows(dir, "SELECT trial, path FROM checkpoint JOIN trial ON trial.id = checkpoint.trial WHERE state = 'ok' ORDER BY 1")]
    return moves, results, state, curves, weights


r = Run(job, calm, "--threads", "1")
same((r.wait(), r.stderr()), (0, ""), "an undisturbed run")
want = story(calm)
moves = [m[0] for m in want[0]]
ok(moves.count("promoted") >= 8 and moves.count("pruned") >= 1, "%d promotions, %d trials pruned" % (moves.count("promoted"), moves.count("pruned")))
check = verify(calm)
same((check.returncode, check.stderr), (0, ""), "tables and events agree")
left = os.listdir(os.path.join(calm, "work"))
ok(not [n for n in left if ".stable." in n] and [n for n in left if ".rung2." in n], "what promotions would go on from is removed with the search's end, weights stay: %s" % left[:4])

rnd = random.Random(5)
events, kills = Events(rough), 0
run = Run(job, rough, "--threads", "1")
end = time.monotonic() + HANG_S
while time.monotonic() < end:
    if not run.alive():
        if run.p.returncode == 0:
            break
        run = Run(job, rough, "--threads", "1")
    new = events.new()
    if kills < KILLS and (new or events.leased()) and rnd.random() < 0.3:
        time.sleep(rnd.random() * 0.1)  # anywhere in what follows
        here = [(p, name) for p, name in processes(rough)]
        if here:
            try:
                os.kill(rnd.choice(here)[0], signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
    time.sleep(0.005)
events.close()
same(run.wait(), 0, "the run that was killed %d times comes to its end" % kills)
ok(kills == KILLS, "%d times a program was killed" % kills)
got = story(rough)
for i, what in enumerate(("the same promotions and the same trials pruned, in the same order", "the same results on every rung", "the same trials in the same states",
                          "the same curves", "the same weights")):
    if not ok(got[i] == want[i], what):
        print("#   got  %s\n#   want %s" % (got[i][:40], want[i][:40]))
check = verify(rough)
same((check.returncode, check.stderr), (0, ""), "tables and events agree")
same(rows(rough, "SELECT count(*) FROM lease"), [(0,)], "nothing is stuck")

# The top rung is the training without rungs.
best = rows(calm, "SELECT trial.id, arch, median FROM trial JOIN metric ON metric.trial = trial.id AND metric.rung = trial.rung"
                  " WHERE trial.rung = 2 AND state = 'ok' AND name = 'valid_loss' ORDER BY median LIMIT 1")[0]
weights = rows(calm, "SELECT path FROM checkpoint WHERE trial = ?", best[0])[0][0]
arch = os.path.join(home, "arch.json")
with open(arch, "w") as f:
    f.write(rows(calm, "SELECT canonical FROM arch WHERE id = ?", best[1])[0][0])
saved = os.path.join(home, "by-hand.safetensors")
r = taut("train", arch, "--data", os.path.join(home, "text.txt"), "--tokens", str(TOKENS), "--batch", "4", "--seed", str(spec["seed"]), "--threads", "1", "--json", "--save", saved)
last = json.loads(r.stdout.strip().split("\n")[-1]) if r.returncode == 0 else {}
same((r.returncode, last.get("valid_loss"), os.path.exists(saved) and tensors(saved)), (0, best[2], tensors(weights)), "taut train to the top rung's tokens gives its loss and weights: %s" % r.stderr.strip())

# Extended, it promotes trials whose trunks are gone: trained from their start.
last = rows(calm, "SELECT max(seq) FROM event WHERE job = 1")[0][0]
r = Run(write_json(job, dict(spec, budget={"evaluations": EVALUATIONS + 12})), calm, "--threads", "1")
same((r.wait(), r.stderr()), (0, ""), "a search that is extended goes on")
again = [t for t, in rows(calm, "SELECT json_extract(body, '$.trial') FROM event WHERE job = 1 AND seq > ? AND type = 'promoted'", last)]
old = [t for t in again if t <= EVALUATIONS]
ok(old, "%d of its trials from before go up: %s" % (len(old), old))
states = rows(calm, "SELECT DISTINCT state FROM trial WHERE id IN (%s)" % ", ".join(map(str, old or [0])))
ok(states and set(states) <= {("ok",), ("pruned",)}, "and are trained: %s" % states)
left = os.listdir(os.path.join(calm, "work"))
ok(not [n for n in left if ".stable." in n], "and nothing is left again")
done()
