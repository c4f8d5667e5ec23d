#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const isa_names[CPU_ISA_COUNT] = {"generic", "avx2", "avx512"};

/* The best set that this machine and its system run. The flags are those that vec_each.h compiles for. */
static enum cpu_isa best_isa(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return CPU_GENERIC;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return CPU_AVX512;
    return CPU_AVX2;
#else
    return CPU_GENERIC;
#endif
}

static bool has_bf16(enum cpu_isa isa)
{
#ifdef __x86_64__
    return isa == CPU_AVX512 && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static st_t cpu_open(struct kn_dev *dev, int index, int threads, struct base_err *err)
{
    enum cpu_isa best = best_isa(), isa = index < 0 ? best : (enum cpu_isa)index;
    if (index >= CPU_ISA_COUNT) return base_err_set(err, ST_ENOTFOUND, "device", "cpu has no device %d", index);
    if (isa > best) return base_err_set(err, ST_ENOTSUP, "device", "this machine has no %s", isa_names[isa]);
    struct cpu *c = calloc(1, sizeof *c);
    st_t st = ST_ENOMEM;
    if (!c) goto fail;
    c->worker = calloc((size_t)threads, sizeof *c->worker);
    if (!c->worker) goto free_self;
    st = base_pool_new(&dev->pool, threads, 0);
    if (st) goto free_worker;
    c->isa = isa;
    c->workers = threads;
    dev->self = c;
    dev->op = &kn_cpu_ops;
    kn_host_info(dev, "cpu", isa_names[isa], threads);
    dev->info.bf16 = has_bf16(isa);
    dev->info.fastest = dev->info.bf16 ? KN_BF16 : KN_F32;
    snprintf(dev->info.libraries, sizeof dev->info.libraries, "taut 1");
    return ST_OK;

free_worker:
    free(c->worker);
free_self:
    free(c);
fail:
    return base_err_set(err, st, "device", "cannot start %d threads: %s", threads, base_status_text(st));
}

static void drop(struct kn_dev *dev, struct cpu_mem *m)
{
    kn_host_free(dev, m->p, m->bytes);
    *m = (struct cpu_mem){NULL, 0};
}

static void cpu_trim(struct kn_dev *dev)
{
    struct cpu *c = cpu_of(dev);
    for (int i = 0; i < c->workers; i++) drop(dev, &c->worker[i]);
    for (int i = 0; i < CPU_SLOT_COUNT; i++) drop(dev, &c->slot[i]);
    memset(c->rope, 0, sizeof c->rope);
    c->rope_next = 0;
}

static void cpu_close(struct kn_dev *dev)
{
    struct cpu *c = cpu_of(dev);
    cpu_trim(dev);
    base_pool_free(dev->pool);
    free(c->worker);
    free(c);
}

/* Grows by half again, so that a slowly growing shape does not allocate at every step; what does not fit an L1 is a whole number of huge pages.
 * Contents are lost. */
static st_t grow(struct kn_dev *dev, struct cpu_mem *m, size_t bytes)
{
    if (bytes <= m->bytes) return ST_OK;
    void *p;
    size_t n = m->p ? bytes + bytes / 2 : bytes, huge = (size_t)2 << 20;
    if (n > (64 << 10)) n = (n + huge - 1) / huge * huge;
    kn_host_free(dev, m->p, m->bytes);
    *m = (struct cpu_mem){NULL, 0};
    st_t st = kn_host_alloc(dev, n, &p);
    if (st && n > bytes) st = kn_host_alloc(dev, n = bytes, &p);
    if (st) return st;
    *m = (struct cpu_mem){p, n};
    return ST_OK;
}

st_t cpu_scratch_need(struct kn_dev *dev, size_t bytes)
{
    struct cpu *c = cpu_of(dev);
    for (int i = 0; i < c->workers; i++) {
        st_t st = grow(dev, &c->worker[i], bytes);
        if (st) return st;
    }
    return ST_OK;
}

st_t cpu_shared(struct kn_dev *dev, enum cpu_slot slot, size_t bytes, void **out)
{
    struct cpu_mem *m = &cpu_of(dev)->slot[slot];
    st_t st = grow(dev, m, bytes);
    if (st) return st;
    *out = m->p;
    return ST_OK;
}

void cpu_run(struct kn_dev *dev, base_pool_fn fn, void *ctx, int ntasks, double work)
{
    base_pool_run(work < CPU_FORK_NS || ntasks < 2 ? NULL : dev->pool, fn, ctx, ntasks);
}

const struct kn_ops kn_cpu_ops = {
#define KN_OP(name, args) .name = cpu_##name,
#include "kernels/ops.def"
#undef KN_OP
};

const struct kn_dev_vtable kn_cpu_vtable = {
    .kind = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = kn_host_alloc,
    .free = kn_host_free,
    .upload = kn_host_upload,
    .download = kn_host_download,
    .sync = kn_host_sync,
    .trim = cpu_trim,
    .mark = kn_host_mark,
    .elapsed = kn_host_elapsed,
    .capture = kn_host_capture,
    .captured = kn_host_captured,
    .replay = kn_host_replay,
    .forget = kn_host_forget,
};
