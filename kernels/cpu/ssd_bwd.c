/* Mamba-2's scan backward, chunk by chunk from the last to the first (names as in ssd.h). The states before each chunk are worked out again
 * in a pass from the start. With Q the gradient of the state after a chunk, w_ls = e^{a_l - a_s} for s <= l, M_ls = (c_l . b_s) w_ls:
 *   dx_s' = sum_{l>=s} M_ls dy_l + e^{a_n - a_s} Q^T b_s       dx = t dx' + d dy
 *   R_ls  = (dy_l . x_s') w_ls, summed over the heads of a group:   dc_l = sum_s R_ls b_s + e^{a_l} S dy_l    db_s = sum_l R_ls c_l + e^{a_n - a_s} Q x_s'
 *   Q <- e^{a_n} Q + sum_l e^{a_l} c_l dy_l^T
 * The gradient of the logarithm of row t's decay is all that flows from before t to t or behind it:
 *   g_t = sum_{s<t<=l} R_ls (c_l . b_s) + sum_{l>=t} e^{a_l} c_l . S dy_l + sum_{s<t} e^{a_n - a_s} b_s . Q x_s' + e^{a_n} <Q, S>
 * and with it  dt = x . dx' + A g,  dA = t g. (What stays within a row is left out, not taken away again: where decays are strong the rest is small.) */
#ifndef VEC_PASS
#include "kernels/cpu/ssd.h"

#define VEC_FILE "kernels/cpu/ssd_bwd.c"
#include "kernels/cpu/vec_each.h"

static void (*const chunks_each[])(const struct ssd_bwd *f, int64_t task, float *mem) = VEC_EACH(chunks);
static void (*const add_each[])(float *sum, const float *part, int64_t parts, int64_t stride, int64_t n) = VEC_EACH(add);
static const int lanes_each[] = VEC_EACH(lanes);

struct ctx {
    struct kn_dev *dev;
    struct ssd_bwd f;
    struct ssd_rows db, dc; /* where shares are added up */
    int64_t step;           /* rows a task */
};

static void chunks_task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    chunks_each[cpu_of(c->dev)->isa](&c->f, i, cpu_scratch(c->dev, worker));
}

static void add_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    const struct ssd *w = &c->f.w;
    int64_t rows = w->B * w->T * w->G, end = (task + 1) * c->step < rows ? (task + 1) * c->step : rows;
    for (int64_t i = task * c->step; i < end; i++) {
        int64_t g = i % w->G, t = i / w->G % w->T, b = i / w->G / w->T;
        add_each[cpu_of(c->dev)->isa](ssd_at(&c->db, b, t, g), ssd_at(&c->f.db, b, t, g), w->blocks, c->f.db_block, w->N);
        add_each[cpu_of(c->dev)->isa](ssd_at(&c->dc, b, t, g), ssd_at(&c->f.dc, b, t, g), w->blocks, c->f.db_block, w->N);
    }
}

/* Memory of a worker; the same sums as chunks() cuts. */
static size_t scratch(const struct ssd *w)
{
    int64_t L = SSD_CHUNK, Np = w->N + 16, chunks = (w->T + L - 1) / L;
    int64_t tiles = 4 * L * L + 5 * L * w->Pp + 3 * L * w->P + 5 * L * w->N + 4 * L * Np;
    return (size_t)(tiles + w->N + w->P + (chunks + 1) * w->heads * w->N * w->Pp) * sizeof(float);
}

static struct ssd_rows share(float *p, const struct ssd *w)
{
    return (struct ssd_rows){p, w->T * w->G * w->N, w->G * w->N, w->N};
}

st_t cpu_ssd_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *dt,
                 const struct kn_tensor *dt_bias, const struct kn_tensor *a_log, const struct kn_tensor *bm,
                 const struct kn_tensor *cm, const struct kn_tensor *d, const struct kn_tensor *dy,
                 const struct kn_tensor *dx, const struct kn_tensor *ddt, const struct kn_tensor *ddt_bias,
                 const struct kn_tensor *da_log, const struct kn_tensor *dbm, const struct kn_tensor *dcm,
                 const struct kn_tensor *dd)
{
    st_t st = kn_check_ssd_bwd(x, dt, dt_bias, a_log, bm, cm, d, dy, dx, ddt, ddt_bias, da_log, dbm, dcm, dd);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .db = ssd_rows(dbm), .dc = ssd_rows(dcm)};
    struct ssd_bwd *f = &c.f;
    struct ssd *w = &f->w;
    *w = ssd_make(x, dt, dt_bias, a_log, bm, cm, d, dy, lanes_each[cpu_of(dev)->isa]);
    f->dy = w->y, f->dx = ssd_rows(dx), f->ddt = ssd_rows(ddt), f->db = c.db, f->dc = c.dc, f->half = ddt->dtype == KN_BF16;
    if (kn_count(x) == 0) return ST_OK;
    int64_t one = w->B * w->T * w->G * w->N;
    void *shared;
    size_t floats = (size_t)(3 * w->B * w->H + (w->blocks > 1 ? 2 * w->blocks * one : 0));
    if ((st = cpu_shared(dev, CPU_SLOT_OP, floats * sizeof(float), &shared))) return st;
    bool half = ssd_fits_bf16(dev, w);
    if (!half && (st = cpu_scratch_need(dev, scratch(w)))) return st;
    f->heads = shared;
    if (w->blocks > 1) {
        f->db_block = 2 * one;
        f->db = share(f->heads + 3 * w->B * w->H, w);
        f->dc = share(f->db.p + one, w);
    }
    if (half && (st = cpu_ssd_bwd_bf16(dev, f))) return st;
    if (!half) cpu_run(dev, chunks_task, &c, (int)(w->B * w->G * w->blocks), (double)kn_count(x) * 14 * (double)w->N / 50);
    if (w->blocks > 1) {
        int64_t rows = w->B * w->T * w->G;
        c.step = 64;
        cpu_run(dev, add_task, &c, (int)((rows + c.step - 1) / c.step), (double)(2 * one * w->blocks) * 4 / 10);
    }
    struct ssd_heads out[3] = {ssd_heads(ddt_bias), ssd_heads(da_log), ssd_heads(dd)};
    for (int i = 0; i < 3; i++)
        for (int64_t h = 0; h < w->H; h++) {
            float sum = 0;
            for (int64_t b = 0; b < w->B; b++) sum += f->heads[(b * w->H + h) * 3 + i];
            out[i].p[h * out[i].s] += sum;
        }
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"
#include "kernels/cpu/vec_scan.h"
#include "kernels/cpu/vec_ssd.h"
#include "kernels/cpu/vec_ssd_bwd.h"

enum { VEC_NAME(lanes) = VL };

/* One task's memory. */
struct VEC_NAME(mem) {
    float *bt, *ct, *cb, *m, *r, *dm;     /* [N][L] b and c turned round;  [L][L] c.b, M, sum of R, dy.x' */
    float *xd, *xe, *dy, *dys, *dxd;      /* [L][Pp]: x', x' that is left at the end, dy, dy that reaches the state, dx' */
    float *xdt, *xet, *dyst;              /* [P][L] */
    float *dbt, *dct, *tmp;               /* [N][L]: what goes through the state; one head's of it */
    float *bp, *cp, *dbp, *dcp;           /* [L][Np] */
    float *zeros;                         /* max(N, P) at least */
    float *q, *states;                    /* heads [N][Pp]; of each chunk but the first, likewise */
    int64_t Np;
};

static struct VEC_NAME(mem) VEC_NAME(carve)(const struct ssd *w, float *p)
{
    int64_t L = SSD_CHUNK, N = w->N, P = w->P, Pp = w->Pp;
    struct VEC_NAME(mem) m = {.Np = (N + VL - 1) / VL * VL};
    float **const of[] = {&m.cb, &m.m, &m.r, &m.dm, &m.xd, &m.xe, &m.dy, &m.dys, &m.dxd, &m.xdt, &m.xet, &m.dyst,
                          &m.bt, &m.ct, &m.dbt, &m.dct, &m.tmp, &m.bp, &m.cp, &m.dbp, &m.dcp, &m.zeros, &m.q};
    const int64_t size[] = {L * L,  L * L, L * L, L * L, L * Pp,  L * Pp,  L * Pp,  L * Pp,  L * Pp, L * P,
                            L * P,  L * P,  L * N, L * N, L * N, L * N, L * N, L * m.Np, L * m.Np, L * m.Np, L * m.Np, N + P, w->heads * N * Pp};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) *of[i] = p, p += size[i];
    m.states = p;
    memset(m.zeros, 0, (size_t)(N + P) * sizeof(float));
    return m;
}

static float *VEC_NAME(state)(const struct ssd *w, const struct VEC_NAME(mem) *m, int64_t chunk, int64_t i)
{
    return m->states + ((chunk - 1) * w->heads + i) * w->N * w->Pp;
}

/* The states before chunks 1, 2, … of every head. */
static void VEC_NAME(restate)(const struct ssd *w, const struct ssd_task *k, const struct VEC_NAME(mem) *m)
{
    struct ssd_decay d;
    for (int64_t t0 = 0, chunk = 0; t0 + SSD_CHUNK < w->T; t0 += SSD_CHUNK, chunk++)
        for (int64_t i = 0; i < k->heads; i++) {
            VEC_NAME(ssd_decay)(w, k->b, k->h0 + i, t0, SSD_CHUNK, &d);
            for (int l = 0; l < SSD_CHUNK; l++) d.out[l] *= d.dt[l];
            VEC_NAME(ssd_pack)(m->xe, ssd_at(&w->x, k->b, t0, k->h0 + i), w->x.st, SSD_CHUNK, w->P, w->Pp, d.out);
            float *next = VEC_NAME(state)(w, m, chunk + 1, i);
            if (chunk) memcpy(next, VEC_NAME(state)(w, m, chunk, i), (size_t)(w->N * w->Pp) * sizeof(float));
            struct scan_sum s = {.keep = chunk ? d.total : 0, .a2 = ssd_at(&w->b, k->b, t0, k->g), .ar2 = 1, .ac2 = w->b.st, .b2 = m->xe,
                                .bs2 = w->Pp, .n2 = SSD_CHUNK, .c = next, .cs = w->Pp};
            VEC_NAME(scan_sum)(&s, w->N, w->Pp);
        }
}

/* e = e^{a_l - a_s} for s <= l, 0 to the end of the diagonal's vector:  m = e cb, r += e dm;  row and column sums of dm m below the diagonal, added to what
 * is there. */
static void VEC_NAME(weigh)(float *m, float *r, const float *dm, const float *cb, const struct ssd_decay *d, int n, float *row, float *column)
{
    for (int l = 0; l < n; l++, m += SSD_CHUNK, r += SSD_CHUNK, dm += SSD_CHUNK, cb += SSD_CHUNK) {
        vf sum = vf_zero(), below = vf_set1((float)(l - 1)), e, g, c, w;
        int s = 0;
        for (; s + VL <= l; s += VL) {
            e = VEC_NAME(ssd_before)(d, l, s), g = vf_mul(vf_load(dm + s), e), c = vf_load(cb + s), w = vf_mul(g, c);
            vf_store(m + s, vf_mul(e, c));
            vf_store(r + s, vf_add(g, vf_load(r + s)));
            vf_store(column + s, vf_add(w, vf_load(column + s)));
            sum = vf_add(sum, w);
        }
        e = VEC_NAME(ssd_within)(d, l, s), g = vf_mul(vf_load(dm + s), e), c = vf_load(cb + s);
        vf_store(m + s, vf_mul(e, c));
        vf_store(r + s, vf_add(g, vf_load(r + s)));
        w = VEC_NAME(where_ge)(below, vf_load(VEC_NAME(ssd_index) + s), vf_mul(g, c), vf_zero());
        vf_store(column + s, vf_add(w, vf_load(column + s)));
        row[l] += vf_hsum(vf_add(sum, w));
    }
}

/* sum += one, both [N][L];  dot[l] += sum over n of one[n][l] with[n][l] */
static void VEC_NAME(gather)(float *sum, const float *one, const float *with, int64_t N, float *dot)
{
    for (int l = 0; l < SSD_CHUNK; l += VL) {
        vf s = vf_load(dot + l);
        for (int64_t i = l; i < N * SSD_CHUNK; i += SSD_CHUNK) {
            vf x = vf_load(one + i);
            s = vf_fma(x, vf_load(with + i), s);
            vf_store(sum + i, vf_add(vf_load(sum + i), x));
        }
        vf_store(dot + l, s);
    }
}

/* One head's rows of a chunk; behind: another chunk follows. */
static void VEC_NAME(head)(const struct ssd_bwd *f, const struct ssd_task *k, int64_t i, int64_t t0, int n, bool behind,
                           const struct VEC_NAME(mem) *m)
{
    const struct ssd *w = &f->w;
    int64_t h = k->h0 + i, Pp = w->Pp, L = SSD_CHUNK, chunk = t0 / L;
    bool before = t0 > 0;
    float *q = m->q + i * w->N * Pp;
    struct ssd_decay d;
    struct ssd_flow flow = {0};
    VEC_NAME(ssd_decay)(w, k->b, h, t0, n, &d);
    VEC_NAME(ssd_factors)(&d);
    VEC_NAME(ssd_pack)(m->xd, ssd_at(&w->x, k->b, t0, h), w->x.st, n, w->P, Pp, d.dt);
    VEC_NAME(ssd_pack)(m->dy, ssd_at(&f->dy, k->b, t0, h), f->dy.st, n, w->P, Pp, NULL);
    VEC_NAME(ssd_turn)(m->xdt, m->xd, Pp, L, w->P, NULL);
    VEC_NAME(ssd_scores)(m->dm, m->dy, Pp, n, m->xdt, w->P);
    VEC_NAME(weigh)(m->m, m->r, m->dm, m->cb, &d, n, flow.row, flow.column);
    struct scan_sum dx = {.a1 = m->bp, .ar1 = m->Np, .ac1 = 1, .b1 = q, .bs1 = Pp, .n1 = behind ? w->N : 0, .scale = behind ? d.out : NULL,
                         .shape = SCAN_UPPER, .a2 = m->m, .ar2 = 1, .ac2 = L, .b2 = m->dy, .bs2 = Pp, .n2 = n, .c = m->dxd, .cs = Pp};
    VEC_NAME(scan_sum)(&dx, n, Pp);
    if (behind) {
        for (int64_t p = 0; p < w->P; p++)
            for (int l = 0; l < SSD_CHUNK; l += VL) vf_store(m->xet + p * L + l, vf_mul(vf_load(d.out + l), vf_load(m->xdt + p * L + l)));
        VEC_NAME(mm_set)(w->N, L / VL, q, Pp, 1, m->xet, L, w->P, m->tmp, L);
        VEC_NAME(gather)(m->dbt, m->tmp, m->bt, w->N, flow.out);
    }
    if (before) {
        const float *state = VEC_NAME(state)(w, m, chunk, i);
        VEC_NAME(ssd_pack)(m->dys, m->dy, Pp, n, Pp, Pp, d.in);
        VEC_NAME(ssd_turn)(m->dyst, m->dys, Pp, L, w->P, NULL);
        VEC_NAME(mm_set)(w->N, L / VL, state, Pp, 1, m->dyst, L, w->P, m->tmp, L);
        VEC_NAME(gather)(m->dct, m->tmp, m->ct, w->N, flow.in);
        if (behind) flow.through = d.total * VEC_NAME(mm_dot)(q, state, w->N * Pp);
        struct scan_sum dq = {.keep = behind ? d.total : 0, .a2 = m->cp, .ar2 = 1, .ac2 = m->Np, .b2 = m->dys, .bs2 = Pp, .n2 = n, .c = q, .cs = Pp};
        VEC_NAME(scan_sum)(&dq, w->N, Pp);
    }
    VEC_NAME(ssd_finish)(f, k, h, t0, n, &d, m->dxd, &flow);
}

/* db and dc of a chunk from the sums over the heads. */
static void VEC_NAME(shared)(const struct ssd_bwd *f, const struct ssd_task *k, int64_t t0, int n, const struct VEC_NAME(mem) *m)
{
    const struct ssd *w = &f->w;
    int64_t L = SSD_CHUNK, N = w->N, Np = m->Np;
    float one[SSD_CHUNK], *rows[SSD_CHUNK];
    for (int l = 0; l < n; l++) one[l] = 1, rows[l] = m->dbp + l * Np;
    VEC_NAME(lanes_to_rows)(rows, m->dbt, n, N, one);
    for (int l = 0; l < n; l++) rows[l] = m->dcp + l * Np;
    VEC_NAME(lanes_to_rows)(rows, m->dct, n, N, one);
    struct scan_sum dc = {.keep = 1, .shape = SCAN_LOWER, .a2 = m->r, .ar2 = L, .ac2 = 1, .b2 = m->bp, .bs2 = Np, .n2 = n, .c = m->dcp, .cs = Np};
    VEC_NAME(scan_sum)(&dc, n, Np);
    struct scan_sum db = {.keep = 1, .shape = SCAN_UPPER, .a2 = m->r, .ar2 = 1, .ac2 = L, .b2 = m->cp, .bs2 = Np, .n2 = n, .c = m->dbp, .cs = Np};
    VEC_NAME(scan_sum)(&db, n, Np);
    for (int l = 0; l < n; l++) {
        memcpy(ssd_at(&f->db, k->b, t0 + l, k->g) + k->block * f->db_block, m->dbp + l * Np, (size_t)N * sizeof(float));
        memcpy(ssd_at(&f->dc, k->b, t0 + l, k->g) + k->block * f->db_block, m->dcp + l * Np, (size_t)N * sizeof(float));
    }
}

static void VEC_NAME(chunks)(const struct ssd_bwd *f, int64_t task, float *memory)
{
    const struct ssd *w = &f->w;
    struct ssd_task k = ssd_task(w, task);
    struct VEC_NAME(mem) m = VEC_NAME(carve)(w, memory);
    int64_t L = SSD_CHUNK, last = (w->T - 1) / L;
    memset(f->heads + (k.b * w->H + k.h0) * 3, 0, (size_t)k.heads * 3 * sizeof(float));
    VEC_NAME(restate)(w, &k, &m);
    for (int64_t chunk = last; chunk >= 0; chunk--) {
        int64_t t0 = chunk * L;
        int n = ssd_chunk(w, t0);
        VEC_NAME(ssd_pack)(m.bp, ssd_at(&w->b, k.b, t0, k.g), w->b.st, n, w->N, m.Np, NULL);
        VEC_NAME(ssd_pack)(m.cp, ssd_at(&w->c, k.b, t0, k.g), w->c.st, n, w->N, m.Np, NULL);
        VEC_NAME(ssd_turn)(m.bt, m.bp, m.Np, L, w->N, NULL);
        VEC_NAME(ssd_turn)(m.ct, m.cp, m.Np, L, w->N, NULL);
        VEC_NAME(ssd_scores)(m.cb, m.cp, m.Np, n, m.bt, w->N);
        memset(m.r, 0, (size_t)(L * L) * sizeof(float));
        memset(m.dbt, 0, (size_t)(L * w->N) * sizeof(float));
        memset(m.dct, 0, (size_t)(L * w->N) * sizeof(float));
        memset(m.dbp, 0, (size_t)(L * m.Np) * sizeof(float));
        memset(m.dcp, 0, (size_t)(L * m.Np) * sizeof(float));
        for (int64_t i = 0; i < k.heads; i++) VEC_NAME(head)(f, &k, i, t0, n, chunk < last, &m);
        VEC_NAME(shared)(f, &k, t0, n, &m);
    }
}

/* sum[n] = the rows of part, added in their order. */
static void VEC_NAME(add)(float *sum, const float *part, int64_t parts, int64_t stride, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        int64_t k = n - i < VL ? n - i : VL;
        vf s = vf_zero();
        for (int64_t r = 0; r < parts; r++) s = vf_add(s, vf_loadn(part + r * stride + i, k));
        vf_storen(sum + i, s, k);
    }
}

#endif
