/* Gated linear attention: every device against the recurrence, chunks against tokens, gradients against central differences. */
#include "tests/kernels/gradcheck.h"
#include "tests/kernels/kntest.h"

struct call {
    struct kt q, k, v, g, s, out, dout, dq, dk, dv, dg;
    int with_state;
};

static st_t forward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->gla(dev, of(&c->q), of(&c->k), of(&c->v), of(&c->g), 0.5, c->with_state ? of(&c->s) : NULL, of(&c->out));
}

static st_t backward(struct kn_dev *dev, int ref, void *arg)
{
    struct call *c = arg;
    const struct kn_tensor *(*of)(struct kt *) = ref ? kt_d : kt_f;
    return dev->op->gla_bwd(dev, of(&c->q), of(&c->k), of(&c->v), of(&c->g), 0.5, of(&c->dout), of(&c->dq), of(&c->dk), of(&c->dv), of(&c->dg));
}

struct shape {
    int64_t B, T, H, K, V;
};

static struct call call_new(const struct shape *s, int strided, double rate)
{
    int64_t qd[] = {s->B, s->T, s->H, s->K}, vd[] = {s->B, s->T, s->H, s->V}, sd[] = {s->B, s->H, s->K, s->V};
    int64_t row = s->H * (3 * s->K + s->V) + 3, qs[] = {s->T * row, row, s->K, 1}, vs[] = {s->T * row, row, s->V, 1};
    int64_t ss[] = {s->H * s->K * (s->V + 1), s->K * (s->V + 1), s->V + 1, 1};
    struct call c = {
        .q = kt_new(4, qd, strided ? qs : NULL, 1, 1),
        .k = kt_new(4, qd, strided ? qs : NULL, 0.3, 2),
        .v = kt_new(4, vd, strided ? vs : NULL, 1, 3),
        .g = kt_new(4, qd, strided ? qs : NULL, 1, 4),
        .s = kt_new(4, sd, strided ? ss : NULL, 1, 6),
        .out = kt_new(4, vd, strided ? vs : NULL, 1, 7),
        .dout = kt_new(4, vd, strided ? vs : NULL, 1, 8),
        .dq = kt_new(4, qd, strided ? qs : NULL, 1, 9),
        .dk = kt_new(4, qd, strided ? qs : NULL, 1, 10),
        .dv = kt_new(4, vd, strided ? vs : NULL, 1, 11),
        .dg = kt_new(4, qd, strided ? qs : NULL, 1, 12),
    };
    for (int64_t i = 0; i < c.g.n; i++) c.g.init[i] = (float)(-rate * fabs((double)c.g.init[i]));
    kt_reset(&c.g);
    return c;
}

static void call_free(struct call *c)
{
    struct kt *all[] = {&c->q, &c->k, &c->v, &c->g, &c->s, &c->out, &c->dout, &c->dq, &c->dk, &c->dv, &c->dg};
    for (int i = 0; i < 11; i++) kt_free(all[i]);
}

/* Under precision bf16 a device may round the operands of products, 2^-9 each, several in a row. */
static void check(struct shape s, int strided, double rate)
{
    struct call c = call_new(&s, strided, rate);
    char what[160];
    snprintf(what, sizeof what, "B %d T %d, %d heads, %d x %d, strides %d, decay %g", (int)s.B, (int)s.T, (int)s.H, (int)s.K, (int)s.V,
             strided, rate);
    double tol = kt_precision == KN_BF16 ? 1e-4 : 1e-10;
    kt_compare(what, forward, &c, (struct kt *const[]){&c.out}, 1, tol);
    c.with_state = 1;
    kt_compare(what, forward, &c, (struct kt *const[]){&c.out, &c.s}, 2, tol);
    kt_compare(what, backward, &c, (struct kt *const[]){&c.dq, &c.dk, &c.dv, &c.dg}, 4, tol);
    call_free(&c);
}

/* The state carries a sequence that comes in pieces of any length. */
static void pieces(struct kn_dev *dev, const char *name)
{
    static const int64_t cut[] = {1, 1, 31, 32, 33, 1, 64, 7, 38, 5};
    struct shape s = {2, 213, 2, 24, 20};
    struct call c = call_new(&s, 0, 0.1);
    memset(c.s.f, 0, (size_t)c.s.n * sizeof *c.s.f);
    is_int(dev->op->gla(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.g), 0.5, NULL, kt_f(&c.out)), ST_OK, "%s: at once", name);
    for (int64_t i = 0; i < c.out.n; i++) c.out.g[i] = (double)c.out.f[i];
    int bad = 0;
    for (int64_t i = 0, t = 0; i < 10; t += cut[i++]) {
        struct kt *x[] = {&c.q, &c.k, &c.v, &c.g, &c.out};
        struct kn_tensor p[5];
        for (int j = 0; j < 5; j++) p[j] = kn_slice(kt_f(x[j]), 1, t, cut[i]);
        bad |= dev->op->gla(dev, &p[0], &p[1], &p[2], &p[3], 0.5, kt_f(&c.s), &p[4]) != ST_OK;
    }
    double e = kt_nmse(&c.out);
    ok(!bad && e < 1e-10, "%s: in pieces (%.1e)", name, e);
    call_free(&c);
}

struct grad {
    struct shape s;
    double *q, *k, *v, *g, *out, *dout;
};

static struct kn_tensor keys(const struct grad *c, double *p)
{
    return kn_t4(p, KN_F64, c->s.B, c->s.T, c->s.H, c->s.K);
}

static struct kn_tensor values(const struct grad *c, double *p)
{
    return kn_t4(p, KN_F64, c->s.B, c->s.T, c->s.H, c->s.V);
}

static double value(void *arg)
{
    struct grad *c = arg;
    struct kn_tensor q = keys(c, c->q), k = keys(c, c->k), v = values(c, c->v), g = keys(c, c->g), o = values(c, c->out);
    return kt_ref->op->gla(kt_ref, &q, &k, &v, &g, 0.7, NULL, &o) ? NAN : grad_contract(c->out, c->dout, kn_count(&o));
}

static void gradients(void)
{
    struct shape s = {2, 5, 2, 3, 4};
    int64_t nk = s.B * s.T * s.H * s.K, nv = s.B * s.T * s.H * s.V;
    struct grad c = {s, grad_random(nk, 1), grad_random(nk, 2), grad_random(nv, 3), grad_random(nk, 4), grad_random(nv, 5), grad_random(nv, 6)};
    double *d[4] = {grad_random(nk, 7), grad_random(nk, 8), grad_random(nv, 9), grad_random(nk, 10)}, e[4];
    for (int64_t i = 0; i < nk; i++) c.g[i] = -0.3 * fabs(c.g[i]);
    struct kn_tensor q = keys(&c, c.q), k = keys(&c, c.k), v = values(&c, c.v), g = keys(&c, c.g), o = values(&c, c.dout);
    struct kn_tensor dq = keys(&c, d[0]), dk = keys(&c, d[1]), dv = values(&c, d[2]), dg = keys(&c, d[3]);
    is_int(kt_ref->op->gla_bwd(kt_ref, &q, &k, &v, &g, 0.7, &o, &dq, &dk, &dv, &dg), ST_OK, "backward");
    double *at[4] = {c.q, c.k, c.v, c.g};
    int64_t n[4] = {nk, nk, nv, nk};
    int good = 1;
    for (int i = 0; i < 4; i++) e[i] = grad_check(value, &c, at[i], d[i], n[i]), good &= e[i] < 1e-8;
    ok(good, "gradients: dq, dk, dv, dg (%.0e %.0e %.0e %.0e)", e[0], e[1], e[2], e[3]);
    double *all[] = {c.q, c.k, c.v, c.g, c.out, c.dout, d[0], d[1], d[2], d[3]};
    for (int i = 0; i < 10; i++) free(all[i]);
}

/* By hand: the first channel halves, the second stays. */
static void by_hand(void)
{
    double q[4] = {1, 1, 1, 10}, k[4] = {1, 2, 1, 0}, v[2] = {3, 5}, g[4] = {0, 0, log(0.5), 0}, s[2] = {8, 0}, out[2];
    struct kn_tensor tq = kn_t4(q, KN_F64, 1, 2, 1, 2), tk = kn_t4(k, KN_F64, 1, 2, 1, 2), tv = kn_t4(v, KN_F64, 1, 2, 1, 1);
    struct kn_tensor tg = kn_t4(g, KN_F64, 1, 2, 1, 2), ts = kn_t4(s, KN_F64, 1, 1, 2, 1), to = kn_t4(out, KN_F64, 1, 2, 1, 1);
    is_int(kt_ref->op->gla(kt_ref, &tq, &tk, &tv, &tg, 2, &ts, &to), ST_OK, "two tokens");
    is_near(out[0], 2 * (11 + 6), 1e-14, "first");
    is_near(out[1], 2 * (11 / 2.0 + 5 + 10 * 6), 1e-14, "second");
    is_near(s[0], 10.5, 1e-14, "the state after it");
}

int main(void)
{
    kt_open();
    by_hand();
    gradients();
    check((struct shape){1, 1, 1, 1, 1}, 0, 0.1);
    check((struct shape){3, 1, 2, 24, 20}, 0, 0.1);
    check((struct shape){2, 3, 1, 7, 33}, 1, 0.1);
    check((struct shape){1, 64, 1, 32, 32}, 0, 0.05);
    check((struct shape){2, 150, 2, 32, 48}, 0, 0.05);
    check((struct shape){1, 193, 2, 20, 12}, 1, 0.02);
    check((struct shape){2, 129, 3, 64, 64}, 0, 0.2);
    check((struct shape){1, 13, 1, 16, 16}, 0, 0.05);
    check((struct shape){1, 90, 2, 16, 16}, 0, 0);  /* nothing decays */
    check((struct shape){1, 90, 2, 16, 16}, 0, 40); /* everything does at once */
    check((struct shape){1, 70, 1, 100, 130}, 1, 0.1);
    kt_precision = KN_BF16;
    check((struct shape){1, 150, 2, 32, 48}, 1, 0.1);
    check((struct shape){1, 70, 1, 100, 130}, 0, 0.02);
    check((struct shape){1, 90, 1, 16, 16}, 0, 40);
    kt_precision = KN_F32;
    for (int i = 0; i < KT_ISAS; i++)
        if (kt_cpu[i][1]) pieces(kt_cpu[i][1], kt_isa[i]);

    struct kn_dev *dev = kt_cpu[0][0];
    struct shape s = {1, 4, 2, 8, 8}, odd = {1, 4, 3, 8, 8};
    struct call c = call_new(&s, 0, 1), d = call_new(&odd, 0, 1);
    is_int(dev->op->gla(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&d.v), kt_f(&c.g), 1, NULL, kt_f(&d.out)), ST_EINVAL, "values of other heads");
    is_int(dev->op->gla(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&d.g), 1, NULL, kt_f(&c.out)), ST_EINVAL, "gates of another shape");
    is_int(dev->op->gla(dev, kt_f(&c.q), kt_f(&c.k), kt_f(&c.v), kt_f(&c.g), 1, kt_f(&d.s), kt_f(&c.out)), ST_EINVAL, "a state of other heads");
    is_int(dev->op->gla(dev, kt_d(&c.q), kt_d(&c.k), kt_d(&c.v), kt_d(&c.g), 1, NULL, kt_d(&c.out)), ST_ENOTSUP, "f64");
    call_free(&c);
    call_free(&d);
    kt_close();
    return tap_done();
}
