/* Mamba-2's scan forward: in chunks (ssd.h), or a few tokens after a state one by one. */
#ifndef VEC_PASS
#include "kernels/cpu/ssd.h"

#define STEPS_MAX 8 /* fewer tokens than this after a state go one by one */

#define VEC_FILE "kernels/cpu/ssd.c"
#include "kernels/cpu/vec_each.h"

static void (*const chunks_each[])(const struct ssd_fwd *f, int64_t task, float *mem) = VEC_EACH(chunks);
static void (*const steps_each[])(const struct ssd_fwd *f, int64_t b, int64_t h) = VEC_EACH(steps);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct ssd_fwd f;
};

static void chunks_task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    chunks_each[cpu_of(c->dev)->isa](&c->f, i, cpu_scratch(c->dev, worker));
}

static void steps_task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    steps_each[cpu_of(c->dev)->isa](&c->f, i / c->f.w.H, i % c->f.w.H);
}

st_t cpu_ssd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
             const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm,
             const struct kn_tensor *d, const struct kn_tensor *state, const struct kn_tensor *y)
{
    st_t st = kn_check_ssd(x, dt, dt_bias, a_log, bm, cm, d, state, y);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev};
    struct ssd *w = &c.f.w;
    *w = ssd_make(x, dt, dt_bias, a_log, bm, cm, d, y, lanes_each[cpu_of(dev)->isa]);
    if (!kn_absent(state)) c.f.state = ssd_rows(state);
    if (kn_count(x) == 0) return ST_OK;
    double flops = (double)kn_count(x) * 5 * (double)w->N;
    if (c.f.state.p && w->T < STEPS_MAX) {
        cpu_run(dev, steps_task, &c, (int)(w->B * w->H), flops / 10);
        return ST_OK;
    }
    if (ssd_fits_bf16(dev, w)) return cpu_ssd_bf16(dev, &c.f);
    /* b turned round, c.b and weights, x' twice, y, a row of zeros; states */
    size_t floats = (size_t)(w->N * SSD_CHUNK + 2 * SSD_CHUNK * SSD_CHUNK + 3 * SSD_CHUNK * w->Pp + w->N);
    floats += (size_t)(w->heads * w->N * w->Pp);
    if ((st = cpu_scratch_need(dev, floats * sizeof(float)))) return st;
    cpu_run(dev, chunks_task, &c, (int)(w->B * w->G * w->blocks), flops / 50);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/vec_ssd.h"

enum { VEC_NAME(lanes) = VL };

/* m[l][s] = e^{a_l - a_s} cb[l][s] for s <= l < n, 0 to the end of the diagonal's vector. */
static void VEC_NAME(weights)(float *m, const float *cb, const struct ssd_decay *d, int n)
{
    for (int l = 0; l < n; l++, m += SSD_CHUNK, cb += SSD_CHUNK) {
        int s = 0;
        for (; s + VL <= l; s += VL) vf_store(m + s, vf_mul(VEC_NAME(ssd_before)(d, l, s), vf_load(cb + s)));
        vf_store(m + s, vf_mul(VEC_NAME(ssd_within)(d, l, s), vf_load(cb + s)));
    }
}

/* One head's rows of a chunk. */
static void VEC_NAME(head)(const struct ssd_fwd *f, const struct ssd_task *k, int64_t h, int64_t t0, int n, const float *cb,
                           float *m, float *state)
{
    const struct ssd *w = &f->w;
    int64_t Pp = w->Pp, P = w->P, st = w->x.st;
    float *xd = m + SSD_CHUNK * SSD_CHUNK, *xe = xd + SSD_CHUNK * Pp, *y = xe + SSD_CHUNK * Pp;
    const float *x = ssd_at(&w->x, k->b, t0, h), *c = ssd_at(&w->c, k->b, t0, k->g), *b = ssd_at(&w->b, k->b, t0, k->g);
    bool begun = f->state.p || t0 > 0, ends = t0 + n == w->T;
    struct ssd_decay d;
    VEC_NAME(ssd_decay)(w, k->b, h, t0, n, &d);
    VEC_NAME(ssd_factors)(&d);
    VEC_NAME(weights)(m, cb, &d, n);
    VEC_NAME(ssd_pack)(xd, x, st, n, P, Pp, d.dt);
    struct scan_sum out = {.a1 = c, .ar1 = w->c.st, .ac1 = 1, .b1 = state, .bs1 = Pp, .n1 = begun ? w->N : 0, .scale = begun ? d.in : NULL,
                          .shape = SCAN_LOWER, .a2 = m, .ar2 = SSD_CHUNK, .ac2 = 1, .b2 = xd, .bs2 = Pp, .n2 = n, .c = y, .cs = Pp};
    VEC_NAME(scan_sum)(&out, n, Pp);
    vf D = vf_set1(ssd_of(&w->d, h));
    for (int l = 0; l < n; l++, x += st, y += Pp) {
        float *to = ssd_at(&w->y, k->b, t0 + l, h);
        int64_t p = 0;
        for (; p + VL <= P; p += VL) vf_store(to + p, vf_fma(D, vf_load(x + p), vf_load(y + p)));
        if (p < P) vf_storen(to + p, vf_fma(D, vf_loadn(x + p, P - p), vf_load(y + p)), P - p);
    }
    if (ends && !f->state.p) return;
    VEC_NAME(ssd_pack)(xe, xd, Pp, n, Pp, Pp, d.out);
    struct scan_sum next = {.keep = begun ? d.total : 0, .a2 = b, .ar2 = 1, .ac2 = w->b.st, .b2 = xe, .bs2 = Pp, .n2 = n, .c = state, .cs = Pp};
    VEC_NAME(scan_sum)(&next, w->N, Pp);
}

static void VEC_NAME(chunks)(const struct ssd_fwd *f, int64_t task, float *mem)
{
    const struct ssd *w = &f->w;
    struct ssd_task k = ssd_task(w, task);
    float *bt = mem, *cb = bt + w->N * SSD_CHUNK, *m = cb + SSD_CHUNK * SSD_CHUNK;
    float *zeros = m + SSD_CHUNK * SSD_CHUNK + 3 * SSD_CHUNK * w->Pp, *state = zeros + w->N;
    memset(zeros, 0, (size_t)w->N * sizeof *zeros);
    for (int64_t i = 0; f->state.p && i < k.heads; i++) VEC_NAME(ssd_load)(f, k.b, k.h0 + i, state + i * w->N * w->Pp);
    for (int64_t t0 = 0; t0 < w->T; t0 += SSD_CHUNK) {
        int n = ssd_chunk(w, t0);
        VEC_NAME(ssd_turn)(bt, ssd_at(&w->b, k.b, t0, k.g), w->b.st, n, w->N, zeros);
        VEC_NAME(ssd_scores)(cb, ssd_at(&w->c, k.b, t0, k.g), w->c.st, n, bt, w->N);
        for (int64_t i = 0; i < k.heads; i++) VEC_NAME(head)(f, &k, k.h0 + i, t0, n, cb, m, state + i * w->N * w->Pp);
    }
    for (int64_t i = 0; f->state.p && i < k.heads; i++) VEC_NAME(ssd_store)(f, k.b, k.h0 + i, state + i * w->N * w->Pp);
}

/* s[N] = decay s + v b;  returns s . c */
VEC_FN float VEC_NAME(step)(float *s, float decay, float v, const float *b, const float *c, int64_t N)
{
    vf a = vf_set1(decay), x = vf_set1(v), sum = vf_zero();
    int64_t i = 0;
    for (; i + VL <= N; i += VL) {
        vf t = vf_fma(x, vf_load(b + i), vf_mul(a, vf_load(s + i)));
        vf_store(s + i, t);
        sum = vf_fma(t, vf_load(c + i), sum);
    }
    if (i < N) {
        vf t = vf_fma(x, vf_loadn(b + i, N - i), vf_mul(a, vf_loadn(s + i, N - i)));
        vf_storen(s + i, t, N - i);
        sum = vf_fma(t, vf_loadn(c + i, N - i), sum);
    }
    return vf_hsum(sum);
}

static void VEC_NAME(steps)(const struct ssd_fwd *f, int64_t b, int64_t h)
{
    const struct ssd *w = &f->w;
    int64_t g = h / (w->H / w->G);
    double A = -exp((double)ssd_of(&w->a_log, h));
    float bias = ssd_of(&w->bias, h), D = ssd_of(&w->d, h), slope;
    for (int64_t t = 0; t < w->T; t++) {
        float dt = VEC_NAME(ssd_softplus)(*ssd_at(&w->dt, b, t, h) + bias, &slope), decay = (float)exp(A * (double)dt);
        const float *x = ssd_at(&w->x, b, t, h), *bm = ssd_at(&w->b, b, t, g), *cm = ssd_at(&w->c, b, t, g);
        float *y = ssd_at(&w->y, b, t, h);
        for (int64_t p = 0; p < w->P; p++)
            y[p] = D * x[p] + VEC_NAME(step)(ssd_at(&f->state, b, h, p), decay, dt * x[p], bm, cm, w->N);
    }
}

#endif
