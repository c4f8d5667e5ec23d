/* Mamba-2's scan backward with products in bf16: as ssd_bwd.c, but that the factors of products are rounded to pairs. States and their gradients, R, all
 * sums and decays stay f32. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/ssd.h"

#ifndef VEC_PASS
#ifdef __x86_64__
/* A worker's memory. Of a chunk: b and c as rows of pairs, as pairs of rows, b turned (also R as either); b and c turned in f32 [N][L]; c.b, sum of R [L][L];
 * what goes through the state into b and c [N][L]; their gradients [L][N]. Of a head: dy.x', [L][L], then dx' [L][P]; M as pairs of rows; x' and dy as rows
 * of pairs, turned; dy, and x' or dy that reaches the state, as pairs of rows; Q as pairs of rows, Q or S as rows of pairs. Of all heads Q [N][P], and of each
 * chunk but the first the state before it. */
enum {
    B_ROWS, C_ROWS, B_PAIRS, C_PAIRS, B_TURNED, R_HALF, BT, CT, SCORES, R, DBT, DCT, DB, DC,
    DM, M, ROWS, X_TURNED, DY_TURNED, DY_PAIRS, REACH, Q_PAIRS, STATE_ROWS, Q, ZEROS, STATES, PARTS
};

static int64_t sizes(const struct ssd *w, int64_t *size)
{
    int64_t L = SSD_CHUNK, N = w->N, P = w->P, heads = w->heads * N * P, chunks = (w->T + L - 1) / L, sum = 0, wide = P > L ? P : L;
    const int64_t of[PARTS] = {
        [B_ROWS] = L * N / 2, [C_ROWS] = L * N / 2, [B_PAIRS] = L * N / 2, [C_PAIRS] = L * N / 2, [B_TURNED] = L * N / 2, [R_HALF] = L * L / 2,
        [BT] = L * N, [CT] = L * N, [SCORES] = L * L, [R] = L * L, [DBT] = L * N, [DCT] = L * N, [DB] = L * N, [DC] = L * N,
        [DM] = L * wide, [M] = L * L / 2, [ROWS] = L * P / 2, [X_TURNED] = L * P / 2, [DY_TURNED] = L * P / 2, [DY_PAIRS] = L * P / 2, [REACH] = L * P / 2,
        [Q_PAIRS] = N * P / 2, [STATE_ROWS] = N * P / 2, [Q] = heads, [ZEROS] = N, [STATES] = (chunks - 1) * heads};
    for (int i = 0; i < PARTS; i++) sum += size[i] = of[i];
    return sum;
}

struct ctx {
    struct kn_dev *dev;
    const struct ssd_bwd *f;
};

#define VEC_FILE "kernels/cpu/ssd_bwd_bf16.c"
#include "kernels/cpu/vec_bf16.h"

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    chunks_bf16(c->f, i, cpu_scratch(c->dev, worker));
}

st_t cpu_ssd_bwd_bf16(struct kn_dev *dev, const struct ssd_bwd *f)
{
    const struct ssd *w = &f->w;
    struct ctx c = {dev, f};
    int64_t size[PARTS];
    st_t st = cpu_scratch_need(dev, (size_t)sizes(w, size) * sizeof(float));
    if (st) return st;
    cpu_run(dev, task, &c, (int)(w->B * w->G * w->blocks), (double)(w->B * w->T * w->H * w->P) * 14 * (double)w->N / 100);
    return ST_OK;
}
#else
st_t cpu_ssd_bwd_bf16(struct kn_dev *dev, const struct ssd_bwd *f)
{
    return ST_ENOTSUP; /* never: no such device has the precision */
}
#endif

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/vec_ssd.h"
#include "kernels/cpu/vec_ssd_bwd.h"
#include "kernels/cpu/ssd_bf16.h"

/* The states before chunks 1, 2, … of every head. */
static void restate_bf16(const struct ssd *w, const struct ssd_task *k, float *const *m)
{
    int64_t L = SSD_CHUNK, N = w->N, P = w->P, cells = N * P;
    struct ssd_decay d;
    for (int64_t t0 = 0, chunk = 0; t0 + L < w->T; t0 += L, chunk++) {
        pairs_of_rows(m[B_PAIRS], L, ssd_at(&w->b, k->b, t0, k->g), w->b.st, L, N, NULL);
        for (int64_t i = 0; i < k->heads; i++) {
            float *next = m[STATES] + (chunk * w->heads + i) * cells;
            ssd_decay_bf16(w, k->b, k->h0 + i, t0, (int)L, &d);
            for (int l = 0; l < SSD_CHUNK; l++) d.out[l] *= d.dt[l];
            pairs_of_rows(m[REACH], L, ssd_at(&w->x, k->b, t0, k->h0 + i), w->x.st, L, P, d.out);
            if (chunk) memcpy(next, next - w->heads * cells, (size_t)cells * sizeof *next);
            struct scan_sum s = {.keep = chunk ? d.total : 0, .a2 = m[B_PAIRS], .ar2 = 1, .ac2 = N, .b2 = m[REACH], .bs2 = P, .n2 = L / 2, .c = next, .cs = P};
            scan_sum_bf16(&s, N, P);
        }
    }
}

/* One vector of columns from s on in rows l and l + 1, with the weights e there: r += e dm, M = e cb; sums of dm M below the diagonal. */
VEC_FN void weigh2(float *m, float *r, const float *dm, const float *cb, vf e0, vf e1, int diagonal, vf at, int l, vf *sum0, vf *sum1, float *column)
{
    vf g0 = vf_mul(vf_load(dm), e0), g1 = vf_mul(vf_load(dm + SSD_CHUNK), e1), c0 = vf_load(cb), c1 = vf_load(cb + SSD_CHUNK);
    vf w0 = vf_mul(g0, c0), w1 = vf_mul(g1, c1);
    vf_store(m, vf_pairs_bf16(vf_mul(e0, c0), vf_mul(e1, c1)));
    vf_store(r, vf_add(g0, vf_load(r)));
    vf_store(r + SSD_CHUNK, vf_add(g1, vf_load(r + SSD_CHUNK)));
    if (diagonal) {
        w0 = where_ge_bf16(vf_set1((float)(l - 1)), at, w0, vf_zero());
        w1 = where_ge_bf16(vf_set1((float)l), at, w1, vf_zero());
    }
    *sum0 = vf_add(*sum0, w0);
    *sum1 = vf_add(*sum1, w1);
    vf_store(column, vf_add(vf_add(w0, w1), vf_load(column)));
}

/* As ssd_bwd.c's, rows by two, n even; M as pairs of rows. */
static void weigh_bf16(float *m, float *r, const float *dm, const float *cb, const struct ssd_decay *d, int n, struct ssd_flow *flow)
{
    const int64_t L = SSD_CHUNK;
    for (int l = 0; l < n; l += 2, m += L, r += 2 * L, dm += 2 * L, cb += 2 * L) {
        vf sum0 = vf_zero(), sum1 = vf_zero();
        int s = 0;
        for (; s + VL <= l; s += VL)
            weigh2(m + s, r + s, dm + s, cb + s, ssd_before_bf16(d, l, s), ssd_before_bf16(d, l + 1, s), 0, sum0, l, &sum0, &sum1, flow->column + s);
        weigh2(m + s, r + s, dm + s, cb + s, ssd_within_bf16(d, l, s), ssd_within_bf16(d, l + 1, s), 1, vf_load(ssd_index_bf16 + s), l, &sum0, &sum1,
               flow->column + s);
        flow->row[l] = vf_hsum(sum0);
        flow->row[l + 1] = vf_hsum(sum1);
    }
}

/* What a state's product with turned rows, scaled by column, gives [N][L]:  sum += it,  dot[l] += sum over n of it with[n][l]. a: rows of pairs [N][K2]. */
static void share_bf16(float *sum, float *dot, const float *a, const float *turned, int64_t K2, const float *scale, const float *with, int64_t N)
{
    vf dots[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    for (int64_t n = 0; n < N; n += 4, a += 4 * K2, sum += 4 * SSD_CHUNK, with += 4 * SSD_CHUNK) {
        vf acc[4][MM_VECTORS];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) acc[r][v] = vf_zero();
        scan_run_bf16(4, 4, acc, a, K2, 1, turned, SSD_CHUNK, K2);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            vf s = vf_load(scale + v * VL);
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) {
                float *to = sum + r * SSD_CHUNK + v * VL;
                vf x = vf_mul(acc[r][v], s);
                dots[v] = vf_fma(x, vf_load(with + r * SSD_CHUNK + v * VL), dots[v]);
                vf_store(to, vf_add(x, vf_load(to)));
            }
        }
    }
    for (int v = 0; v < 4; v++) vf_store(dot + v * VL, dots[v]);
}

/* One head's rows of a chunk; behind: another chunk follows. */
static void head_bf16(const struct ssd_bwd *f, const struct ssd_task *k, int64_t i, int64_t t0, int n, bool behind, float *const *m)
{
    const struct ssd *w = &f->w;
    int64_t h = k->h0 + i, N = w->N, P = w->P, L = SSD_CHUNK, cells = N * P;
    const float *x = ssd_at(&w->x, k->b, t0, h), *dy = ssd_at(&f->dy, k->b, t0, h);
    float *q = m[Q] + i * cells;
    int even = n + n % 2;
    bool before = t0 > 0;
    struct ssd_decay d;
    struct ssd_flow flow = {0};
    ssd_decay_bf16(w, k->b, h, t0, n, &d);
    ssd_factors_bf16(&d);
    rows_of_pairs(m[ROWS], L, x, w->x.st, n, P, d.dt);
    lanes_of_pairs(m[X_TURNED], m[ROWS], P);
    rows_of_pairs(m[ROWS], L, dy, f->dy.st, n, P, NULL);
    pairs_of_rows(m[DY_PAIRS], L, dy, f->dy.st, n, P, NULL);
    ssd_scores_bf16(m[DM], m[ROWS], P / 2, even, m[X_TURNED], P / 2);
    if (i + 1 < k->heads) rows_fetch(ssd_at(&w->x, k->b, t0, h + 1), w->x.st, n, P), rows_fetch(ssd_at(&f->dy, k->b, t0, h + 1), f->dy.st, n, P);
    weigh_bf16(m[M], m[R], m[DM], m[SCORES], &d, even, &flow);
    if (behind) {
        pairs_of_rows(m[Q_PAIRS], N, q, P, N, P, NULL);
        rows_of_pairs(m[STATE_ROWS], N, q, P, N, P, NULL);
        share_bf16(m[DBT], flow.out, m[STATE_ROWS], m[X_TURNED], P / 2, d.out, m[BT], N);
    }
    struct scan_sum dx = {.a1 = m[B_ROWS], .ar1 = N / 2, .ac1 = 1, .b1 = m[Q_PAIRS], .bs1 = P, .n1 = behind ? N / 2 : 0, .scale = behind ? d.out : NULL,
                         .shape = SCAN_UPPER, .a2 = m[M], .ar2 = 1, .ac2 = L, .b2 = m[DY_PAIRS], .bs2 = P, .n2 = even / 2, .c = m[DM], .cs = P};
    scan_sum_bf16(&dx, n, P);
    if (before) {
        const float *state = m[STATES] + ((t0 / L - 1) * w->heads + i) * cells;
        lanes_of_pairs(m[DY_TURNED], m[ROWS], P);
        rows_of_pairs(m[STATE_ROWS], N, state, P, N, P, NULL);
        share_bf16(m[DCT], flow.in, m[STATE_ROWS], m[DY_TURNED], P / 2, d.in, m[CT], N);
        if (behind) flow.through = d.total * mm_dot_bf16(q, state, cells);
        pairs_of_rows(m[REACH], L, dy, f->dy.st, n, P, d.in);
        struct scan_sum dq = {.keep = behind ? d.total : 0, .a2 = m[C_PAIRS], .ar2 = 1, .ac2 = N, .b2 = m[REACH], .bs2 = P, .n2 = even / 2, .c = q, .cs = P};
        scan_sum_bf16(&dq, N, P);
    }
    ssd_finish_bf16(f, k, h, t0, n, &d, m[DM], &flow);
}

/* db and dc of a chunk from the sums over the heads. */
static void shared_bf16(const struct ssd_bwd *f, const struct ssd_task *k, int64_t t0, int n, float *const *m)
{
    const struct ssd *w = &f->w;
    int64_t L = SSD_CHUNK, N = w->N;
    int even = n + n % 2;
    float one[SSD_CHUNK], *db[SSD_CHUNK], *dc[SSD_CHUNK];
    for (int l = 0; l < even; l++) one[l] = 1, db[l] = m[DB] + l * N, dc[l] = m[DC] + l * N;
    lanes_to_rows_bf16(db, m[DBT], even, N, one);
    lanes_to_rows_bf16(dc, m[DCT], even, N, one);
    rows_of_pairs(m[R_HALF], L, m[R], L, even, L, NULL);
    struct scan_sum c = {.keep = 1, .shape = SCAN_LOWER, .a2 = m[R_HALF], .ar2 = L / 2, .ac2 = 1, .b2 = m[B_PAIRS], .bs2 = N, .n2 = even / 2, .c = m[DC], .cs = N};
    scan_sum_bf16(&c, n, N);
    pairs_of_rows(m[R_HALF], L, m[R], L, even, L, NULL);
    struct scan_sum b = {.keep = 1, .shape = SCAN_UPPER, .a2 = m[R_HALF], .ar2 = 1, .ac2 = L, .b2 = m[C_PAIRS], .bs2 = N, .n2 = even / 2, .c = m[DB], .cs = N};
    scan_sum_bf16(&b, n, N);
    for (int l = 0; l < n; l++) {
        memcpy(ssd_at(&f->db, k->b, t0 + l, k->g) + k->block * f->db_block, db[l], (size_t)N * sizeof(float));
        memcpy(ssd_at(&f->dc, k->b, t0 + l, k->g) + k->block * f->db_block, dc[l], (size_t)N * sizeof(float));
    }
}

static void chunks_bf16(const struct ssd_bwd *f, int64_t index, float *mem)
{
    const struct ssd *w = &f->w;
    struct ssd_task k = ssd_task(w, index);
    int64_t size[PARTS], L = SSD_CHUNK, N = w->N, last = (w->T - 1) / L;
    float *m[PARTS];
    sizes(w, size);
    for (int i = 0; i < PARTS; i++) m[i] = mem, mem += size[i];
    memset(m[ZEROS], 0, (size_t)N * sizeof(float));
    memset(f->heads + (k.b * w->H + k.h0) * 3, 0, (size_t)k.heads * 3 * sizeof(float));
    restate_bf16(w, &k, m);
    for (int64_t chunk = last; chunk >= 0; chunk--) {
        int64_t t0 = chunk * L;
        int n = ssd_chunk(w, t0);
        const float *b = ssd_at(&w->b, k.b, t0, k.g), *c = ssd_at(&w->c, k.b, t0, k.g);
        rows_of_pairs(m[B_ROWS], L, b, w->b.st, n, N, NULL);
        rows_of_pairs(m[C_ROWS], L, c, w->c.st, n, N, NULL);
        pairs_of_rows(m[B_PAIRS], L, b, w->b.st, n, N, NULL);
        pairs_of_rows(m[C_PAIRS], L, c, w->c.st, n, N, NULL);
        lanes_of_pairs(m[B_TURNED], m[B_ROWS], N);
        ssd_turn_bf16(m[BT], b, w->b.st, n, N, m[ZEROS]);
        ssd_turn_bf16(m[CT], c, w->c.st, n, N, m[ZEROS]);
        ssd_scores_bf16(m[SCORES], m[C_ROWS], N / 2, n + n % 2, m[B_TURNED], N / 2);
        const int sums[] = {R, DBT, DCT};
        for (int i = 0; i < 3; i++) memset(m[sums[i]], 0, (size_t)size[sums[i]] * sizeof(float));
        for (int64_t i = 0; i < k.heads; i++) head_bf16(f, &k, i, t0, n, chunk < last, m);
        shared_bf16(f, &k, t0, n, m);
    }
}

#endif
