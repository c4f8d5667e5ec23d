/* AdamW, one pass over f32 slabs: 16 bytes read and 12 written a parameter. Its numbers come with the launch, or from device memory, where a kernel of one thread puts
 * them in the form that all others read. */
#include "kernels/cuda/each.h"

namespace {
struct step {
    float gscale, beta1, beta2, rest1, rest2; /* rest: 1 - beta */
    float decay;                              /* 1 - lr weight_decay */
    float rate;                               /* lr / (1 - beta1^t) */
    float root;                               /* 1 / sqrt(1 - beta2^t) */
    float eps;
};
}

/* c1, c2: 1 - beta^t */
static __device__ __host__ inline void step_of(step *s, const struct kn_adamw &h, double lr, double gscale, double c1, double c2)
{
    s->gscale = (float)gscale;
    s->beta1 = (float)h.beta1;
    s->beta2 = (float)h.beta2;
    s->rest1 = (float)(1 - h.beta1);
    s->rest2 = (float)(1 - h.beta2);
    s->decay = (float)(1 - lr * h.weight_decay);
    s->rate = (float)(lr / c1);
    s->root = (float)(1 / sqrt(c2));
    s->eps = (float)h.eps;
}

/* p, g, m, v; p, m, v */
KN_DEVICE void update(const step &s, const float (&in)[4], float (&out)[3])
{
    float g = s.gscale * in[1];
    float m = fmaf(s.beta1, in[2], s.rest1 * g), v = fmaf(s.beta2, in[3], s.rest2 * (g * g));
    out[0] = fmaf(-s.rate, m / fmaf(sqrtf(v), s.root, s.eps), s.decay * in[0]);
    out[1] = m;
    out[2] = v;
}

namespace {
struct by_launch {
    static constexpr int IN = 4, OUT = 3;
    step s;
    KN_DEVICE void apply(const by_launch &op, const float (&in)[IN], float (&out)[OUT])
    {
        update(op.s, in, out);
    }
};

struct by_memory {
    static constexpr int IN = 4, OUT = 3;
    const step *s;
    KN_DEVICE void apply(const by_memory &op, const float (&in)[IN], float (&out)[OUT])
    {
        const step s = *op.s;
        update(s, in, out);
        if (!isfinite(s.gscale)) out[0] = in[0], out[1] = in[2], out[2] = in[3];
    }
};
}

KN_KERNEL(32) prepare(struct kn_adamw h, const double *at, const double *clip, step *s)
{
    if (threadIdx.x == 0) step_of(s, h, at[0], clip[1], at[1], at[2]);
}

extern "C" st_t cuda_adamw(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                           const struct kn_adamw *h)
{
    CUDA_TRY(kn_check_adamw(p, g, m, v, h));
    if (!cuda_is_f32(p)) return ST_ENOTSUP;
    by_launch op;
    step_of(&op.s, *h, h->lr, h->gscale, 1 - pow(h->beta1, (double)h->t), 1 - pow(h->beta2, (double)h->t));
    return each_map<float, float>(dev, op, {p, g, m, v, p, m, v});
}

extern "C" st_t cuda_adamw_at(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                              const struct kn_adamw *h, const struct kn_tensor *at, const struct kn_tensor *clip)
{
    CUDA_TRY(kn_check_adamw_at(p, g, m, v, h, at, clip));
    if (!cuda_is_f32(p)) return ST_ENOTSUP;
    void *s;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, sizeof(step), &s));
    CUDA_RUN(dev, prepare, 1, 32, 0, *h, (const double *)at->p, (const double *)clip->p, (step *)s);
    return each_map<float, float>(dev, by_memory{(const step *)s}, {p, g, m, v, p, m, v});
}
