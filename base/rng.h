/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
 *
 *   struct base_rng r = base_rng_at(seed, stream, n);     // e.g. (job seed, RNG_PROPOSE, proposal number)
 *   double u = base_rng_unit(&r);
 *
 * Invariant: what is drawn depends on (seed, stream, n) and the number of draws alone. No hidden state, no clock.
 * Key = seed (64 bit); counter = {block number, stream, n low, n high}. */
#ifndef TAUT_BASE_RNG_H
#define TAUT_BASE_RNG_H

#include <stdint.h>

enum base_rng_stream { RNG_PROPOSE = 1, RNG_INIT = 2, RNG_BATCH = 3, RNG_SAMPLE = 4, RNG_TEST = 5, RNG_BOOT = 6, RNG_PROBLEM = 7, RNG_AUDIT = 9 };

struct base_rng {
    uint64_t seed, n;
    uint32_t stream, block;
    uint32_t out[4];
    int left; /* words of out not yet handed out */
};

/* The bare block function: ctr[4], key[2] -> out[4]; tested against the published known answers. */
void base_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

struct base_rng base_rng_at(uint64_t seed, uint32_t stream, uint64_t n);
uint32_t base_rng_u32(struct base_rng *r);
uint64_t base_rng_u64(struct base_rng *r);
double base_rng_unit(struct base_rng *r);                      /* [0,1), 53 bits */
uint32_t base_rng_below(struct base_rng *r, uint32_t n);       /* [0,n), unbiased; n > 0 */
double base_rng_normal(struct base_rng *r);                    /* N(0,1), Box-Muller, both halves from fresh draws */

#endif
