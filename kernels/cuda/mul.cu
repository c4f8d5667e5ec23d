/* z = x * y and its backward, f32. Bytes an element: forward 2 reads, 1 write; backward 3 reads, 2 writes. */
#include "kernels/cuda/each.h"

namespace {
struct forward {
    static constexpr int IN = 2, OUT = 1;
    KN_DEVICE void apply(const forward &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = in[0] * in[1];
    }
};

struct backward {
    static constexpr int IN = 3, OUT = 2;
    KN_DEVICE void apply(const backward &, const float (&in)[IN], float (&out)[OUT])
    {
        out[0] = in[2] * in[1];
        out[1] = in[2] * in[0];
    }
};
}

extern "C" st_t cuda_mul(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *z)
{
    CUDA_TRY(kn_check_mul(x, y, z));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return each_map<float, float>(dev, forward(), {x, y, z});
}

extern "C" st_t cuda_mul_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y, const struct kn_tensor *dz, const struct kn_tensor *dx,
                             const struct kn_tensor *dy)
{
    CUDA_TRY(kn_check_mul_bwd(x, y, dz, dx, dy));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    return each_map<float, float>(dev, backward(), {x, y, dz, dx, dy});
}
