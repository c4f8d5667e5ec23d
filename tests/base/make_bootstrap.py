"""Writes tests/base/bootstrap.h: rank correlations, regret and bootstrap intervals of small samples by SciPy and NumPy, on the draws that base/rng.h defines."""
import numpy as np
from scipy.stats import kendalltau, spearmanr

RNG_BOOT, DRAWS = 6, 200
u32 = 0xFFFFFFFF


def philox(ctr, key):
    c, k = list(ctr), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & u32, (p0 >> 32) ^ c[3] ^ k[1], p0 & u32]
        k = [(k[0] + 0x9E3779B9) & u32, (k[1] + 0xBB67AE85) & u32]
    return c


def words(seed, n):
    block = 0
    while True:
        yield from philox((block, RNG_BOOT, n & u32, n >> 32), (seed & u32, seed >> 32))
        block += 1


def below(w, n):
    p = next(w) * n
    while (p & u32) < (2**32 - n) % n:
        p = next(w) * n
    return p >> 32


def regret(x, y):
    return y[x == x.min()].mean() - y.min()


def interval(f, columns, seed):
    n, out = len(columns[0]), []
    for i in range(DRAWS):
        w = words(seed, i)
        at = [below(w, n) for _ in range(n)]
        out.append(f(*(c[at] for c in columns)))
    return np.percentile([v for v in out if not np.isnan(v)], [2.5, 97.5])


def numbers(v):
    return "{" + ", ".join("%.17g" % x for x in v) + "}"


np.seterr(all="ignore")
g = np.random.default_rng(5)
rho, tau = lambda x, y: spearmanr(x, y)[0], lambda x, y: kendalltau(x, y)[0]
better = lambda x, y, z: rho(x, y) - np.nan_to_num(rho(z, y))  # what orders nothing is guessing
print("/* Made by tests/base/make_bootstrap.py with SciPy and NumPy. */")
print("#define BOOTSTRAP_DRAWS %d" % DRAWS)
print("static const struct bootstrap_golden {\n    int n;\n    double x[24], y[24], z[24], rho[3], tau[3], regret[3], better[3]; /* value, low, high; better: rho of x less rho of z */\n} bootstrap_golden[] = {")
for seed, (n, ties) in enumerate([(5, False), (12, False), (12, True), (24, True)]):
    x = g.normal(size=n)
    y, z = x + g.normal(size=n), g.normal(size=n)
    if ties:
        x, y, z = np.round(x), np.round(2 * y), np.round(z)
    rows = [numbers([f(*c)] + list(interval(f, c, seed + 1))) for f, c in ((rho, (x, y)), (tau, (x, y)), (regret, (x, y)), (better, (x, y, z)))]
    print("    {%d, %s,\n     %s,\n     %s,\n     %s},\n" % (n, numbers(x), numbers(y), numbers(z), ",\n     ".join(rows)), end="")
print("};")
