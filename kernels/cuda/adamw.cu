/* AdamW, one pass over f32 slabs: 16 bytes read and 12 written a parameter. */
#include "kernels/cuda/each.h"

struct step {
    static constexpr int IN = 4, OUT = 3;         /* p, g, m, v; p, m, v */
    float gscale, beta1, beta2, rest1, rest2;     /* rest: 1 - beta */
    float decay;                                  /* 1 - lr weight_decay */
    float rate;                                   /* lr / (1 - beta1^t) */
    float root;                                   /* 1 / sqrt(1 - beta2^t) */
    float eps;
    KN_DEVICE void apply(const step &s, const float (&in)[IN], float (&out)[OUT])
    {
        float g = s.gscale * in[1];
        float m = fmaf(s.beta1, in[2], s.rest1 * g), v = fmaf(s.beta2, in[3], s.rest2 * (g * g));
        out[0] = fmaf(-s.rate, m / fmaf(sqrtf(v), s.root, s.eps), s.decay * in[0]);
        out[1] = m;
        out[2] = v;
    }
};

extern "C" st_t cuda_adamw(struct kn_dev *dev, const struct kn_tensor *p, const struct kn_tensor *g, const struct kn_tensor *m, const struct kn_tensor *v,
                           const struct kn_adamw *h)
{
    CUDA_TRY(kn_check_adamw(p, g, m, v, h));
    if (!cuda_is_f32(p)) return ST_ENOTSUP;
    step s = {};
    s.gscale = (float)h->gscale;
    s.beta1 = (float)h->beta1;
    s.beta2 = (float)h->beta2;
    s.rest1 = (float)(1 - h->beta1);
    s.rest2 = (float)(1 - h->beta2);
    s.decay = (float)(1 - h->lr * h->weight_decay);
    s.rate = (float)(h->lr / (1 - pow(h->beta1, (double)h->t)));
    s.root = (float)(1 / sqrt(1 - pow(h->beta2, (double)h->t)));
    s.eps = (float)h->eps;
    return each_map<float, float>(dev, s, {p, g, m, v, p, m, v});
}
