/* Gated linear attention, forward, in chunks (gla.h). A task is one head of one sequence. One token (decoding) is one pass over the state. */
#ifndef VEC_PASS
#include "kernels/cpu/gla.h"

#define VEC_FILE "kernels/cpu/gla.c"
#include "kernels/cpu/vec_each.h"

static void (*const head_each[])(const struct gla *o, int64_t b, int64_t h, float *mem) = VEC_EACH(head);
static void (*const token_each[])(const struct gla *o, int64_t b, int64_t h, float *mem) = VEC_EACH(token);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct gla o;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int isa = cpu_of(c->dev)->isa;
    (c->o.T == 1 && c->o.s ? token_each : head_each)[isa](&c->o, i / c->o.H, i % c->o.H, cpu_scratch(c->dev, worker));
}

st_t cpu_gla(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
             const struct kn_tensor *g, double scale, const struct kn_tensor *s, const struct kn_tensor *out)
{
    st_t st = kn_check_gla(q, k, v, g, scale, s, out);
    if (st) return st;
    if (q->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) return dev->op->fill(dev, out, 0);
    struct ctx c = {dev, gla_of(q, k, v, g, scale, lanes_each[cpu_of(dev)->isa])};
    struct gla *o = &c.o;
    o->out = out->p;
    o->so = gla_strides(out);
    if (!kn_absent(s)) {
        o->s = s->p;
        for (int i = 0; i < 3; i++) o->ss[i] = s->s[i];
    }
    int64_t C = GLA_CHUNK, floats = C * (6 * o->Kp + 2 * o->Vp + o->K + C) + (2 + GLA_PIECE) * o->Kp + o->K * o->Vp;
    if ((st = cpu_scratch_need(dev, (size_t)floats * sizeof(float)))) return st;
    double cells = (double)(o->B * o->H * o->T) * (double)o->K * (double)o->V;
    cpu_run(dev, task, &c, (int)(o->B * o->H), cells * (o->T == 1 ? 0.5 : 0.2));
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/gla_chunk.h"

enum { VEC_NAME(lanes) = VL };

static void VEC_NAME(head)(const struct gla *o, int64_t b, int64_t h, float *mem)
{
    int64_t C = GLA_CHUNK, Kp = o->Kp, Vp = o->Vp, K = o->K, V = o->V;
    struct gla_chunk x = {.q = mem, .k = mem + C * Kp, .a = mem + 2 * C * Kp, .eq = mem + 3 * C * Kp, .fk = mem + 4 * C * Kp};
    float *near = mem + 5 * C * Kp;
    x.v = near + C * Kp;
    float *out_tile = x.v + C * Vp;
    x.kt = out_tile + C * Vp;
    x.P = x.kt + K * C;
    x.last = x.P + C * C;
    float *B = x.last + Kp;
    x.tile = B + Kp;
    float *S = x.tile + GLA_PIECE * Kp, *state = o->s ? o->s + b * o->ss[0] + h * o->ss[1] : NULL;
    int known = state != NULL; /* is S other than zero? */
    for (int64_t i = 0; i < K && state; i++) VEC_NAME(pad_row)(S + i * Vp, state + i * o->ss[2], V, 1);
    gla_fetch_in(o, b, h, 0);
    for (x.t0 = 0; x.t0 < o->T; x.t0 += C) {
        x.n = gla_rows(o, x.t0);
        VEC_NAME(gla_begin)(o, &x, b, h);
        gla_fetch_in(o, b, h, x.t0 + C);
        VEC_NAME(gla_pairs)(o, &x, near, B);
        float *out = o->out + b * o->so.b + x.t0 * o->so.t + h * o->so.h, *to = V == Vp ? out : out_tile;
        int64_t ts = V == Vp ? o->so.t : Vp;
        struct scan_sum sum = {.a1 = x.eq, .ar1 = Kp, .ac1 = 1, .b1 = S, .bs1 = Vp, .n1 = known ? K : 0,
                               .shape = SCAN_LOWER, .a2 = x.P, .ar2 = C, .ac2 = 1, .b2 = x.v, .bs2 = Vp, .n2 = x.n, .c = to, .cs = ts};
        VEC_NAME(scan_sum)(&sum, x.n, Vp);
        for (int64_t i = 0; i < x.n && V != Vp; i++) VEC_NAME(unpad_row)(out + i * o->so.t, out_tile + i * Vp, V);
        if (state || x.t0 + x.n < o->T) VEC_NAME(gla_advance)(o, &x, known ? S : NULL, S);
        known = 1;
    }
    for (int64_t i = 0; i < K && state; i++) VEC_NAME(unpad_row)(state + i * o->ss[2], S + i * Vp, V);
}

VEC_FN void VEC_NAME(columns)(float *S, int64_t stride, int64_t K, const float *a, const float *q, const float *k, const float *v,
                              float *out, long lanes)
{
    vf x = lanes == VL ? vf_load(v) : vf_loadn(v, lanes), sum = vf_zero();
    for (int64_t i = 0; i < K; i++, S += stride) {
        vf s = lanes == VL ? vf_load(S) : vf_loadn(S, lanes);
        s = vf_fma(vf_set1(k[i]), x, vf_mul(vf_set1(a[i]), s));
        sum = vf_fma(vf_set1(q[i]), s, sum);
        if (lanes == VL)
            vf_store(S, s);
        else
            vf_storen(S, s, lanes);
    }
    if (lanes == VL)
        vf_store(out, sum);
    else
        vf_storen(out, sum, lanes);
}

static void VEC_NAME(token)(const struct gla *o, int64_t b, int64_t h, float *mem)
{
    int64_t Kp = o->Kp, V = o->V;
    float *q = mem, *k = mem + Kp, *a = mem + 2 * Kp, *S = o->s + b * o->ss[0] + h * o->ss[1];
    VEC_NAME(pad_row)(q, o->q + b * o->sq.b + h * o->sq.h, o->K, o->scale);
    VEC_NAME(pad_row)(k, o->k + b * o->sk.b + h * o->sk.h, o->K, 1);
    VEC_NAME(pad_row)(a, o->g + b * o->sg.b + h * o->sg.h, o->K, 1);
    for (int64_t j = 0; j < Kp; j += VL) vf_store(a + j, vf_exp(vf_load(a + j)));
    const float *v = o->v + b * o->sv.b + h * o->sv.h;
    float *out = o->out + b * o->so.b + h * o->so.h;
    int64_t j = 0;
    for (; j + VL <= V; j += VL) VEC_NAME(columns)(S + j, o->ss[2], o->K, a, q, k, v + j, out + j, VL);
    if (j < V) VEC_NAME(columns)(S + j, o->ss[2], o->K, a, q, k, v + j, out + j, (long)(V - j));
}

#endif
