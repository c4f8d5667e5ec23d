/* Mamba-2's scan on the CPU, what forward and backward share (Dao & Gu 2024, arXiv:2405.21060, section 6).
 *
 * A task is a block of heads of one group of one sequence and goes through the times in chunks of SSD_CHUNK. With a_l the sum of A t over
 * a chunk's rows up to l, S the state before it and x_l' = t_l x_l:
 *   y_l = sum_{s<=l} (c_l . b_s) e^{a_l - a_s} x_s' + e^{a_l} S^T c_l + d x_l          S <- e^{a_n} S + sum_s e^{a_n - a_s} b_s x_s'^T
 * so that all but the weights e^{...} are small products; c_l . b_s is made once for all heads of the block. States are [N][Pp] here,
 * Pp = P rounded up to whole vectors. */
#ifndef TAUT_KERNELS_CPU_SSD_H
#define TAUT_KERNELS_CPU_SSD_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/scan_sum.h"

#define SSD_CHUNK 64 /* also LANES of vec_mm.h: the width of tiles whose columns are times */
#define SSD_TASKS 16 /* heads of a group are cut into blocks until there are so many tasks */
#define SSD_LOG2E 1.4426950408889634

/* Rows of [B,T,H,*] or, without t, [B,H,*,*]. */
struct ssd_rows {
    float *p;
    int64_t sb, st, sh;
};

struct ssd_heads { /* one number a head */
    float *p;
    int64_t s;
};

struct ssd {
    int64_t B, T, H, G, P, N, Pp;
    int64_t heads, blocks; /* heads a task, blocks a group */
    struct ssd_rows x, dt, b, c, y;
    struct ssd_heads bias, a_log, d;
};

/* Which heads a task has. */
struct ssd_task {
    int64_t b, g, block, h0, heads;
};

/* One head's chunk: time steps, running sums of log2 of the decays, and what of the state before it reaches row l (in),
 * of row l the end (out); total: of the state before it the end. Rows behind the chunk's last have a step of 0. */
struct ssd_decay {
    float dt[SSD_CHUNK], slope[SSD_CHUNK], a[SSD_CHUNK], in[SSD_CHUNK], out[SSD_CHUNK];
    float total;
    float near[SSD_CHUNK], far[SSD_CHUNK / 4][SSD_CHUNK]; /* ssd_factors' */
};

struct ssd_fwd {
    struct ssd w;
    struct ssd_rows state; /* [B,H,P,N]: sb, st = a head, sh = a row; p NULL: none */
};

struct ssd_bwd {
    struct ssd w;
    struct ssd_rows dy, dx, ddt, db, dc; /* db, dc: [B,T,G,N], or of each block its share, in shared memory */
    int64_t db_block;                    /* numbers from one block's share to the next; 0: one block */
    float *heads;                        /* [B,H,3]: gradients of dt_bias, a_log, d */
    bool half;                           /* ddt is bf16 */
};

/* What flows through a chunk's rows: from before a row into it (row: from rows of the chunk, in: from the state), from it
 * to behind (column, out), and from the state before the chunk to the one after it. */
struct ssd_flow {
    float row[SSD_CHUNK], in[SSD_CHUNK], column[SSD_CHUNK], out[SSD_CHUNK], through;
};

/* Precision bf16, heads and states of whole vectors: ssd_bf16.c, ssd_bwd_bf16.c. The latter does what is cut into tasks by heads. */
st_t cpu_ssd_bf16(struct kn_dev *dev, const struct ssd_fwd *f);
st_t cpu_ssd_bwd_bf16(struct kn_dev *dev, const struct ssd_bwd *f);

static inline bool ssd_fits_bf16(const struct kn_dev *dev, const struct ssd *w)
{
    return dev->precision == KN_BF16 && w->P % 16 == 0 && w->N % 16 == 0;
}

static inline struct ssd_rows ssd_rows(const struct kn_tensor *t)
{
    return (struct ssd_rows){t->p, t->s[0], t->s[1], t->s[2]};
}

static inline struct ssd_heads ssd_heads(const struct kn_tensor *t)
{
    return (struct ssd_heads){t->p, t->s[0]};
}

static inline float *ssd_at(const struct ssd_rows *r, int64_t b, int64_t t, int64_t h)
{
    return r->p + b * r->sb + t * r->st + h * r->sh;
}

static inline float ssd_of(const struct ssd_heads *v, int64_t h)
{
    return v->p[h * v->s];
}

static inline struct ssd ssd_make(const struct kn_tensor *x, const struct kn_tensor *dt, const struct kn_tensor *dt_bias,
                                  const struct kn_tensor *a_log, const struct kn_tensor *bm, const struct kn_tensor *cm,
                                  const struct kn_tensor *d, const struct kn_tensor *y, int64_t vl)
{
    struct ssd w = {.B = x->d[0],
                    .T = x->d[1],
                    .H = x->d[2],
                    .P = x->d[3],
                    .G = bm->d[2],
                    .N = bm->d[3],
                    .x = ssd_rows(x),
                    .dt = ssd_rows(dt),
                    .b = ssd_rows(bm),
                    .c = ssd_rows(cm),
                    .y = ssd_rows(y),
                    .bias = ssd_heads(dt_bias),
                    .a_log = ssd_heads(a_log),
                    .d = ssd_heads(d)};
    w.Pp = (w.P + vl - 1) / vl * vl;
    if (!w.B || !w.G) return w;
    int64_t of_group = w.H / w.G, blocks = (SSD_TASKS + w.B * w.G - 1) / (w.B * w.G);
    w.heads = (of_group + blocks - 1) / blocks;
    w.blocks = (of_group + w.heads - 1) / w.heads;
    return w;
}

/* Rows of the chunk that begins at t0. */
static inline int ssd_chunk(const struct ssd *w, int64_t t0)
{
    return w->T - t0 < SSD_CHUNK ? (int)(w->T - t0) : SSD_CHUNK;
}

static inline struct ssd_task ssd_task(const struct ssd *w, int64_t i)
{
    int64_t of_group = w->H / w->G, block = i % w->blocks, g = i / w->blocks % w->G, from = block * w->heads;
    return (struct ssd_task){i / w->blocks / w->G, g, block, g * of_group + from,
                             of_group - from < w->heads ? of_group - from : w->heads};
}

#endif
