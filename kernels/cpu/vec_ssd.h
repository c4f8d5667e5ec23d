/* The inner loops of Mamba-2's scan, in the vectors of vec.h: weights by decay, tiles packed and turned round. Included by
 * a pass of vec_each.h or vec_bf16.h after vec_mm.h; like that it has no guard. With bf16 the factors of products are pairs along the sum. */

static const float VEC_NAME(ssd_index)[SSD_CHUNK] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* log(1 + e^x) and its derivative */
__attribute__((unused)) static inline float VEC_NAME(ssd_softplus)(float x, float *slope)
{
    float e = expf(-fabsf(x));
    *slope = (x > 0 ? 1 : e) / (1 + e);
    return (x > 0 ? x : 0) + log1pf(e);
}

#ifdef VEC_BF16
#include "kernels/cpu/vec_softplus.h"

/* The same of a vector, the logarithm by its series: within 2e-7, but the errors of like steps are alike and add up along a sequence, where libm's do not;
 * so that f32 does without. */
VEC_FN vf VEC_NAME(ssd_softplus_of)(vf x, vf *slope)
{
    vf zero = vf_zero(), one = vf_set1(1.0f), up = vf_max(x, zero), t = vf_exp(vf_sub(vf_min(x, zero), up));
    *slope = vf_div(VEC_NAME(where_ge)(x, zero, one, t), vf_add(one, t));
    return VEC_NAME(add_log1p)(up, t);
}
#endif

static void VEC_NAME(ssd_decay)(const struct ssd *w, int64_t b, int64_t h, int64_t t0, int n, struct ssd_decay *d)
{
    double A = -exp((double)ssd_of(&w->a_log, h)) * SSD_LOG2E, sum = 0;
    float bias = ssd_of(&w->bias, h);
    const float *dt = w->dt.p + b * w->dt.sb + t0 * w->dt.st + h * w->dt.sh;
#ifdef VEC_BF16
    for (int l = 0; l < SSD_CHUNK; l++) d->dt[l] = l < n ? dt[l * w->dt.st] + bias : 0;
    for (int l = 0; l < SSD_CHUNK; l += VL) {
        vf slope, t = VEC_NAME(ssd_softplus_of)(vf_load(d->dt + l), &slope);
        vf_store(d->dt + l, t);
        vf_store(d->slope + l, slope);
    }
#else
    for (int l = 0; l < n; l++) d->dt[l] = VEC_NAME(ssd_softplus)(dt[l * w->dt.st] + bias, &d->slope[l]);
#endif
    for (int l = n; l < SSD_CHUNK; l++) d->dt[l] = 0, d->slope[l] = 0;
    for (int l = 0; l < SSD_CHUNK; l++) {
        if (l < n) sum += A * (double)d->dt[l];
        d->a[l] = (float)sum;
    }
    vf last = vf_set1((float)sum);
    for (int l = 0; l < SSD_CHUNK; l += VL) {
        vf a = vf_load(d->a + l);
        vf_store(d->in + l, VEC_NAME(exp2_down)(a));
        vf_store(d->out + l, VEC_NAME(exp2_down)(vf_sub(last, a)));
    }
    d->total = d->in[n - 1];
}

/* 2^{a_l - a_s} in two factors, where whole vectors of columns s lie before l: from s to the end of its vector, and on to l. */
static void VEC_NAME(ssd_factors)(struct ssd_decay *d)
{
    for (int s = 0; s < SSD_CHUNK; s += VL) {
        vf end = vf_set1(d->a[s + VL - 1]);
        vf_store(d->near + s, VEC_NAME(exp2_down)(vf_sub(end, vf_load(d->a + s))));
        for (int l = s + VL; l < SSD_CHUNK; l += VL) vf_store(d->far[s / VL] + l, VEC_NAME(exp2_down)(vf_sub(vf_load(d->a + l), end)));
    }
}

/* 2^{a_l - a_s} for the vector of columns from s on, which lies before l, */
VEC_FN vf VEC_NAME(ssd_before)(const struct ssd_decay *d, int l, int s)
{
    return vf_mul(vf_set1(d->far[s / VL][l]), vf_load(d->near + s));
}

/* or has l in it: 0 after l. */
VEC_FN vf VEC_NAME(ssd_within)(const struct ssd_decay *d, int l, int s)
{
    vf w = VEC_NAME(exp2_down)(vf_min(vf_sub(vf_set1(d->a[l]), vf_load(d->a + s)), vf_zero()));
    return VEC_NAME(where_ge)(vf_set1((float)l), vf_load(VEC_NAME(ssd_index) + s), w, vf_zero());
}

/* dst[l][Kp] = src_l[0..K) * scale[l] (NULL: 1) for n rows, zeros behind them in both directions. */
__attribute__((unused)) static void VEC_NAME(ssd_pack)(float *dst, const float *src, int64_t stride, int n, int64_t K, int64_t Kp, const float *scale)
{
    for (int l = 0; l < n; l++, dst += Kp, src += stride) {
        vf s = vf_set1(scale ? scale[l] : 1.0f);
        int64_t k = 0;
        for (; k + VL <= K; k += VL) vf_store(dst + k, vf_mul(vf_load(src + k), s));
        if (k < K) vf_store(dst + k, vf_mul(vf_loadn(src + k, K - k), s));
    }
    if (n < SSD_CHUNK) memset(dst, 0, (size_t)(SSD_CHUNK - n) * (size_t)Kp * sizeof *dst);
}

/* dst[k][SSD_CHUNK] = rows of src, turned round; zeros: a row of K. */
__attribute__((unused)) static void VEC_NAME(ssd_turn)(float *dst, const float *src, int64_t stride, int n, int64_t K, const float *zeros)
{
    const float *rows[SSD_CHUNK];
    for (int l = 0; l < SSD_CHUNK; l++) rows[l] = l < n ? src + l * stride : zeros;
    VEC_NAME(rows_to_lanes)(dst, rows, SSD_CHUNK, K, 1.0f);
}

/* c[l][s] = a_l . b_s for s up to the end of the 16 columns that l is among; bt [K][SSD_CHUNK], K counts places. */
static void VEC_NAME(ssd_scores)(float *c, const float *a, int64_t stride, int n, const float *bt, int64_t K)
{
    for (int l = 0; l < n; l += 16)
        VEC_NAME(mm_set)(n - l < 16 ? n - l : 16, (l + 16) / VL, a + l * stride, stride, 1, bt, SSD_CHUNK, K, c + l * SSD_CHUNK,
                         SSD_CHUNK);
}

/* The state [P,N] of one head to [N][Pp], zeros behind P; and back. */
__attribute__((unused)) static void VEC_NAME(ssd_load)(const struct ssd_fwd *f, int64_t b, int64_t h, float *s)
{
    const struct ssd *w = &f->w;
    for (int64_t p = 0; p < w->Pp; p++) {
        const float *row = p < w->P ? ssd_at(&f->state, b, h, p) : NULL;
        for (int64_t n = 0; n < w->N; n++) s[n * w->Pp + p] = row ? row[n] : 0;
    }
}

__attribute__((unused)) static void VEC_NAME(ssd_store)(const struct ssd_fwd *f, int64_t b, int64_t h, const float *s)
{
    const struct ssd *w = &f->w;
    for (int64_t p = 0; p < w->P; p++) {
        float *row = ssd_at(&f->state, b, h, p);
        for (int64_t n = 0; n < w->N; n++) row[n] = s[n * w->Pp + p];
    }
}
