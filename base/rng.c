#include "base/rng.h"

#include <math.h>

/* Multipliers and Weyl constants: Salmon et al. 2011, table 2 and section 4.3. */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u
#define PHILOX_ROUNDS 10

void base_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < PHILOX_ROUNDS; i++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct base_rng base_rng_at(uint64_t seed, uint32_t stream, uint64_t n)
{
    return (struct base_rng){.seed = seed, .n = n, .stream = stream};
}

uint32_t base_rng_u32(struct base_rng *r)
{
    if (r->left == 0) {
        const uint32_t ctr[4] = {r->block++, r->stream, (uint32_t)r->n, (uint32_t)(r->n >> 32)};
        const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
        base_philox(ctr, key, r->out);
        r->left = 4;
    }
    return r->out[4 - r->left--];
}

uint64_t base_rng_u64(struct base_rng *r)
{
    uint64_t low = base_rng_u32(r);
    return (uint64_t)base_rng_u32(r) << 32 | low;
}

double base_rng_unit(struct base_rng *r)
{
    return (double)(base_rng_u64(r) >> 11) * 0x1p-53;
}

/* Lemire 2019 (arXiv:1805.10941): a multiplication, and a rejection only in the biased sliver. */
uint32_t base_rng_below(struct base_rng *r, uint32_t n)
{
    uint64_t p = (uint64_t)base_rng_u32(r) * n;
    if ((uint32_t)p < n) {
        uint32_t floor = -n % n;
        while ((uint32_t)p < floor) p = (uint64_t)base_rng_u32(r) * n;
    }
    return (uint32_t)(p >> 32);
}

double base_rng_normal(struct base_rng *r)
{
    double u = 1.0 - base_rng_unit(r); /* (0,1]: the logarithm stays finite */
    double v = base_rng_unit(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}
