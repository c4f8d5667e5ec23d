/* Gated RMSNorm in groups, a group as a head (norm.h). Bytes a number, all in f32: forward x, z read, y written, 12; backward x, z, dy read, dx, dz written, 20. */
#include "kernels/cuda/norm.h"

/* Numbers from a group's weights to the next group's. */
static int64_t to_next(const struct kn_tensor *w, const struct kn_tensor *x, int64_t group)
{
    return w->d[0] == x->d[1] && x->d[1] > group ? group * w->s[0] : 0;
}

template <int KIND, class Y>
static st_t forward(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, double eps, const struct kn_tensor *y,
                    const struct kn_tensor *rstd)
{
    int64_t groups = x->d[1] / group;
    struct kn_tensor hx = norm_heads(x, groups), hz = norm_heads(z, groups), hy = norm_heads(y, groups), hs = norm_each(rstd);
    norm_forward<Y> a = {&hx, NULL, &hz, &hy, NULL, &hs, (const float *)w->p, NULL, to_next(w, x, group), w->s[0], 0, (float)eps};
    return norm_run_forward<KIND, Y>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hz) && cuda_by4(&hy) && cuda_by4(w));
}

extern "C" st_t cuda_gatednorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, double eps, int gate_first,
                               const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    CUDA_TRY(kn_check_gatednorm(x, z, w, group, eps, gate_first, y, rstd));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    if (gate_first && y->dtype == KN_BF16) return forward<NORM_GATE_FIRST, bf16>(dev, x, z, w, group, eps, y, rstd);
    if (gate_first) return forward<NORM_GATE_FIRST, float>(dev, x, z, w, group, eps, y, rstd);
    if (y->dtype == KN_BF16) return forward<NORM_GATE_LAST, bf16>(dev, x, z, w, group, eps, y, rstd);
    return forward<NORM_GATE_LAST, float>(dev, x, z, w, group, eps, y, rstd);
}

template <int KIND, class Z>
static st_t backward(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, const struct kn_tensor *rstd,
                     const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dz, const struct kn_tensor *dw)
{
    int64_t groups = x->d[1] / group;
    struct kn_tensor hx = norm_heads(x, groups), hz = norm_heads(z, groups), hy = norm_heads(dy, groups), hd = norm_heads(dx, groups), hg = norm_heads(dz, groups),
                     hs = norm_each(rstd);
    norm_backward<Z> a = {&hx, &hz, &hy, &hd, &hg, NULL, &hs, (const float *)w->p, to_next(w, x, group), w->s[0], NULL};
    return norm_run_backward<KIND, Z>(dev, &hx, a, cuda_by4(&hx) && cuda_by4(&hz) && cuda_by4(&hy) && cuda_by4(&hd) && cuda_by4(&hg) && cuda_by4(w), dw, NULL);
}

extern "C" st_t cuda_gatednorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w, int64_t group, int gate_first,
                                   const struct kn_tensor *rstd, const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dz, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_gatednorm_bwd(x, z, w, group, gate_first, rstd, dy, dx, dz, dw));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    if (gate_first && dz->dtype == KN_BF16) return backward<NORM_GATE_FIRST, bf16>(dev, x, z, w, group, rstd, dy, dx, dz, dw);
    if (gate_first) return backward<NORM_GATE_FIRST, float>(dev, x, z, w, group, rstd, dy, dx, dz, dw);
    if (dz->dtype == KN_BF16) return backward<NORM_GATE_LAST, bf16>(dev, x, z, w, group, rstd, dy, dx, dz, dw);
    return backward<NORM_GATE_LAST, float>(dev, x, z, w, group, rstd, dy, dx, dz, dw);
}
