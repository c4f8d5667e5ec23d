/* Gated linear attention, backward, in chunks. A task is one head of one sequence. A first pass over the chunks keeps the state before each; the
 * second goes back. With S the state before a chunk, dS' the gradient of the one after it, and P as in gla.h:
 *
 *   dv = P^T dout + (f k) dS'     dP = dout v^T, up to the diagonal     dS = diag(e_n) dS' + (e q)^T dout
 *   dq_i = e_i (S dout_i) + sum_j dP_ij k_j (a_(j+1) .. a_i)            dk_j = f_j (dS' v_j) + sum_i dP_ij q_i (a_(j+1) .. a_i)
 *
 * the sums piece by piece as in the forward. dg_m is what crosses from before m to m or later: reads of S at i >= m, writes to S' at j < m, S
 * itself; and of the pairs of the chunk, the sum from m on of q_i dq_i - k_i dk_i, in which those on one side of m cancel. */
#ifndef VEC_PASS
#include "kernels/cpu/gla.h"

struct gla_bwd {
    struct gla o;
    const float *dout;
    float *dq, *dk, *dv, *dg;
    struct gla_strides sdout, sdq, sdk, sdv, sdg;
};

/* What a head carves out of its worker's memory, in floats. */
struct layout {
    int64_t q, k, v, a, eq, fk, last, kt, P, dP, tile, tile2, near, far, B, dout, vt, st, dq, dk, own, dg, dv, ds, states, total;
};

static struct layout layout(const struct gla *o)
{
    int64_t C = GLA_CHUNK, Kp = o->Kp, Vp = o->Vp;
    struct layout l;
    int64_t at = 0;
#define CARVE(name, size) l.name = at, at += (size)
    CARVE(q, C * Kp);
    CARVE(k, C * Kp);
    CARVE(v, C * Vp);
    CARVE(a, C * Kp);
    CARVE(eq, C * Kp);
    CARVE(fk, C * Kp);
    CARVE(last, Kp);
    CARVE(kt, o->K * C);
    CARVE(P, C * C);
    CARVE(dP, C * C);
    CARVE(tile, GLA_PIECE * Kp);
    CARVE(tile2, GLA_PIECE * Kp);
    CARVE(near, C * Kp);
    CARVE(far, C * Kp);
    CARVE(B, Kp);
    CARVE(dout, C * Vp);
    CARVE(vt, Vp * C);
    CARVE(st, Vp * Kp);
    CARVE(dq, C * Kp);
    CARVE(dk, C * Kp);
    CARVE(own, 2 * C * Kp);
    CARVE(dg, C * Kp);
    CARVE(dv, C * Vp);
    CARVE(ds, o->K * Vp);
    CARVE(states, gla_chunks(o) * o->K * Vp);
#undef CARVE
    l.total = at;
    return l;
}

#define VEC_FILE "kernels/cpu/gla_bwd.c"
#include "kernels/cpu/vec_each.h"

static void (*const head_each[])(const struct gla_bwd *c, int64_t b, int64_t h, float *mem) = VEC_EACH(head);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct gla_bwd w;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    head_each[cpu_of(c->dev)->isa](&c->w, i / c->w.o.H, i % c->w.o.H, cpu_scratch(c->dev, worker));
}

st_t cpu_gla_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                 const struct kn_tensor *g, double scale, const struct kn_tensor *dout, const struct kn_tensor *dq,
                 const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg)
{
    st_t st = kn_check_gla_bwd(q, k, v, g, scale, dout, dq, dk, dv, dg);
    if (st) return st;
    if (q->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) {
        const struct kn_tensor *zero[] = {dq, dk, dv, dg};
        for (int i = 0; i < 4 && !st; i++) st = dev->op->fill(dev, zero[i], 0);
        return st;
    }
    struct ctx c = {dev,
                    {gla_of(q, k, v, g, scale, lanes_each[cpu_of(dev)->isa]), dout->p, dq->p, dk->p, dv->p, dg->p,
                     gla_strides(dout), gla_strides(dq), gla_strides(dk), gla_strides(dv), gla_strides(dg)}};
    const struct gla *o = &c.w.o;
    if ((st = cpu_scratch_need(dev, (size_t)layout(o).total * sizeof(float)))) return st;
    cpu_run(dev, task, &c, (int)(o->B * o->H), (double)(o->B * o->H * o->T) * (double)o->K * (double)o->V * 0.5);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/gla_chunk.h"

enum { VEC_NAME(lanes) = VL };

/* dst += m src, m a number; and dst += w src, w a row. */
VEC_FN void VEC_NAME(add_row)(float *dst, const float *src, int64_t Np, float m)
{
    vf x = vf_set1(m);
    for (int64_t k = 0; k < Np; k += VL) vf_store(dst + k, vf_fma(x, vf_load(src + k), vf_load(dst + k)));
}

/* dq += sum over the pairs of the chunk, dk likewise (rows of Kp). */
static void VEC_NAME(pairs_back)(const struct gla *o, const struct gla_chunk *x, const struct layout *l, float *mem, float *dq, float *dk)
{
    int64_t n = x->n, Kp = o->Kp, C = GLA_CHUNK, nk = Kp / VL;
    float *dP = mem + l->dP, *near = mem + l->near, *far = mem + l->far, *B = mem + l->B, *tile = mem + l->tile, *sum = mem + l->tile2;
    /* queries of a piece: far are the keys before it, decayed to its border */
    for (int64_t from = 0; from < n; from += GLA_PIECE) {
        int64_t end = from + GLA_PIECE < n ? from + GLA_PIECE : n;
        if (from) {
            VEC_NAME(mm_set)(end - from, nk, dP + from * C, C, 1, far, Kp, from, near + from * Kp, Kp);
            VEC_NAME(forth)(near, near, x->a, Kp, from, end, B);
            for (int64_t i = from; i < end; i++) VEC_NAME(add_row)(dq + i * Kp, near + i * Kp, Kp, 1);
            for (int64_t j = 0; j < from; j++) VEC_NAME(mul_row)(far + j * Kp, far + j * Kp, B, Kp);
        }
        VEC_NAME(to_end)(far, x->k, x->a, Kp, from, end);
        for (int64_t i = from; i < end; i++) {
            memcpy(tile + (i - from) * Kp, x->k + i * Kp, (size_t)Kp * sizeof *tile);
            for (int64_t j = from; j < i; j++) VEC_NAME(mul_row)(tile + (j - from) * Kp, tile + (j - from) * Kp, x->a + i * Kp, Kp);
            VEC_NAME(mm_add)(1, nk, dP + i * C + from, C, 1, tile, Kp, i - from + 1, dq + i * Kp, Kp);
        }
    }
    /* keys of a piece: far are the queries after it, decayed to its end */
    for (int64_t from = (n - 1) / GLA_PIECE * GLA_PIECE; from >= 0; from -= GLA_PIECE) {
        int64_t end = from + GLA_PIECE < n ? from + GLA_PIECE : n;
        if (end < n) {
            VEC_NAME(mm_set)(end - from, nk, dP + end * C + from, 1, C, far + end * Kp, Kp, n - end, near + from * Kp, Kp);
            VEC_NAME(to_end)(near, near, x->a, Kp, from, end);
            for (int64_t j = from; j < end; j++) VEC_NAME(add_row)(dk + j * Kp, near + j * Kp, Kp, 1);
        }
        VEC_NAME(forth)(far, x->q, x->a, Kp, from, end, B);
        for (int64_t i = end; i < n; i++) VEC_NAME(mul_row)(far + i * Kp, far + i * Kp, B, Kp);
        for (int64_t j = end - 1; j >= from; j--) {
            for (int64_t i = j + 1; i < end; i++) VEC_NAME(mul_row)(sum + (i - from) * Kp, sum + (i - from) * Kp, x->a + (j + 1) * Kp, Kp);
            memcpy(sum + (j - from) * Kp, x->q + j * Kp, (size_t)Kp * sizeof *sum);
            VEC_NAME(mm_add)(1, nk, dP + j * C + j, 1, C, sum + (j - from) * Kp, Kp, end - j, dk + j * Kp, Kp);
        }
    }
}

/* dst_i = e_i src_i, or f_i src_i. */
static void VEC_NAME(weigh_rows)(float *dst, const float *a, int64_t n, int64_t Kp, int back)
{
    for (int64_t j = 0; j < Kp; j += VL) {
        vf w = vf_set1(1.0f);
        for (int64_t i = back ? n - 1 : 0; i >= 0 && i < n; i += back ? -1 : 1) {
            if (!back) w = vf_mul(w, vf_load(a + i * Kp + j));
            vf_store(dst + i * Kp + j, vf_mul(w, vf_load(dst + i * Kp + j)));
            if (back) w = vf_mul(w, vf_load(a + i * Kp + j));
        }
    }
}

/* dg [n][Kp] from the gradients by way of the states (dqs, dks), those of the pairs (dqp, dkp), and what passes through the chunk. */
static void VEC_NAME(cross)(const struct gla *o, const struct gla_chunk *x, const float *dqs, const float *dks, const float *dqp, const float *dkp,
                            const float *through, float *dg)
{
    int64_t n = x->n, Kp = o->Kp;
    for (int64_t j = 0; j < Kp; j += VL) {
        vf sum = vf_zero(), w = vf_load(through + j);
        for (int64_t i = n - 1; i >= 0; i--) {
            int64_t at = i * Kp + j;
            vf q = vf_load(x->q + at), k = vf_load(x->k + at);
            sum = vf_add(sum, vf_fma(q, vf_load(dqs + at), vf_fnma(k, vf_load(dkp + at), vf_mul(q, vf_load(dqp + at)))));
            vf_store(dg + at, sum);
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t at = i * Kp + j;
            vf_store(dg + at, vf_add(vf_load(dg + at), w));
            w = vf_fma(vf_load(x->k + at), vf_load(dks + at), w);
        }
    }
}

/* One chunk backwards. S: the state before it (NULL: zero); after: there are chunks after it, and dS' is at l->ds. */
static void VEC_NAME(back)(const struct gla_bwd *c, struct gla_chunk *x, const struct layout *l, int64_t b, int64_t h, float *mem,
                           const float *S, int after)
{
    const struct gla *o = &c->o;
    int64_t n = x->n, K = o->K, V = o->V, Kp = o->Kp, Vp = o->Vp, C = GLA_CHUNK, nk = Kp / VL;
    float *ds = mem + l->ds, *don = mem + l->dout, *dv = mem + l->dv, *dP = mem + l->dP, *st = mem + l->st, *vt = mem + l->vt;
    float *dq = mem + l->dq, *dk = mem + l->dk, *dqp = mem + l->own, *dkp = dqp + C * Kp, *dg = mem + l->dg, *through = mem + l->B;
    const float *dout = c->dout + b * c->sdout.b + x->t0 * c->sdout.t + h * c->sdout.h;

    VEC_NAME(gla_begin)(o, x, b, h);
    gla_fetch(o, c->dv, &c->sdv, b, h, x->t0, V);
    gla_fetch(o, c->dq, &c->sdq, b, h, x->t0, K);
    VEC_NAME(gla_pairs)(o, x, mem + l->near, mem + l->B);
    gla_fetch(o, c->dk, &c->sdk, b, h, x->t0, K);
    gla_fetch(o, c->dg, &c->sdg, b, h, x->t0, K);
    for (int64_t i = 0; i < n; i++) VEC_NAME(pad_row)(don + i * Vp, dout + i * c->sdout.t, V, 1);
    struct scan_sum values = {.a1 = x->fk, .ar1 = Kp, .ac1 = 1, .b1 = ds, .bs1 = Vp, .n1 = after ? K : 0,
                              .shape = SCAN_UPPER, .a2 = x->P, .ar2 = 1, .ac2 = C, .b2 = don, .bs2 = Vp, .n2 = n, .c = dv, .cs = Vp};
    VEC_NAME(scan_sum)(&values, n, Vp);
    VEC_NAME(flip)(vt, C, x->v, Vp, n, V);
    VEC_NAME(mm_lower)(n, don, Vp, vt, C, V, dP, C);

    memset(dqp, 0, (size_t)(2 * C * Kp) * sizeof *dqp);
    VEC_NAME(pairs_back)(o, x, l, mem, dqp, dkp);
    gla_fetch(o, c->dout, &c->sdout, b, h, x->t0 - C, V);
    if (S) {
        VEC_NAME(flip)(st, Kp, S, Vp, K, V);
        VEC_NAME(mm_set)(n, nk, don, Vp, 1, st, Kp, V, dq, Kp);
        VEC_NAME(weigh_rows)(dq, x->a, n, Kp, 0);
    } else {
        memset(dq, 0, (size_t)(n * Kp) * sizeof *dq);
    }
    if (after) {
        VEC_NAME(flip)(st, Kp, ds, Vp, K, V);
        VEC_NAME(mm_set)(n, nk, x->v, Vp, 1, st, Kp, V, dk, Kp);
        VEC_NAME(weigh_rows)(dk, x->a, n, Kp, 1);
    } else {
        memset(dk, 0, (size_t)(n * Kp) * sizeof *dk);
    }
    memset(through, 0, (size_t)Kp * sizeof *through);
    for (int64_t k = 0; k < K && S && after; k++) through[k] = x->last[k] * VEC_NAME(dot_row)(S + k * Vp, ds + k * Vp, Vp);
    VEC_NAME(cross)(o, x, dq, dk, dqp, dkp, through, dg);

    float *to_q = c->dq + b * c->sdq.b + x->t0 * c->sdq.t + h * c->sdq.h, *to_k = c->dk + b * c->sdk.b + x->t0 * c->sdk.t + h * c->sdk.h;
    float *to_v = c->dv + b * c->sdv.b + x->t0 * c->sdv.t + h * c->sdv.h, *to_g = c->dg + b * c->sdg.b + x->t0 * c->sdg.t + h * c->sdg.h;
    for (int64_t i = 0; i < n; i++) {
        VEC_NAME(add_row)(dq + i * Kp, dqp + i * Kp, Kp, 1);
        VEC_NAME(scale_row)(dq + i * Kp, dq + i * Kp, Kp, o->scale);
        VEC_NAME(add_row)(dk + i * Kp, dkp + i * Kp, Kp, 1);
        VEC_NAME(unpad_row)(to_q + i * c->sdq.t, dq + i * Kp, K);
        VEC_NAME(unpad_row)(to_k + i * c->sdk.t, dk + i * Kp, K);
        VEC_NAME(unpad_row)(to_v + i * c->sdv.t, dv + i * Vp, V);
        VEC_NAME(unpad_row)(to_g + i * c->sdg.t, dg + i * Kp, K);
    }
    if (!S) return; /* nothing before it */
    struct scan_sum before = {.keep = after ? 1 : 0, .scale = after ? x->last : NULL, .a2 = x->eq, .ar2 = 1, .ac2 = Kp, .b2 = don, .bs2 = Vp,
                              .n2 = n, .c = ds, .cs = Vp};
    VEC_NAME(scan_sum)(&before, K, Vp);
}

static void VEC_NAME(head)(const struct gla_bwd *c, int64_t b, int64_t h, float *mem)
{
    const struct gla *o = &c->o;
    struct layout l = layout(o);
    int64_t C = GLA_CHUNK, chunks = gla_chunks(o), cells = o->K * o->Vp;
    struct gla_chunk x = {.q = mem + l.q, .k = mem + l.k, .v = mem + l.v, .a = mem + l.a, .eq = mem + l.eq, .fk = mem + l.fk,
                          .last = mem + l.last, .kt = mem + l.kt, .P = mem + l.P, .tile = mem + l.tile};
    float *states = mem + l.states; /* [chunks][K][Vp]: after each chunk */
    gla_fetch_in(o, b, h, 0);
    for (int64_t i = 0; i + 1 < chunks; i++) {
        x.t0 = i * C;
        x.n = C;
        VEC_NAME(gla_begin)(o, &x, b, h);
        gla_fetch_in(o, b, h, x.t0 + C);
        VEC_NAME(gla_advance)(o, &x, i ? states + (i - 1) * cells : NULL, states + i * cells);
    }
    gla_fetch(o, c->dout, &c->sdout, b, h, (chunks - 1) * C, o->V);
    for (int64_t i = chunks - 1; i >= 0; i--) {
        x.t0 = i * C;
        x.n = gla_rows(o, x.t0);
        VEC_NAME(back)(c, &x, &l, b, h, mem, i ? states + (i - 1) * cells : NULL, i + 1 < chunks);
    }
}

#endif
