#!/usr/bin/env python3
"""Strategies of Taut against Optuna (NSGA-II, TPE), pymoo (NSGA-II) and random search on the built-in problems, at the same number of evaluations.

    bench/search.py --bench build/bench/bench_search [--kept RESULTS.json] [--seeds 10] [--problems zdt1,…] [--methods auto,optuna-nsga2,…]

What was run is kept in RESULTS.json (method, problem, seed: values are a function of them), so that a comparison can be gone on with. Needs numpy, moocore,
optuna and pymoo. All methods meet the same problem, worked out by bench_search; a constrained one is given to them as such. Hypervolume is moocore's (one
objective: the reference less the best value that holds the bound), from the reference point that bench_search states: about the worst of 48 random candidates.
A figure is the ratio of Taut's mean over the seeds to that of the best peer, its 95 % interval by bootstrap over seeds of both. A problem where
neither side dominates the reference point is left out, and said so."""
import argparse
import json
import os
import subprocess
import sys
import warnings

import numpy as np

AT = (100, 300, 1000)
PEERS = ("optuna-nsga2", "optuna-tpe", "pymoo-nsga2")
PROBLEMS = ("zdt1", "zdt2", "zdt3", "zdt4", "zdt6", "dtlz1", "dtlz2", "dtlz7", "layerwise", "layerwise_pairs")
SOONER = ("zdt1", "zdt2", "zdt3", "dtlz2", "dtlz7")


class Problem:
    def __init__(self, bench, name):
        self.name = name
        about = json.loads(subprocess.run([bench, name, "about"], check=True, capture_output=True, text=True).stdout)
        self.__dict__.update(about)
        self.process = subprocess.Popen([bench, name, "evaluate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, x):
        self.process.stdin.write(" ".join(repr(float(v)) for v in x) + "\n")
        self.process.stdin.flush()
        return [float(v) for v in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def optuna_run(p, seed, n, sampler_of):
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")
    bounded = p.metrics > p.objectives
    constraints = (lambda t: t.user_attrs["over"]) if bounded else None
    study = optuna.create_study(directions=["minimize"] * p.objectives, sampler=sampler_of(optuna, seed, constraints))
    out = []
    for _ in range(n):
        t = study.ask()
        if p.choice:
            x = [t.suggest_categorical("x%d" % i, list(range(int(h) + 1))) for i, h in enumerate(p.high)]
        else:
            x = [t.suggest_float("x%d" % i, l, h) for i, (l, h) in enumerate(zip(p.low, p.high))]
        y = p(x)
        if bounded:
            t.set_user_attr("over", [y[-1] - p.bound])
        study.tell(t, y[:p.objectives])
        out.append(y)
    return out


def optuna_nsga2(p, seed, n):
    return optuna_run(p, seed, n, lambda o, s, c: o.samplers.NSGAIISampler(seed=s, constraints_func=c))


def optuna_tpe(p, seed, n):
    return optuna_run(p, seed, n, lambda o, s, c: o.samplers.TPESampler(seed=s, constraints_func=c))


def pymoo_nsga2(p, seed, n):
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.config import Config
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.rm import ChoiceRandomMutation
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize
    Config.show_compile_hint = False
    out, bounded = [], p.metrics > p.objectives

    class Of(ElementwiseProblem):
        def __init__(self):
            super().__init__(n_var=len(p.low), n_obj=p.objectives, n_ieq_constr=int(bounded), xl=np.array(p.low), xu=np.array(p.high), vtype=int if p.choice else float,
                             vars=None)
            if p.choice:
                from pymoo.core.variable import Choice
                self.vars = {i: Choice(options=list(range(int(h) + 1))) for i, h in enumerate(p.high)}

        def _evaluate(self, x, o, *a, **k):
            y = p(x)
            out.append(y)
            o["F"] = y[:p.objectives]
            if bounded:
                o["G"] = [y[-1] - p.bound]
    kinds = dict(sampling=IntegerRandomSampling(), crossover=UniformCrossover(), mutation=ChoiceRandomMutation()) if p.choice else {}
    minimize(Of(), NSGA2(pop_size=50, eliminate_duplicates=True, **kinds), ("n_eval", n), seed=seed, verbose=False)
    return out[:n]


def taut(strategy):
    def run(p, seed, n):
        text = subprocess.run([run.bench, p.name, strategy, str(seed), str(n)], check=True, capture_output=True, text=True).stdout
        return [[float(v) for v in line.split()] for line in text.splitlines() if not line.startswith("#")]
    return run


def volumes(p, ys):
    """Hypervolume after each evaluation of AT, and the fewest evaluations to given volumes need the whole course: every 10th is kept."""
    import moocore
    y = np.array(ys)
    held = y[:, -1] <= p.bound if p.metrics > p.objectives else np.ones(len(y), bool)
    f, course = y[:, :p.objectives], {}
    for n in range(10, len(y) + 1, 10):
        g = f[:n][held[:n]]
        g = g[(g < p.ref).all(axis=1)] if len(g) else g
        if p.objectives == 1:
            course[n] = max(0.0, p.ref[0] - g.min()) if len(g) else 0.0
        else:
            course[n] = float(moocore.hypervolume(g, ref=p.ref)) if len(g) else 0.0
    return course


def interval(a, b, rng):
    """Of mean(a) / mean(b), by bootstrap over both."""
    r = []
    for _ in range(2000):
        d = rng.choice(b, len(b)).mean()
        r.append(rng.choice(a, len(a)).mean() / d if d > 0 else np.inf)
    return np.percentile(r, [2.5, 97.5])


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    o.add_argument("--bench", default="build/bench/bench_search")
    o.add_argument("--kept", default="search.json")
    o.add_argument("--seeds", type=int, default=10)
    o.add_argument("--problems", default=",".join(PROBLEMS))
    o.add_argument("--methods", default="auto,nsga2,random," + ",".join(PEERS))
    o.add_argument("--ours", default="auto", help="whose ratio to the best peer is shown")
    o.add_argument("--again", default="", help="methods to run again even where they are kept")
    o.add_argument("--show", action="store_true", help="run nothing: the table of what is kept")
    o.add_argument("--long", type=int, default=0, help="evaluations of the layerwise problems (5000: the gap to the optimum there)")
    o = o.parse_args()
    bench = os.path.abspath(o.bench)
    kept = json.load(open(o.kept)) if os.path.exists(o.kept) else {}
    runs = {"optuna-nsga2": optuna_nsga2, "optuna-tpe": optuna_tpe, "pymoo-nsga2": pymoo_nsga2}
    methods, names, again = o.methods.split(","), o.problems.split(","), o.again.split(",")
    about = {}
    for name in names:
        p = about[name] = Problem(bench, name)
        for seed in range(1, o.seeds + 1):
            for m in methods:
                n = o.long if o.long and p.best is not None and m != "optuna-tpe" else AT[-1]
                key = "%s %s %d" % (m, name, seed)
                if o.show or key in kept and m not in again and max(map(int, kept[key])) >= n:
                    continue
                run = runs.get(m) or taut(m)
                run.bench = bench
                kept[key] = volumes(p, run(p, seed, n))
                with open(o.kept + ".tmp", "w") as f:
                    json.dump(kept, f)
                os.replace(o.kept + ".tmp", o.kept)
                print("%s: %s" % (key, " ".join("%d %.4g" % (k, kept[key][k]) for k in AT)), file=sys.stderr, flush=True)
        p.close()
    rng = np.random.default_rng(1)

    def of(m, name, n):
        v = [kept.get("%s %s %d" % (m, name, s)) for s in range(1, o.seeds + 1)]
        return np.array([float(x[str(n)] if str(n) in x else x[n]) for x in v if x])
    print("%-16s %5s  %8s  %s" % ("problem", "evals", o.ours, "  ".join("%12s" % m for m in methods if m != o.ours)) + "   ratio to the best peer [95 %]")
    ratios = []
    for name in names:
        for n in AT:
            ours, peers = of(o.ours, name, n), {m: of(m, name, n) for m in methods if m != o.ours}
            best = max((m for m in peers if m in PEERS and len(peers[m])), key=lambda m: peers[m].mean(), default=None)
            text = "%-16s %5d  %8.4g  %s" % (name, n, ours.mean() if len(ours) else np.nan, "  ".join("%12.4g" % (v.mean() if len(v) else np.nan) for v in peers.values()))
            if best is None or not len(ours) or (peers[best].mean() <= 0 and ours.mean() <= 0):
                print(text + "   left out: nobody dominates the reference point")
                continue
            if peers[best].mean() <= 0:
                print(text + "   left out: no peer dominates the reference point")
                continue
            low, high = interval(ours, peers[best], rng)
            ratios.append(ours.mean() / peers[best].mean())
            print(text + "   %.3f [%.3f, %.3f] %s%s" % (ratios[-1], low, high, best, "  WHOLLY BELOW 1" if high < 1 else ""))
    if ratios:
        print("geometric mean of %d ratios: %.3f (wanted 1.1)" % (len(ratios), float(np.exp(np.mean(np.log(ratios))))))
    for name in [x for x in names if x in SOONER]:
        goal = of("optuna-nsga2", name, 1000)
        if not len(goal):
            continue
        first = []
        for s in range(1, o.seeds + 1):
            course = kept.get("%s %s %d" % (o.ours, name, s)) or {}
            first.append(min((int(n) for n, v in course.items() if v >= goal.mean()), default=np.inf))
        print("%s: evaluations to what Optuna NSGA-II has at 1,000 (%.4g): median %s of %s (wanted 250)" % (name, goal.mean(), np.median(first), sorted(first)))
    for name in [x for x in names if about[x].best is not None]:
        for m in methods:
            for n in (1500, 5000):
                v = [c for c in (kept.get("%s %s %d" % (m, name, s)) for s in range(1, o.seeds + 1)) if c and (str(n) in c or n in c)]
                if v:
                    gap = [100 * ((about[name].ref[0] - float(c[str(n)] if str(n) in c else c[n])) / about[name].best - 1) for c in v]
                    print("%s, %s at %d: gap to the best known %.1f %% (median; %.1f to %.1f)" % (name, m, n, np.median(gap), min(gap), max(gap)))


if __name__ == "__main__":
    main()
