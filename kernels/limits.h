/* What this machine gives at most: rates that an op's time is held against.
 *
 *   struct kn_limits l;
 *   st = kn_limits_measure(dev, 1, &l);                              // one to two seconds
 *   double share = fmax(flops / kn_limits_peak(&l, KN_F32, 1), bytes / kn_limits_bandwidth(&l, bytes, KN_LIMIT_COPY, 1)) / seconds;
 *
 * Products: multiply-adds that never leave the registers, for each instruction set that the device may use. Bandwidth: a set of bytes read, or half
 * of it copied to the other half, again and again, so that it lies in the cache that has room for it. Bytes of a copy are those read and those written.
 * A limit is the best round: what was seen once is possible. Median and worst say how quiet the machine was. */
#ifndef TAUT_KERNELS_LIMITS_H
#define TAUT_KERNELS_LIMITS_H

#include "kernels/device.h"

#define KN_LIMITS_ROUNDS_MAX 16
#define KN_LIMITS_PEAKS_MAX 4
#define KN_LIMITS_SETS_MAX 6

struct kn_rate {
    double median, low, high; /* of the rounds */
};

enum kn_limit_kind { KN_LIMIT_READ, KN_LIMIT_COPY, KN_LIMIT_KINDS };

struct kn_limit_peak {
    char isa[16];           /* "avx2", "avx512", "avx512_bf16" */
    enum kn_dtype dtype;    /* of the factors; sums are f32 */
    struct kn_rate flops[2]; /* operations a second: of one thread, of all */
};

struct kn_limit_set {
    uint64_t bytes;
    char level[8];          /* "L1", "L2", "L3", "memory": where a set of that size lies when all threads share it */
    struct kn_rate rate[KN_LIMIT_KINDS][2]; /* bytes a second: of one thread, of all */
};

struct kn_limits {
    int rounds;
    int npeak, nset;
    struct kn_limit_peak peak[KN_LIMITS_PEAKS_MAX];
    struct kn_limit_set set[KN_LIMITS_SETS_MAX]; /* growing */
    struct kn_rate fork_ns; /* a fork that reaches all threads, and the join, ns */
};

/* thorough: 0: a tenth of the time, and sets of at most 16 MiB: for tests. ST_ENOMEM; ST_ENOTSUP on another device than "cpu". */
st_t kn_limits_measure(struct kn_dev *dev, int thorough, struct kn_limits *out);
/* The best peak for factors of that type; 0 where none was measured. all: of all threads, else of one. */
double kn_limits_peak(const struct kn_limits *l, enum kn_dtype dtype, int all);
/* At a working set of that many bytes: between two sets on a line over the logarithm of their sizes. */
double kn_limits_bandwidth(const struct kn_limits *l, double bytes, enum kn_limit_kind kind, int all);

#endif
