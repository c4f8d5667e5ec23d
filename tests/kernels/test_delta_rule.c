/* The gated delta rule: every device against the recurrence, chunks against tokens, gradients against central differences. */
#include "tests/kernels/gradcheck.h"
#include "tests/kernels/kntest.h"

struct call {
    struct kt q, k, v, g, beta, s, out, dout, dq, dk, dv, dg, dbeta;
    double eps;
    int with_state;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->delta_rule(dev, of(&c->q), of(&c->k), of(&c->v), of(&c->g), of(&c->beta), c->eps, 0.5,
                               c->with_state ? of(&c->s) : NULL, of(&c->out));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->delta_rule_bwd(dev, of(&c->q), of(&c->k), of(&c->v), of(&c->g), of(&c->beta), c->eps, 0.5, of(&c->dout), of(&c->dq),
                                   of(&c->dk), of(&c->dv), of(&c->dg), of(&c->dbeta));
}

/* g becomes -rate |g|, beta a number in (0, 1). */
static void gates(struct call *c, double rate)
{
    for (int64_t i = 0; i < c->g.n; i++) c->g.init[i] = (float)(-rate * fabs((double)c->g.init[i]));
    for (int64_t i = 0; i < c->beta.n; i++) c->beta.init[i] = (float)(1 / (1 + exp(-(double)c->beta.init[i])));
    kt_reset(&c->g);
    kt_reset(&c->beta);
}

struct shape {
    int64_t B, T, G, R, K, V;
};

#ifdef KT_CUDA
#define FEW 1 /* fewer and shorter sequences where threads are fibers */
#define LONG 129
#else
#define FEW 2
#define LONG 193
#endif

static struct call call_new(const struct shape *s, int strided, double eps, double rate)
{
    int64_t H = s->G * s->R, qd[] = {s->B, s->T, s->G, s->K}, vd[] = {s->B, s->T, H, s->V}, gd[] = {s->B, s->T, H}, sd[] = {s->B, H, s->K, s->V};
    int64_t row = 2 * s->G * s->K + H * s->V + 3, qs[] = {s->T * row, row, s->K, 1}, vs[] = {s->T * row, row, s->V, 1};
    int64_t gs[] = {s->T * (2 * H + 1), 2 * H + 1, 1}, ss[] = {H * s->K * (s->V + 1), s->K * (s->V + 1), s->V + 1, 1};
    struct call c = {
        .q = kt_new(4, qd, strided ? qs : NULL, eps < 0 ? 0.5 / sqrt((double)s->K) : 1, 1),
        .k = kt_new(4, qd, strided ? qs : NULL, eps < 0 ? 0.5 / sqrt((double)s->K) : 1, 2),
        .v = kt_new(4, vd, strided ? vs : NULL, 1, 3),
        .g = kt_new(3, gd, strided ? gs : NULL, 1, 4),
        .beta = kt_new(3, gd, strided ? gs : NULL, 1, 5),
        .s = kt_new(4, sd, strided ? ss : NULL, 1, 6),
        .out = kt_new(4, vd, strided ? vs : NULL, 1, 7),
        .dout = kt_new(4, vd, strided ? vs : NULL, 1, 8),
        .dq = kt_new(4, qd, strided ? qs : NULL, 1, 9),
        .dk = kt_new(4, qd, strided ? qs : NULL, 1, 10),
        .dv = kt_new(4, vd, strided ? vs : NULL, 1, 11),
        .dg = kt_new(3, gd, strided ? gs : NULL, 1, 12),
        .dbeta = kt_new(3, gd, strided ? gs : NULL, 1, 13),
        .eps = eps,
    };
    gates(&c, rate);
    return c;
}

static void call_free(struct call *c)
{
    struct kt *all[] = {&c->q, &c->k, &c->v, &c->g, &c->beta, &c->s, &c->out, &c->dout, &c->dq, &c->dk, &c->dv, &c->dg, &c->dbeta};
    for (int i = 0; i < 13; i++) kt_free(all[i]);
}

/* Under precision bf16 a device may round the operands of products, 2^-9 each, several in a row. */
static void check(struct shape s, int strided, double eps, double rate)
{
    struct call c = call_new(&s, strided, eps, rate);
    char what[160];
    snprintf(what, sizeof what, "B %d T %d heads %d on %d, %d x %d, strides %d, eps %g, decay %g", (int)s.B, (int)s.T, (int)(s.G * s.R),
             (int)s.G, (int)s.K, (int)s.V, strided, eps, rate);
    double tol = kt_precision == KN_BF16 ? 1e-4 : 1e-10;
    kt_compare(what, forward, &c, (struct kt *const[]){&c.out}, 1, tol);
    c.with_state = 1;
    kt_compare(what, forward, &c, (struct kt *const[]){&c.out, &c.s}, 2, tol);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.dq, &c.dk, &c.dv, &c.dg, &c.dbeta}, 5, tol);
    call_free(&c);
}

/* The state carries a sequence that comes in pieces of any length. */
static void pieces(struct kn_dev *dev, const char *name)
{
    static const int64_t cut[] = {1, 1, 31, 32, 33, 1, 64, 7, 38, 5};
    struct shape s = {FEW, 213, 1, 2, 24, 20};
    struct call c = call_new(&s, 0, 1e-6, 0.3);
    memset(c.s.f, 0, (size_t)c.s.n * sizeof *c.s.f);
    is_int(dev->op->delta_rule(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.g), kt_f(&c.beta), 1e-6, 0.5, NULL, kt_f(&c.out)), ST_OK,
           "%s: at once", name);
    for (int64_t i = 0; i < c.out.n; i++) c.out.g[i] = (double)c.out.f[i];
    int bad = 0;
    for (int64_t i = 0, t = 0; i < 10; t += cut[i++]) {
        struct kt *x[] = {&c.q, &c.k, &c.v, &c.g, &c.beta, &c.out};
        struct kn_tensor p[6];
        for (int j = 0; j < 6; j++) p[j] = kn_slice(kt_f(x[j]), 1, t, cut[i]);
        bad |= dev->op->delta_rule(dev, &p[0], &p[1], &p[2], &p[3], &p[4], 1e-6, 0.5, kt_f(&c.s), &p[5]) != ST_OK;
    }
    double e = kt_nmse(&c.out);
    ok(!bad && e < 1e-10, "%s: in pieces (%.1e)", name, e);
    call_free(&c);
}

struct grad {
    struct shape s;
    double eps, *q, *k, *v, *g, *beta, *out, *dout;
};

static struct kn_tensor heads(const struct grad *c, double *p, int keys)
{
    return kn_t4(p, KN_F64, c->s.B, c->s.T, keys ? c->s.G : c->s.G * c->s.R, keys ? c->s.K : c->s.V);
}

static struct kn_tensor gate(const struct grad *c, double *p)
{
    return kn_t3(p, KN_F64, c->s.B, c->s.T, c->s.G * c->s.R);
}

static double value(void *arg)
{
    struct grad *c = arg;
    struct kn_tensor q = heads(c, c->q, 1), k = heads(c, c->k, 1), v = heads(c, c->v, 0), g = gate(c, c->g), b = gate(c, c->beta),
                     o = heads(c, c->out, 0);
    if (kt_ref->op->delta_rule(kt_ref, &q, &k, &v, &g, &b, c->eps, 0.7, NULL, &o)) return NAN;
    return grad_contract(c->out, c->dout, kn_count(&o));
}

static void gradients(struct shape s, double eps)
{
    int64_t nq = s.B * s.T * s.G * s.K, nv = s.B * s.T * s.G * s.R * s.V, ng = s.B * s.T * s.G * s.R;
    struct grad c = {s, eps, grad_random(nq, 1), grad_random(nq, 2), grad_random(nv, 3), grad_random(ng, 4), grad_random(ng, 5),
                     grad_random(nv, 6), grad_random(nv, 7)};
    double *d[5] = {grad_random(nq, 8), grad_random(nq, 9), grad_random(nv, 10), grad_random(ng, 11), grad_random(ng, 12)};
    for (int64_t i = 0; i < ng; i++) c.g[i] = -0.3 * fabs(c.g[i]), c.beta[i] = 1 / (1 + exp(-c.beta[i]));
    for (int64_t i = 0; i < nq && eps < 0; i++) c.q[i] *= 0.4, c.k[i] *= 0.4;
    struct kn_tensor q = heads(&c, c.q, 1), k = heads(&c, c.k, 1), v = heads(&c, c.v, 0), g = gate(&c, c.g), b = gate(&c, c.beta),
                     o = heads(&c, c.dout, 0);
    struct kn_tensor dq = heads(&c, d[0], 1), dk = heads(&c, d[1], 1), dv = heads(&c, d[2], 0), dg = gate(&c, d[3]), db = gate(&c, d[4]);
    is_int(kt_ref->op->delta_rule_bwd(kt_ref, &q, &k, &v, &g, &b, eps, 0.7, &o, &dq, &dk, &dv, &dg, &db), ST_OK, "backward");
    double *at[5] = {c.q, c.k, c.v, c.g, c.beta}, e[5];
    int64_t n[5] = {nq, nq, nv, ng, ng};
    int good = 1;
    for (int i = 0; i < 5; i++) e[i] = grad_check(value, &c, at[i], d[i], n[i]), good &= e[i] < 1e-8;
    ok(good, "gradients, %d value heads a key head, eps %g: dq, dk, dv, dg, dbeta (%.0e %.0e %.0e %.0e %.0e)", (int)s.R, eps, e[0], e[1], e[2],
       e[3], e[4]);
    double *all[] = {c.q, c.k, c.v, c.g, c.beta, c.out, c.dout, d[0], d[1], d[2], d[3], d[4]};
    for (int i = 0; i < 12; i++) free(all[i]);
}

/* By hand: a key of length one and beta 1 store the value under the key; the second write under it replaces, not adds; a decay of 1/2 halves
 * what lies under another key. */
static void by_hand(void)
{
    double q[4] = {1, 0, 0, 1}, k[4] = {1, 0, 1, 0}, v[2] = {3, 5}, g[2] = {0, log(0.5)}, beta[2] = {1, 1}, out[2], s[2] = {0, 8};
    struct kn_tensor tq = kn_t4(q, KN_F64, 1, 2, 1, 2), tk = kn_t4(k, KN_F64, 1, 2, 1, 2), tv = kn_t4(v, KN_F64, 1, 2, 1, 1);
    struct kn_tensor tg = kn_t3(g, KN_F64, 1, 2, 1), tb = kn_t3(beta, KN_F64, 1, 2, 1), to = kn_t4(out, KN_F64, 1, 2, 1, 1),
                     ts = kn_t4(s, KN_F64, 1, 1, 2, 1);
    is_int(kt_ref->op->delta_rule(kt_ref, &tq, &tk, &tv, &tg, &tb, -1, 1, &ts, &to), ST_OK, "two tokens");
    is_near(out[0], 3, 1e-14, "what was stored comes back");
    is_near(out[1], 4, 1e-14, "the other key's value has halved");
    is_near(s[0], 5, 1e-14, "the second value has replaced the first");
}

int main(void)
{
    kt_open();
    by_hand();
    gradients((struct shape){2, 5, 1, 1, 3, 4}, 1e-6);
    gradients((struct shape){1, 4, 2, 2, 4, 3}, 1e-2);
    gradients((struct shape){1, 6, 1, 3, 2, 2}, -1);
    check((struct shape){1, 1, 1, 1, 1, 1}, 0, 1e-6, 0.1);
    check((struct shape){1 + FEW, 1, FEW, 2, 24, 20}, 0, 1e-6, 0.1);
    check((struct shape){2, 3, 1, 1, 7, 33}, 1, 1e-6, 0.1);
    check((struct shape){1, 64, 1, 1, 32, 32}, 0, 1e-6, 0.1);
    check((struct shape){2, 150, FEW, 1, 32, 48}, 0, 1e-6, 0.1);
    check((struct shape){1, LONG, 1, 2, 20, 12}, 1, 1e-6, 0.02);
    check((struct shape){FEW, 129, 1, 3, 64, 64}, 0, 1e-6, 0.5);
    check((struct shape){1, 130, 1, 1, 16, 128}, 0, -1, 0.05);
    check((struct shape){1, 90, FEW, 1, 16, 16}, 0, 1e-6, 0);    /* nothing decays */
    check((struct shape){1, 90, FEW, 1, 16, 16}, 0, 1e-6, 40);   /* everything does at once */
    check((struct shape){1, 70, 1, 2, 100, 70}, 1, 1e-6, 0.1); /* states of more and more rows */
    check((struct shape){1, 66, 1, 1, 150, 10}, 0, 1e-6, 0.1);
    check((struct shape){1, 66, 1, 1, 270, 8}, 0, 1e-6, 0.1);
    kt_precision = KN_BF16;
    check((struct shape){1, 130, 1, 2, 32, 48}, 1, 1e-6, 0.1);
    check((struct shape){1, 70, 1, 1, 100, 70}, 0, 1e-6, 0.02);
    check((struct shape){1, 66, 1, 1, 250, 8}, 0, 1e-6, 0.1);
    kt_precision = KN_F32;
    for (int i = 0; i < KT_ISAS; i++)
        if (kt_cpu[i][1]) pieces(kt_cpu[i][1], kt_isa[i]);

    struct kn_dev *dev = kt_cpu[0][0];
    struct shape s = {1, 4, 2, 2, 8, 8}, odd = {1, 4, 1, 3, 8, 8};
    struct call c = call_new(&s, 0, 1e-6, 1), d = call_new(&odd, 0, 1e-6, 1);
    is_int(dev->op->delta_rule(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&d.v), kt_f(&d.g), kt_f(&d.beta), 1e-6, 1, NULL, kt_f(&d.out)), ST_EINVAL,
           "3 value heads on 2 key heads");
    is_int(dev->op->delta_rule(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.g), kt_f(&d.beta), 1e-6, 1, NULL, kt_f(&c.out)), ST_EINVAL,
           "beta of another shape");
    is_int(dev->op->delta_rule(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.g), kt_f(&c.beta), 1e-6, 1, kt_f(&d.s), kt_f(&c.out)),
           ST_EINVAL, "a state of other heads");
    is_int(dev->op->delta_rule(dev, kt_d(&c.q), kt_d(&c.k), kt_d(&c.v), kt_d(&c.g), kt_d(&c.beta), 1e-6, 1, NULL, kt_d(&c.out)), ST_ENOTSUP, "f64");
    call_free(&c);
    call_free(&d);
    kt_close();
    return tap_done();
}
