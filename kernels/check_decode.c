/* The operands of op decode (kernels/branch.h). */
#include "kernels/check.h"

#define NEED(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return ST_EINVAL;                                                                                 \
    } while (0)

static int is(const struct kn_tensor *t, int rank, const int64_t *d)
{
    if (t->rank != rank || !t->p) return 0;
    for (int i = 0; i < rank; i++)
        if (t->d[i] != d[i]) return 0;
    return t->s[rank - 1] == 1 || d[rank - 1] == 1;
}

static int is_vector(const struct kn_tensor *t, enum kn_dtype dtype, int64_t n)
{
    return t && t->dtype == dtype && is(t, 1, &n);
}

static int is_weight(const struct kn_tensor *t, enum kn_dtype dtype, int64_t rows, int64_t cols)
{
    return (t->dtype == dtype || t->dtype == KN_BF16 || t->dtype == KN_I8) && is(t, 2, (int64_t[]){rows, cols});
}

static int is_weights(const struct kn_tensor *t, enum kn_dtype dtype, int64_t n, int64_t rows, int64_t cols)
{
    return (t->dtype == dtype || t->dtype == KN_BF16 || t->dtype == KN_I8) && is(t, 3, (int64_t[]){n, rows, cols});
}

static st_t check_attention(const struct kn_branch_attention *a, enum kn_dtype dtype, int64_t D)
{
    int64_t S = a->k.d[0], G = a->k.d[1], K = a->k.d[2], H = a->heads;
    NEED(a->k.dtype == dtype && a->v.dtype == dtype && S > 0 && G > 0 && K > 0 && H > 0 && H % G == 0);
    NEED(is(&a->k, 3, (int64_t[]){S, G, K}) && is(&a->v, 3, (int64_t[]){S, G, K}));
    NEED(a->slot >= -1 && a->slot < S && a->pos >= 0 && a->rope >= 0 && a->rope <= K && a->rope % 2 == 0 && (!a->rope || a->theta > 0));
    NEED(is_weight(&a->qkv, dtype, (H + (a->slot < 0 ? 0 : 2 * G)) * K, D) && is_weight(&a->out, dtype, D, H * K));
    return ST_OK;
}

static st_t check_ffn(const struct kn_branch_ffn *f, enum kn_dtype dtype, int64_t D)
{
    NEED(f->one.down.p || f->expert.down.p);
    NEED(f->act >= 0 && f->act < KN_ACT_COUNT);
    if (f->one.down.p) {
        int64_t F = f->one.down.d[1];
        NEED(F > 0 && is_weight(&f->one.up, dtype, F, D) && is_weight(&f->one.down, dtype, D, F));
        NEED(kn_absent(&f->one.gate) || is_weight(&f->one.gate, dtype, F, D));
        NEED(kn_absent(&f->one_gate) || is_weight(&f->one_gate, dtype, 1, D));
        NEED(kn_absent(&f->one_gate) || !kn_absent(&f->one.gate) || f->act == KN_RELU2);
    }
    if (f->expert.down.p) {
        int64_t E = f->router.d[0], F = f->expert.down.d[2];
        NEED(E > 0 && E <= KN_EXPERTS_MAX && F > 0 && f->active > 0 && f->active <= E && is_weight(&f->router, dtype, E, D));
        NEED(is_weights(&f->expert.up, dtype, E, F, D) && is_weights(&f->expert.down, dtype, E, D, F));
        NEED(kn_absent(&f->expert.gate) ? f->act == KN_RELU2 : is_weights(&f->expert.gate, dtype, E, F, D));
    }
    return ST_OK;
}

st_t kn_check_decode(const struct kn_branch *branch, int n, double eps, const struct kn_tensor *x, const struct kn_tensor *r)
{
    NEED(x && (x->dtype == KN_F32 || x->dtype == KN_F64) && n >= 0 && (branch || !n) && x->d[1] > 0 && eps >= 0);
    int64_t D = x->d[1];
    NEED(is(x, 2, (int64_t[]){1, D}) && (kn_absent(r) || (r->dtype == x->dtype && is(r, 2, (int64_t[]){1, D}))));
    for (int i = 0; i < n; i++) {
        const struct kn_branch *b = &branch[i];
        st_t st = ST_OK;
        NEED(is_vector(b->norm, x->dtype, D));
        if (b->kind == KN_BRANCH_ATTENTION) st = check_attention(&b->attention, x->dtype, D);
        else if (b->kind == KN_BRANCH_FFN) st = check_ffn(&b->ffn, x->dtype, D);
        else NEED(b->head.w.d[0] > 0 && is_weight(&b->head.w, x->dtype, b->head.w.d[0], D) && is_vector(&b->head.logits, x->dtype, b->head.w.d[0]));
        if (st) return st;
    }
    return ST_OK;
}
