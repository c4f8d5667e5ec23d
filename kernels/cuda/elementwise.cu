/* x += alpha y and x = value. Bytes an element: 2 reads and 1 write, or 1 write. */
#include "kernels/cuda/each.h"

#include <string.h>

namespace {
struct axpy {
    static constexpr int IN = 2, OUT = 1;
    float alpha;
    KN_DEVICE void apply(const axpy &op, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = fmaf(op.alpha, in[1], in[0]);
    }
};
}

extern "C" st_t cuda_axpy(struct kn_dev *dev, double alpha, const struct kn_tensor *y, const struct kn_tensor *x)
{
    CUDA_TRY(kn_check_axpy(alpha, y, x));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return each_map<float, float>(dev, axpy{(float)alpha}, {x, y, x});
}

/* Elements of type T, all with the same bits; `four`: those as often as they fit 32 bits. */
namespace {
template <class T> struct filling {
    static constexpr int K = 1, BATCH = 2;
    uint32_t four;
    static size_t size(int)
    {
        return sizeof(T);
    }
    template <int W> struct Lot {};
    template <int W> KN_DEVICE void get(const filling &, void *const (&)[1], const int64_t (&)[1], Lot<W> &) {}
    template <int W> KN_DEVICE void put(const filling &f, void *const (&p)[1], const int64_t (&o)[1], const Lot<W> &)
    {
        T *at = (T *)p[0] + o[0];
        if constexpr (W == 1) *at = (T)f.four;
        else kn_write16(at, make_uint4(f.four, f.four, f.four, f.four));
    }
};
}

template <class T> static st_t run(struct kn_dev *dev, const struct kn_tensor *x, uint32_t four)
{
    const struct kn_tensor *t[1] = {x};
    each_walk<1> w = each_walk_of<1>(t);
    return each_run<filling<T>, 16 / sizeof(T)>(dev, {four}, w, each_by(w, 0, 16 / sizeof(T), sizeof(T)));
}

/* To nearest, ties to even; what is no number stays none. */
static uint32_t bf16_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (f != f) return (u >> 16) | 0x40;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

extern "C" st_t cuda_fill(struct kn_dev *dev, const struct kn_tensor *x, double value)
{
    CUDA_TRY(kn_check_fill(x, value));
    float f = (float)value;
    uint32_t bits;
    switch (x->dtype) {
    case KN_F32: memcpy(&bits, &f, sizeof f); return run<uint32_t>(dev, x, bits);
    case KN_I32: return run<uint32_t>(dev, x, (uint32_t)(int32_t)value);
    case KN_BF16: return run<uint16_t>(dev, x, bf16_bits(f) * 0x10001u);
    case KN_U8: return run<uint8_t>(dev, x, (uint8_t)value * 0x1010101u);
    default: return ST_ENOTSUP;
    }
}
