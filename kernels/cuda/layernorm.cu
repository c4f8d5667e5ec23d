/* LayerNorm with the residual add before it (norm.h); the variance is that of x - mean, not a difference of sums. Bytes a number as in rmsnorm.cu. */
#include "kernels/cuda/norm.h"

extern "C" st_t cuda_layernorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, const struct kn_tensor *b, double eps,
                               const struct kn_tensor *y, const struct kn_tensor *mean, const struct kn_tensor *rstd)
{
    CUDA_TRY(kn_check_layernorm(x, r, w, b, eps, y, mean, rstd));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    if (kn_absent(r)) r = NULL;
    struct kn_tensor hx = norm_heads(x, 1), hr = r ? norm_heads(r, 1) : hx, hy = norm_heads(y, 1), hm = norm_each(mean), hs = norm_each(rstd);
    norm_forward<float> a = {&hx, r ? &hr : NULL, NULL, &hy, &hm, &hs, (const float *)w->p, (const float *)b->p, 0, w->s[0], b->s[0], (float)eps};
    return norm_run_forward<NORM_LAYER, float>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hr) && cuda_by4(&hy) && cuda_by4(w) && cuda_by4(b));
}

extern "C" st_t cuda_layernorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *mean, const struct kn_tensor *rstd,
                                   const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dw, const struct kn_tensor *db)
{
    CUDA_TRY(kn_check_layernorm_bwd(x, w, mean, rstd, dy, dx, dw, db));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct kn_tensor hx = norm_heads(x, 1), hy = norm_heads(dy, 1), hd = norm_heads(dx, 1), hm = norm_each(mean), hs = norm_each(rstd);
    norm_backward<float> a = {&hx, NULL, &hy, &hd, NULL, &hm, &hs, (const float *)w->p, 0, w->s[0], NULL};
    return norm_run_backward<NORM_LAYER, float>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hy) && cuda_by4(&hd) && cuda_by4(w), dw, db);
}
