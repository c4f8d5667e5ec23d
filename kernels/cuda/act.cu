/* y = act(x), x += bias before it, and the backward; f32. Bytes an element: forward 1 read, 1 write (2 of each with a bias that changes x: 1 read more of a row
 * that stays in the cache); backward 2 reads, 1 write. */
#include "kernels/cuda/each.h"

/* GELU in its tanh form is x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). */
constexpr float GELU_RATE = 1.5957691216057308f;  /* 2 sqrt(2/pi) */
constexpr float GELU_CUBIC = 0.0713548162726009f; /* of x^3, the rate multiplied in */

template <int KIND> KN_DEVICE float act_of(float x)
{
    if constexpr (KIND == KN_RELU2) {
        float p = fmaxf(x, 0.0f);
        return p * p;
    } else {
        return x * each_sigmoid(x * fmaf(x * x, GELU_CUBIC, GELU_RATE));
    }
}

/* GELU: with s the gate and z its argument  s + x s (1 - s) z',  z' = rate + 3 cubic x^2 */
template <int KIND> KN_DEVICE float slope_of(float x)
{
    if constexpr (KIND == KN_RELU2) return 2.0f * fmaxf(x, 0.0f);
    float s = each_sigmoid(x * fmaf(x * x, GELU_CUBIC, GELU_RATE));
    return fmaf(x * s * (1.0f - s), fmaf(x * x, 3 * GELU_CUBIC, GELU_RATE), s);
}

namespace {
template <int KIND> struct plain {
    static constexpr int IN = 1, OUT = 1;
    KN_DEVICE void apply(const plain &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = act_of<KIND>(in[0]);
    }
};

template <int KIND> struct biased {
    static constexpr int IN = 2, OUT = 2;
    KN_DEVICE void apply(const biased &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = in[0] + in[1];
        out[1] = act_of<KIND>(out[0]);
    }
};

template <int KIND> struct backward {
    static constexpr int IN = 2, OUT = 1;
    KN_DEVICE void apply(const backward &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = slope_of<KIND>(in[0]) * in[1];
    }
};
}

template <int KIND> static st_t run(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    if (kn_absent(bias)) return each_map<float, float>(dev, plain<KIND>(), {x, y});
    struct kn_tensor rows = each_repeat(bias, x, 1);
    return each_map<float, float>(dev, biased<KIND>(), {x, &rows, x, y});
}

extern "C" st_t cuda_act(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *bias, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_act(kind, x, bias, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return kind == KN_RELU2 ? run<KN_RELU2>(dev, x, bias, y) : run<KN_GELU>(dev, x, bias, y);
}

extern "C" st_t cuda_act_bwd(struct kn_dev *dev, int kind, const struct kn_tensor *x, const struct kn_tensor *dy, const struct kn_tensor *dx)
{
    CUDA_TRY(kn_check_act_bwd(kind, x, dy, dx));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kind == KN_RELU2) return each_map<float, float>(dev, backward<KN_RELU2>(), {x, dy, dx});
    return each_map<float, float>(dev, backward<KN_GELU>(), {x, dy, dx});
}
