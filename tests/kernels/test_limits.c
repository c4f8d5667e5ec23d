/* Limits of the machine: all there, in order, and what lies between two sets lies between their rates. */
#include "kernels/limits.h"
#include "tests/tap.h"

static int fine(const struct kn_rate *r)
{
    return r->low > 0 && r->low <= r->median && r->median <= r->high && isfinite(r->high);
}

static void measured(const char *device, const char *first, const char *last)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_limits l;
    struct kn_dev *dev;
    int rates = 1, growing = 1;
    if (kn_dev_open(&dev, device, 2, &err)) {
        printf("# %s is not on this machine\n", device);
        return;
    }
    uint64_t before = kn_dev_bytes(dev);
    is_int(kn_limits_measure(dev, 0, &l), ST_OK, "%s: limits are measured", device);
    is_int(kn_dev_bytes(dev), before, "and leave no memory behind");
    for (int i = 0; i < l.npeak; i++)
        for (int all = 0; all < 2; all++) rates &= fine(&l.peak[i].flops[all]) && l.peak[i].flops[all].high > 1e8;
    ok(l.npeak > 0 && rates, "products: %d peaks, least <= median <= most", l.npeak);
    if (first) is_str(l.peak[0].isa, first, "the lowest set comes first");
    if (last) is_str(l.peak[l.npeak - 1].isa, last, "none above the device's");
    rates = 1;
    for (int i = 0; i < l.nset; i++) {
        for (int k = 0; k < KN_LIMIT_KINDS; k++)
            for (int all = 0; all < 2; all++) rates &= fine(&l.set[i].rate[k][all]) && l.set[i].rate[k][all].high > 1e7;
        growing &= !i || l.set[i].bytes > l.set[i - 1].bytes;
        rates &= l.set[i].level[0] != 0;
    }
    ok(l.nset > 1 && rates, "bandwidth: %d working sets", l.nset);
    ok(growing, "each larger than the one before");
    ok(fine(&l.fork_ns), "a fork and join takes %g ns", l.fork_ns.median);
    double best = 0;
    for (int i = 0; i < l.npeak; i++)
        if (l.peak[i].dtype == KN_F32 && l.peak[i].flops[1].high > best) best = l.peak[i].flops[1].high;
    ok(kn_limits_peak(&l, KN_F32, 1) == best && kn_limits_peak(&l, KN_I32, 1) == 0, "the best peak of a type");
    int between = 1;
    for (int i = 0; i + 1 < l.nset; i++) {
        double a = l.set[i].rate[KN_LIMIT_READ][1].high, b = l.set[i + 1].rate[KN_LIMIT_READ][1].high;
        double x = kn_limits_bandwidth(&l, sqrt((double)l.set[i].bytes * (double)l.set[i + 1].bytes), KN_LIMIT_READ, 1);
        between &= fabs(x - (a + b) / 2) <= 1e-9 * (a + b);
        between &= kn_limits_bandwidth(&l, (double)l.set[i].bytes, KN_LIMIT_READ, 1) == a;
    }
    ok(between, "half way between two sets, on the logarithm, is the mean of their rates");
    ok(kn_limits_bandwidth(&l, 1, KN_LIMIT_COPY, 0) == l.set[0].rate[KN_LIMIT_COPY][0].high &&
           kn_limits_bandwidth(&l, 1e15, KN_LIMIT_COPY, 0) == l.set[l.nset - 1].rate[KN_LIMIT_COPY][0].high,
       "below the first and above the last set: theirs");
    kn_dev_close(dev);
}

int main(void)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_limits l = {.npeak = 77};
    struct kn_dev *ref;
    measured("cpu", NULL, NULL);
    measured("cpu:avx2", "avx2", "avx2");
    measured("cpu:generic", "generic", "generic");
    if (!ok(!kn_dev_open(&ref, "ref", 1, &err), "ref opens")) return tap_done();
    is_int(kn_limits_measure(ref, 0, &l), ST_ENOTSUP, "a device that is no CPU is refused");
    is_int(l.npeak, 77, "and nothing is set");
    kn_dev_close(ref);
    return tap_done();
}
