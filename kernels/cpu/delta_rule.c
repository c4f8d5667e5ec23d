/* Gated delta rule, forward, in chunks (delta.h). A task is one value head of one sequence. One token (decoding) is two passes over a state
 * that stays in the first cache between them: what it answers to k and q, then its update. */
#ifndef VEC_PASS
#include "kernels/cpu/delta.h"

#define VEC_FILE "kernels/cpu/delta_rule.c"
#include "kernels/cpu/vec_each.h"

static void (*const head_each[])(const struct delta *o, int64_t b, int64_t h, float *mem) = VEC_EACH(head);
static void (*const token_each[])(const struct delta *o, int64_t b, int64_t h, float *mem) = VEC_EACH(token);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct delta o;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int isa = cpu_of(c->dev)->isa;
    (c->o.T == 1 && c->o.s ? token_each : head_each)[isa](&c->o, i / c->o.H, i % c->o.H, cpu_scratch(c->dev, worker));
}

st_t cpu_delta_rule(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                    const struct kn_tensor *g, const struct kn_tensor *beta, double eps, double scale,
                    const struct kn_tensor *s, const struct kn_tensor *out)
{
    st_t st = kn_check_delta_rule(q, k, v, g, beta, eps, scale, s, out);
    if (st) return st;
    if (q->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) return dev->op->fill(dev, out, 0);
    struct ctx c = {dev, delta_of(q, k, v, g, beta, eps, scale, lanes_each[cpu_of(dev)->isa])};
    struct delta *o = &c.o;
    o->out = out->p;
    o->so = delta_strides(out);
    if (!kn_absent(s)) {
        o->s = s->p;
        for (int i = 0; i < 3; i++) o->ss[i] = s->s[i];
    }
    int64_t C = DELTA_CHUNK, floats = C * (2 * o->Kp + o->K + 2 * C + 2 * o->Vp) + o->K * o->Vp;
    if ((st = cpu_scratch_need(dev, (size_t)floats * sizeof(float)))) return st;
    double cells = (double)(o->B * o->H * o->T) * (double)o->K * (double)o->V;
    cpu_run(dev, task, &c, (int)(o->B * o->H), cells * (o->T == 1 ? 0.8 : 0.2));
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/delta_chunk.h"

enum { VEC_NAME(lanes) = VL };

static void VEC_NAME(head)(const struct delta *o, int64_t b, int64_t h, float *mem)
{
    int64_t C = DELTA_CHUNK, Kp = o->Kp, Vp = o->Vp, K = o->K, V = o->V;
    struct delta_chunk x = {.q = mem, .k = mem + C * Kp, .kt = mem + 2 * C * Kp};
    x.kk = x.kt + K * C;
    x.qk = x.kk + C * C;
    x.d = x.qk + C * C;
    float *tile = x.d + C * Vp, *S = tile + C * Vp, *state = o->s ? o->s + b * o->ss[0] + h * o->ss[1] : NULL;
    delta_fetch(o, o->k, &o->sk, b, h / o->R, 0, K);
    delta_fetch(o, o->q, &o->sq, b, h / o->R, 0, K);
    delta_fetch(o, o->v, &o->sv, b, h, 0, V);
    int known = 0; /* is S other than zero? */
    if (state) {
        for (int64_t i = 0; i < K; i++) VEC_NAME(pad_row)(S + i * Vp, state + i * o->ss[2], V, 1);
        known = 1;
    }
    for (x.t0 = 0; x.t0 < o->T; x.t0 += C) {
        x.n = delta_rows(o, x.t0);
        VEC_NAME(delta_begin)(o, &x, b, h, 1);
        delta_fetch(o, o->k, &o->sk, b, h / o->R, x.t0 + C, K);
        delta_fetch(o, o->q, &o->sq, b, h / o->R, x.t0 + C, K);
        VEC_NAME(delta_solve)(o, &x, b, h, known ? S : NULL);
        delta_fetch(o, o->v, &o->sv, b, h, x.t0 + C, V);
        float *out = o->out + b * o->so.b + x.t0 * o->so.t + h * o->so.h, *to = V == Vp ? out : tile;
        int64_t ts = V == Vp ? o->so.t : Vp;
        struct scan_sum sum = {.a1 = x.q, .ar1 = Kp, .ac1 = 1, .b1 = S, .bs1 = Vp, .n1 = known ? K : 0, .scale = known ? x.e : NULL,
                               .shape = SCAN_LOWER, .a2 = x.qk, .ar2 = C, .ac2 = 1, .b2 = x.d, .bs2 = Vp, .n2 = x.n, .c = to, .cs = ts};
        VEC_NAME(scan_sum)(&sum, x.n, Vp);
        for (int64_t i = 0; i < x.n && V != Vp; i++) VEC_NAME(unpad_row)(out + i * o->so.t, tile + i * Vp, V);
        if (state || x.t0 + x.n < o->T) VEC_NAME(delta_advance)(o, &x, x.d, known ? S : NULL, S);
        known = 1;
    }
    for (int64_t i = 0; i < K && state; i++) VEC_NAME(unpad_row)(state + i * o->ss[2], S + i * Vp, V);
}

/* sums over k of S[k][j..] x[k] and S[k][j..] y[k] */
VEC_FN void VEC_NAME(ask)(const float *S, int64_t stride, int64_t K, const float *x, const float *y, long lanes, vf *sx,
                          vf *sy)
{
    vf a = vf_zero(), c = vf_zero(), a2 = a, c2 = c;
    int64_t k = 0;
    for (; k + 2 <= K; k += 2, S += 2 * stride) {
        vf s = lanes == VL ? vf_load(S) : vf_loadn(S, lanes);
        vf t = lanes == VL ? vf_load(S + stride) : vf_loadn(S + stride, lanes);
        a = vf_fma(s, vf_set1(x[k]), a);
        c = vf_fma(s, vf_set1(y[k]), c);
        a2 = vf_fma(t, vf_set1(x[k + 1]), a2);
        c2 = vf_fma(t, vf_set1(y[k + 1]), c2);
    }
    if (k < K) {
        vf s = lanes == VL ? vf_load(S) : vf_loadn(S, lanes);
        a = vf_fma(s, vf_set1(x[k]), a);
        c = vf_fma(s, vf_set1(y[k]), c);
    }
    *sx = vf_add(a, a2);
    *sy = vf_add(c, c2);
}

/* out = e^g S^T q + (k . q) d: the state before the token answers both. */
static void VEC_NAME(token)(const struct delta *o, int64_t b, int64_t h, float *mem)
{
    int64_t K = o->K, Kp = o->Kp, V = o->V, key = h / o->R;
    float *q = mem, *k = mem + Kp, *S = o->s + b * o->ss[0] + h * o->ss[1], r[VL], a[VL] = {0};
    VEC_NAME(unit_rows)(q, o->q + b * o->sq.b + key * o->sq.h, 0, 1, K, Kp, o->eps, o->scale, r);
    VEC_NAME(unit_rows)(k, o->k + b * o->sk.b + key * o->sk.h, 0, 1, K, Kp, o->eps, 1, r);
    a[0] = o->g[b * o->sg.b + h * o->sg.h];
    vf_store(a, vf_exp(vf_load(a)));
    vf decay = vf_set1(a[0]), beta = vf_set1(o->beta[b * o->sbeta.b + h * o->sbeta.h]);
    vf kq = vf_set1(VEC_NAME(dot_row)(k, q, Kp));
    const float *v = o->v + b * o->sv.b + h * o->sv.h;
    float *out = o->out + b * o->so.b + h * o->so.h;
    for (int64_t j = 0; j < V; j += VL) {
        long lanes = V - j < VL ? (long)(V - j) : VL;
        vf sk, sq;
        if (lanes == VL)
            VEC_NAME(ask)(S + j, o->ss[2], K, k, q, VL, &sk, &sq);
        else
            VEC_NAME(ask)(S + j, o->ss[2], K, k, q, lanes, &sk, &sq);
        vf d = vf_mul(beta, vf_fnma(decay, sk, vf_loadn(v + j, lanes)));
        vf_storen(out + j, vf_fma(kq, d, vf_mul(decay, sq)), lanes);
        float *row = S + j;
        if (lanes == VL)
            for (int64_t i = 0; i < K; i++, row += o->ss[2]) vf_store(row, vf_fma(vf_set1(k[i]), d, vf_mul(decay, vf_load(row))));
        else
            for (int64_t i = 0; i < K; i++, row += o->ss[2])
                vf_storen(row, vf_fma(vf_set1(k[i]), d, vf_mul(decay, vf_loadn(row, lanes))), lanes);
    }
}

#endif
