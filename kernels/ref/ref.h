/* The reference device: every op as its formula is written, one loop nest, any strides, f32 and f64 by the same code. Sums are in double and
 * rounded when stored. Slow on purpose: what is fast is compared with it, and gradients of it are compared with central differences. */
#ifndef TAUT_KERNELS_REF_REF_H
#define TAUT_KERNELS_REF_REF_H

#include <math.h>
#include <string.h>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/host.h"

#define KN_OP(name, args) st_t ref_##name KN_ARGS args;
#include "kernels/ops.def"
#undef KN_OP

/* A buffer of n doubles that lives until the next call. ST_ENOMEM */
st_t ref_scratch(struct kn_dev *dev, int64_t n, double **out);

/* Element at offset o (in elements) as a double; and back, rounded to nearest. */
static inline double ref_get(const struct kn_tensor *t, int64_t o)
{
    switch (t->dtype) {
    case KN_F32: return ((const float *)t->p)[o];
    case KN_F64: return ((const double *)t->p)[o];
    case KN_I32: return ((const int32_t *)t->p)[o];
    case KN_U8: return ((const uint8_t *)t->p)[o];
    case KN_BF16: {
        uint32_t u = (uint32_t)((const uint16_t *)t->p)[o] << 16;
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
    default: return 0;
    }
}

static inline uint16_t ref_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return (uint16_t)(u >> 16 | 0x40); /* stays a NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline double ref_round_bf16(double v)
{
    uint32_t u = (uint32_t)ref_bf16((float)v) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* An operand of a product: as ref_get, in bf16 where the device's precision says so and the number is not f64. */
static inline double ref_factor(const struct kn_dev *dev, const struct kn_tensor *t, int64_t o)
{
    double v = ref_get(t, o);
    return dev->precision == KN_BF16 && t->dtype == KN_F32 ? ref_round_bf16(v) : v;
}

static inline void ref_set(const struct kn_tensor *t, int64_t o, double v)
{
    switch (t->dtype) {
    case KN_F32: ((float *)t->p)[o] = (float)v; break;
    case KN_F64: ((double *)t->p)[o] = v; break;
    case KN_I32: ((int32_t *)t->p)[o] = (int32_t)v; break;
    case KN_U8: ((uint8_t *)t->p)[o] = (uint8_t)v; break;
    case KN_BF16: ((uint16_t *)t->p)[o] = ref_bf16((float)v); break;
    default: break;
    }
}

static inline void ref_add(const struct kn_tensor *t, int64_t o, double v)
{
    ref_set(t, o, ref_get(t, o) + v);
}

/* Number [row, col] of a matrix of weights, stored in any format. */
static inline double ref_weight(const struct kn_tensor *w, int64_t row, int64_t col)
{
    int64_t o = row * w->s[0] + col * w->s[1];
    if (w->dtype != KN_I8) return ref_get(w, o);
    const int8_t *p = (const int8_t *)w->p + row * w->s[0];
    float scale;
    memcpy(&scale, p + w->d[1], sizeof scale);
    return (double)p[col] * (double)scale;
}

/* Offsets of elements. */
static inline int64_t at2(const struct kn_tensor *t, int64_t i, int64_t j)
{
    return i * t->s[0] + j * t->s[1];
}
static inline int64_t at3(const struct kn_tensor *t, int64_t i, int64_t j, int64_t k)
{
    return i * t->s[0] + j * t->s[1] + k * t->s[2];
}
static inline int64_t at4(const struct kn_tensor *t, int64_t i, int64_t j, int64_t k, int64_t l)
{
    return i * t->s[0] + j * t->s[1] + k * t->s[2] + l * t->s[3];
}

static inline int ref_has(const struct kn_tensor *t)
{
    return t->dtype == KN_F32 || t->dtype == KN_F64;
}

#endif
