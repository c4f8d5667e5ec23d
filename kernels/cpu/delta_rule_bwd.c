/* Gated delta rule, backward, in chunks. A task is one key head of one sequence with its value heads in order, so that what is summed into dq
 * and dk has one order. A first pass over the chunks keeps the state before each and the solutions d and err (delta.h); the second goes back.
 * With S the state before a chunk, dS' the gradient of the one after it, K' = D * (K K^T) strictly below the diagonal, P = D * (Q K^T) up to it:
 *
 *   dd = P^T dout + f (K dS')      dx = beta dr,  dr_j = dd_j - sum_(i>j) K'_ij dx_i       dv = dx    dbeta = dr . err
 *   dQ  = (e dout) S^T + (D * dout d^T) K
 *   dKr = -(e dx) S^T - (D * dx d^T, strict) K                                            k as a reader of the state
 *   dKw = (f d) dS'^T - (D * dx d^T, strict)^T K + (D * dout d^T)^T Q                     k as a writer
 *   dS  = e_n dS' + Q^T (e dout) - K^T (e dx)
 *
 * dg_m is the sum of what crosses from before m to m or later, each with the decay that it has: pairs j < m <= i (their weight times its
 * gradient), reads of S at i >= m, writes to S' at j < m, and S itself. Nothing is subtracted, so that it stays accurate where decays are strong. */
#ifndef VEC_PASS
#include "kernels/cpu/delta.h"

struct delta_bwd {
    struct delta o;
    const float *dout;
    float *dq, *dk, *dv, *dg, *dbeta;
    struct delta_strides sdout, sdq, sdk, sdv, sdg, sdbeta;
};

/* What a head carves out of its worker's memory, in floats. */
struct layout {
    int64_t q, k, kt, kk, qk, D, mo, mx, dt, st, tst, dout, eo, ex, w, fd, dq, dkr, dkw, ds, states, d, err, total;
};

static struct layout layout(const struct delta *o)
{
    int64_t C = DELTA_CHUNK, Kp = o->Kp, Vp = o->Vp, rows = delta_chunks(o) * C;
    struct layout l;
    int64_t at = 0;
#define CARVE(name, size) l.name = at, at += (size)
    CARVE(q, C * Kp);
    CARVE(k, C * Kp);
    CARVE(kt, o->K * C);
    CARVE(kk, C * C);
    CARVE(qk, C * C);
    CARVE(D, C * C);
    CARVE(mo, C * C);
    CARVE(mx, C * C);
    CARVE(dt, Vp * C);
    CARVE(st, Vp * Kp);
    CARVE(tst, Vp * Kp);
    CARVE(dout, C * Vp);
    CARVE(eo, C * Vp);
    CARVE(ex, C * Vp);
    CARVE(w, C * Vp);
    CARVE(fd, C * Vp);
    CARVE(dq, C * Kp);
    CARVE(dkr, C * Kp);
    CARVE(dkw, C * Kp);
    CARVE(ds, o->K * Vp);
    CARVE(states, delta_chunks(o) * o->K * Vp);
    CARVE(d, rows * Vp);
    CARVE(err, rows * Vp);
#undef CARVE
    l.total = at;
    return l;
}

#define VEC_FILE "kernels/cpu/delta_rule_bwd.c"
#include "kernels/cpu/vec_each.h"

static void (*const head_each[])(const struct delta_bwd *c, int64_t b, int64_t h, float *mem) = VEC_EACH(head);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct delta_bwd w;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    const struct delta *o = &c->w.o;
    for (int64_t r = 0; r < o->R; r++)
        head_each[cpu_of(c->dev)->isa](&c->w, i / o->G, i % o->G * o->R + r, cpu_scratch(c->dev, worker));
}

st_t cpu_delta_rule_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k,
                        const struct kn_tensor *v, const struct kn_tensor *g, const struct kn_tensor *beta, double eps,
                        double scale, const struct kn_tensor *dout, const struct kn_tensor *dq,
                        const struct kn_tensor *dk, const struct kn_tensor *dv, const struct kn_tensor *dg,
                        const struct kn_tensor *dbeta)
{
    st_t st = kn_check_delta_rule_bwd(q, k, v, g, beta, eps, scale, dout, dq, dk, dv, dg, dbeta);
    if (st) return st;
    if (q->dtype != KN_F32) return ST_ENOTSUP;
    if (kn_count(v) == 0 || q->d[3] == 0) {
        const struct kn_tensor *zero[] = {dq, dk, dv, dg, dbeta};
        for (int i = 0; i < 5 && !st; i++) st = dev->op->fill(dev, zero[i], 0);
        return st;
    }
    struct ctx c = {dev,
                    {delta_of(q, k, v, g, beta, eps, scale, lanes_each[cpu_of(dev)->isa]), dout->p, dq->p, dk->p, dv->p,
                     dg->p, dbeta->p, delta_strides(dout), delta_strides(dq), delta_strides(dk), delta_strides(dv),
                     delta_strides(dg), delta_strides(dbeta)}};
    const struct delta *o = &c.w.o;
    if ((st = cpu_scratch_need(dev, (size_t)layout(o).total * sizeof(float)))) return st;
    cpu_run(dev, task, &c, (int)(o->B * o->G), (double)(o->B * o->H * o->T) * (double)o->K * (double)o->V * 0.6);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/delta_chunk.h"

enum { VEC_NAME(lanes) = VL };

/* Rows r0 .. r0 + mr - 1 of dx in nv vectors from v0 on, those after are known: dr = f K dS' + P^T dout - K'^T dx, dx = beta dr (ds NULL: no dS').
 * dbeta += dr . err. */
VEC_FN void VEC_NAME(solve_back_block)(int mr, int nv, const struct delta *o, const struct delta_chunk *x, const float *ds, const float *dout, float *dx,
                                       float *dbeta, int64_t r0, int64_t v0)
{
    int64_t n = x->n, Vp = o->Vp, C = DELTA_CHUNK, end = r0 + mr;
    vf acc[4][MM_VECTORS];
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[r][v] = vf_zero();
    if (ds) {
        VEC_NAME(scan_run)(mr, nv, acc, x->k + r0 * o->Kp, o->Kp, 1, ds + v0, Vp, o->K);
#pragma GCC unroll 4
        for (int r = 0; r < mr; r++) {
            vf f = vf_set1(x->f[r0 + r]);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[r][v] = vf_mul(acc[r][v], f);
        }
    }
    VEC_NAME(scan_run)(mr, nv, acc, x->qk + r0 * C + r0, 1, C, dout + r0 * Vp + v0, Vp, n - r0);
    VEC_NAME(scan_run)(mr, nv, acc, x->kk + end * C + r0, 1, C, dx + end * Vp + v0, Vp, n - end);
#pragma GCC unroll 4
    for (int r = mr - 1; r >= 0; r--) {
        int64_t i = r0 + r;
        vf beta = vf_set1(x->beta[i]), sum = vf_zero();
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) {
            vf y = acc[r][v];
#pragma GCC unroll 4
            for (int m = r + 1; m < mr; m++) y = vf_fma(vf_set1(x->kk[(r0 + m) * C + i]), acc[m][v], y);
            sum = vf_fma(y, vf_load(x->err + i * Vp + v0 + v * VL), sum);
            acc[r][v] = vf_mul(y, beta);
            vf_store(dx + i * Vp + v0 + v * VL, acc[r][v]);
        }
        dbeta[i] += vf_hsum(sum);
    }
}

VEC_FN void VEC_NAME(solve_back_panel)(int nv, const struct delta *o, const struct delta_chunk *x, const float *ds, const float *dout, float *dx, float *dbeta,
                                       int64_t v0)
{
    int64_t r = x->n;
    while (r % 4) r--, VEC_NAME(solve_back_block)(1, nv, o, x, ds, dout, dx, dbeta, r, v0);
    while (r) r -= 4, VEC_NAME(solve_back_block)(4, nv, o, x, ds, dout, dx, dbeta, r, v0);
}

static void VEC_NAME(solve_back)(const struct delta *o, const struct delta_chunk *x, const float *ds, const float *dout, float *dx, float *dbeta)
{
    int64_t j = 0;
    memset(dbeta, 0, (size_t)x->n * sizeof *dbeta);
    for (; j + 2 * VL <= o->Vp; j += 2 * VL) VEC_NAME(solve_back_panel)(2, o, x, ds, dout, dx, dbeta, j);
    if (j < o->Vp) VEC_NAME(solve_back_panel)(1, o, x, ds, dout, dx, dbeta, j);
}

/* mo = dout d^T and mx = dx d^T become the gradients of q.k and k.k (D times them, the latter negative and strictly below the diagonal);
 * cross [n]: what crosses from before each token to it or later, over the pairs of the chunk. */
static void VEC_NAME(weigh)(const struct delta_chunk *x, float *mo, float *mx, float *cross)
{
    const int64_t C = DELTA_CHUNK;
    float along[DELTA_CHUNK] = {0}; /* [j]: over the rows from i on */
    vf zero = vf_zero();
    for (int64_t i = x->n - 1; i >= 0; i--) {
        float *o = mo + i * C, *k = mx + i * C;
        const float *D = x->D + i * C, *qk = x->qk + i * C, *kk = x->kk + i * C;
        int64_t end = VEC_NAME(padded)((i | 3) + 1);
        vf sum = zero;
        for (int64_t j = 0; j < end; j += VL) {
            vf w = vf_load(D + j), a = vf_load(o + j), b = vf_load(k + j);
            vf s = vf_fma(a, vf_load(qk + j), vf_fma(b, vf_load(kk + j), vf_load(along + j)));
            vf_store(along + j, s);
            vf_store(o + j, vf_mul(a, w));
            vf_store(k + j, vf_sub(zero, vf_mul(b, w)));
            if (j + VL <= i) sum = vf_add(sum, s);
        }
        if (i % VL) sum = vf_add(sum, vf_loadn(along + i / VL * VL, i % VL));
        cross[i] = vf_hsum(sum);
        k[i] = 0;
    }
}

/* dst (=, or += if more) r (dx - x (x . dx) / scale^2), the gradient before x was made r times as long. */
static void VEC_NAME(unit_back)(float *dst, const float *x, const float *dx, int64_t K, int64_t Kp, float eps, float scale,
                                float r, int more)
{
    vf c = vf_set1(eps >= 0 ? VEC_NAME(dot_row)(x, dx, Kp) / (scale * scale) : 0), m = vf_set1(r);
    for (int64_t i = 0; i < K; i += VL) {
        vf y = vf_mul(m, vf_fnma(vf_load(x + i), c, vf_load(dx + i)));
        if (i + VL <= K)
            vf_store(dst + i, more ? vf_add(vf_load(dst + i), y) : y);
        else
            vf_storen(dst + i, more ? vf_add(vf_loadn(dst + i, K - i), y) : y, K - i);
    }
}

/* One chunk backwards. S: the state before it (NULL: zero); after: there are chunks after it, and dS' is at l->ds. */
static void VEC_NAME(back)(const struct delta_bwd *c, struct delta_chunk *x, const struct layout *l, int64_t b, int64_t h,
                           float *mem, const float *S, int after)
{
    const struct delta *o = &c->o;
    int64_t n = x->n, K = o->K, V = o->V, Kp = o->Kp, Vp = o->Vp, C = DELTA_CHUNK, nk = Kp / VL, key = h / o->R;
    float *w = mem + l->w, *ds = mem + l->ds, *don = mem + l->dout, *dt = mem + l->dt, *st = mem + l->st, *tst = mem + l->tst;
    float *mo = mem + l->mo, *mx = mem + l->mx, *eo = mem + l->eo, *ex = mem + l->ex, *fd = mem + l->fd;
    float *dq = mem + l->dq, *dkr = mem + l->dkr, *dkw = mem + l->dkw, dbeta[DELTA_CHUNK];
    float cross[DELTA_CHUNK], read[DELTA_CHUNK] = {0}, wrote[DELTA_CHUNK] = {0};
    const float *dout = c->dout + b * c->sdout.b + x->t0 * c->sdout.t + h * c->sdout.h;
    float *dv = c->dv + b * c->sdv.b + x->t0 * c->sdv.t + h * c->sdv.h;

    VEC_NAME(delta_begin)(o, x, b, h, 1);
    delta_fetch(o, c->dv, &c->sdv, b, h, x->t0, V);
    for (int64_t i = 0; i < n; i++) {
        VEC_NAME(pad_row)(don + i * Vp, dout + i * c->sdout.t, V, 1);
        VEC_NAME(scale_row)(eo + i * Vp, don + i * Vp, Vp, x->e[i]);
        VEC_NAME(scale_row)(fd + i * Vp, x->d + i * Vp, Vp, x->f[i]);
    }
    delta_fetch(o, c->dq, &c->sdq, b, key, x->t0, K);
    VEC_NAME(solve_back)(o, x, after ? ds : NULL, don, w, dbeta);
    delta_fetch(o, c->dk, &c->sdk, b, key, x->t0, K);
    for (int64_t i = 0; i < n; i++) {
        VEC_NAME(unpad_row)(dv + i * c->sdv.t, w + i * Vp, V);
        VEC_NAME(scale_row)(ex + i * Vp, w + i * Vp, Vp, -x->e[i]);
    }
    VEC_NAME(flip)(dt, C, x->d, Vp, n, V);
    VEC_NAME(mm_lower)(n, don, Vp, dt, C, V, mo, C);
    VEC_NAME(mm_lower)(n, w, Vp, dt, C, V, mx, C);
    VEC_NAME(weigh)(x, mo, mx, cross);

    if (S) {
        VEC_NAME(flip)(st, Kp, S, Vp, K, V);
        VEC_NAME(mm_set)(n, nk, eo, Vp, 1, st, Kp, V, dq, Kp);
        VEC_NAME(mm_set)(n, nk, ex, Vp, 1, st, Kp, V, dkr, Kp);
        for (int64_t i = 0; i < n; i++)
            read[i] = VEC_NAME(dot_row)(x->q + i * Kp, dq + i * Kp, Kp) + VEC_NAME(dot_row)(x->k + i * Kp, dkr + i * Kp, Kp);
    } else {
        memset(dq, 0, (size_t)(n * Kp) * sizeof *dq);
        memset(dkr, 0, (size_t)(n * Kp) * sizeof *dkr);
    }
    if (after) {
        VEC_NAME(flip)(tst, Kp, ds, Vp, K, V);
        VEC_NAME(mm_set)(n, nk, fd, Vp, 1, tst, Kp, V, dkw, Kp);
        for (int64_t i = 0; i < n; i++) wrote[i] = VEC_NAME(dot_row)(x->k + i * Kp, dkw + i * Kp, Kp);
    } else {
        memset(dkw, 0, (size_t)(n * Kp) * sizeof *dkw);
    }
    delta_fetch(o, o->q, &o->sq, b, key, x->t0 - C, K);
    VEC_NAME(mm_tri)(n, nk, mo, C, x->k, Kp, dq, Kp);
    delta_fetch(o, c->dout, &c->sdout, b, h, x->t0 - C, V);
    VEC_NAME(mm_tri)(n, nk, mx, C, x->k, Kp, dkr, Kp);
    VEC_NAME(mm_trit)(n, nk, mx, C, x->k, Kp, dkw, Kp);
    VEC_NAME(mm_trit)(n, nk, mo, C, x->q, Kp, dkw, Kp);

    float through = S && after ? x->e[n - 1] * VEC_NAME(dot_row)(S, ds, K * Vp) : 0; /* and writes before m */
    for (int64_t i = n - 2; i >= 0; i--) read[i] += read[i + 1];
    for (int64_t i = 0; i < n; i++) {
        float *q = x->q + i * Kp, *k = x->k + i * Kp, *kr = dkr + i * Kp, *kw = dkw + i * Kp;
        for (int64_t j = 0; j < Kp; j += VL) vf_store(kr + j, vf_add(vf_load(kr + j), vf_load(kw + j)));
        VEC_NAME(unit_back)(c->dq + b * c->sdq.b + (x->t0 + i) * c->sdq.t + key * c->sdq.h, q, dq + i * Kp, K, Kp, o->eps,
                            o->scale, x->rq[i], h % o->R > 0);
        VEC_NAME(unit_back)(c->dk + b * c->sdk.b + (x->t0 + i) * c->sdk.t + key * c->sdk.h, k, kr, K, Kp, o->eps, 1, x->rk[i],
                            h % o->R > 0);
        c->dg[b * c->sdg.b + (x->t0 + i) * c->sdg.t + h * c->sdg.h] = cross[i] + read[i] + through;
        c->dbeta[b * c->sdbeta.b + (x->t0 + i) * c->sdbeta.t + h * c->sdbeta.h] = dbeta[i];
        through += wrote[i];
    }
    if (!S) return; /* nothing before it */
    struct scan_sum before = {.keep = after ? x->e[n - 1] : 0, .a1 = x->q, .ar1 = 1, .ac1 = Kp, .b1 = eo, .bs1 = Vp, .n1 = n,
                              .a2 = x->kt, .ar2 = C, .ac2 = 1, .b2 = ex, .bs2 = Vp, .n2 = n, .c = ds, .cs = Vp};
    VEC_NAME(scan_sum)(&before, K, Vp);
}

static void VEC_NAME(head)(const struct delta_bwd *c, int64_t b, int64_t h, float *mem)
{
    const struct delta *o = &c->o;
    struct layout l = layout(o);
    int64_t C = DELTA_CHUNK, chunks = delta_chunks(o), cells = o->K * o->Vp;
    struct delta_chunk x = {
        .q = mem + l.q, .k = mem + l.k, .kt = mem + l.kt, .kk = mem + l.kk, .qk = mem + l.qk, .D = NULL};
    float *states = mem + l.states; /* [chunks][K][Vp]: after each chunk */
    delta_fetch(o, o->k, &o->sk, b, h / o->R, 0, o->K);
    delta_fetch(o, o->v, &o->sv, b, h, 0, o->V);
    for (int64_t i = 0; i < chunks; i++) {
        x.t0 = i * C;
        x.n = delta_rows(o, x.t0);
        x.d = mem + l.d + x.t0 * o->Vp;
        x.err = mem + l.err + x.t0 * o->Vp;
        const float *S = i ? states + (i - 1) * cells : NULL;
        VEC_NAME(delta_begin)(o, &x, b, h, 0);
        delta_fetch(o, o->k, &o->sk, b, h / o->R, x.t0 + C, o->K);
        VEC_NAME(delta_solve)(o, &x, b, h, S);
        delta_fetch(o, o->v, &o->sv, b, h, x.t0 + C, o->V);
        if (i + 1 < chunks) VEC_NAME(delta_advance)(o, &x, mem + l.fd, S, states + i * cells);
    }
    x.D = mem + l.D;
    delta_fetch(o, o->q, &o->sq, b, h / o->R, (chunks - 1) * C, o->K);
    delta_fetch(o, c->dout, &c->sdout, b, h, (chunks - 1) * C, o->V);
    for (int64_t i = chunks - 1; i >= 0; i--) {
        x.t0 = i * C;
        x.n = delta_rows(o, x.t0);
        x.d = mem + l.d + x.t0 * o->Vp;
        x.err = mem + l.err + x.t0 * o->Vp;
        VEC_NAME(back)(c, &x, &l, b, h, mem, i ? states + (i - 1) * cells : NULL, i + 1 < chunks);
    }
}

#endif
