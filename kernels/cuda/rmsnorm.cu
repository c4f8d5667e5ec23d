/* RMSNorm with the residual add before it (norm.h). Bytes a number: forward 4 of x and as many of r read, x written where there is an r, y written; backward x, dy,
 * dx read, dx written: 16. */
#include "kernels/cuda/norm.h"

template <class Y>
static st_t forward(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, double eps, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    struct kn_tensor hx = norm_heads(x, 1), hr = r ? norm_heads(r, 1) : hx, hy = norm_heads(y, 1), hs = norm_each(rstd);
    norm_forward<Y> a = {&hx, r ? &hr : NULL, NULL, &hy, NULL, &hs, (const float *)w->p, NULL, 0, w->s[0], 0, (float)eps};
    return norm_run_forward<NORM_RMS, Y>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hr) && cuda_by4(&hy) && cuda_by4(w));
}

extern "C" st_t cuda_rmsnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *r, const struct kn_tensor *w, double eps, const struct kn_tensor *y,
                             const struct kn_tensor *rstd)
{
    CUDA_TRY(kn_check_rmsnorm(x, r, w, eps, y, rstd));
    if (!cuda_is_f32(x) || !cuda_has(dev, y)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    if (kn_absent(r)) r = NULL;
    return y->dtype == KN_BF16 ? forward<bf16>(dev, x, r, w, eps, y, rstd) : forward<float>(dev, x, r, w, eps, y, rstd);
}

extern "C" st_t cuda_rmsnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd, const struct kn_tensor *dy,
                                 const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_rmsnorm_bwd(x, w, rstd, dy, dx, dw));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct kn_tensor hx = norm_heads(x, 1), hy = norm_heads(dy, 1), hd = norm_heads(dx, 1), hs = norm_each(rstd);
    norm_backward<float> a = {&hx, NULL, &hy, &hd, NULL, NULL, &hs, (const float *)w->p, 0, w->s[0], NULL};
    return norm_run_backward<NORM_RMS, float>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hy) && cuda_by4(&hd) && cuda_by4(w), dw, NULL);
}
