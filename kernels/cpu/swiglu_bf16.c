/* SwiGLU of rows that are bf16 in memory: computed in f32, rounded when stored. */
#include "kernels/cpu/swiglu.h"

#ifndef VEC_PASS
#ifdef __x86_64__
#define VEC_FILE "kernels/cpu/swiglu_bf16.c"
#include "kernels/cpu/vec_bf16.h"
#else
/* never: no such device has the precision */
void swiglu_fwd_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, int64_t n)
{
}
void swiglu_bwd_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, int64_t n)
{
}
#endif

#else

void swiglu_fwd_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = (__mmask16)(n - i < VL ? (1u << (n - i)) - 1 : 0xffffu);
        vf x = vf_widen_bf16(g + i, m);
        vf_narrow_bf16(h + i, m, vf_mul(vf_mul(x, vf_sigmoid_bf16(x)), vf_widen_bf16(u + i, m)));
    }
}

void swiglu_bwd_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = (__mmask16)(n - i < VL ? (1u << (n - i)) - 1 : 0xffffu);
        vf x = vf_widen_bf16(g + i, m), y = vf_widen_bf16(u + i, m), d = vf_widen_bf16(dh + i, m), s = vf_sigmoid_bf16(x), xs = vf_mul(x, s);
        vf_narrow_bf16(dg + i, m, vf_mul(vf_mul(d, y), vf_fma(xs, vf_sub(vf_set1(1.0f), s), s)));
        vf_narrow_bf16(du + i, m, vf_mul(d, xs));
        if (h) vf_narrow_bf16(h + i, m, vf_mul(xs, y));
    }
}

#endif
