/* Mamba-2's scan forward with products in bf16: as ssd.c, but that the factors of products are rounded to pairs. States, running sums and decays
 * stay f32. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/ssd.h"

#ifndef VEC_PASS
#ifdef __x86_64__
/* A worker's memory: c as rows of pairs, b turned and as pairs of rows, c.b [L][L]; of one head M as rows of pairs, x' (or what of it is left at the
 * end) and the state as pairs of rows, y [L][P]; the states of all heads [N][P]. */
enum { C, B_TURNED, B_PAIRS, SCORES, WEIGHTS, X, STATE, Y, STATES, PARTS };

static int64_t sizes(const struct ssd *w, int64_t *size)
{
    int64_t L = SSD_CHUNK, N = w->N, P = w->P, sum = 0;
    const int64_t of[PARTS] = {L * N / 2, L * N / 2, L * N / 2, L * L, L * L / 2, L * P / 2, N * P / 2, L * P, w->heads * N * P};
    for (int i = 0; i < PARTS; i++) sum += size[i] = of[i];
    return sum;
}

struct ctx {
    struct kn_dev *dev;
    const struct ssd_fwd *f;
};

#define VEC_FILE "kernels/cpu/ssd_bf16.c"
#include "kernels/cpu/vec_bf16.h"

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    chunks_bf16(c->f, i, cpu_scratch(c->dev, worker));
}

st_t cpu_ssd_bf16(struct kn_dev *dev, const struct ssd_fwd *f)
{
    const struct ssd *w = &f->w;
    struct ctx c = {dev, f};
    int64_t size[PARTS];
    st_t st = cpu_scratch_need(dev, (size_t)sizes(w, size) * sizeof(float));
    if (st) return st;
    cpu_run(dev, task, &c, (int)(w->B * w->G * w->blocks), (double)(w->B * w->T * w->H * w->P) * 5 * (double)w->N / 100);
    return ST_OK;
}
#else
st_t cpu_ssd_bf16(struct kn_dev *dev, const struct ssd_fwd *f)
{
    return ST_ENOTSUP; /* never: no such device has the precision */
}
#endif

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/vec_ssd.h"
#include "kernels/cpu/ssd_bf16.h"

/* M as rows of pairs for s <= l < n, 0 to the end of the diagonal's vector. */
static void weights_bf16(float *m, const float *cb, const struct ssd_decay *d, int n)
{
    for (int l = 0; l < n; l++, m += SSD_CHUNK / 2, cb += SSD_CHUNK) {
        int s = 0;
        for (; s + VL <= l; s += VL) half_bf16(m + s / 2, vf_mul(ssd_before_bf16(d, l, s), vf_load(cb + s)));
        half_bf16(m + s / 2, vf_mul(ssd_within_bf16(d, l, s), vf_load(cb + s)));
    }
}

/* One head's rows of a chunk. */
static void head_bf16(const struct ssd_fwd *f, const struct ssd_task *k, int64_t h, int64_t t0, int n, float *const *m, float *state)
{
    const struct ssd *w = &f->w;
    int64_t L = SSD_CHUNK, N = w->N, P = w->P, st = w->x.st;
    const float *x = ssd_at(&w->x, k->b, t0, h);
    bool begun = f->state.p || t0 > 0, ends = t0 + n == w->T;
    struct ssd_decay d;
    ssd_decay_bf16(w, k->b, h, t0, n, &d);
    ssd_factors_bf16(&d);
    weights_bf16(m[WEIGHTS], m[SCORES], &d, n);
    pairs_of_rows(m[X], L, x, st, n, P, d.dt);
    if (begun) pairs_of_rows(m[STATE], N, state, P, N, P, NULL);
    struct scan_sum out = {.a1 = m[C], .ar1 = N / 2, .ac1 = 1, .b1 = m[STATE], .bs1 = P, .n1 = begun ? N / 2 : 0, .scale = begun ? d.in : NULL,
                          .shape = SCAN_LOWER, .a2 = m[WEIGHTS], .ar2 = L / 2, .ac2 = 1, .b2 = m[X], .bs2 = P, .n2 = (n + 1) / 2, .c = m[Y], .cs = P};
    scan_sum_bf16(&out, n, P);
    vf D = vf_set1(ssd_of(&w->d, h));
    for (int l = 0; l < n; l++) {
        float *to = ssd_at(&w->y, k->b, t0 + l, h);
        for (int64_t p = 0; p < P; p += VL) vf_store(to + p, vf_fma(D, vf_load(x + l * st + p), vf_load(m[Y] + l * P + p)));
    }
    if (ends && !f->state.p) return;
    for (int l = 0; l < SSD_CHUNK; l++) d.out[l] *= d.dt[l];
    pairs_of_rows(m[X], L, x, st, n, P, d.out);
    struct scan_sum next = {.keep = begun ? d.total : 0, .a2 = m[B_PAIRS], .ar2 = 1, .ac2 = N, .b2 = m[X], .bs2 = P, .n2 = (n + 1) / 2, .c = state, .cs = P};
    scan_sum_bf16(&next, N, P);
}

static void chunks_bf16(const struct ssd_fwd *f, int64_t index, float *mem)
{
    const struct ssd *w = &f->w;
    struct ssd_task k = ssd_task(w, index);
    int64_t size[PARTS], L = SSD_CHUNK, N = w->N, cells = N * w->P;
    float *m[PARTS];
    sizes(w, size);
    for (int i = 0; i < PARTS; i++) m[i] = mem, mem += size[i];
    for (int64_t i = 0; f->state.p && i < k.heads; i++) ssd_load_bf16(f, k.b, k.h0 + i, m[STATES] + i * cells);
    for (int64_t t0 = 0; t0 < w->T; t0 += L) {
        int n = ssd_chunk(w, t0);
        const float *b = ssd_at(&w->b, k.b, t0, k.g);
        rows_of_pairs(m[C], L, b, w->b.st, n, N, NULL);
        lanes_of_pairs(m[B_TURNED], m[C], N);
        pairs_of_rows(m[B_PAIRS], L, b, w->b.st, n, N, NULL);
        rows_of_pairs(m[C], L, ssd_at(&w->c, k.b, t0, k.g), w->c.st, n, N, NULL);
        ssd_scores_bf16(m[SCORES], m[C], N / 2, n, m[B_TURNED], N / 2);
        for (int64_t i = 0; i < k.heads; i++) head_bf16(f, &k, k.h0 + i, t0, n, m, m[STATES] + i * cells);
    }
    for (int64_t i = 0; f->state.p && i < k.heads; i++) ssd_store_bf16(f, k.b, k.h0 + i, m[STATES] + i * cells);
}

#endif
