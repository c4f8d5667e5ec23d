#!/usr/bin/env python3
"""taut report: the page holds what tautd says, lets nothing in and nothing out, is written whole or not at all, and draws itself."""
import html.parser
import json
import os
import re
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "controller"))
from taut_wire import BUILD, Daemon, Evaluator, custom_job, done, ok, same, skip, wait_until

TAUT = os.path.join(BUILD, "taut")
EVIL = "</script><b>\"'&<i><!--<script>"
TMP = tempfile.mkdtemp(prefix="report-")


def taut(*args, **more):
    return subprocess.run([TAUT, *args], capture_output=True, text=True, timeout=120, **more)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


class Page(html.parser.HTMLParser):
    """Tags, their attributes and the text of title and scripts, as a browser takes them apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = dict(attrs).get("id") or tag

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, s):
        self.text[self.open] = self.text.get(self.open, "") + s


def island(text):
    return json.loads(Page(text).text["data"])


def check_closed(text, name):
    """Nothing that a browser would fetch, no element but the page's own."""
    p = Page(text)
    outside = [(t, k, v) for t, a in p.tags for k, v in a.items() if k in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")]
    same(outside, [], name + ": no element refers to anything")
    own = "".join(s for k, s in p.text.items() if k != "data")
    same(re.findall(r"https?:|//[a-z]+\.|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|importScripts", own), [], name + ": style and script fetch nothing")
    same(sorted({t for t, a in p.tags}), ["body", "div", "footer", "head", "header", "html", "main", "meta", "nav", "noscript", "p", "script", "style", "svg", "title"],
         name + ": no element but the page's own")
    same(text.lower().count("<script"), 2, name + ": two scripts")


def check_page(text, c, job, name):
    """The island says what the wire says. Returns it."""
    d = island(text)
    same(d["front"], [r for r in c.call("job.front", id=job, uncertain=True) if r["on_front"]], name + ": the front is job.front's")
    same(d["progress"], c.call("job.progress", id=job), name + ": the progress is job.progress's")
    info = c.call("job.get", id=job)
    same({k: d["job"][k] for k in ("name", "state", "evaluations", "best", "hypervolume", "trials", "joules")},
         {k: info[k] for k in ("name", "state", "evaluations", "best", "hypervolume", "trials", "joules")}, name + ": the job is job.get's")
    check_closed(text, name)
    return d


def evil_job():
    return custom_job(name=EVIL, space={"type": "custom", "knobs": {"x": {"float": [-4, 4]}, "drop": {"float": [0, 1]}, "act": {"choice": [EVIL, "gelu"]},
                                                                    "block": {"choice": [0, 1, 2], "repeat": 3}}})


def score(arch, n):
    spread = 0.01 * (1 + n % 3)
    f1 = arch["x"] ** 2 + arch["drop"]
    return {"f1": {"median": f1, "low": f1 - spread, "high": f1 + spread, "n": 30, "ratio": [2.5, 2.4, 2.6], "anchor": "ab" * 16, "converged": False, "disturbed": 0.25, "rejected": 1}, "f2": (arch["x"] - 2) ** 2 + arch["drop"]}


def run_job(c, job, metrics, fails=lambda n: False, curve=True):
    """Runs a job of custom_job()'s kind to its end; its id."""
    id = c.call("job.submit", job=job)["id"]
    e = Evaluator(c, device={"kind": "cpu", "name": EVIL})
    n = 0
    while True:
        lease = e.next()
        if lease is None:
            break
        n += 1
        if fails(n):
            e.report(lease, status="failed", error="out of <b>luck</b> " + EVIL)
        elif curve:
            e.report(lease, metrics=metrics(lease["arch"], n), curve=[[1000 * i, 5 / i] for i in range(1, 9)])
        else:
            e.report(lease, metrics=metrics(lease["arch"], n))
    return id


pages = {}  # name: (path, what the drawn page must have)


def keep(name, text, **want):
    path = os.path.join(TMP, name + ".html")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    pages[name] = (path, want)


def test_custom(d, c):
    id = run_job(c, evil_job(), score, fails=lambda n: n in (5, 9))
    path = os.path.join(TMP, "a page.html")
    r = taut("report", str(id), "-o", path, "--json", "--socket", d.socket)
    same((r.returncode, r.stderr), (0, ""), "a report is written")
    same(json.loads(r.stdout), {"report": path, "bytes": os.path.getsize(path)}, "--json says where, and how long")
    text = read(path)
    page = check_page(text, c, id, "custom")
    same(Page(text).text["title"], EVIL + " – Taut report", "the title is the job's name, whatever it holds")
    ok("<b>" not in text and "</script><b" not in text, "markup in names stays text")
    same(page["failed"]["of"], 2, "failures are counted")
    same(page["failed"]["reasons"], {"out of <b>luck</b> " + EVIL: {"count": 2, "trial": page["failed"]["trials"][0][0]}}, "… with their reason, once")
    ok(len(page["front"]) > 1, "several trials are on the front")
    wrong = [p["trial"] for p in page["front"] if page["details"].get(str(p["trial"]), {}).get("knobs") != c.call("trial.get", id=p["trial"])["arch"]]
    same(wrong, [], "every member of the front is there with its knobs")
    ids = {r["trial"] for r in c.call("trial.list", job=id) if r["state"] == "ok"}
    same({r["trial"] for r in page["front"]} | set(page["others"]["trial"]), ids, "front and others are all that succeeded")
    same({len(v) for v in page["others"].values()}, {len(page["others"]["trial"])}, "columns have one length")
    same({len(p["curve"]) for p in page["curves"]}, {8}, "curves of others are there")
    keep("custom", text, front=len(page["front"]), others=len(page["others"]["trial"]), charts=1, curves=True, title=EVIL, says="2.5 of the anchornot converged25\u202f% of samples disturbed")
    r = taut("report", EVIL, "-o", "-", "--socket", d.socket)
    got, want = island(r.stdout), island(text)
    got.pop("made_ms"), want.pop("made_ms")
    same((r.returncode, got), (0, want), "by its name, and to standard output")
    return id


def test_shapes(c, d):
    """One objective, five, failures only, nothing yet, one result."""
    def page(name, job, metrics, **more):
        id = run_job(c, dict(job, name=name), metrics, **more)
        r = taut("report", str(id), "-o", "-", "--socket", d.socket)
        same((r.returncode, r.stderr), (0, ""), name + ": a report")
        return check_page(r.stdout, c, id, name), r.stdout

    p, text = page("one", custom_job(objectives=["f1"]), lambda a, n: {"f1": a["x"] ** 2}, curve=False)
    keep("one", text, front=len(p["front"]), others=len(p["others"]["trial"]), charts=1, curves=False)
    five = ["a", "b", "c", {"metric": "d", "goal": "max"}, "e"]
    p, text = page("five", custom_job(objectives=five), lambda a, n: {"a": a["x"], "b": -a["x"], "c": a["drop"], "d": a["drop"] * 2, "e": 1e7 + n})
    keep("five", text, front=len(p["front"]), others=len(p["others"]["trial"]), charts=10, curves=True)
    p, text = page("failures", custom_job(budget={"evaluations": 4}), None, fails=lambda n: True)
    same((p["front"], p["failed"]["of"]), ([], 4), "failures only: no front")
    keep("failures", text, front=0, others=0, charts=0, curves=False, says="No trial has succeeded so far")
    p, text = page("single", custom_job(budget={"evaluations": 1}), score)
    keep("single", text, front=1, others=0, charts=1, curves=True)
    rungs = custom_job(budget={"evaluations": 30}, fidelity={"tokens": 900, "rungs": 3})
    p, text = page("shortcuts", rungs, lambda a, n: {"f1": a["x"] ** 2 + 0.01 * (n % 7), "f2": (a["x"] - 2) ** 2, "params": 1000 + n % 5, "proxy.snip": n % 11})
    same([s["name"] for s in p["job"]["audit"]["shortcuts"]], ["rung 0", "rung 1", "proxy.snip"], "what the audit found is in the page")
    keep("shortcuts", text, front=len(p["front"]), others=len(p["others"]["trial"]), charts=1, curves=True, says="12 of 12 architectures drawn, ")
    p, text = page("unchecked", dict(rungs, audit=0), score)
    keep("unchecked", text, front=len(p["front"]), others=len(p["others"]["trial"]), charts=1, curves=True, says="the job’s shortcuts are unchecked")
    id = c.call("job.submit", job=custom_job(name="empty"))["id"]
    r = taut("report", str(id), "-o", "-", "--socket", d.socket)
    same(r.returncode, 0, "a job without results has a page")
    p = check_page(r.stdout, c, id, "empty")
    keep("empty", r.stdout, front=0, others=0, charts=0, curves=False, says="no results yet")
    c.call("job.cancel", id=id)


def test_damaged(d, c):
    """A trial that the store can no longer give is left out, and that is said."""
    id = run_job(c, custom_job(name="damaged"), score, fails=lambda n: n in (5, 9))
    front = [r["trial"] for r in c.call("job.front", id=id)]
    others = [r["trial"] for r in c.call("trial.list", job=id) if r["state"] == "ok" and r["trial"] not in front]
    failed = [r["trial"] for r in c.call("trial.list", job=id) if r["state"] == "failed"]
    db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
    for trial, body in ((front[-1], "no JSON"), (others[0], "no JSON"), (failed[0], None)):
        where = "WHERE job=? AND seq=(SELECT proposed_seq FROM trial_data WHERE id=?)"
        if body:
            db.execute("UPDATE event SET body=? " + where, (body, id, trial))
        else:
            db.execute("DELETE FROM event " + where, (id, trial))
    db.commit()
    db.close()
    r = taut("report", str(id), "-o", "-", "--socket", d.socket)
    out = ["trial %d cannot be read and is left out: %s" % (t, why) for t, why in ((others[0], "malformed JSON"), (failed[0], "no trial %d" % failed[0]))]
    out.append("trial %d cannot be read; its architecture and curve are left out: malformed JSON" % front[-1])
    same((r.returncode, sorted(r.stderr.splitlines())), (0, sorted("taut: report: " + line for line in out)), "three trials that are damaged: a page, and a line for each")
    page = island(r.stdout)
    same(sorted(int(t) for t in page["details"]), sorted(front[:-1]), "… the front is there in detail but for the one")
    same([p["trial"] for p in page["front"]], front, "… whose numbers are among its points")
    same(sorted(page["others"]["trial"]), others[1:], "… and so are the others")
    same(({len(v) for v in page["others"].values()}, page["failed"]["seen"]), ({len(others) - 1}, 1), "… in columns of one length, and the failed one that can be read")
    same(sorted(n for n in page["notes"] if "cannot be read" in n), sorted(line[0].upper() + line[1:] + "." for line in out), "… which the page says")
    keep("damaged", r.stdout, front=len(front), cards=len(front) - 1, others=len(others) - 1, charts=1, curves=True, says="Trial %d cannot be read and is left out" % others[0])


def test_many_damaged(d, c):
    id = run_job(c, custom_job(name="ruin", budget={"evaluations": 40}), score)
    db = sqlite3.connect(os.path.join(d.dir, "taut.db"))
    db.execute("UPDATE event SET body='no JSON' WHERE job=? AND type='proposed'", (id,))
    db.commit()
    db.close()
    r = taut("report", str(id), "-o", "-", "--socket", d.socket)
    same((r.returncode, r.stderr.count("\n"), r.stderr.splitlines()[-1]), (0, 21, "taut: report: 40 trials cannot be read, the first 20 of them for these reasons"), "many damaged trials: few lines")


def test_calls(d, id):
    where = ["--socket", d.socket]
    one_line = lambda r: r.stderr.count("\n") == 1 and r.stderr.startswith("taut: ")
    for args, rc, name in ((["report", "99", *where], 4, "an unknown job is 4"), (["report", *where], 2, "no job named is 2"), (["report", str(id), "-o", "-", "--json", *where], 2, "page and JSON both to standard output is 2"),
                           (["report", str(id), "--socket", d.socket + ".none"], 3, "no daemon is 3"), (["report", str(id), "-o", os.path.join(TMP, "no", "such", "x.html"), *where], 1, "no such folder is 1"),
                           (["report", str(id), "-o", TMP, *where], 1, "a folder is 1")):
        r = taut(*args, cwd=TMP)
        ok(r.returncode == rc and one_line(r), name)
    ok(not os.path.exists(os.path.join(TMP, "report.html")), "none of these wrote anything")
    r = taut("report", str(id), *where, cwd=TMP)
    ok(r.returncode == 0 and r.stdout.startswith("report.html: ") and os.path.getsize(os.path.join(TMP, "report.html")) > 10000, "report.html is the default")


def test_whole(d, id):
    """A write that fails in the middle leaves what was there, and nothing else."""
    folder = os.path.join(TMP, "whole")
    os.mkdir(folder)
    path = os.path.join(folder, "r.html")
    with open(path, "w") as f:
        f.write("before")

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))

    r = taut("report", str(id), "-o", path, "--socket", d.socket, preexec_fn=small)
    ok(r.returncode == 1 and r.stderr.count("\n") == 1 and "cannot be written" in r.stderr, "a disk that takes no more is 1, in one line")
    same((read(path), os.listdir(folder)), ("before", ["r.html"]), "… and the old page stays, alone")
    os.chmod(path, 0o640)
    link = os.path.join(folder, "link.html")
    os.symlink("r.html", link)
    inode = os.stat(path).st_ino
    same(taut("report", str(id), "-o", link, "--socket", d.socket).returncode, 0, "a link to a page is followed")
    ok(os.path.islink(link) and read(path).startswith("<!DOCTYPE html>") and os.stat(path).st_mode & 0o777 == 0o640, "… stays one, and the page keeps its mode")
    ok(os.stat(path).st_ino != inode, "a new file took the old one's place")
    same(sorted(os.listdir(folder)), ["link.html", "r.html"], "nothing is left beside it")
    same(taut("report", str(id), "-o", "/dev/null", "--socket", d.socket).returncode, 0, "a device is written to")


def test_large():
    """5,000 trials of a language-model search: thinned, said, and every stack adds up."""
    folder = os.path.join(TMP, "store")
    os.mkdir(folder)
    subprocess.run([os.path.join(BUILD, "bench", "gen_store"), folder, "5000"], check=True)
    path = os.path.join(TMP, "large.html")
    r = taut("report", "1", "-o", path, "--dir", folder)
    same((r.returncode, r.stderr), (0, ""), "5,000 trials: a report")
    ok(os.path.getsize(path) < 5e6, "5,000 trials: less than 5 MB")
    text = read(path)
    d = Daemon("--reader", dir=folder)
    page = check_page(text, d.conn(), 1, "5,000 trials")
    d.end()
    shown = len(page["others"]["trial"])
    ok(0 < shown <= 1500 and any("one in" in n for n in page["notes"]), "other trials are thinned, and the page says so")
    members = {str(r["trial"]): r for r in page["front"]}
    ok("A attention (heads/kv_heads/head_dim, w: window, r: rope_dim)" in page["legend"], "what the letters of the table mean is said")
    ok("S short_conv (c: conv)," in page["legend"] and "; ffn: S swiglu (hidden, r: rank), " in page["legend"], "by role, also of types whose sizes all have a default")
    ok(len(page["details"]) > 50 and set(page["details"]) <= set(members), "members of the front are there in detail")
    wrong = [t for t, v in page["details"].items() if sum(p["params"] for p in v["stack"]["parts"]) != members[t]["metrics"]["params"]
             or abs(sum(p["flops"] for p in v["stack"]["parts"]) - members[t]["metrics"]["flops_per_token"]) > 1e-6 * members[t]["metrics"]["flops_per_token"]
             or sum(p["state"] for p in v["stack"]["parts"]) != members[t]["metrics"]["state_bytes@256"]]
    same(wrong, [], "the parts of every stack add up to its parameters, FLOPs and state")
    ok(all(v["features"]["depth"] == 1 + max(p["layer"] for p in v["stack"]["parts"]) for v in page["details"].values()), "depth is the number of layers drawn")
    keep("large", text, front=len(page["front"]), others=shown, charts=3, curves=True, says="state_bytes@256")


def test_run():
    """taut run leaves a page, also where the job was finished before, and is not failed by one that cannot be written."""
    folder = os.path.join(TMP, "it's a run")
    job = os.path.join(TMP, "job.json")
    with open(job, "w") as f:
        json.dump(custom_job(budget={"evaluations": 10}), f)
    path, socket = os.path.join(folder, "report.html"), os.path.join(folder, "tautd.sock")

    def evaluate():
        from taut_wire import Conn
        c = wait_until(lambda: os.path.exists(socket) and Conn(socket))
        try:
            Evaluator(c).run(10, wait=60)
        except (ConnectionError, BrokenPipeError):
            pass  # the search is over and tautd has left

    t = threading.Thread(target=evaluate)
    t.start()
    r = taut("run", job, "--dir", folder)
    t.join()
    ok(r.returncode == 0 and "report: " + path in r.stdout, "taut run says where its report is")
    same(shlex.split(island(read(path))["where"]), ["--dir", os.path.realpath(folder)], "… with commands for a shell")
    same((island(read(path))["job"]["state"], island(read(path))["job"]["evaluations"]), ("done", 10), "… which shows the search done")
    os.unlink(path)
    r = taut("run", job, "--dir", folder, "--json")
    same((r.returncode, json.loads(r.stdout.splitlines()[-1])["report"], os.path.exists(path)), (0, path, True), "a finished job shown again has one too")
    os.unlink(path)
    os.mkdir(path)
    r = taut("run", job, "--dir", folder)
    ok(r.returncode == 0 and "report:" not in r.stdout and r.stderr.count("\n") == 1, "a report that cannot be written is said, and fails nothing")


# ---- drawn by a browser ----

FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const want = %s, out = {};
let left = 0;
function look(name, width, f) {
    const d = f.contentDocument, all = s => [...d.querySelectorAll(s)], r = d.documentElement;
    const m = {ready: r.dataset.ready || '', error: r.dataset.error || '', wide: r.scrollWidth, scheme: r.dataset.theme, h1: (d.querySelector('h1') || {}).textContent,
               points: all('#front .point').length, faint: all('#front .faint').map(e => Number(e.dataset.points)), beyond: all('#front .caption').map(e => e.textContent),
               threads: all('#knobs path.thread[data-trial]').length, curves: all('#curves path.thread[data-trial]').length, cards: all('.card').length,
               rows: all('#front tbody tr').length, progress: all('#progress path.line').length, strange: all('i').length, scripts: all('script').length, text: d.getElementById('main').textContent,
               clipped: all('#head *, #main *').filter(e => !e.closest('.scroll') && e.tagName !== 'CODE').filter(e => {
                   const b = e.getBoundingClientRect(), s = (e.closest('svg') || e.parentElement).getBoundingClientRect(), text = e.tagName === 'text';
                   return b.width && (b.right > width + 1 || b.left < -1 || (text && e.textContent && (b.right > s.right + 2 || b.left < s.left - 2)));
               }).map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.slice(0, 40)),
               bad: all('svg path, svg circle, svg text').filter(e => /NaN|undefined|Infinity/.test(e.outerHTML.slice(0, 100000))).length, marked: 0};
    const dot = d.querySelector('#front .point circle');
    if (dot) {
        dot.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
        m.marked = all('.ring').filter(e => e.getAttribute('visibility') === 'visible').length;
        m.markedRows = all('#front tr.chosen, .card.chosen').length;
        m.bar = !d.getElementById('chosen').hidden;
    }
    out[name + '@' + width] = m;
}
for (const [name, path] of Object.entries(want)) for (const width of [400, 1400]) {
    const f = document.createElement('iframe');
    left++;
    f.style.cssText = 'border:0;height:2000px;width:' + width + 'px';
    f.onload = () => {
        look(name, width, f);
        if (--left) return;
        const pre = document.createElement('pre');
        pre.id = 'out';
        pre.textContent = JSON.stringify(out);
        document.body.replaceChildren(pre);
    };
    f.src = path;
    document.body.append(f);
}
</script></body>"""


class Out(html.parser.HTMLParser):
    got, on = "", False

    def handle_starttag(self, tag, attrs):
        self.on = dict(attrs).get("id") == "out"

    def handle_endtag(self, tag):
        self.on = False

    def handle_data(self, s):
        if self.on:
            self.got += s


def browse(chromium, *args):
    return subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--user-data-dir=" + os.path.join(TMP, "chromium"),
                           "--window-size=1500,1000", "--virtual-time-budget=20000", "--dump-dom", *args], capture_output=True, text=True, timeout=300)


def drawn(chromium):
    frames = os.path.join(TMP, "frames.html")
    with open(frames, "w", encoding="utf-8") as f:
        f.write(FRAMES % json.dumps({name: "file://" + path for name, (path, want) in pages.items()}).replace("<", "\\u003c"))
    p = Out()
    p.feed(browse(chromium, "file://" + frames).stdout)
    return json.loads(p.got) if p.got else None


def test_drawn(chromium):
    got = drawn(chromium)
    if not ok(got is not None, "the browser answers"):
        return
    for name, (path, want) in pages.items():
        for width in (400, 1400):
            m, at = got["%s@%d" % (name, width)], "%s at %d: " % (name, width)
            same((m["ready"], m["error"], m["bad"]), ("1", "", 0), at + "drawn to its end, without an error")
            same((m["wide"] <= width, m["clipped"]), (True, []), at + "nothing is wider than the page, no label is cut off")
            same(m["points"], want["front"] * want["charts"], at + "every chart has every member of the front")
            beyond = sum(int(re.match(r"[\d,]+", t).group().replace(",", "")) for t in m["beyond"])
            same(sum(m["faint"]) + beyond, want["others"] * want["charts"], at + "… and every other trial, or says how many lie beyond")
            same((m["curves"] > 0, m["threads"] > 0), (want["curves"], want["front"] > 0), at + "curves and knobs are drawn")
            if want["front"]:
                ok(m["rows"] >= min(want["front"], 12) and m["cards"] >= min(want.get("cards", want["front"]), 12), at + "rows and cards")
                same((m["marked"], m["markedRows"], m["bar"]), (want["charts"], 2, True), at + "a chosen trial is marked in every chart, its row and its card")
            if "title" in want:
                same(m["h1"], want["title"], at + "the name is text")
                same((m["scripts"], m["strange"]), (2, 0), at + "no element but the page's own")
            if "says" in want:
                ok(want["says"] in m["text"], at + "says '%s'" % want["says"])


def main():
    d = Daemon()
    c = d.conn()
    id = test_custom(d, c)
    test_shapes(c, d)
    test_damaged(d, c)
    test_many_damaged(d, c)
    test_calls(d, id)
    test_whole(d, id)
    c.close()
    d.end()
    test_large()
    test_run()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium:
        test_drawn(chromium)
    else:
        skip("the pages draw themselves", "no chromium here")


try:
    main()
finally:
    shutil.rmtree(TMP, ignore_errors=True)
done()
