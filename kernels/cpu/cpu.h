/* The CPU device, seen from its ops. Private to kernels/cpu/.
 *
 * An op is one file, cpu/<op>.c, that defines cpu_<op> (prototypes below, made from ops.def):
 *
 *   st_t cpu_swiglu(struct kn_dev *dev, const struct kn_tensor *g, …)
 *   {
 *       st_t st = kn_check_swiglu(g, u, h);                      // shapes and dtypes: kernels/check.h
 *       if (st) return st;
 *       if (g->dtype != KN_F32) return ST_ENOTSUP;
 *       struct ctx c = {…, .row = row_each[cpu_of(dev)->isa]};   // the inner loop for this instruction set: cpu/vec.h
 *       cpu_run(dev, task, &c, ntasks, nanoseconds);
 *       return ST_OK;
 *   }
 *
 * Invariants
 *   - Tasks are cut by shape alone, never by the number of threads; a task writes what no other task writes.
 *   - Scratch is asked for before the tasks start, by the calling thread; inside a task it is only looked up.
 *   - Scratch shrinks in kn_trim alone; all of it is counted in dev->bytes and freed at close. */
#ifndef TAUT_KERNELS_CPU_CPU_H
#define TAUT_KERNELS_CPU_CPU_H

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/host.h"

enum cpu_isa { CPU_GENERIC, CPU_AVX2, CPU_AVX512, CPU_ISA_COUNT };

/* Shared scratch, one buffer each: an op that calls cpu_gemm keeps its own memory in another slot than gemm's. */
#define CPU_ROPE_TABLES 4
enum cpu_slot { CPU_SLOT_GEMM, CPU_SLOT_OP, CPU_SLOT_STORED, CPU_SLOT_ROPE, CPU_SLOT_COUNT = CPU_SLOT_ROPE + CPU_ROPE_TABLES };

/* What the table in slot CPU_SLOT_ROPE + i holds (cpu/rope.c): positions [base, base + n) of heads of 2 half; n = 0: nothing. */
struct cpu_rope {
    double theta;
    int64_t half, base, n;
};

struct cpu_mem {
    void *p;
    size_t bytes;
};

struct cpu {
    struct kn_host host;    /* first: the host functions find it in dev->self */
    enum cpu_isa isa;
    int workers;            /* threads of the pool */
    struct cpu_mem *worker; /* [workers] one buffer a worker */
    struct cpu_mem slot[CPU_SLOT_COUNT];
    struct cpu_rope rope[CPU_ROPE_TABLES];
    int rope_next; /* the table to give up next */
};

static inline struct cpu *cpu_of(const struct kn_dev *dev)
{
    return dev->self;
}

/* Makes every worker's buffer at least `bytes` long (64-byte aligned, contents undefined). Calling thread, outside of tasks. ST_ENOMEM */
st_t cpu_scratch_need(struct kn_dev *dev, size_t bytes);
/* The buffer of one worker; any thread. Valid until the op returns, and only as large as the op asked for. */
static inline void *cpu_scratch(const struct kn_dev *dev, int worker)
{
    return cpu_of(dev)->worker[worker].p;
}
/* One buffer that all tasks may see, at least `bytes` long. Calling thread, outside of tasks. ST_ENOMEM */
st_t cpu_shared(struct kn_dev *dev, enum cpu_slot slot, size_t bytes, void **out);

/* cpu/stored.c: c = alpha a w' + beta c with w stored as bf16 or int8 (b is w transposed), checked already; copy from and to int8; a row of w as floats. */
st_t cpu_gemm_stored(struct kn_dev *dev, double alpha, const struct kn_tensor *a, const struct kn_tensor *b, double beta, const struct kn_tensor *c);
st_t cpu_copy_i8(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y);
void cpu_stored_row(const struct kn_dev *dev, const struct kn_tensor *w, int64_t row, float *out);

/* One row of what the ops of these names do, of vectors that lie side by side; any thread.
 *   rmsnorm: x += r (NULL: nothing); y = the norm      rope: heads of 2 half and more, `stride` apart, by a line [2][half] of cosines and sines, which
 *   rope_table gives (calling thread, outside of tasks; valid until the next table is asked for)      route: z, p [E], chosen, w [k]
 *   expert_act: h = w silu(g) u, or w max(g, 0)^2 where u is NULL; h may be g or u */
void cpu_rmsnorm_row(const struct kn_dev *dev, float *x, const float *r, const float *w, double eps, float *y, int64_t d);
st_t cpu_rope_table(struct kn_dev *dev, int64_t pos0, int64_t t, double theta, int64_t half, const float **out);
void cpu_rope_heads(const struct kn_dev *dev, float *x, int64_t heads, int64_t stride, const float *cs, int64_t half);
void cpu_act_row(const struct kn_dev *dev, int kind, float *y, const float *x, int64_t n);
void cpu_route_row(const struct kn_dev *dev, const float *z, int sigmoid, int64_t E, int64_t k, float *p, int32_t *chosen, float *w);
void cpu_expert_act_row(const struct kn_dev *dev, float *h, const float *g, const float *u, float w, int64_t n);
/* y[i] = w[row + i] . x for i < n, added to y where add is set; w [rows,cols] f32 or at rest, unit last stride: row.c. */
void cpu_product_row(const struct kn_dev *dev, const struct kn_tensor *w, int64_t row, int64_t n, const float *x, int add, float *y);

/* fn(ctx, task, worker) for every task. work: an estimate of the whole in nanoseconds on one thread (bytes moved / 10, flops / 50, whichever is more);
 * below CPU_FORK_NS a fork and join costs more than it saves, and the tasks run on the calling thread, as worker 0. */
#define CPU_FORK_NS 4000.0
void cpu_run(struct kn_dev *dev, base_pool_fn fn, void *ctx, int ntasks, double work);

#define KN_OP(name, args) st_t cpu_##name KN_ARGS args;
#include "kernels/ops.def"
#undef KN_OP

#endif
