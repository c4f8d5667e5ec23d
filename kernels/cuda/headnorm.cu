/* RMSNorm of every head (norm.h). Bytes a number: forward x read, y written, 8; backward x, dy read, dx written, 12. */
#include "kernels/cuda/norm.h"

extern "C" st_t cuda_headnorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, double eps, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    CUDA_TRY(kn_check_headnorm(x, w, eps, y, rstd));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    norm_forward<float> a = {x, NULL, NULL, y, NULL, rstd, (const float *)w->p, NULL, 0, w->s[0], 0, (float)eps};
    return norm_run_forward<NORM_HEAD, float>(dev, x, a, cuda_by4(x) && cuda_by4(y) && cuda_by4(w));
}

extern "C" st_t cuda_headnorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *rstd, const struct kn_tensor *dy,
                                  const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_headnorm_bwd(x, w, rstd, dy, dx, dw));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    norm_backward<float> a = {x, NULL, dy, dx, NULL, NULL, rstd, (const float *)w->p, 0, w->s[0], NULL};
    return norm_run_backward<NORM_HEAD, float>(dev, x, a, cuda_by4(x) && cuda_by4(dy) && cuda_by4(dx) && cuda_by4(w), dw, NULL);
}
