"""taut run on a terminal: the bar is drawn, redrawn, fits the screen, and leaves it clean. A small screen is kept here to see what a person sees."""
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *


class Screen:
    """Characters, LF, CR and the escapes that taut may send: cursor up, erase to the end of line or screen, colours."""

    def __init__(self, columns):
        self.columns = columns
        self.lines, self.row, self.col = [[]], 0, 0
        self.wrapped = []   # lines that ran over the right edge
        self.unknown = []
        self.rest = ""

    def line(self):
        while len(self.lines) <= self.row:
            self.lines.append([])
        return self.lines[self.row]

    def feed(self, text):
        text = self.rest + text
        self.rest = ""
        for m in re.finditer("\033\\[([0-9;?]*)([A-Za-z])|\033\\[?[0-9;?]*$|([\\s\\S])", text):
            if m.group(3):
                self.put(m.group(3))
            elif m.group(2):
                self.escape(m.group(1), m.group(2))
            else:
                self.rest = m.group(0)

    def escape(self, args, letter):
        if letter == "A":
            self.row -= int(args or 1)
            if self.row < 0:
                self.unknown.append("above the top")
                self.row = 0
        elif letter == "K":
            del self.line()[self.col:]
        elif letter == "J":
            del self.line()[self.col:]
            del self.lines[self.row + 1:]
        elif letter != "m":
            self.unknown.append("\\033[%s%s" % (args, letter))

    def put(self, c):
        if c == "\r":
            self.col = 0
        elif c == "\n":
            self.row += 1
            self.line()
        else:
            if self.col == self.columns:
                self.wrapped.append("".join(self.line()))
                self.row += 1
                self.col = 0
            line = self.line()
            line.extend(" " * (self.col - len(line)))
            line[self.col:self.col + 1] = [c]
            self.col += 1

    def text(self):
        return "\n".join("".join(line) for line in self.lines)


class Terminal:
    """A program whose output is a terminal of so many columns."""

    def __init__(self, command, columns, env):
        self.screen, self.raw, self.shots = Screen(columns), "", []
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.p = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=env,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.master = master
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        bytes = b""
        while True:
            try:
                got = os.read(self.master, 65536)
            except OSError:
                got = b""
            if not got:
                break
            bytes += got
            text = bytes.decode(errors="ignore")
            # whole characters alone
            bytes = bytes[len(text.encode()):]
            self.raw += text
            self.screen.feed(text)
            self.shots.append(self.screen.text())

    def wait(self):
        try:
            rc = self.p.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.p.kill()
            rc = "hangs"
        self.thread.join()
        os.close(self.master)
        return rc


home = folder()
make_text(os.path.join(home, "text.txt"), 6000)
ENV = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8")
BAR = re.compile("[█░]{30}  \\d+/4 evaluations")


def run(name, columns, *args, env=ENV, interrupt=False):
    job = write_json(os.path.join(home, name + ".json"), lm_job("text.txt", name=name, fidelity={"tokens": 1500000}, budget={"evaluations": 4}))
    dir = os.path.join(home, name)
    t = Terminal([TAUT, "run", job, "--dir", dir, *args], columns, env)
    if interrupt:
        e = Events(dir)
        wait_until(lambda: "reported" in e.new() or t.p.poll() is not None, HANG_S)
        e.close()
        os.write(t.master, b"\003")  # what Ctrl-C sends
    return t, t.wait()


for columns in (80, 40):
    what = "%d columns" % columns
    t, rc = run("wide%d" % columns, columns)
    same((rc, t.screen.unknown), (0, []), "%s: it runs" % what)
    bars = [s for s in t.shots if re.search("[█░]{20}", s)]
    ok(len(bars) > 3, "%s: the bar is on the screen in %d of %d looks" % (what, len(bars), len(t.shots)))
    ok(all(len(re.findall("[█░]{20,}", s)) == 1 for s in bars), "%s: never twice" % what)
    ok(any("now   trial" in s for s in bars) and any("best  valid_bpb" in s for s in bars), "%s: with what runs now, and the best so far" % what)
    full = [len(re.search("█*", re.search("[█░]{20,}", s).group(0)).group(0)) for s in bars]
    same(full, sorted(full), "%s: it only grows" % what)
    block = [line for line in t.screen.wrapped if re.search("[█░]{20}", line) or line.startswith(("  now", "  best"))]
    same(block, [], "%s: no line of the block runs over the edge" % what)
    last = t.screen.text()
    ok(not re.search("[█░]{20}", last) and "  now " not in last, "%s: at the end the bar is gone" % what)
    flat = "".join(last.split())
    ok(all("%d/4trial%d" % (i, i) in flat for i in range(1, 5)) and "front:" in flat and "tautshow" in flat, "%s: and every evaluation, the front and what to type next stay" % what)

t, rc = run("ctrlc", 80, interrupt=True)
same(rc, 130, "Ctrl-C typed on the terminal")
last = t.screen.text()
ok(not re.search("[█░]{20}", last) and "pausing job 1" in last and "go on with: %s run" % TAUT in last.replace("\n", ""), "the bar is gone, the way on is there")

t, rc = run("plain", 80, "--no-color")
ok(rc == 0 and not re.search("\033\\[[0-9;]*m", t.raw) and BAR.search("\n".join(t.shots)), "--no-color: the bar without colours")
t, rc = run("nocolor", 80, env=dict(ENV, NO_COLOR="1"))
ok(rc == 0 and not re.search("\033\\[[0-9;]*m", t.raw), "NO_COLOR the same")
t, rc = run("dumb", 80, env=dict(ENV, TERM="dumb"))
ok(rc == 0 and "\033" not in t.raw and "4/4" in t.raw, "a dumb terminal: plain lines, no escapes")
t, rc = run("ascii", 80, env=dict(ENV, LC_ALL="C"))
ok(rc == 0 and t.raw.isascii() and re.search("#+-*  \\d/4", "\n".join(t.shots)), "a locale without UTF-8: a bar in ASCII")
t, rc = run("quiet", 80, "-q")
ok(rc == 0 and not re.search("\033\\[\\d*A", t.raw) and " trial 1 " not in t.raw, "-q: no bar")
done()
