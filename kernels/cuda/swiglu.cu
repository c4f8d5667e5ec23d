/* h = silu(g) * u and its backward, in f32 or, under precision bf16, bf16 in memory: computed in f32, rounded when stored.
 * Bytes an element: forward 2 reads, 1 write; backward 3 reads, 2 writes, 3 where h is wanted. About 25 operations each: memory bound. */
#include "kernels/cuda/each.h"

/* silu(g) u, and its first factor and s = sigmoid(g): forward and backward have the same bits. */
KN_DEVICE float gated(float g, float u, float *silu, float *s)
{
    *s = each_sigmoid(g);
    *silu = g * *s;
    return *silu * u;
}

namespace {
struct forward {
    static constexpr int IN = 2, OUT = 1;
    KN_DEVICE void apply(const forward &, const float (&in)[IN], float (&out)[OUT])
    {
        float silu, s;
        out[0] = gated(in[0], in[1], &silu, &s);
    }
};
}

/* d silu(g)/dg = s + g s (1 - s) with s = sigmoid(g). H: h is wanted too. */
namespace {
template <bool H> struct backward {
    static constexpr int IN = 3, OUT = 2 + H;
    KN_DEVICE void apply(const backward &, const float (&in)[IN], float (&out)[OUT])
    {
        float silu, s, h = gated(in[0], in[1], &silu, &s), dh = in[2];
        out[0] = dh * in[1] * fmaf(silu, 1.0f - s, s);
        out[1] = dh * silu;
        if constexpr (H) out[2] = h;
    }
};
}

extern "C" st_t cuda_swiglu(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *h)
{
    CUDA_TRY(kn_check_swiglu(g, u, h));
    if (!cuda_has(dev, g)) return ST_ENOTSUP;
    if (g->dtype == KN_BF16) return each_map<bf16, bf16>(dev, forward(), {g, u, h});
    return each_map<float, float>(dev, forward(), {g, u, h});
}

extern "C" st_t cuda_swiglu_bwd(struct kn_dev *dev, const struct kn_tensor *g, const struct kn_tensor *u, const struct kn_tensor *dh, const struct kn_tensor *dg,
                                const struct kn_tensor *du, const struct kn_tensor *h)
{
    CUDA_TRY(kn_check_swiglu_bwd(g, u, dh, dg, du, h));
    if (!cuda_has(dev, g)) return ST_ENOTSUP;
    bool half = g->dtype == KN_BF16;
    if (kn_absent(h)) {
        if (half) return each_map<bf16, bf16>(dev, backward<false>(), {g, u, dh, dg, du});
        return each_map<float, float>(dev, backward<false>(), {g, u, dh, dg, du});
    }
    if (half) return each_map<bf16, bf16>(dev, backward<true>(), {g, u, dh, dg, du, h});
    return each_map<float, float>(dev, backward<true>(), {g, u, dh, dg, du, h});
}
