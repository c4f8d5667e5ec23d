/* Rows of experts that are bf16 in memory: computed in f32, rounded when stored. */
#include "kernels/cpu/expert.h"

#ifndef VEC_PASS
#ifdef __x86_64__
#define VEC_FILE "kernels/cpu/expert_bf16.c"
#include "kernels/cpu/vec_bf16.h"
#else
/* never: no such device has the precision */
void expert_add_bf16(float *y, const uint16_t *x, float beta, int64_t n)
{
}
void expert_act_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, float w, int64_t n)
{
}
float expert_back_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, float w, int64_t n)
{
    return 0;
}
#endif

#else

VEC_FN __mmask16 live(int64_t left)
{
    return (__mmask16)(left < VL ? (1u << left) - 1 : 0xffffu);
}

void expert_add_bf16(float *y, const uint16_t *x, float beta, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = live(n - i);
        vf v = vf_widen_bf16(x + i, m);
        if (beta != 0) v = vf_fma(vf_set1(beta), _mm512_maskz_loadu_ps(m, y + i), v);
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

void expert_act_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, float w, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = live(n - i);
        vf x = vf_widen_bf16(g + i, m), relu = vf_max(x, vf_zero());
        vf act = u ? vf_mul(vf_mul(x, vf_sigmoid_bf16(x)), vf_widen_bf16(u + i, m)) : vf_mul(relu, relu);
        vf_narrow_bf16(h + i, m, vf_mul(vf_set1(w), act));
    }
}

/* Beyond the end g = 0, and so act = 0: nothing is added. */
float expert_back_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, float w, int64_t n)
{
    vf sum = vf_zero(), wv = vf_set1(w);
    for (int64_t i = 0; i < n; i += VL) {
        __mmask16 m = live(n - i);
        vf x = vf_widen_bf16(g + i, m), d = vf_widen_bf16(dh + i, m), wd = vf_mul(wv, d), act;
        if (u) {
            vf y = vf_widen_bf16(u + i, m), s = vf_sigmoid_bf16(x), xs = vf_mul(x, s);
            act = vf_mul(xs, y);
            vf_narrow_bf16(du + i, m, vf_mul(wd, xs));
            vf_narrow_bf16(dg + i, m, vf_mul(vf_mul(wd, y), vf_fma(xs, vf_sub(vf_set1(1.0f), s), s)));
        } else {
            vf relu = vf_max(x, vf_zero());
            act = vf_mul(relu, relu);
            vf_narrow_bf16(dg + i, m, vf_mul(wd, vf_add(relu, relu)));
        }
        sum = vf_fma(act, d, sum);
        if (h) vf_narrow_bf16(h + i, m, vf_mul(wv, act));
    }
    return vf_hsum(sum);
}

#endif
