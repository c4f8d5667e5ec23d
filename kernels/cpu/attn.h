/* What attention's forward, backward and decode share: the call's operands, and how a block of queries meets its keys.
 *
 * The R = H/G query heads of a key head are one list of R*T rows, time-major: row i is head i % R at time i / R, so
 * neighbouring rows see nearly the same keys. A block is up to 64 rows, which become the lanes of vectors: scores are
 * kept as [key][row], so that the softmax over keys is lane by lane, keys and values are read where they lie, and only
 * the queries (and the result) are transposed, once a block. A block goes through its keys in tiles of 64. A tile that
 * the mask cuts is taken in pieces of 16 keys; each piece names the vectors of rows that see something of it. */
#ifndef TAUT_KERNELS_CPU_ATTN_H
#define TAUT_KERNELS_CPU_ATTN_H

#include "kernels/cpu/cpu.h"

#define ATTN_ROWS  64 /* of a block */
#define ATTN_KEYS  64 /* of a tile */
#define ATTN_PIECE 16 /* keys */
#define ATTN_LOG2E 1.4426950408889634
#define ATTN_LN2   0.6931471805599453

struct attn_strides {
    int64_t b, t, h;
};

struct attn {
    const float *q, *k, *v;
    float *out, *lse; /* lse may be NULL */
    int half;         /* all but lse are bf16 in memory (attention_bf16.c alone) */
    struct attn_strides sq, sk, sv, so, sl;
    int64_t B, T, S, H, G, R, K, E, W; /* K, E: of a key, of a value; W: 0 when no window cuts anything */
    float scale;
    int64_t blocks; /* of a key head */
};

struct attn_piece {
    int64_t j0;
    int n;      /* keys */
    int v0, v1; /* vectors of rows that see some of them */
};

struct attn_tile {
    int64_t j0;
    int n, masked, pieces;
    struct attn_piece piece[ATTN_KEYS / ATTN_PIECE];
};

struct attn_block {
    int64_t r0;           /* first row */
    int n;                /* rows */
    int64_t first, last;  /* positions of its first and last row */
    int64_t from;         /* first key that any of them sees, or one a little before it */
    int64_t diag;         /* first key of the tiles on the diagonal */
    float pos[ATTN_ROWS]; /* position - first; rows from n on repeat the last one */
    int64_t t[ATTN_ROWS]; /* time of each row */
    int64_t h[ATTN_ROWS]; /* its head among those of the key head */
};

/* A number of q, k, v, out or of their gradients. */
static inline float *attn_at(const struct attn *a, const float *p, int64_t offset)
{
    return a->half ? (float *)((uint16_t *)p + offset) : (float *)p + offset;
}

static inline struct attn_strides attn_strides(const struct kn_tensor *t)
{
    return (struct attn_strides){t->s[0], t->s[1], t->s[2]};
}

static inline struct attn attn_of(const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v,
                                  int64_t window, double scale, const struct kn_tensor *out,
                                  const struct kn_tensor *lse)
{
    struct attn a = {.q = q->p,
                     .k = k->p,
                     .v = v->p,
                     .out = out->p,
                     .half = q->dtype == KN_BF16,
                     .sq = attn_strides(q),
                     .sk = attn_strides(k),
                     .sv = attn_strides(v),
                     .so = attn_strides(out),
                     .B = q->d[0],
                     .T = q->d[1],
                     .S = k->d[1],
                     .H = q->d[2],
                     .G = k->d[2],
                     .K = q->d[3],
                     .E = v->d[3],
                     .W = window < k->d[1] ? window : 0,
                     .scale = (float)scale};
    if (!kn_absent(lse)) {
        a.lse = lse->p;
        a.sl = (struct attn_strides){lse->s[0], lse->s[2], lse->s[1]};
    }
    a.R = a.G ? a.H / a.G : 0;
    a.blocks = (a.R * a.T + ATTN_ROWS - 1) / ATTN_ROWS;
    return a;
}

static inline int attn_half_fits(const struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *v, double scale)
{
    return q->dtype != KN_BF16 || (dev->precision == KN_BF16 && (float)scale > 0 && q->d[3] == v->d[3]);
}

/* Offset of row i of a block of key head g. */
static inline int64_t attn_row(const struct attn *a, const struct attn_strides *s, const struct attn_block *x,
                               int64_t b, int64_t g, int i)
{
    return b * s->b + x->t[i] * s->t + (g * a->R + x->h[i]) * s->h;
}

/* unit: what tiles begin and end at multiples of: 1, or 2 where keys go in pairs (a last key of odd number then has a companion that nobody sees). */
static inline struct attn_block attn_block(const struct attn *a, int64_t index, int unit)
{
    struct attn_block x = {.r0 = index * ATTN_ROWS};
    int64_t left = a->R * a->T - x.r0;
    x.n = left < ATTN_ROWS ? (int)left : ATTN_ROWS;
    x.first = a->S - a->T + x.r0 / a->R;
    x.last = a->S - a->T + (x.r0 + x.n - 1) / a->R;
    x.from = a->W && x.first - a->W + 1 > 0 ? x.first - a->W + 1 : 0;
    /* pieces of full register blocks up to the diagonal; the keys before the window are masked like any other */
    x.from -= (x.first - x.from) % 4 ? 4 - (x.first - x.from) % 4 : 0;
    if (x.from < 0) x.from = 0;
    x.from -= x.from % unit;
    x.diag = x.first - x.first % unit;
    int64_t t = x.r0 / a->R, h = x.r0 % a->R;
    for (int i = 0; i < ATTN_ROWS; i++) {
        x.t[i] = t;
        x.h[i] = h;
        x.pos[i] = (float)(a->S - a->T + t - x.first);
        if (i + 1 < x.n && ++h == a->R) h = 0, t++;
    }
    return x;
}

/* The tile that begins at key j0; vl: floats a vector. Tiles end at the block's first position, so that those before it
 * are full unless a window cuts them, and the one on the diagonal begins where the rows do. */
static inline struct attn_tile attn_tile(const struct attn *a, const struct attn_block *x, int64_t j0, int vl, int unit)
{
    int64_t end = j0 < x->diag ? x->diag : x->last + unit - x->last % unit;
    struct attn_tile t = {.j0 = j0, .n = end - j0 < ATTN_KEYS ? (int)(end - j0) : ATTN_KEYS};
    int nv = (x->n + vl - 1) / vl;
    t.masked = j0 + t.n - 1 > x->first || (a->W && j0 <= x->last - a->W);
    if (!t.masked) {
        t.pieces = 1;
        t.piece[0] = (struct attn_piece){j0, t.n, 0, nv};
        return t;
    }
    int64_t skew = x->r0 % a->R;
    for (int from = 0; from < t.n; from += ATTN_PIECE) {
        struct attn_piece p = {j0 + from, t.n - from < ATTN_PIECE ? t.n - from : ATTN_PIECE, 0, nv};
        /* rows from `first row at position j0 + from` on, and before `first row that the window has carried past the
         * last key` */
        int64_t low = (p.j0 - x->first) * a->R - skew,
                high = a->W ? (p.j0 + p.n - 1 + a->W - x->first) * a->R - skew : x->n;
        if (low > 0) p.v0 = (int)(low / vl);
        if (high < x->n) p.v1 = high > 0 ? (int)((high + vl - 1) / vl) : 0;
        if (p.v0 < p.v1) t.piece[t.pieces++] = p;
    }
    return t;
}

struct attn_bwd {
    struct attn a;
    const float *dout;
    float *dq, *dk, *dv;
    struct attn_strides sdout, sdq, sdk, sdv;
    int64_t Kp, Ep; /* K and E rounded up to whole vectors: the length of packed rows */
};

st_t cpu_attention_decode(struct kn_dev *dev, const struct attn *a); /* T == 1: attention_decode.c */
/* Its pieces, for one who runs them himself: how it is cut, a chunk of a key head's keys into part, and a query head's chunks merged into out [E]
 * (and a->lse). Chunks need not be in any order; merging follows all of a head's. */
struct attn_decode {
    struct attn a;
    int64_t from, chunks;          /* first key, chunks of a key head */
    int64_t stride;                /* of a partial result: maximum, sum, E gathered, whole vectors */
    int64_t floats, worker_floats; /* of part; of one chunk's mem */
    float *part;                   /* [B][H][chunks][stride], the caller's */
};
struct attn_decode attn_decode(const struct kn_dev *dev, const struct attn *a); /* all but part */
void attn_decode_chunk(const struct kn_dev *dev, const struct attn_decode *d, int64_t b, int64_t g, int64_t chunk, float *mem);
void attn_decode_merge(const struct kn_dev *dev, const struct attn_decode *d, int64_t b, int64_t h, float *out);
/* Precision bf16, scale > 0, values as wide as keys: attention_bf16.c, attention_bwd_bf16.c. */
st_t cpu_attention_bf16(struct kn_dev *dev, const struct attn *a);
st_t cpu_attention_bwd_bf16(struct kn_dev *dev, const struct attn_bwd *w);

#endif
