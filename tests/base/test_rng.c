#include "base/rng.h"
#include "tests/tap.h"

/* Random123, tests/kat_vectors, the three lines "philox4x32 10": counter, key, answer. */
static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
};

int main(void)
{
    uint32_t out[4];
    for (int i = 0; i < 3; i++) {
        base_philox(known[i], known[i] + 4, out);
        ok(!memcmp(out, known[i] + 6, sizeof out), "philox4x32-10 known answer %d", i);
    }

    /* The documented layout: key = seed, counter = {block, stream, n low, n high}; words in order. */
    struct base_rng r = base_rng_at(0x299f31d0a4093822, 0x85a308d3, 0x0370734413198a2e);
    r.block = 0x243f6a88;
    int same = 1;
    for (int i = 0; i < 4; i++) same &= base_rng_u32(&r) == known[2][6 + i];
    ok(same, "seed, stream and n stand where the header says");
    const uint32_t next[4] = {0x243f6a89, 0x85a308d3, 0x13198a2e, 0x03707344}, key[2] = {0xa4093822, 0x299f31d0};
    base_philox(next, key, out);
    ok(base_rng_u32(&r) == out[0], "the next block follows");

    struct base_rng a = base_rng_at(1, RNG_TEST, 7), b = base_rng_at(1, RNG_TEST, 7), c = base_rng_at(1, RNG_TEST, 8),
                    d = base_rng_at(1, RNG_INIT, 7);
    uint64_t va = base_rng_u64(&a);
    ok(va == base_rng_u64(&b), "same place, same number");
    ok(va != base_rng_u64(&c) && va != base_rng_u64(&d), "another n or stream, another number");

    /* Moments over 200,000 draws; bounds are six standard errors. */
    enum { N = 200000 };
    double sum = 0, square = 0, low = 1, high = 0;
    r = base_rng_at(42, RNG_TEST, 0);
    for (int i = 0; i < N; i++) {
        double u = base_rng_unit(&r);
        sum += u;
        low = fmin(low, u);
        high = fmax(high, u);
    }
    ok(fabs(sum / N - 0.5) < 6 * sqrt(1.0 / 12 / N), "unit: mean");
    ok(low >= 0 && low < 1e-3 && high < 1 && high > 1 - 1e-3, "unit: covers [0,1)");
    sum = 0;
    double fourth = 0;
    for (int i = 0; i < N; i++) {
        double z = base_rng_normal(&r);
        sum += z;
        square += z * z;
        fourth += z * z * z * z;
    }
    ok(fabs(sum / N) < 6 * sqrt(1.0 / N), "normal: mean");
    ok(fabs(square / N - 1) < 6 * sqrt(2.0 / N), "normal: variance");
    ok(fabs(fourth / N - 3) < 6 * sqrt(96.0 / N), "normal: fourth moment");

    int count[6] = {0}, within = 1;
    for (int i = 0; i < 60000; i++) {
        uint32_t v = base_rng_below(&r, 6);
        if (v < 6) count[v]++;
        else within = 0;
    }
    ok(within, "below: within the range");
    double chi2 = 0;
    for (int i = 0; i < 6; i++) chi2 += (count[i] - 10000.0) * (count[i] - 10000.0) / 10000;
    ok(chi2 < 25.7, "below: uniform (chi-square, 5 degrees, p = 1e-4)");
    /* With n = 3 * 2^30 a plain multiplication or remainder favours some values two to one. */
    uint32_t n = 3u << 30;
    int third[3] = {0};
    for (int i = 0; i < 60000; i++) third[base_rng_below(&r, n) % 3]++;
    chi2 = 0;
    for (int i = 0; i < 3; i++) chi2 += (third[i] - 20000.0) * (third[i] - 20000.0) / 20000;
    ok(chi2 < 18.4, "below: unbiased for a large range");
    is_int(base_rng_below(&r, 1), 0, "below 1 is 0");
    return tap_done();
}
