/* Mixtures of experts: routing against a plain loop, closed forms of the load-balance loss, grouped products and the rest against the reference, gradients
 * of the reference against central differences. */
#include "tests/kernels/kntest.h"

/* ---- routing ---- */

struct routing {
    int64_t N, E, k;
    int sigmoid;
    struct kt z, p, w, aux, dw, dz;
    int32_t *index, *offset, *order, *row;
};

static struct routing routing_new(int64_t N, int64_t E, int64_t k, int sigmoid, int strided)
{
    int64_t ne[] = {N, E}, nk[] = {N, k}, wide[] = {2 * E + 1, 2}, widek[] = {k + 3, 1}, one[] = {1};
    struct routing r = {N, E, k, sigmoid, kt_new(2, ne, strided ? wide : NULL, 2, 11), kt_new(2, ne, strided ? wide : NULL, 1, 12),
                        kt_new(2, nk, strided ? widek : NULL, 1, 13), kt_new(1, one, NULL, 1, 14), kt_new(2, nk, strided ? widek : NULL, 1, 15),
                        kt_new(2, ne, NULL, 1, 16), NULL, NULL, NULL, NULL};
    r.index = kt_mem((size_t)(N * k + 1) * sizeof *r.index);
    r.offset = kt_mem((size_t)(E + 1) * sizeof *r.offset);
    r.order = kt_mem((size_t)(N * k + 1) * sizeof *r.order);
    r.row = kt_mem((size_t)(N * k + 1) * sizeof *r.row);
    return r;
}

static void routing_free(struct routing *r)
{
    struct kt *all[] = {&r->z, &r->p, &r->w, &r->aux, &r->dw, &r->dz};
    for (int i = 0; i < 6; i++) kt_free(all[i]);
    kt_mem_free(r->index), kt_mem_free(r->offset), kt_mem_free(r->order), kt_mem_free(r->row);
}

static st_t route(struct kn_dev *dev, int ref, void *arg)
{
    struct routing *r = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_tensor index = kn_t2(r->index, KN_I32, r->N, r->k), offset = kn_t1(r->offset, KN_I32, r->E + 1),
                     order = kn_t1(r->order, KN_I32, r->N * r->k), row = kn_t1(r->row, KN_I32, r->N * r->k);
    return dev->op->route(dev, of(&r->z), r->sigmoid, of(&r->p), &index, of(&r->w), &offset, &order, &row, of(&r->aux));
}

static st_t route_bwd(struct kn_dev *dev, int ref, void *arg)
{
    struct routing *r = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_tensor index = kn_t2(r->index, KN_I32, r->N, r->k), offset = kn_t1(r->offset, KN_I32, r->E + 1);
    return dev->op->route_bwd(dev, of(&r->z), r->sigmoid, of(&r->p), &index, of(&r->w), &offset, of(&r->dw), 0.7, of(&r->dz));
}

/* What the whole numbers must be, from the logits alone. */
static int sorted(const struct routing *r)
{
    int64_t at = 0, good = 1, N = r->N, E = r->E, k = r->k;
    for (int64_t t = 0; t < N; t++)
        for (int64_t s = 0; s < k; s++) {
            float mine = r->z.init[t * r->z.t.s[0] + r->index[t * k + s] * r->z.t.s[1]];
            int64_t before = 0;
            for (int64_t e = 0; e < E; e++) {
                float other = r->z.init[t * r->z.t.s[0] + e * r->z.t.s[1]];
                before += other > mine || (other == mine && e < r->index[t * k + s]);
            }
            good &= before == s;
        }
    for (int64_t e = 0; e < E; e++) {
        good &= r->offset[e] == at;
        for (int64_t pair = 0; pair < N * k; pair++)
            if (r->index[pair] == e) {
                good &= r->order[at] == pair && r->row[pair] == at;
                at++;
            }
    }
    return good && at == N * k && r->offset[E] == at;
}

static void check_route(int64_t N, int64_t E, int64_t k, int sigmoid, int strided, int ties)
{
    struct routing r = routing_new(N, E, k, sigmoid, strided);
    char what[96];
    snprintf(what, sizeof what, "%d tokens, %d of %d%s%s%s", (int)N, (int)k, (int)E, sigmoid ? ", sigmoid" : "", strided ? ", strided" : "",
             ties ? ", ties" : "");
    for (int64_t i = 0; ties && i < r.z.n; i++) r.z.init[i] = (float)(int)r.z.init[i] * (i % 3 ? 1.0f : -1.0f); /* of both zeros too, which are equal */
    kt_reset(&r.z), kt_reset(&r.dw);
    kt_compare(what, route, &r, (struct kt *const[]){&r.p, &r.w, &r.aux}, 3, 1e-11);
    ok(sorted(&r), "%s: choice and order", what);
    /* the last device's p and w are the f32 ones; the reference left its own */
    kt_compare(what, route_bwd, &r, (struct kt *const[]){&r.dz}, 1, 1e-10);
    routing_free(&r);
}

/* Logits that are all equal: every p is 1/E, the first k experts have everything, and the loss is E * (1/E) = 1 whatever f is. Logits that send every
 * token to one expert for sure: E * 1 * 1. */
static void check_balance(void)
{
    struct routing r = routing_new(40, 8, 2, 0, 0), one = routing_new(30, 5, 1, 0, 0);
    for (int64_t i = 0; i < r.z.n; i++) r.z.init[i] = 0.25f;
    for (int64_t i = 0; i < one.z.n; i++) one.z.init[i] = i % 5 == 3 ? 60 : 0;
    for (int s = 0; s < 2; s++) {
        r.sigmoid = one.sigmoid = s;
        struct kt *reset[] = {&r.z, &r.aux, &one.z, &one.aux};
        for (int i = 0; i < 4; i++) kt_reset(reset[i]);
        r.aux.f[0] = one.aux.f[0] = 2;
        if (s)
            for (int64_t i = 0; i < one.z.n; i++) one.z.f[i] = i % 5 == 3 ? 0 : -90;
        is_int(route(kt_cpu[0][0], 0, &r), ST_OK, "equal logits");
        ok(fabsf(r.aux.f[0] - 3) < 1e-6f && r.offset[1] == 40 && r.offset[2] == 80 && r.offset[8] == 80 && r.w.f[5] == 0.5f,
           "loss 1, added to what was there; ties go to the lower expert");
        is_int(route(kt_cpu[0][0], 0, &one), ST_OK, "one expert for all");
        ok(fabsf(one.aux.f[0] - 7) < 1e-5f && one.offset[3] == 0 && one.offset[4] == 30, "loss E");
    }
    /* a skewed case by hand: two experts, p = (3/4, 1/4) for three tokens and (1/4, 3/4) for one, one active: 2 (3/4 * 5/8 + 1/4 * 3/8) = 9/8 */
    struct routing two = routing_new(4, 2, 1, 0, 0);
    for (int64_t t = 0; t < 4; t++) two.z.f[2 * t] = t < 3 ? logf(3) : 0, two.z.f[2 * t + 1] = t < 3 ? 0 : logf(3);
    two.aux.f[0] = 0;
    is_int(route(kt_cpu[0][0], 0, &two), ST_OK, "a case by hand");
    ok(fabsf(two.aux.f[0] - 1.125f) < 1e-6f, "loss 9/8");
    routing_free(&two);
    /* nothing left of any sigmoid: no NaN comes out */
    for (int64_t i = 0; i < one.z.n; i++) one.z.f[i] = -1e4f;
    one.sigmoid = 1;
    st_t st = route(kt_cpu[0][0], 0, &one);
    if (!st) st = route_bwd(kt_cpu[0][0], 0, &one);
    int finite = 1;
    for (int64_t i = 0; i < one.N * one.E; i++) finite &= isfinite(one.dz.f[i]) && isfinite(one.p.f[i]);
    ok(st == ST_OK && finite && isfinite(one.w.f[0]), "sigmoids that are all 0");
    routing_free(&r), routing_free(&one);
}

/* ---- gradients of the reference ---- */

static double contract(const struct kt *a, const struct kt *b)
{
    double s = 0;
    for (int64_t i = 0; i < kn_count(&a->t); i++) s += a->g[kt_at(a, i)] * b->g[kt_at(b, i)];
    return s;
}

static double route_loss(struct routing *r)
{
    r->aux.g[0] = 0;
    return route(kt_ref, 1, r) ? NAN : contract(&r->w, &r->dw) + 0.7 * r->aux.g[0];
}

static void check_route_gradient(int sigmoid)
{
    struct routing r = routing_new(7, 5, 3, sigmoid, 0);
    double worst = 0;
    route_loss(&r);
    is_int(route_bwd(kt_ref, 1, &r), ST_OK, "backward of the reference");
    for (int64_t i = 0; i < r.z.n; i++) {
        double keep = r.z.g[i], h = 1e-5, up, down;
        r.z.g[i] = keep + h, up = route_loss(&r);
        r.z.g[i] = keep - h, down = route_loss(&r);
        r.z.g[i] = keep;
        worst = tap_worse(worst, fabs((up - down) / (2 * h) - r.dz.g[i]));
    }
    ok(worst < 1e-9, "gradient of routing%s (off by %.1e)", sigmoid ? " by sigmoids" : "", worst);
    routing_free(&r);
}

/* ---- the activation ---- */

struct act {
    struct kt g, u, w, h, dh, dg, du, dw, again;
    int32_t *order;
    int gated, weighted, ordered, sigmoid, in_place;
};

static const struct kn_tensor *maybe(const struct kn_tensor *t, int there)
{
    return there ? t : NULL;
}

static st_t act(struct kn_dev *dev, int ref, void *arg)
{
    struct act *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_tensor order = kn_t1(c->order, KN_I32, c->g.t.d[0]);
    return dev->op->expert_act(dev, of(&c->g), maybe(of(&c->u), c->gated), maybe(&order, c->ordered), maybe(of(&c->w), c->weighted), c->sigmoid,
                               of(&c->h));
}

static st_t act_bwd(struct kn_dev *dev, int ref, void *arg)
{
    struct act *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    struct kn_tensor order = kn_t1(c->order, KN_I32, c->g.t.d[0]);
    struct kt *dg = c->in_place ? &c->g : &c->dg, *du = c->in_place ? &c->u : &c->du, *h = c->in_place ? &c->dh : &c->again;
    return dev->op->expert_act_bwd(dev, of(&c->g), maybe(of(&c->u), c->gated), maybe(&order, c->ordered), maybe(of(&c->w), c->weighted), c->sigmoid,
                                   of(&c->dh), of(dg), maybe(of(du), c->gated), maybe(of(&c->dw), c->weighted), of(h));
}

static double act_loss(struct act *c)
{
    return act(kt_ref, 1, c) ? NAN : contract(&c->h, &c->dh);
}

static double slope(struct act *c, double *at)
{
    double keep = *at, up, down, h = 1e-5;
    *at = keep + h, up = act_loss(c);
    *at = keep - h, down = act_loss(c);
    *at = keep;
    return (up - down) / (2 * h);
}

static void check_act_gradient(struct act *c, const char *what)
{
    double worst = 0;
    act_bwd(kt_ref, 1, c);
    for (int64_t i = 0; i < 20; i++) {
        int64_t r = i % c->g.t.d[0], f = i * 7 % c->g.t.d[1], at = r * c->g.t.s[0] + f * c->g.t.s[1];
        worst = tap_worse(worst, fabs(slope(c, &c->g.g[at]) - c->dg.g[r * c->dg.t.s[0] + f * c->dg.t.s[1]]));
        if (c->gated) worst = tap_worse(worst, fabs(slope(c, &c->u.g[at]) - c->du.g[r * c->du.t.s[0] + f * c->du.t.s[1]]));
        if (c->weighted) worst = tap_worse(worst, fabs(slope(c, &c->w.g[r]) - c->dw.g[r]) / 10);
    }
    ok(worst < 1e-7, "%s: gradients of the reference (off by %.1e)", what, worst);
}

static void check_act(int64_t n, int64_t f, int gated, int weighted, int ordered, int sigmoid, int strided)
{
    int64_t nf[] = {n, f}, wide[] = {2 * f + 3, 1}, apart[] = {3 * f, 3}, one[] = {n};
    const int64_t *s = strided == 0 ? NULL : strided == 1 ? wide : apart;
    struct act c = {kt_new(2, nf, s, 1, 1), kt_new(2, nf, s, 1, 2), kt_new(1, one, NULL, 1, 3), kt_new(2, nf, s, 1, 4), kt_new(2, nf, s, 1, 5),
                    kt_new(2, nf, s, 1, 6), kt_new(2, nf, s, 1, 7), kt_new(1, one, NULL, 1, 8), kt_new(2, nf, s, 1, 9), kt_mem((size_t)n * sizeof(int32_t)),
                    gated, weighted, ordered, sigmoid, 0};
    char what[96];
    snprintf(what, sizeof what, "activation %d x %d%s%s%s%s, strides %d", (int)n, (int)f, gated ? ", gated" : "", weighted ? ", weighted" : "",
             ordered ? ", ordered" : "", sigmoid ? ", sigmoid" : "", strided);
    for (int64_t i = 0; i < n; i++) c.order[i] = (int32_t)((i * 7 + 3) % n); /* 7 divides no n that is ordered */
    kt_compare(what, act, &c, (struct kt *const[]){&c.h}, 1, 1e-11);
    kt_compare(what, act_bwd, &c, (struct kt *const[]){&c.dg, &c.again, gated ? &c.du : &c.dg, weighted ? &c.dw : &c.dg}, 4, 1e-10);
    struct kt *all[] = {&c.g, &c.u, &c.w, &c.h, &c.dh, &c.dg, &c.du, &c.dw, &c.again};
    for (int i = 0; i < 9; i++) kt_reset(all[i]);
    check_act_gradient(&c, what);
    c.in_place = 1;
    kt_compare(what, act_bwd, &c, (struct kt *const[]){&c.g, &c.dh, gated ? &c.u : &c.g, weighted ? &c.dw : &c.g}, 4, 1e-10);
    for (int i = 0; i < 9; i++) kt_free(all[i]);
    kt_mem_free(c.order);
}

/* ---- rows ---- */

struct moved {
    struct kt x, y;
    struct kn_tensor place;
    double beta;
    int back;
};

static st_t moved(struct kn_dev *dev, int ref, void *arg)
{
    struct moved *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    if (c->back) return dev->op->combine(dev, of(&c->y), &c->place, c->beta, of(&c->x));
    return dev->op->gather(dev, of(&c->x), &c->place, of(&c->y));
}

static void check_rows(int64_t N, int64_t k, int64_t D, int strided)
{
    int64_t nd[] = {N, D}, md[] = {N * k, D}, s[] = {2 * D + 1, 2};
    int32_t *place = kt_mem((size_t)(N * k) * sizeof *place);
    struct moved c = {kt_new(2, nd, strided ? s : NULL, 1, 1), kt_new(2, md, strided ? s : NULL, 1, 2), kn_t1(place, KN_I32, N * k), 0, 0};
    char what[64];
    snprintf(what, sizeof what, "rows: %d x %d, %d wide%s", (int)N, (int)k, (int)D, strided ? ", strided" : "");
    for (int64_t i = 0; i < N * k; i++) place[i] = (int32_t)((i * 7 + 2) % (N * k)); /* 7 divides no N k here: a permutation */
    kt_compare(what, moved, &c, (struct kt *const[]){&c.y}, 1, 0);
    c.back = 1;
    kt_compare(what, moved, &c, (struct kt *const[]){&c.x}, 1, 1e-12);
    c.beta = 0.5;
    kt_compare(what, moved, &c, (struct kt *const[]){&c.x}, 1, 1e-12);
    kt_free(&c.x), kt_free(&c.y);
    kt_mem_free(place);
}

/* ---- grouped products ---- */

struct grouped {
    struct kt a, b, c, x, sum; /* a [M,P] b [E,P,Q] c [M,Q]; x [M,Q] sum [E,P,Q] */
    struct kn_tensor offset;
    double beta;
};

static st_t grouped(struct kn_dev *dev, int ref, void *arg)
{
    struct grouped *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->gemm_grouped(dev, of(&c->a), of(&c->b), &c->offset, c->beta, of(&c->c));
}

static st_t grouped_sum(struct kn_dev *dev, int ref, void *arg)
{
    struct grouped *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->gemm_grouped_sum(dev, of(&c->a), of(&c->x), &c->offset, of(&c->sum));
}

/* [E + 1], from the rows of each group. */
static int32_t *bounds(const int *lengths, int64_t E)
{
    int32_t *offset = kt_mem((size_t)(E + 1) * sizeof *offset);
    for (int64_t e = 0; e < E; e++) offset[e + 1] = offset[e] + lengths[e];
    return offset;
}

/* lengths: rows of each group. Strides 0: all contiguous; 1: b transposed, as weights are; 2: nothing is. Precision bf16: of numbers that it does not change. */
static void check_grouped(const int *lengths, int64_t E, int64_t P, int64_t Q, int strides, enum kn_dtype precision)
{
    int32_t *offset = bounds(lengths, E);
    int64_t M = offset[E], mp[] = {M, P}, epq[] = {E, P, Q}, mq[] = {M, Q}, bt[] = {P * Q, 1, P}, amp[] = {2 * P + 1, 2}, amq[] = {2 * Q + 3, 2},
            abpq[] = {(3 * Q + 1) * P, 3 * Q + 1, 3};
    int far = strides == 2;
    struct grouped c = {kt_new(2, mp, far ? amp : NULL, 1, 1), kt_new(3, epq, far ? abpq : strides ? bt : NULL, 1, 2),
                        kt_new(2, mq, far ? amq : NULL, 1, 3), kt_new(2, mq, far ? amq : NULL, 1, 4),
                        kt_new(3, epq, far ? abpq : NULL, 1, 5), kn_t1(offset, KN_I32, E + 1), 0};
    if (precision == KN_BF16) kt_half(&c.a), kt_half(&c.b), kt_half(&c.x);
    kt_precision = precision;
    /* what nobody chose is not read */
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < P * Q && !lengths[e]; i++) {
            int64_t at = kt_at(&c.b, e * P * Q + i);
            c.b.f[at] = NAN, c.b.g[at] = NAN;
        }
    char what[96];
    snprintf(what, sizeof what, "grouped %d rows in %d, %d x %d, strides %d", (int)M, (int)E, (int)P, (int)Q, strides);
    static const double beta[] = {0, 0.5, 1};
#ifdef KT_CUDA
    enum { BETAS = 2 };
#else
    enum { BETAS = 3 };
#endif
    for (int i = 0; i < BETAS; i++) {
        c.beta = beta[i];
        kt_compare(what, grouped, &c, (struct kt *const[]){&c.c}, 1, 1e-11);
    }
    kt_compare(what, grouped_sum, &c, (struct kt *const[]){&c.sum}, 1, 1e-11);
    kt_precision = KN_F32;
    struct kt *all[] = {&c.a, &c.b, &c.c, &c.x, &c.sum};
    for (int i = 0; i < 5; i++) kt_free(all[i]);
    kt_mem_free(offset);
}

/* Rounded operands: against the reference in bf16, which rounds the same. Few rows stay in f32. */
static void check_bf16(void)
{
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || !dev->info.bf16) {
        tap_skip("bf16 products");
        return;
    }
    int32_t *offset = bounds((const int[]){40, 0, 300, 17, 3}, 5);
    struct grouped c = {kt_new(2, (int64_t[]){360, 70}, NULL, 1, 1), kt_new(3, (int64_t[]){5, 70, 50}, (int64_t[]){3500, 1, 70}, 1, 2),
                        kt_new(2, (int64_t[]){360, 50}, NULL, 1, 3), kt_new(2, (int64_t[]){360, 50}, NULL, 1, 4),
                        kt_new(3, (int64_t[]){5, 70, 50}, NULL, 1, 5), kn_t1(offset, KN_I32, 6), 0};
    grouped(kt_ref, 1, &c), grouped_sum(kt_ref, 1, &c);
    is_int(kn_precision(dev, KN_BF16), ST_OK, "bf16");
    is_int(grouped(dev, 0, &c), ST_OK, "grouped in bf16");
    double e = kt_nmse(&c.c);
    ok(e < 1e-4 && e > 1e-9, "as near as bf16 comes (%.1e)", e);
    is_int(grouped_sum(dev, 0, &c), ST_OK, "its sums");
    e = kt_nmse(&c.sum);
    ok(e < 1e-4 && e > 1e-9, "as near as bf16 comes (%.1e)", e);
    kn_precision(dev, KN_F32);
    struct kt *all[] = {&c.a, &c.b, &c.c, &c.x, &c.sum};
    for (int i = 0; i < 5; i++) kt_free(all[i]);
    kt_mem_free(offset);
}

/* ---- rows that are bf16 in memory ---- */

enum { HN = 11, HK = 2, HM = HN * HK, HMOST = 40, HWIDE = HMOST + 8, HROWS = 7 }; /* tensors of rows: g, u, dh, dg, du, h, again */
static int HF = 37; /* width, at most HMOST */

/* One device's memory of a call. */
struct halves {
    uint16_t rows[HROWS][HM * HWIDE], x[HN * HWIDE];
    float w[HM], dw[HM], y[HN * HMOST];
};

static float widened(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static struct kn_tensor half_rows(uint16_t *p, int64_t n)
{
    return (struct kn_tensor){p, KN_BF16, 2, {n, HF}, {HWIDE, 1}};
}

/* [HM]: a permutation. */
static int32_t *halves_order(void)
{
    int32_t *place = kt_mem(HM * sizeof *place);
    for (int i = 0; i < HM; i++) place[i] = (i * 5 + 3) % HM;
    return place;
}

static void halves_fill(struct halves *h)
{
    struct base_rng r = base_rng_at(5, RNG_TEST, 0);
    for (int t = 0; t < HROWS; t++)
        for (int i = 0; i < HM * HWIDE; i++) h->rows[t][i] = i % HWIDE < HF ? kt_round((float)(2 * base_rng_normal(&r))) : 0x5555;
    for (int i = 0; i < HN * HWIDE; i++) h->x[i] = kt_round((float)base_rng_normal(&r));
    for (int i = 0; i < HM; i++) h->w[i] = (float)base_rng_normal(&r), h->dw[i] = 0;
    for (int i = 0; i < HN * HF; i++) h->y[i] = (float)base_rng_normal(&r);
}

/* The activation, its backward into other memory, then in place. */
static st_t halves_act(struct kn_dev *dev, struct halves *h, const struct kn_tensor *order, int gated, int sigmoid)
{
    struct kn_tensor t[HROWS], w = kn_t1(h->w, KN_F32, HM), dw = kn_t1(h->dw, KN_F32, HM);
    for (int i = 0; i < HROWS; i++) t[i] = half_rows(h->rows[i], HM);
    const struct kn_tensor *u = maybe(&t[1], gated), *du = maybe(&t[4], gated);
    st_t st = dev->op->expert_act(dev, &t[0], u, order, &w, sigmoid, &t[5]);
    if (!st) st = dev->op->expert_act_bwd(dev, &t[0], u, order, &w, sigmoid, &t[2], &t[3], du, &dw, &t[6]);
    if (!st) st = dev->op->expert_act_bwd(dev, &t[0], u, order, &w, sigmoid, &t[2], &t[0], u, &dw, &t[2]);
    return st;
}

/* How far apart two devices' numbers are, relative; INFINITY: also where nothing was to be written. */
static double halves_apart(const struct halves *a, const struct halves *b)
{
    double worst = 0;
    for (int t = 0; t < HROWS; t++)
        for (int i = 0; i < HM * HWIDE; i++) {
            if (i % HWIDE >= HF && b->rows[t][i] != 0x5555) return INFINITY;
            double x = (double)widened(a->rows[t][i]), y = (double)widened(b->rows[t][i]);
            worst = tap_worse(worst, fabs(x - y) / fmax(fabs(x), 1e-30));
        }
    return worst;
}

/* Against the reference on the same numbers: each rounds to bf16 once, so that they are at most a step apart. */
static void check_half_rows(struct kn_dev *dev, int gated, int sigmoid, int ordered)
{
    struct halves *a = kt_mem(sizeof *a), *b = kt_mem(sizeof *b);
    int32_t *place = halves_order();
    struct kn_tensor o = kn_t1(place, KN_I32, HM);
    halves_fill(a), halves_fill(b);
    is_int(halves_act(kt_ref, a, maybe(&o, ordered), gated, sigmoid) | halves_act(dev, b, maybe(&o, ordered), gated, sigmoid), ST_OK, "rows in bf16");
    double e = halves_apart(a, b), dw = 0;
    for (int i = 0; i < HM; i++) dw = tap_worse(dw, fabs((double)a->dw[i] - (double)b->dw[i]));
    ok(e <= 1.0 / 128 && dw < 2e-3, "activation, backward apart and in place (%.1e, dw %.1e)", e, dw);
    ok(!memcmp(b->rows[0], b->rows[3], sizeof b->rows[0]) && !memcmp(b->rows[2], b->rows[6], sizeof b->rows[0]) &&
           (!gated || !memcmp(b->rows[1], b->rows[4], sizeof b->rows[0])),
       "the same bits in place");
    kt_mem_free(a), kt_mem_free(b), kt_mem_free(place);
}

static void check_half_moves(struct kn_dev *dev)
{
    struct halves *h = kt_mem(sizeof *h);
    int32_t *place = halves_order();
    struct kn_tensor o = kn_t1(place, KN_I32, HM), y = kn_t2(h->y, KN_F32, HN, HF), x = half_rows(h->x, HN), rows = half_rows(h->rows[0], HM);
    halves_fill(h);
    int good = dev->op->gather(dev, &y, &o, &rows) == ST_OK;
    for (int i = 0; i < HM * HWIDE; i++)
        good &= h->rows[0][i] == (i % HWIDE >= HF ? 0x5555 : kt_round(h->y[place[i / HWIDE] / HK * HF + i % HWIDE]));
    ok(good, "%s: gathered and rounded", dev->info.kind);
    good = dev->op->gather(dev, &x, &o, &rows) == ST_OK;
    for (int i = 0; i < HM * HWIDE; i++)
        good &= h->rows[0][i] == (i % HWIDE >= HF ? 0x5555 : h->x[place[i / HWIDE] / HK * HWIDE + i % HWIDE]);
    ok(good, "%s: gathered from bf16", dev->info.kind);
    for (int beta = 0; beta < 2; beta++) {
        double worst = 0;
        halves_fill(h);
        static float was[HN * HMOST];
        memcpy(was, h->y, sizeof was);
        is_int(dev->op->combine(dev, &rows, &o, beta, &y), ST_OK, "%s: combined, beta %d", dev->info.kind, beta);
        for (int t = 0; t < HN; t++)
            for (int j = 0; j < HF; j++) {
                double sum = beta * (double)was[t * HF + j];
                for (int s = 0; s < HK; s++) sum += (double)widened(h->rows[0][place[t * HK + s] * HWIDE + j]);
                worst = tap_worse(worst, fabs(sum - (double)h->y[t * HF + j]));
            }
        ok(worst < 2e-6, "their sums in f32 (off by %.1e)", worst);
    }
    kt_mem_free(h), kt_mem_free(place);
}

static void check_halves(void)
{
    struct halves *h = kt_mem(sizeof *h);
    int32_t *place = halves_order();
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    struct kn_tensor o = kn_t1(place, KN_I32, HM), y = kn_t2(h->y, KN_F32, HN, HF), rows = half_rows(h->rows[0], HM), narrow = rows;
    halves_fill(h);
    is_int(halves_act(kt_cpu[0][0], h, NULL, 1, 0), ST_ENOTSUP, "bf16 rows without the precision");
    is_int(kt_cpu[0][0]->op->combine(kt_cpu[0][0], &rows, &o, 0, &y), ST_ENOTSUP, "likewise combined");
    is_int(kt_cpu[0][0]->op->gather(kt_cpu[0][0], &y, &o, &rows), ST_ENOTSUP, "likewise gathered");
    narrow.d[1]--;
    is_int(kt_ref->op->expert_act(kt_ref, &rows, &narrow, NULL, NULL, 0, &rows), ST_EINVAL, "u of another width");
    kt_mem_free(h), kt_mem_free(place);
    if (!dev || kn_precision(dev, KN_BF16)) {
        tap_skip("no bf16");
        return;
    }
    kn_precision(kt_ref, KN_BF16);
    for (HF = 37; HF <= HMOST; HF += HMOST - 37) { /* rows that are no whole number of 16 bytes, and rows that are */
        for (int i = 0; i < 8; i++) check_half_rows(dev, i & 1, i >> 1 & 1, i >> 2);
        check_half_moves(kt_ref);
        check_half_moves(dev);
    }
    HF = 37;
    kn_precision(kt_ref, KN_F32), kn_precision(dev, KN_F32);
}

static struct kn_tensor half_of(const struct kt *t, uint16_t *p, int64_t stride)
{
    for (int64_t i = 0; i < t->t.d[0]; i++)
        for (int64_t j = 0; j < t->t.d[1]; j++) p[i * stride + j] = kt_round(t->f[i * t->t.d[1] + j]);
    return (struct kn_tensor){p, KN_BF16, 2, {t->t.d[0], t->t.d[1]}, {stride, 1}};
}

/* Bits of bf16 c against an f32 one; else how far it is from that, in steps of bf16. */
static double steps_apart(const uint16_t *h, int64_t stride, const float *f, int64_t m, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double x = (double)f[i * n + j], y = (double)widened(h[i * stride + j]);
            if (h[i * stride + j] != kt_round(f[i * n + j])) worst = tap_worse(worst, fabs(x - y) / (fabs(x) / 128 + 1e-4));
        }
    return worst;
}

/* Products of rows that are bf16 in memory: the same bits as of f32 rows, which are rounded on the way. Into bf16: those of the f32 result, rounded, where
 * the sum is cut alike (exact); else no more than a step from it. plain: the matrices are not transposed. */
static void check_half_product(struct kn_dev *dev, const int *lengths, int64_t E, int64_t P, int64_t Q, int exact, int plain)
{
    int32_t *offset = bounds(lengths, E);
    int64_t M = offset[E], wide = Q % 8 ? 2 * Q + 1 : 2 * Q + 8;
    struct kt a = kt_new(2, (int64_t[]){M, P}, NULL, 1, 1), b = kt_new(3, (int64_t[]){E, P, Q}, plain ? NULL : (int64_t[]){P * Q, 1, P}, 1, 2),
              c = kt_new(2, (int64_t[]){M, Q}, NULL, 1, 3), x = kt_new(2, (int64_t[]){M, Q}, NULL, 1, 4),
              sum = kt_new(3, (int64_t[]){E, P, Q}, NULL, 1, 5);
    uint16_t *ha = kt_mem((size_t)(M * P) * 2), *hx = kt_mem((size_t)(M * wide) * 2), *hc = kt_mem((size_t)(M * wide) * 2);
    float *keep = malloc((size_t)(M * Q + E * P * Q) * sizeof *keep);
    if (!keep) abort();
    kt_half(&c);
    struct kn_tensor o = kn_t1(offset, KN_I32, E + 1), at = half_of(&a, ha, P), xt = half_of(&x, hx, wide), ct = half_of(&c, hc, wide);
    size_t cbytes = sizeof(float) * (size_t)(M * Q), sbytes = sizeof(float) * (size_t)(E * P * Q);
    char what[64];
    snprintf(what, sizeof what, "%d rows in %d, %d x %d", (int)M, (int)E, (int)P, (int)Q);
    if (kn_precision(dev, KN_F32) || dev->op->gemm_grouped(dev, &at, kt_f(&b), &o, 0, kt_f(&c)) != ST_ENOTSUP ||
        dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, 0, &ct) != ST_ENOTSUP || dev->op->gemm_grouped_sum(dev, &at, kt_f(&x), &o, kt_f(&sum)) != ST_ENOTSUP)
        ok(0, "%s: bf16 rows in f32 products", what);
    kn_precision(dev, KN_BF16);
    for (int beta = 0; beta < 2; beta++) {
        kt_reset(&c);
        half_of(&c, hc, wide);
        /* rows of f32 that are few would stay in f32: none is few here */
        st_t st = dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, beta, kt_f(&c));
        memcpy(keep, c.f, cbytes);
        kt_reset(&c);
        if (!st) st = dev->op->gemm_grouped(dev, &at, kt_f(&b), &o, beta, kt_f(&c));
        ok(!st && !memcmp(keep, c.f, cbytes), "%s: bf16 rows times matrices, beta %d", what, beta);
        for (int64_t i = 0; i < M; i++) hc[i * wide + Q] = 0x5555;
        st = dev->op->gemm_grouped(dev, &at, kt_f(&b), &o, beta, &ct);
        int gap = 1;
        for (int64_t i = 0; i < M; i++) gap &= hc[i * wide + Q] == 0x5555;
        double e = steps_apart(hc, wide, c.f, M, Q);
        ok(!st && gap && e <= (exact ? 0 : 1), "%s: into bf16, beta %d (%.2g steps)", what, beta, e);
    }
    st_t st = dev->op->gemm_grouped_sum(dev, kt_f(&a), kt_f(&x), &o, kt_f(&sum));
    memcpy(keep, sum.f, sbytes);
    kt_reset(&sum);
    if (!st) st = dev->op->gemm_grouped_sum(dev, &at, &xt, &o, kt_f(&sum));
    ok(!st && !memcmp(keep, sum.f, sbytes), "%s: sums of bf16 rows", what);
    kn_precision(dev, KN_F32);
    struct kt *all[] = {&a, &b, &c, &x, &sum};
    for (int i = 0; i < 5; i++) kt_free(all[i]);
    kt_mem_free(ha), kt_mem_free(hx), kt_mem_free(hc), kt_mem_free(offset), free(keep);
}

static void check_half_products(void)
{
    static const int runs[] = {40, 0, 300, 17, 30};
    struct kn_dev *dev = kt_cpu[KT_ISAS - 1][1];
    if (!dev || !dev->info.bf16) {
        tap_skip("products of bf16 rows");
        return;
    }
    int many[32];
    for (int i = 0; i < 32; i++) many[i] = 17 + i % 3;
    check_half_product(dev, runs, 5, 70, 50, 1, 0);
    check_half_product(dev, runs, 5, 64, 96, 1, 0);
    check_half_product(dev, runs, 5, 64, 96, 1, 1);
#ifdef KT_CUDA
    static const int large[] = {520, 0, 280};
    check_half_product(dev, large, 3, 34, 150, 1, 0); /* columns by 256, rounded first; sums in parts */
    check_half_product(dev, large, 3, 40, 250, 1, 1); /* the same of matrices that are not transposed */
    check_half_product(dev, many, 5, 264, 264, 1, 0); /* sums by 128 x 256 */
    check_half_product(dev, many, 3, 257, 128, 1, 0); /* and by 128 x 128, rounded first */
#else
    static const int long_[] = {1100, 0, 700};
    check_half_product(dev, long_, 3, 130, 600, 1, 0); /* sums of several blocks each way */
    check_half_product(dev, runs, 5, 1100, 33, 0, 0);
    check_half_product(dev, many, 32, 260, 544, 0, 0); /* more than is packed for all tasks, blocks of columns and of the sum */
#endif
}

/* Weights at rest: the product with what they say, as the reference works it out from the same bytes; the result's rows and a's may be bf16. */
static void check_stored(enum kn_dtype stored, enum kn_dtype precision, const int *lengths, int64_t E, int64_t P, int64_t Q)
{
    struct kn_dev *dev = kt_cpu[precision == KN_BF16 ? KT_ISAS - 1 : 0][1];
    if (!dev || kn_precision(dev, precision)) {
        tap_skip("weights at rest in bf16 products");
        return;
    }
    int32_t *offset = bounds(lengths, E);
    int64_t M = offset[E], row = stored == KN_I8 ? P + KN_I8_TAIL : P;
    struct kt a = kt_new(2, (int64_t[]){M, P}, NULL, 1, 1), w = kt_new(3, (int64_t[]){E, Q, P}, NULL, 1, 2), c = kt_new(2, (int64_t[]){M, Q}, NULL, 1, 3),
              want = kt_new(2, (int64_t[]){M, Q}, NULL, 1, 3);
    void *rest = kt_mem((size_t)(E * Q * row) * kn_dtype_size(stored));
    uint16_t *half = kt_mem((size_t)(M * P) * sizeof *half);
    struct kn_tensor b = {rest, stored, 3, {E, Q, P}, {Q * row, row, 1}}, bt = kn_transpose(&b), o = kn_t1(offset, KN_I32, E + 1), at = half_of(&a, half, P);
    for (int64_t i = 0; i < E * Q; i++) {
        float scale = lengths[i / Q] ? 0.01f * (float)(1 + i % 7) : NAN; /* what nobody chose is not read */
        int8_t *bytes = (int8_t *)rest + i * row;
        for (int64_t k = 0; k < P; k++) {
            if (stored == KN_BF16) ((uint16_t *)rest)[i * P + k] = lengths[i / Q] ? kt_round(w.f[i * P + k]) : 0xffff;
            else bytes[k] = (int8_t)fmax(-127, fmin(127, (double)(50 * w.f[i * P + k])));
        }
        if (stored == KN_I8) memcpy(bytes + P, &scale, sizeof scale);
    }
    kn_precision(kt_ref, precision);
    for (int beta = 0; beta < 2; beta++)
        for (int rows = 0; rows < (precision == KN_BF16 ? 2 : 1); rows++) {
            kt_reset(&c), kt_reset(&want);
            st_t st = kt_ref->op->gemm_grouped(kt_ref, kt_f(&a), &bt, &o, beta, kt_f(&want));
            if (!st) st = dev->op->gemm_grouped(dev, rows ? &at : kt_f(&a), &bt, &o, beta, kt_f(&c));
            for (int64_t i = 0; i < c.n; i++) c.g[i] = (double)want.f[i];
            double e = kt_nmse(&c);
            ok(!st && e < (precision == KN_BF16 ? 1e-4 : 1e-11), "%s weights at rest, %d rows in %d, %d x %d, %s products of %s rows, beta %d (%d, %.1e)", kn_dtype_name(stored),
               (int)M, (int)E, (int)P, (int)Q, kn_dtype_name(precision), rows ? "bf16" : "f32", beta, (int)st, e);
#ifdef KT_CUDA
            ok(e < 1e-11, "their values as they are");
#endif
        }
    is_int(dev->op->gemm_grouped(dev, kt_f(&a), &b, &o, 0, kt_f(&c)), ST_EINVAL, "not transposed: refused");
    kn_precision(kt_ref, KN_F32), kn_precision(dev, KN_F32);
    struct kt *all[] = {&a, &w, &c, &want};
    for (int i = 0; i < 4; i++) kt_free(all[i]);
    kt_mem_free(rest), kt_mem_free(half), kt_mem_free(offset);
}

static void check_refusals(void)
{
    struct kn_dev *dev = kt_cpu[0][0];
    int32_t *offset = bounds((const int[]){2, 1}, 2);
    struct kt a = kt_new(2, (int64_t[]){3, 4}, NULL, 1, 1), b = kt_new(3, (int64_t[]){2, 4, 5}, NULL, 1, 2), c = kt_new(2, (int64_t[]){3, 5}, NULL, 1, 3);
    struct kn_tensor o = kn_t1(offset, KN_I32, 3);
    is_int(dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, 0, kt_f(&c)), ST_OK, "a product");
#ifndef KT_CUDA /* what stands in device memory is not looked at before */
    int32_t bad[3] = {0, 4, 3};
    o.p = bad;
    is_int(dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, 0, kt_f(&c)), ST_EINVAL, "bounds that fall");
    offset[2] = 2, o.p = offset;
    is_int(dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, 0, kt_f(&c)), ST_EINVAL, "bounds that leave rows out");
    is_int(dev->op->gemm_grouped_sum(dev, kt_f(&a), kt_f(&c), &o, kt_f(&b)), ST_EINVAL, "likewise");
    offset[2] = 3;
#endif
    is_int(dev->op->gemm_grouped(dev, kt_f(&a), kt_f(&b), &o, 0, kt_f(&a)), ST_EINVAL, "a result of another width");
    is_int(dev->op->gemm_grouped(dev, kt_d(&a), kt_d(&b), &o, 0, kt_d(&c)), ST_ENOTSUP, "f64");
    is_int(dev->op->gather(dev, kt_f(&a), &o, kt_f(&c)), ST_EINVAL, "rows of another width");
    is_int(dev->op->expert_act(dev, kt_f(&a), kt_f(&c), NULL, NULL, 0, kt_f(&a)), ST_EINVAL, "u of another width");
    struct routing r = routing_new(4, 3, 2, 0, 0);
    r.w.t.d[1] = 4;
    is_int(route(dev, 0, &r), ST_EINVAL, "more active than there are");
    r.w.t.d[1] = 2;
    routing_free(&r);
    kt_free(&a), kt_free(&b), kt_free(&c);
    kt_mem_free(offset);
}

int main(void)
{
    static const int few[] = {1, 0, 2, 5, 17}, long_[] = {300, 0, 3, 150}, all[] = {0, 90}, ones[] = {1, 1}, alone[] = {1}, large[] = {700, 0, 300};
    int many[64];
    static int scattered[1100];
    for (int i = 0; i < 64; i++) many[i] = i % 3 * (i % 4);
    for (int i = 0; i < 1100; i++) scattered[i] = i % 16 ? 0 : i % 5;
    kt_open();
    check_route(0, 5, 2, 0, 0, 0);
    check_route(1, 1, 1, 0, 0, 0);
    check_route(1, 8, 2, 0, 0, 0);
    check_route(200, 8, 2, 0, 0, 0);
    check_route(150, 4, 4, 0, 0, 0);
    check_route(130, 64, 6, 0, 0, 0);
    check_route(100, 100, 1, 0, 1, 0);
    check_route(90, 5, 3, 1, 0, 0);
    check_route(70, 20, 7, 1, 1, 0);
    check_route(300, 9, 4, 0, 0, 1);
    check_route(60, 100, 5, 0, 0, 1);
    check_route(40, 300, 3, 0, 1, 1);
    check_route(9, 2000, 5, 1, 0, 0);
    check_route(35, 70, 40, 1, 1, 1);
#ifdef KT_CUDA
    check_route(2, 4096, 33, 0, 0, 1); /* p's sum over as many, one after the other, takes cpu:generic past the tolerance */
#endif
    check_route(1100, 3, 2, 0, 0, 0);
    check_balance();
    check_route_gradient(0);
    check_route_gradient(1);
    check_act(5, 37, 1, 1, 1, 0, 0);
    check_act(30, 64, 1, 1, 1, 0, 1);
    check_act(9, 33, 0, 1, 1, 0, 2);
    check_act(20, 100, 1, 1, 0, 1, 1);
    check_act(7, 16, 0, 1, 0, 1, 0);
    check_act(4, 50, 0, 0, 0, 0, 0);
    check_act(1, 1, 1, 0, 0, 0, 0);
    check_act(12, 64, 1, 1, 1, 0, 0);
    check_act(6, 600, 1, 1, 1, 1, 0);
    check_act(3, 530, 0, 1, 0, 0, 0);
    check_act(3, 150, 1, 1, 0, 0, 2);
    check_rows(1, 1, 1, 0);
    check_rows(60, 2, 40, 0);
    check_rows(20, 5, 37, 1);
    check_rows(3, 5, 1030, 0);
    check_rows(3, 9, 1044, 0);
    for (int s = 0; s < 3; s++) {
        check_grouped(few, 5, 20, 33, s, KN_F32);
        check_grouped(long_, 4, 65, 70, s, KN_F32);
        check_grouped(many, 64, 24, 17, s, KN_F32);
        check_grouped(all, 2, 300, 40, s, KN_F32);
        check_grouped(ones, 2, 256, 140, s, KN_F32);
        check_grouped(alone, 1, 1, 1, s, KN_F32);
        check_grouped(few, 5, 68, 44, s, KN_BF16);
        check_grouped(large, 3, 37, 20, s, KN_BF16);
        if (s < 2) check_grouped(large, 3, 36, 24, s, s ? KN_F32 : KN_BF16);
    }
    check_grouped(alone, 1, 1, 1, 0, KN_BF16);
    check_grouped(few, 5, 0, 20, 0, KN_F32);
    check_grouped(few, 5, 0, 20, 0, KN_BF16);
    check_grouped(scattered, 1100, 8, 12, 1, KN_F32);
#ifdef KT_CUDA
    check_grouped((const int[]){140, 0, 55}, 3, 140, 150, 1, KN_F32);
    check_grouped(few, 5, 268, 132, 0, KN_BF16);
#else
    check_grouped(long_, 4, 530, 300, 1, KN_F32);
    check_grouped(many, 64, 200, 200, 0, KN_F32); /* more than is packed for all tasks */
#endif
    check_bf16();
    check_halves();
    check_half_products();
    for (int i = 0; i < 4; i++) {
        enum kn_dtype stored = i & 1 ? KN_I8 : KN_BF16, precision = i & 2 ? KN_BF16 : KN_F32;
        check_stored(stored, precision, (const int[]){2, 0, 28}, 3, 37, 20);
        check_stored(stored, precision, (const int[]){70, 0, 9}, 3, 64, 72);
        if (precision == KN_BF16) check_stored(stored, precision, (const int[]){200, 0, 60}, 3, 64, 136);
        check_stored(stored, precision, (const int[]){520, 0, 300}, 3, 40, 24);
    }
    check_refusals();
    kt_close();
    return tap_done();
}
