/* Devices: where tensors live and what can be done to them. Everything above kernels/ is written once against this header.
 *
 *   struct kn_dev *dev;
 *   st = kn_dev_open(&dev, "cpu", 2, &err);                 // "ref", "cpu", "cuda:0"
 *   void *p; st = kn_alloc(dev, bytes, &p);
 *   st = dev->op->gemm(dev, 1, &a, &b, 0, &c);
 *   kn_dev_close(dev);
 *
 * Invariants
 *   - The vtable has no NULL slots; what a device lacks answers ST_ENOTSUP.
 *   - Same inputs, shapes and device fingerprint give the same bits, whatever the number of threads.
 *   - No op allocates once it has seen its largest shape: scratch belongs to the device, grows on first use and is counted.
 *   - A device belongs to one thread.
 *   - A device can be lost (a driver's error that no later call survives): everything answers ST_ELOST from then on; closing it is all that is left.
 *   - One card at a time in a thread: CUDA devices of different cards are for different processes.
 * Bytes are counted: kn_dev_bytes / kn_dev_peak are what is and was at most allocated through the device, scratch included. */
#ifndef TAUT_KERNELS_DEVICE_H
#define TAUT_KERNELS_DEVICE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/pool.h"
#include "kernels/branch.h"
#include "kernels/tensor.h"

struct kn_dev;
struct kn_graph;

struct kn_adamw {
    double lr, beta1, beta2, eps, weight_decay;
    double gscale; /* multiplies every gradient (clipping) */
    int64_t t;     /* step, from 1 */
};

/* Activations: max(x, 0)^2 (So et al. 2021, arXiv:2109.08668); GPT-2's GELU, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
 * (Hendrycks & Gimpel 2016, arXiv:1606.08415). */
enum kn_act { KN_RELU2, KN_GELU, KN_ACT_COUNT };

struct kn_ops {
#define KN_OP(name, args) st_t (*name) KN_ARGS args;
#define KN_ARGS(...) (struct kn_dev *dev, __VA_ARGS__)
#include "kernels/ops.def"
#undef KN_OP
};

/* What a device is, the part that decides bits and times: printed, hashed, stored with every measurement. */
struct kn_info {
    char kind[16];    /* "ref", "cpu", "cuda" */
    char name[96];    /* "AMD EPYC 9254 24-Core Processor" */
    char isa[32];     /* "avx512", "avx2", "generic", "sm_90" */
    int threads;
    uint64_t memory;  /* bytes the device may use (physical memory or cgroup limit) */
    char libraries[96]; /* versions of what computes */
    char bus[32];       /* a card's PCI address, "00000000:65:00.0"; "": none */
    bool bf16;          /* kn_precision may ask for it */
    enum kn_dtype fastest; /* precision of products */
};

struct kn_dev {
    const struct kn_ops *op;
    const struct kn_dev_vtable *vt;
    struct kn_info info;
    struct base_pool *pool; /* CPU devices */
    uint64_t bytes, peak;   /* allocated now, at most since kn_peak_reset */
    enum kn_dtype precision; /* kn_precision's */
    void *self;             /* the device's own */
};

struct kn_dev_vtable {
    const char *kind;
    st_t (*open)(struct kn_dev *dev, int index, int threads, struct base_err *err);
    void (*close)(struct kn_dev *dev);
    st_t (*alloc)(struct kn_dev *dev, size_t bytes, void **out); /* 64-byte aligned, zeroed */
    void (*free)(struct kn_dev *dev, void *p, size_t bytes);
    st_t (*upload)(struct kn_dev *dev, void *dst, const void *host, size_t bytes);
    st_t (*download)(struct kn_dev *dev, void *host, const void *src, size_t bytes);
    st_t (*sync)(struct kn_dev *dev); /* waits for everything enqueued; an asynchronous error comes out here */
    void (*trim)(struct kn_dev *dev); /* see kn_trim */
    /* Two marks and the time between them, ns. */
    st_t (*mark)(struct kn_dev *dev, int which); /* 0 or 1 */
    st_t (*elapsed)(struct kn_dev *dev, uint64_t *ns);
    /* A run of ops kept for later: what is enqueued between capture and captured (ops and fetches alone) does not run, but does so at every replay, with the same
     * operands in memory. ST_ENOTSUP: this device has no such thing. ST_ESTATE from an op meanwhile: it needs more scratch than it has; run the ops once
     * uncaptured before. captured ends a capture in any case; ST_ENOTSUP: of these ops there can be no graph. replay: ST_ESTALE where scratch has moved since: capture again. */
    st_t (*capture)(struct kn_dev *dev);
    st_t (*captured)(struct kn_dev *dev, struct kn_graph **out);
    st_t (*replay)(struct kn_dev *dev, struct kn_graph *g);
    void (*forget)(struct kn_dev *dev, struct kn_graph *g); /* NULL allowed */
};

/* name: "ref", "cpu", "cpu:avx2" (a lower ISA than the machine's, for tests: generic, avx2, avx512), "cuda:N".
 * threads <= 0: all CPUs of the process. ST_ENOTFOUND unknown name, ST_ENOTSUP not built or not on this machine. */
st_t kn_dev_open(struct kn_dev **out, const char *name, int threads, struct base_err *err);
void kn_dev_close(struct kn_dev *dev);

st_t kn_alloc(struct kn_dev *dev, size_t bytes, void **out); /* ST_ENOMEM */
void kn_free(struct kn_dev *dev, void *p, size_t bytes);     /* NULL allowed; bytes as given to kn_alloc */
uint64_t kn_dev_bytes(const struct kn_dev *dev);
uint64_t kn_dev_peak(const struct kn_dev *dev);
void kn_peak_reset(struct kn_dev *dev);
/* Gives scratch back, so that what is counted from here on does not depend on shapes seen before. Outside of ops. */
void kn_trim(struct kn_dev *dev);

/* How products of f32 tensors (gemm, attention, head_ce) compute from here on. KN_F32, as at open, or KN_BF16: operands are rounded to bf16, nearest
 * even, where that is faster; sums, softmax and all else stay f32. f64 does not change. ST_ENOTSUP where dev->info.bf16 is not set. */
st_t kn_precision(struct kn_dev *dev, enum kn_dtype precision);

/* Number of operations and of bytes that an op cannot avoid (each operand read or written once), for shares of the machine's limits and
 * for paper costs: kernels/cost.h, one function an op. */

#endif
