/* Causal depthwise convolution and its backward, channels in vectors, a row at a time: the k rows that a sum reads, the taps
 * and the partial gradients lie in the first cache. Taps and bias are first turned round into [k + 1][C]. A piece is a run of
 * neighbouring times of one sequence; it reads what lies before it from x and, in the backward, works out the k - 1 rows behind
 * it once more. The backward's dw: each task sums into rows of its own, which are added in the order of the tasks. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define TAPS_MAX 16

/* The n rows that one sum reads, oldest first, with n taps in rows of stride ws from w; bias: a row of numbers. */
struct sum {
    const float *row[TAPS_MAX];
    const float *w, *bias;
    int64_t ws;
    int n;
};

#define VEC_FILE "kernels/cpu/conv.c"
#include "kernels/cpu/vec_each.h"

static void (*const fwd_each[])(float *y, const struct sum *s, int silu, int64_t n) = VEC_EACH(fwd);
static void (*const slope_each[])(float *dp, const float *dy, const struct sum *s, int64_t n) = VEC_EACH(slope);
static void (*const grad_each[])(float *dw, float *db, const float *dp, const struct sum *s, int64_t n) = VEC_EACH(grad);
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
    int silu;
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

/* The rows of time t, older ones from the state; without one, they and their taps are left out. */
static struct sum sum_at(const struct ctx *c, int64_t b, int64_t t)
{
    struct sum s = {.w = c->taps, .bias = c->taps + c->k * c->C, .ws = c->C};
    for (int64_t j = 0; j < c->k; j++) {
        int64_t from = t - c->k + 1 + j;
        if (from >= 0)
            s.row[s.n++] = at(&c->x, b, from);
        else if (c->state.p)
            s.row[s.n++] = at(&c->state, b, c->k - 1 + from);
        else
            s.w += c->C;
    }
    return s;
}

static void fwd_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task + 1) * c->each < c->B * c->pieces ? (task + 1) * c->each : c->B * c->pieces;
    for (int64_t i = task * c->each; i < end; i++) {
        int64_t b = i / c->pieces, t0 = i % c->pieces * c->step, t1 = t0 + c->step < c->T ? t0 + c->step : c->T;
        for (int64_t t = t0; t < t1; t++) {
            struct sum s = sum_at(c, b, t);
            fwd_each[cpu_of(c->dev)->isa](at(&c->y, b, t), &s, c->silu, c->C);
        }
    }
}

/* dx_u = sum_j w_j dp_{u+k-1-j}: as a sum over the rows dp_u .. dp_{u+k-1}, the taps in reverse. */
static void bwd_piece(struct ctx *c, int64_t b, int64_t t0, int64_t t1, float *ring, float *part)
{
    enum cpu_isa isa = cpu_of(c->dev)->isa;
    int64_t k = c->k, C = c->C;
    for (int64_t t = t0; t < t1 + k - 1; t++) {
        if (t < c->T) {
            struct sum s = sum_at(c, b, t);
            const float *dp = at(&c->y, b, t);
            if (c->silu) {
                slope_each[isa](ring + t % k * C, dp, &s, C);
                dp = ring + t % k * C;
            }
            if (t < t1) grad_each[isa](part + (k - s.n) * C, part + k * C, dp, &s, C);
        }
        int64_t u = t - k + 1;
        if (u < t0) continue;
        struct sum s = {.w = c->taps + (k - 1) * C, .ws = -C};
        for (int64_t i = u; i <= t && i < c->T; i++) s.row[s.n++] = c->silu ? ring + i % k * C : at(&c->y, b, i);
        fwd_each[isa](at(&c->dx, b, u), &s, 0, C);
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
    if (backward && c->step < 8 * k) c->step = 8 * k; /* so that the rows behind a piece cost little */
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
                    .dw = dw,
                    .dbias = dbias};
    if ((st = cpu_scratch_need(dev, (size_t)(w->d[1] * x->d[2]) * sizeof(float)))) return st;
    if ((st = prepare(&c, x, w, bias, 1))) return st;
    if (!c.tasks) return ST_OK;
    cpu_run(dev, bwd_task, &c, (int)c.tasks, (double)kn_count(x) * (16 + 3 * (double)c.k) / 10);
    cpu_run(dev, dw_task, &c, (int)((c.C + STRIP - 1) / STRIP), (double)(c.tasks * (c.k + 1) * c.C) * 4 / 10);
    return ST_OK;
}

#else

/* The usual number of taps is known to the compiler. */
#define TAPS_SWITCH(n, call) \
    switch (n) {             \
    case 2: call(2); break;  \
    case 3: call(3); break;  \
    case 4: call(4); break;  \
    default: call(n); break; \
    }

VEC_FN vf VEC_NAME(sum_of)(const struct sum *s, int taps, int64_t i)
{
    vf a = s->bias ? vf_load(s->bias + i) : vf_zero();
    for (int j = 0; j < taps; j++) a = vf_fma(vf_load(s->w + j * s->ws + i), vf_load(s->row[j] + i), a);
    return a;
}

VEC_FN vf VEC_NAME(sum_ofn)(const struct sum *s, int64_t i, long n)
{
    vf a = s->bias ? vf_loadn(s->bias + i, n) : vf_zero();
    for (int j = 0; j < s->n; j++) a = vf_fma(vf_loadn(s->w + j * s->ws + i, n), vf_loadn(s->row[j] + i, n), a);
    return a;
}

VEC_FN vf VEC_NAME(sigmoid)(vf g)
{
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
}

VEC_FN vf VEC_NAME(act)(vf a, int silu)
{
    return silu ? vf_mul(a, VEC_NAME(sigmoid)(a)) : a;
}

VEC_FN void VEC_NAME(fwd_whole)(float *y, const struct sum *s, int taps, int silu, int64_t n)
{
    for (int64_t i = 0; i + VL <= n; i += VL) vf_store(y + i, VEC_NAME(act)(VEC_NAME(sum_of)(s, taps, i), silu));
}

static void VEC_NAME(fwd)(float *y, const struct sum *s, int silu, int64_t n)
{
    int64_t i = n - n % VL;
    if (silu) {
#define CALL(taps) VEC_NAME(fwd_whole)(y, s, taps, 1, n)
        TAPS_SWITCH(s->n, CALL)
#undef CALL
    } else {
#define CALL(taps) VEC_NAME(fwd_whole)(y, s, taps, 0, n)
        TAPS_SWITCH(s->n, CALL)
#undef CALL
    }
    if (i < n) vf_storen(y + i, VEC_NAME(act)(VEC_NAME(sum_ofn)(s, i, n - i), silu), n - i);
}

/* dy d silu(p)/dp,  d silu(p)/dp = g + p g (1 - g) with g = sigmoid(p) */
VEC_FN vf VEC_NAME(slope1)(vf p, vf dy)
{
    vf g = VEC_NAME(sigmoid)(p), pg = vf_mul(p, g);
    return vf_mul(dy, vf_fma(pg, vf_sub(vf_set1(1.0f), g), g));
}

VEC_FN void VEC_NAME(slope_whole)(float *dp, const float *dy, const struct sum *s, int taps, int64_t n)
{
    for (int64_t i = 0; i + VL <= n; i += VL)
        vf_store(dp + i, VEC_NAME(slope1)(VEC_NAME(sum_of)(s, taps, i), vf_load(dy + i)));
}

static void VEC_NAME(slope)(float *dp, const float *dy, const struct sum *s, int64_t n)
{
    int64_t i = n - n % VL;
#define CALL(taps) VEC_NAME(slope_whole)(dp, dy, s, taps, n)
    TAPS_SWITCH(s->n, CALL)
#undef CALL
    if (i < n) vf_storen(dp + i, VEC_NAME(slope1)(VEC_NAME(sum_ofn)(s, i, n - i), vf_loadn(dy + i, n - i)), n - i);
}

VEC_FN void VEC_NAME(grad_whole)(float *dw, float *db, const float *dp, const struct sum *s, int taps, int64_t n)
{
    for (int64_t i = 0; i + VL <= n; i += VL) {
        vf d = vf_load(dp + i);
        vf_store(db + i, vf_add(vf_load(db + i), d));
        for (int j = 0; j < taps; j++) {
            float *p = dw + j * s->ws + i;
            vf_store(p, vf_fma(d, vf_load(s->row[j] + i), vf_load(p)));
        }
    }
}

static void VEC_NAME(grad)(float *dw, float *db, const float *dp, const struct sum *s, int64_t n)
{
    int64_t i = n - n % VL;
#define CALL(taps) VEC_NAME(grad_whole)(dw, db, dp, s, taps, n)
    TAPS_SWITCH(s->n, CALL)
#undef CALL
    if (i == n) return;
    vf d = vf_loadn(dp + i, n - i);
    vf_storen(db + i, vf_add(vf_loadn(db + i, n - i), d), n - i);
    for (int j = 0; j < s->n; j++) {
        float *p = dw + j * s->ws + i;
        vf_storen(p, vf_fma(d, vf_loadn(s->row[j] + i, n - i), vf_loadn(p, n - i)), n - i);
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
