/* Head and cross-entropy. Rows go through in blocks: logits of a block by one product, softmax and its gradient in place, then two products back.
 * The block's logits are the only ones that exist. dw gets one product a block, in the order of the blocks, so its sums have a fixed order. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define LOGITS (8 << 20) /* at a time; a vocabulary of 50,000 still leaves 160 rows, enough to pay for packing w once a block */
#define MAX_ROWS 2048
#define ROWS_TASK 16

#define VEC_FILE "kernels/cpu/head_ce.c"
#include "kernels/cpu/vec_each.h"

/* Returns the sum of exp(z - max) and leaves *max; keep: z becomes those exponentials. */
static float (*const exp_sum_each[])(float *z, long n, int keep, float *max) = VEC_EACH(exp_sum);
static void (*const scale_each[])(float *z, long n, float by) = VEC_EACH(scale);
static void (*const add_each[])(float *z, const float *t, long n, float by) = VEC_EACH(add); /* z += by t */

struct softmax {
    enum cpu_isa isa;
    float *z, *teacher; /* [rows, V]; NULL: none */
    const struct kn_tensor *target, *loss;
    int64_t first, rows, vocab; /* this block */
    double gscale, mix;
    int backward;
};

/* z is the softmax of a row times its sum and becomes the gradient. */
static void gradient(const struct softmax *s, float *z, float *teacher, int64_t target, float sum)
{
    float max;
    scale_each[s->isa](z, s->vocab, (float)(s->gscale / sum));
    if (teacher) {
        float from = exp_sum_each[s->isa](teacher, s->vocab, 1, &max);
        add_each[s->isa](z, teacher, s->vocab, (float)(-s->gscale * s->mix / from));
    }
    z[target] -= (float)(s->gscale * (1 - s->mix));
}

static void softmax_task(void *ctx, int task, int worker)
{
    const struct softmax *s = ctx;
    int64_t from = (int64_t)task * ROWS_TASK, to = from + ROWS_TASK < s->rows ? from + ROWS_TASK : s->rows;
    for (int64_t i = from; i < to; i++) {
        int64_t n = s->first + i, t = ((const int32_t *)s->target->p)[n * s->target->s[0]];
        float *z = s->z + i * s->vocab, *loss = (float *)s->loss->p + n * s->loss->s[0], max;
        if (t < 0) {
            *loss = 0;
            memset(z, 0, (size_t)s->vocab * sizeof *z);
            continue;
        }
        float zt = z[t], sum = exp_sum_each[s->isa](z, s->vocab, s->backward, &max);
        *loss = (float)((double)max - zt + log(sum));
        if (s->backward) gradient(s, z, s->teacher ? s->teacher + i * s->vocab : NULL, t, sum);
    }
}

/* tx NULL: no teacher. */
static st_t head(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx,
                 const struct kn_tensor *tw, double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    int64_t N = x->d[0], V = w->d[0];
    for (int64_t n = 0; n < N; n++) {
        int32_t t = ((const int32_t *)target->p)[n * target->s[0]];
        if (t < -1 || t >= V) return ST_EINVAL;
    }
    if (N == 0) return ST_OK;
    int64_t most = LOGITS / V < 16 ? 16 : LOGITS / V > MAX_ROWS ? MAX_ROWS : LOGITS / V, kinds = tx ? 2 : 1;
    int64_t blocks = (N + most - 1) / most, rows = (N + blocks - 1) / blocks;
    struct softmax s = {.isa = cpu_of(dev)->isa, .target = target, .loss = loss, .vocab = V, .gscale = gscale, .mix = mix,
                        .backward = !kn_absent(dx) || !kn_absent(dw)};
    void *z;
    st_t st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(kinds * rows * V) * sizeof(float), &z);
    if (st) return st;
    s.z = z;
    if (tx) s.teacher = s.z + rows * V;
    struct kn_tensor wt = kn_transpose(w), twt = tx ? kn_transpose(tw) : wt;
    for (; s.first < N; s.first += s.rows) {
        s.rows = N - s.first < rows ? N - s.first : rows;
        struct kn_tensor xb = kn_slice(x, 0, s.first, s.rows), zb = kn_t2(z, KN_F32, s.rows, V), zt = kn_transpose(&zb);
        st = cpu_gemm(dev, 1, &xb, &wt, 0, &zb);
        if (!st && tx) {
            struct kn_tensor txb = kn_slice(tx, 0, s.first, s.rows), tzb = kn_t2(s.teacher, KN_F32, s.rows, V);
            st = cpu_gemm(dev, 1, &txb, &twt, 0, &tzb);
        }
        if (st) return st;
        cpu_run(dev, softmax_task, &s, (int)((s.rows + ROWS_TASK - 1) / ROWS_TASK), (double)(s.rows * V));
        if (!kn_absent(dx)) {
            struct kn_tensor dxb = kn_slice(dx, 0, s.first, s.rows);
            st = cpu_gemm(dev, 1, &zb, w, 0, &dxb);
            if (st) return st;
        }
        if (!kn_absent(dw)) {
            st = cpu_gemm(dev, 1, &zt, &xb, 1, dw);
            if (st) return st;
        }
    }
    return ST_OK;
}

st_t cpu_head_ce(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target,
                 double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    st_t st = kn_check_head_ce(x, w, target, gscale, loss, dx, dw);
    return st ? st : head(dev, x, w, target, NULL, NULL, 0, gscale, loss, dx, dw);
}

st_t cpu_head_distill(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx,
                      const struct kn_tensor *tw, double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx,
                      const struct kn_tensor *dw)
{
    st_t st = kn_check_head_distill(x, w, target, tx, tw, mix, gscale, loss, dx, dw);
    return st ? st : head(dev, x, w, target, tx, tw, mix, gscale, loss, dx, dw);
}

#else

static float VEC_NAME(exp_sum)(float *z, long n, int keep, float *max)
{
    long i = 0;
    float m = z[0];
    if (n >= VL) {
        vf a = vf_load(z), b = a;
        for (; i + 2 * VL <= n; i += 2 * VL) a = vf_max(a, vf_load(z + i)), b = vf_max(b, vf_load(z + i + VL));
        m = vf_hmax(vf_max(a, b));
    }
    for (; i < n; i++) m = z[i] > m ? z[i] : m;
    vf vm = vf_set1(m), s0 = vf_zero(), s1 = vf_zero();
    for (i = 0; i + 2 * VL <= n; i += 2 * VL) {
        vf e0 = vf_exp(vf_sub(vf_load(z + i), vm)), e1 = vf_exp(vf_sub(vf_load(z + i + VL), vm));
        s0 = vf_add(s0, e0), s1 = vf_add(s1, e1);
        if (keep) vf_store(z + i, e0), vf_store(z + i + VL, e1);
    }
    float sum = vf_hsum(vf_add(s0, s1));
    for (; i < n; i += VL) {
        long left = n - i < VL ? n - i : VL;
        float t[VL];
        vf_store(t, vf_exp(vf_sub(vf_loadn(z + i, left), vm)));
        for (long j = 0; j < left; j++) sum += t[j];
        if (keep) memcpy(z + i, t, (size_t)left * sizeof *t);
    }
    *max = m;
    return sum;
}

static void VEC_NAME(scale)(float *z, long n, float by)
{
    long i = 0;
    vf b = vf_set1(by);
    for (; i + VL <= n; i += VL) vf_store(z + i, vf_mul(vf_load(z + i), b));
    for (; i < n; i++) z[i] *= by;
}

static void VEC_NAME(add)(float *z, const float *t, long n, float by)
{
    long i = 0;
    vf b = vf_set1(by);
    for (; i + VL <= n; i += VL) vf_store(z + i, vf_fma(b, vf_load(t + i), vf_load(z + i)));
    for (; i < n; i++) z[i] = fmaf(by, t[i], z[i]);
}

#endif
