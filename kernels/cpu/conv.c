/* Causal depthwise convolution and its backward, channels in vectors. A task goes through its rows in blocks of ROWS: for each vector of channels the
 * taps, the rows before and (backward) the partial gradients are in registers while it goes down the block, so that each number is read once. A piece is
 * a run of neighbouring times of one sequence; it reads what lies before it from x and, in the backward, works out the k - 1 rows behind it once more.
 * The backward's dw: each task sums into rows of its own, which are added in the order of the tasks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define TAPS_MAX 16

#define ROWS 8

/* Rows of a block; NULL: of zeros, or not wanted. taps: [k + 1][C], the last row the bias. */
struct block {
    const float *before[TAPS_MAX]; /* the k - 1 rows before it, oldest first */
    const float *x[ROWS], *dy[ROWS];
    int64_t ahead_x, ahead_y; /* numbers from a row to the one of the next block */
    void *y[ROWS];                 /* dx of k - 1 rows further up in the backward, bf16 where half */
    const float *taps;
    float *ring;                   /* [k - 1][C]: the last gradients before silu, oldest first */
    float *part;                   /* [k + 1][C]: partial gradients of taps and bias, */
    int64_t C;
    int rows, own, k, silu, half;  /* of the first `own` rows */
};

#define VEC_FILE "kernels/cpu/conv.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(const struct block *b) = VEC_EACH(fwd);
static void (*const bwd_each[])(const struct block *b) = VEC_EACH(bwd);
static void (*const add_each[])(float *sum, const float *part, int64_t parts, int64_t stride, int64_t n) = VEC_EACH(add);

#define TASKS  64 /* partial gradients at most */
#define STRIP  64 /* channels of dw that a task of the last step adds up */
#define LEAST  16384 /* numbers of a piece */

struct view {
    float *p;
    int64_t sb, st;
};

struct ctx {
    struct kn_dev *dev;
    struct view x, y, state, dx; /* y: dy in the backward */
    int64_t B, T, C, k;
    int silu, half; /* half: dx is bf16 */
    int64_t step, pieces; /* times a piece, pieces a sequence */
    int64_t each, tasks;  /* pieces a task */
    float *taps;          /* [k + 1][C], the last row the bias */
    float *part;          /* [tasks][k + 1][C] */
    const struct kn_tensor *dw, *dbias;
};

static struct view view_of(const struct kn_tensor *t)
{
    return kn_absent(t) ? (struct view){0} : (struct view){t->p, t->s[0], t->s[1]};
}

static float *at(const struct view *v, int64_t b, int64_t t)
{
    return v->p + b * v->sb + t * v->st;
}

/* Time t of x, before 0 of the state; NULL where there is none. */
static const float *row(const struct ctx *c, int64_t b, int64_t t)
{
    if (t >= c->T) return NULL;
    return t >= 0 ? at(&c->x, b, t) : c->state.p && t >= 1 - c->k ? at(&c->state, b, c->k - 1 + t) : NULL;
}

static struct block block_at(const struct ctx *c, int64_t b, int64_t t, int64_t end)
{
    struct block s = {.taps = c->taps, .C = c->C, .k = (int)c->k, .silu = c->silu, .rows = end - t < ROWS ? (int)(end - t) : ROWS};
    for (int64_t j = 0; j < c->k - 1; j++) s.before[j] = row(c, b, t - c->k + 1 + j);
    for (int r = 0; r < s.rows; r++) s.x[r] = row(c, b, t + r);
    s.ahead_x = ROWS * c->x.st, s.ahead_y = ROWS * c->y.st;
    return s;
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->each < c->B * c->pieces ? (task + 1) * c->each : c->B * c->pieces;
    for (int64_t i = task * c->each; i < end; i++) {
        int64_t b = i / c->pieces, t0 = i % c->pieces * c->step, t1 = t0 + c->step < c->T ? t0 + c->step : c->T;
        for (int64_t t = t0; t < t1; t += ROWS) {
            struct block s = block_at(c, b, t, t1);
            for (int r = 0; r < s.rows; r++) s.y[r] = at(&c->y, b, t + r);
            fwd_each[cpu_of(c->dev)->isa](&s);
        }
    }
}

/* dx_u = sum_j w_j dp_{u+k-1-j}, so that dx comes k - 1 rows after dp; behind the piece there are k - 1 rows of dp alone, and of zeros behind the end. */
static void bwd_piece(struct ctx *c, int64_t b, int64_t t0, int64_t t1, float *ring, float *part)
{
    int64_t k = c->k, end = t1 + k - 1;
    if (k > 1) memset(ring, 0, (size_t)((k - 1) * c->C) * sizeof *ring);
    for (int64_t t = t0; t < end; t += ROWS) {
        struct block s = block_at(c, b, t, end);
        s.ring = ring;
        s.part = part;
        s.half = c->half;
        s.own = t1 - t < 0 ? 0 : t1 - t < s.rows ? (int)(t1 - t) : s.rows;
        for (int r = 0; r < s.rows; r++) {
            int64_t u = t + r - k + 1;
            if (t + r < c->T) s.dy[r] = at(&c->y, b, t + r);
            if (u >= t0 && c->half) s.y[r] = (uint16_t *)(void *)c->dx.p + b * c->dx.sb + u * c->dx.st;
            else if (u >= t0) s.y[r] = at(&c->dx, b, u);
        }
        bwd_each[cpu_of(c->dev)->isa](&s);
    }
}

static void bwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->each < c->B * c->pieces ? (task + 1) * c->each : c->B * c->pieces;
    float *part = c->part + task * (c->k + 1) * c->C;
    memset(part, 0, (size_t)((c->k + 1) * c->C) * sizeof *part);
    for (int64_t i = task * c->each; i < end; i++) {
        int64_t t0 = i % c->pieces * c->step, t1 = t0 + c->step < c->T ? t0 + c->step : c->T;
        bwd_piece(c, i / c->pieces, t0, t1, cpu_scratch(c->dev, worker), part);
    }
}

static void dw_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t from = (int64_t)task * STRIP, n = c->C - from < STRIP ? c->C - from : STRIP, rows = c->k + 1;
    for (int64_t j = 0; j < rows; j++) {
        float sum[STRIP];
        add_each[cpu_of(c->dev)->isa](sum, c->part + j * c->C + from, c->tasks, rows * c->C, n);
        const struct kn_tensor *d = j < c->k ? c->dw : c->dbias;
        if (kn_absent(d)) continue;
        float *p = (float *)d->p + from * d->s[0] + (j < c->k ? j * d->s[1] : 0);
        for (int64_t i = 0; i < n; i++) p[i * d->s[0]] += sum[i];
    }
}

/* Pieces and tasks by shape alone; taps turned round. */
static st_t prepare(struct ctx *c, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias,
                    int backward)
{
    int64_t B = c->B = x->d[0], T = c->T = x->d[1], C = c->C = x->d[2], k = c->k = w->d[1];
    if (B * T == 0 || C == 0) return ST_OK;
    c->step = (LEAST + C - 1) / C;
    if (backward && c->step < 16 * k) c->step = 16 * k; /* so that the rows behind a piece cost little */
    if (c->step > T) c->step = T;
    c->pieces = (T + c->step - 1) / c->step;
    c->each = backward ? (B * c->pieces + TASKS - 1) / TASKS : 1;
    c->tasks = (B * c->pieces + c->each - 1) / c->each;
    void *p;
    st_t st = cpu_shared(c->dev, CPU_SLOT_OP, (size_t)((backward ? c->tasks + 1 : 1) * (k + 1) * C) * sizeof(float), &p);
    if (st) return st;
    c->taps = p;
    c->part = c->taps + (k + 1) * C;
    for (int64_t i = 0; i < C; i++) {
        const float *from = (const float *)w->p + i * w->s[0];
        for (int64_t j = 0; j < k; j++) c->taps[j * C + i] = from[j * w->s[1]];
        c->taps[k * C + i] = kn_absent(bias) ? 0 : ((const float *)bias->p)[i * bias->s[0]];
    }
    return ST_OK;
}

/* Moves the last k - 1 inputs into the state. */
static void keep(const struct ctx *c)
{
    int64_t kept = c->k - 1;
    for (int64_t b = 0; b < c->B; b++)
        for (int64_t i = 0; i < kept; i++) {
            const float *from = i + c->T < kept ? at(&c->state, b, i + c->T) : at(&c->x, b, i + c->T - kept);
            float *to = at(&c->state, b, i);
            if (from != to) memcpy(to, from, (size_t)c->C * sizeof *to);
        }
}

st_t cpu_conv(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *bias,
              int silu, const struct kn_tensor *state, const struct kn_tensor *y)
{
    st_t st = kn_check_conv(x, w, bias, silu, state, y);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev, .x = view_of(x), .y = view_of(y), .state = view_of(state), .silu = silu};
    if ((st = prepare(&c, x, w, bias, 0))) return st;
    if (!c.tasks) return ST_OK;
    double count = (double)kn_count(x);
    cpu_run(dev, fwd_task, &c, (int)c.tasks, count * (silu ? 8 + (double)c.k : 4 + (double)c.k) / 10);
    if (c.state.p) keep(&c);
    return ST_OK;
}

st_t cpu_conv_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w,
                  const struct kn_tensor *bias, int silu, const struct kn_tensor *dy, const struct kn_tensor *dx,
                  const struct kn_tensor *dw, const struct kn_tensor *dbias)
{
    st_t st = kn_check_conv_bwd(x, w, bias, silu, dy, dx, dw, dbias);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.dev = dev,
                    .x = view_of(x),
                    .y = view_of(dy),
                    .dx = view_of(dx),
                    .silu = silu,
                    .half = dx->dtype == KN_BF16,
                    .dw = dw,
                    .dbias = dbias};
    if ((st = cpu_scratch_need(dev, (size_t)((w->d[1] - 1) * x->d[2]) * sizeof(float)))) return st;
    if ((st = prepare(&c, x, w, bias, 1))) return st;
    if (!c.tasks) return ST_OK;
    cpu_run(dev, bwd_task, &c, (int)c.tasks, (double)kn_count(x) * (16 + 3 * (double)c.k) / 10);
    cpu_run(dev, dw_task, &c, (int)((c.C + STRIP - 1) / STRIP), (double)(c.tasks * (c.k + 1) * c.C) * 4 / 10);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_put.h"

VEC_FN vf VEC_NAME(in)(const float *p, long n)
{
    return n == VL ? vf_load(p) : vf_loadn(p, n);
}

VEC_FN void VEC_NAME(out)(float *p, vf x, long n)
{
    if (n == VL) vf_store(p, x);
    else vf_storen(p, x, n);
}

VEC_FN vf VEC_NAME(sigmoid)(vf g)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

/* dy d silu(p)/dp,  d silu(p)/dp = g + p g (1 - g) with g = sigmoid(p) */
VEC_FN vf VEC_NAME(slope)(vf p, vf dy)
{
    vf g = VEC_NAME(sigmoid)(p), pg = vf_mul(p, g);
    return vf_mul(dy, vf_fma(pg, vf_sub(vf_set1(1.0f), g), g));
}

/* x[0 .. k - 2]: the rows before, x[k - 1] is left for the next. */
VEC_FN void VEC_NAME(begin)(const struct block *s, int k, int64_t i, long n, vf *w, vf *x)
{
#pragma GCC unroll 5
    for (int j = 0; j <= k; j++) w[j] = VEC_NAME(in)(s->taps + j * s->C + i, n);
#pragma GCC unroll 5
    for (int j = 0; j < k - 1; j++) x[j] = s->before[j] ? VEC_NAME(in)(s->before[j] + i, n) : vf_zero();
}

VEC_FN vf VEC_NAME(sum)(const vf *w, const vf *x, int k)
{
    vf a = w[k];
#pragma GCC unroll 5
    for (int j = 0; j < k; j++) a = vf_fma(w[j], x[j], a);
    return a;
}

VEC_FN void VEC_NAME(fwd_columns)(const struct block *s, int k, int silu, int64_t i, long n)
{
    vf w[TAPS_MAX + 1], x[TAPS_MAX];
    VEC_NAME(begin)(s, k, i, n, w, x);
    for (int r = 0; r < s->rows; r++) {
        x[k - 1] = VEC_NAME(in)(s->x[r] + i, n);
        __builtin_prefetch(s->x[r] + i + s->ahead_x);
        vf a = VEC_NAME(sum)(w, x, k);
        VEC_NAME(out)((float *)s->y[r] + i, silu ? vf_mul(a, VEC_NAME(sigmoid)(a)) : a, n);
#pragma GCC unroll 5
        for (int j = 0; j < k - 1; j++) x[j] = x[j + 1];
    }
}

VEC_FN void VEC_NAME(bwd_columns)(const struct block *s, int k, int silu, int64_t i, long n)
{
    vf w[TAPS_MAX + 1], x[TAPS_MAX], d[TAPS_MAX], sum[TAPS_MAX + 1];
    int64_t C = s->C;
    VEC_NAME(begin)(s, k, i, n, w, x);
#pragma GCC unroll 5
    for (int j = 0; j <= k; j++) sum[j] = VEC_NAME(in)(s->part + j * C + i, n);
#pragma GCC unroll 5
    for (int j = 0; j < k - 1; j++) d[j] = VEC_NAME(in)(s->ring + j * C + i, n);
    for (int r = 0; r < s->rows; r++) {
        vf g = vf_zero();
        x[k - 1] = g;
        if (s->x[r]) {
            x[k - 1] = VEC_NAME(in)(s->x[r] + i, n);
            g = VEC_NAME(in)(s->dy[r] + i, n);
            __builtin_prefetch(s->x[r] + i + s->ahead_x);
            __builtin_prefetch(s->dy[r] + i + s->ahead_y);
            if (silu) g = VEC_NAME(slope)(VEC_NAME(sum)(w, x, k), g);
        }
        if (r < s->own) {
            sum[k] = vf_add(sum[k], g);
#pragma GCC unroll 5
            for (int j = 0; j < k; j++) sum[j] = vf_fma(g, x[j], sum[j]);
        }
        d[k - 1] = g;
        if (s->y[r]) {
            vf a = vf_zero();
#pragma GCC unroll 5
            for (int j = 0; j < k; j++) a = vf_fma(w[k - 1 - j], d[j], a);
            VEC_NAME(put)(s->y[r], s->half, i, a, n);
        }
#pragma GCC unroll 5
        for (int j = 0; j < k - 1; j++) x[j] = x[j + 1], d[j] = d[j + 1];
    }
#pragma GCC unroll 5
    for (int j = 0; j <= k; j++) VEC_NAME(out)(s->part + j * C + i, sum[j], n);
#pragma GCC unroll 5
    for (int j = 0; j < k - 1; j++) VEC_NAME(out)(s->ring + j * C + i, d[j], n);
}

VEC_FN void VEC_NAME(fwd_block)(const struct block *s, int k, int silu)
{
    int64_t i = 0;
    for (; i + VL <= s->C; i += VL) VEC_NAME(fwd_columns)(s, k, silu, i, VL);
    if (i < s->C) VEC_NAME(fwd_columns)(s, k, silu, i, (long)(s->C - i));
}

VEC_FN void VEC_NAME(bwd_block)(const struct block *s, int k, int silu)
{
    int64_t i = 0;
    for (; i + VL <= s->C; i += VL) VEC_NAME(bwd_columns)(s, k, silu, i, VL);
    if (i < s->C) VEC_NAME(bwd_columns)(s, k, silu, i, (long)(s->C - i));
}

/* The usual numbers of taps are known to the compiler. */
static void VEC_NAME(fwd)(const struct block *s)
{
    if (s->k == 4 && s->silu) VEC_NAME(fwd_block)(s, 4, 1);
    else if (s->k == 3 && s->silu) VEC_NAME(fwd_block)(s, 3, 1);
    else if (s->k == 2 && s->silu) VEC_NAME(fwd_block)(s, 2, 1);
    else VEC_NAME(fwd_block)(s, s->k, s->silu);
}

static void VEC_NAME(bwd)(const struct block *s)
{
    if (s->k == 4 && s->silu) VEC_NAME(bwd_block)(s, 4, 1);
    else if (s->k == 3 && s->silu) VEC_NAME(bwd_block)(s, 3, 1);
    else if (s->k == 2 && s->silu) VEC_NAME(bwd_block)(s, 2, 1);
    else VEC_NAME(bwd_block)(s, s->k, s->silu);
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
