#include "kernels/ref/ref.h"

/* The numbers of one branch. */
struct work {
    double *xn, *y;      /* [D] normed stream; what the branch gives */
    double *q, *o, *p;   /* attention: [(H + 2G) K], [H K], [S] */
    double *h, *z, *w;   /* ffn: [F]; [E] logits, [E] weights, 0 where not chosen */
};

/* The rows of w [n,k], or of its e-th matrix: y = w x */
static void product(const struct kn_tensor *w, int64_t e, const double *x, double *y)
{
    struct kn_tensor m = *w;
    if (w->rank == 3) {
        m = kn_t2((char *)w->p + e * w->s[0] * (int64_t)kn_dtype_size(w->dtype), w->dtype, w->d[1], w->d[2]);
        m.s[0] = w->s[1];
    }
    for (int64_t i = 0; i < m.d[0]; i++) {
        double s = 0;
        for (int64_t j = 0; j < m.d[1]; j++) s += ref_weight(&m, i, j) * x[j];
        y[i] = s;
    }
}

static void rotate(double *x, int64_t n, int64_t pos, double theta)
{
    for (int64_t i = 0; i < n / 2; i++) {
        double angle = (double)pos * pow(theta, -2.0 * (double)i / (double)n), c = cos(angle), s = sin(angle), a = x[i], b = x[i + n / 2];
        x[i] = a * c - b * s;
        x[i + n / 2] = b * c + a * s;
    }
}

static void attention(const struct kn_branch_attention *a, const struct work *m)
{
    int64_t S = a->k.d[0], G = a->k.d[1], K = a->k.d[2], H = a->heads;
    product(&a->qkv, 0, m->xn, m->q);
    for (int64_t h = 0; h < (a->slot < 0 ? H : H + G); h++) rotate(m->q + h * K, a->rope, a->pos, a->theta);
    for (int64_t g = 0; g < G && a->slot >= 0; g++)
        for (int64_t d = 0; d < K; d++) {
            ref_set(&a->k, at3(&a->k, a->slot, g, d), m->q[(H + g) * K + d]);
            ref_set(&a->v, at3(&a->v, a->slot, g, d), m->q[(H + G + g) * K + d]);
        }
    for (int64_t h = 0; h < H; h++) {
        int64_t g = h / (H / G);
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < S; j++) {
            m->p[j] = 0;
            for (int64_t d = 0; d < K; d++) m->p[j] += a->scale * m->q[h * K + d] * ref_get(&a->k, at3(&a->k, j, g, d));
            max = fmax(max, m->p[j]);
        }
        for (int64_t j = 0; j < S; j++) sum += m->p[j] = exp(m->p[j] - max);
        for (int64_t d = 0; d < K; d++) {
            double s = 0;
            for (int64_t j = 0; j < S; j++) s += m->p[j] * ref_get(&a->v, at3(&a->v, j, g, d));
            m->o[h * K + d] = s / sum;
        }
    }
    product(&a->out, 0, m->o, m->y);
}

static double act(int kind, double x)
{
    if (kind == KN_RELU2) return x > 0 ? x * x : 0;
    return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

/* y += factor times the e-th of f; t [D] */
static void add_ffn(const struct kn_ffn *f, int kind, int64_t e, double factor, int64_t D, const struct work *m, double *t)
{
    int64_t F = f->down.d[f->down.rank - 1];
    product(&f->up, e, m->xn, m->h);
    if (f->gate.p) product(&f->gate, e, m->xn, m->h + F);
    for (int64_t i = 0; i < F; i++) {
        double g = m->h[F + i];
        m->h[i] = f->gate.p ? g / (1 + exp(-g)) * m->h[i] : act(kind, m->h[i]);
    }
    product(&f->down, e, m->h, t);
    for (int64_t d = 0; d < D; d++) m->y[d] += factor * t[d];
}

static void ffn(const struct kn_branch_ffn *f, int64_t D, const struct work *m, double *t)
{
    for (int64_t d = 0; d < D; d++) m->y[d] = 0;
    if (f->one.down.p) {
        double g = 0;
        if (f->one_gate.p) product(&f->one_gate, 0, m->xn, &g);
        add_ffn(&f->one, f->act, 0, f->one_gate.p ? 1 / (1 + exp(-g)) : 1, D, m, t);
    }
    if (!f->expert.down.p) return;
    int64_t E = f->router.d[0];
    double max = -INFINITY, sum = f->sigmoid ? 1e-20 : 0, chosen = sum; /* 1e-20: as in moe.c */
    product(&f->router, 0, m->xn, m->z);
    for (int64_t e = 0; e < E; e++) max = fmax(max, m->z[e]), m->w[e] = -1;
    for (int64_t e = 0; e < E; e++) sum += f->sigmoid ? 1 / (1 + exp(-m->z[e])) : exp(m->z[e] - max);
    for (int64_t s = 0; s < f->active; s++) {
        int64_t best = -1;
        for (int64_t e = 0; e < E; e++)
            if (m->w[e] < 0 && (best < 0 || m->z[e] > m->z[best])) best = e;
        m->w[best] = (f->sigmoid ? 1 / (1 + exp(-m->z[best])) : exp(m->z[best] - max)) / sum;
        chosen += m->w[best];
    }
    for (int64_t e = 0; e < E; e++)
        if (m->w[e] >= 0) add_ffn(&f->expert, f->act, e, m->w[e] / chosen, D, m, t);
}

/* Numbers that the widest branch wants. */
static int64_t width(const struct kn_branch *b)
{
    const struct kn_branch_attention *a = &b->attention;
    const struct kn_branch_ffn *f = &b->ffn;
    if (b->kind == KN_BRANCH_HEAD) return b->head.w.d[0];
    if (b->kind == KN_BRANCH_ATTENTION) return a->qkv.d[0] + a->out.d[1] + a->k.d[0];
    int64_t one = f->one.down.p ? f->one.down.d[1] : 0, expert = f->expert.down.p ? f->expert.down.d[2] : 0;
    return 2 * (one > expert ? one : expert) + (f->expert.down.p ? 2 * f->router.d[0] : 0);
}

st_t ref_decode(struct kn_dev *dev, const struct kn_branch *branch, int n, double eps, const struct kn_tensor *x, const struct kn_tensor *r)
{
    st_t st = kn_check_decode(branch, n, eps, x, r);
    if (st) return st;
    int64_t D = x->d[1], most = 0;
    for (int i = 0; i < n; i++) most = width(&branch[i]) > most ? width(&branch[i]) : most;
    double *mem;
    st = ref_scratch(dev, 3 * D + most, &mem);
    if (st) return st;
    double *t = mem + 2 * D, *rest = mem + 3 * D;
    struct work m = {.xn = mem, .y = mem + D};
    for (int64_t d = 0; d < D && !kn_absent(r); d++) ref_add(x, d, ref_get(r, d));
    for (int i = 0; i < n; i++) {
        const struct kn_branch *b = &branch[i];
        double ss = 0;
        for (int64_t d = 0; d < D; d++) ss += ref_get(x, d) * ref_get(x, d);
        for (int64_t d = 0; d < D; d++) m.xn[d] = ref_get(b->norm, d) * ref_get(x, d) / sqrt(ss / (double)D + eps);
        if (b->kind == KN_BRANCH_HEAD) {
            product(&b->head.w, 0, m.xn, rest);
            for (int64_t v = 0; v < b->head.w.d[0]; v++) ref_set(&b->head.logits, v, rest[v]);
            continue;
        }
        if (b->kind == KN_BRANCH_ATTENTION) {
            m.q = rest, m.o = m.q + b->attention.qkv.d[0], m.p = m.o + b->attention.out.d[1];
            attention(&b->attention, &m);
        } else {
            m.z = rest, m.w = m.z + (b->ffn.expert.down.p ? b->ffn.router.d[0] : 0);
            m.h = m.w + (m.w - m.z);
            ffn(&b->ffn, D, &m, t);
        }
        for (int64_t d = 0; d < D; d++) ref_add(x, d, m.y[d]);
    }
    return ST_OK;
}
