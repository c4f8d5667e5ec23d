/* SwiGLU of rows that are bf16 in memory: computed in f32, rounded when stored. */
#include "kernels/cpu/swiglu.h"

#ifndef VEC_PASS
#ifdef __x86_64__
#define VEC_FILE "kernels/cpu/swiglu_bf16.c"
#include "kernels/cpu/vec_bf16.h"
#else
/* never: no such device has the precision */
void swiglu_fwd_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, int64_t n, const int64_t *row)
{
}
void swiglu_bwd_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, int64_t n, const int64_t *row)
{
}
#endif

#else

/* What lies two rows on is asked for line by line: where rows begin and end the machine loses track of them, and one row is soon through. */
VEC_FN void ask(const uint16_t *p, int64_t i, int64_t row)
{
    if (i % 32 == 0) __builtin_prefetch(p + i + 2 * row);
}

VEC_FN __mmask16 live(int64_t left)
{
    return (__mmask16)((1u << left) - 1);
}

/* The numbers of the mask. */
VEC_FN void fwd(uint16_t *h, const uint16_t *g, const uint16_t *u, __mmask16 m)
{
    vf x = vf_widen_bf16(g, m);
    vf_narrow_bf16(h, m, vf_mul(vf_mul(x, vf_sigmoid_bf16(x)), vf_widen_bf16(u, m)));
}

void swiglu_fwd_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, int64_t n, const int64_t *row)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        ask(g, i, row[0]), ask(u, i, row[1]);
        fwd(h + i, g + i, u + i, 0xffff);
    }
    if (i < n) fwd(h + i, g + i, u + i, live(n - i));
}

VEC_FN void bwd(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, __mmask16 m)
{
    vf x = vf_widen_bf16(g, m), y = vf_widen_bf16(u, m), d = vf_widen_bf16(dh, m), s = vf_sigmoid_bf16(x), xs = vf_mul(x, s);
    vf_narrow_bf16(dg, m, vf_mul(vf_mul(d, y), vf_fma(xs, vf_sub(vf_set1(1.0f), s), s)));
    vf_narrow_bf16(du, m, vf_mul(d, xs));
    if (h) vf_narrow_bf16(h, m, vf_mul(xs, y));
}

void swiglu_bwd_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, int64_t n, const int64_t *row)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        ask(g, i, row[0]), ask(u, i, row[1]), ask(dh, i, row[2]);
        bwd(dg + i, du + i, h ? h + i : NULL, g + i, u + i, dh + i, 0xffff);
    }
    if (i < n) bwd(dg + i, du + i, h ? h + i : NULL, g + i, u + i, dh + i, live(n - i));
}

#endif
