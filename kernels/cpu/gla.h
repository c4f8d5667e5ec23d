/* What the forward and the backward of gated linear attention share: operands and chunks.
 *
 * Within a chunk (Yang et al. 2023, arXiv:2312.06635, section 4), with S the state before it, a_i = e^(g_i) [K], e_i = a_1 .. a_i,
 * f_i = a_(i+1) .. a_n:
 *
 *   P_ij = sum_k q_ik k_jk (a_(j+1) .. a_i)_k   (j <= i)     out_i = S^T (e_i q_i) + sum_j P_ij v_j     S <- diag(e_n) S + sum_j (f_j k_j) (x) v_j
 *
 * A decay for every channel means that P is no product of q and k with one set of weights. The chunk is cut into pieces of GLA_PIECE tokens: a
 * query of a piece meets the keys of earlier pieces by a product, both decayed to the border before the piece; within a piece pairs are taken one
 * by one. Decays are products of a_i alone, each at most 1: nothing overflows whatever the gates are. */
#ifndef TAUT_KERNELS_CPU_GLA_H
#define TAUT_KERNELS_CPU_GLA_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scan_sum.h"

#define GLA_CHUNK 32 /* tokens */
#define GLA_PIECE 8

struct gla_strides {
    int64_t b, t, h;
};

struct gla {
    const float *q, *k, *v, *g;
    float *s, *out; /* s may be NULL */
    struct gla_strides sq, sk, sv, sg, so;
    int64_t ss[3]; /* of s: b, h, k */
    int64_t B, T, H, K, V;
    float scale;
    int64_t Kp, Vp; /* rounded up to whole vectors */
};

static inline struct gla_strides gla_strides(const struct kn_tensor *t)
{
    return (struct gla_strides){t->s[0], t->s[1], t->s[2]};
}

static inline struct gla gla_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                                const struct kn_tensor *g, double scale, int64_t lanes)
{
    return (struct gla){.q = q->p,
                        .k = k->p,
                        .v = v->p,
                        .g = g->p,
                        .sq = gla_strides(q),
                        .sk = gla_strides(k),
                        .sv = gla_strides(v),
                        .sg = gla_strides(g),
                        .B = q->d[0],
                        .T = q->d[1],
                        .H = q->d[2],
                        .K = q->d[3],
                        .V = v->d[3],
                        .scale = (float)scale,
                        .Kp = (q->d[3] + lanes - 1) / lanes * lanes,
                        .Vp = (v->d[3] + lanes - 1) / lanes * lanes};
}

static inline int64_t gla_chunks(const struct gla *o)
{
    return (o->T + GLA_CHUNK - 1) / GLA_CHUNK;
}

static inline int64_t gla_rows(const struct gla *o, int64_t t0)
{
    return o->T - t0 < GLA_CHUNK ? o->T - t0 : GLA_CHUNK;
}

/* Asks for a chunk's rows of one head: those from t0 on, if there are such. */
__attribute__((always_inline)) static inline void gla_fetch(const struct gla *o, const float *p, const struct gla_strides *s, int64_t b, int64_t h,
                                                            int64_t t0, int64_t width)
{
    if (t0 >= 0 && t0 < o->T) rows_fetch(p + b * s->b + t0 * s->t + h * s->h, s->t, gla_rows(o, t0), width);
}

/* Those of q, k, v and g. */
__attribute__((always_inline)) static inline void gla_fetch_in(const struct gla *o, int64_t b, int64_t h, int64_t t0)
{
    gla_fetch(o, o->q, &o->sq, b, h, t0, o->K);
    gla_fetch(o, o->k, &o->sk, b, h, t0, o->K);
    gla_fetch(o, o->v, &o->sv, b, h, t0, o->V);
    gla_fetch(o, o->g, &o->sg, b, h, t0, o->K);
}

/* A chunk's own numbers; the memory is carved by the op. Rows of Kp or Vp floats. */
struct gla_chunk {
    int64_t t0, n;
    float *q, *k, *v, *a; /* q scaled */
    float *eq, *fk;       /* e q, f k */
    float *last;          /* [Kp] e_n */
    float *kt;            /* [K][GLA_CHUNK] keys of earlier pieces, decayed to the border */
    float *P;             /* [n][GLA_CHUNK], zeros above the diagonal up to the end of a piece */
    float *tile;          /* [GLA_PIECE][Kp] */
};

#endif
