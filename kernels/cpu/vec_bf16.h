/* Includes VEC_FILE once more, for AVX-512 with bf16 products: VEC_PASS bf16, VEC_ISA 2, VEC_BF16 and the vectors of vec.h are defined. For what a
 * device with dev->info.bf16 does under precision bf16; on x86-64 alone. vdpbf16ps multiplies pairs of neighbours and adds both products to a float, so
 * an operand is a vector of 16 pairs, held as vf. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-512bit"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
#endif
#define VEC_PASS bf16
#define VEC_ISA 2
#define VEC_BF16
#include "kernels/cpu/vec.h"

/* Pairs from two vectors of floats: lo[i] and hi[i], rounded to nearest even. */
VEC_FN vf vf_pairs_bf16(vf lo, vf hi)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vf)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
}

/* 2^x, relative error 3e-6, for what is rounded to bf16 next; x up to 127, however far below. 2^0 is exactly 1. */
VEC_FN vf vf_exp2_bf16(vf x)
{
    vf n = vf_round(x), f = vf_sub(x, n);
    vf p = vf_fma(vf_set1(0x1.3a02ccp-7f), f, vf_set1(0x1.c9fc46p-5f));
    p = vf_fma(p, f, vf_set1(0x1.ec0378p-3f));
    p = vf_fma(p, f, vf_set1(0x1.62e12cp-1f));
    p = vf_fma(p, f, vf_set1(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* 16 numbers that are bf16 in memory, those of the mask; and back, rounded. */
VEC_FN vf vf_widen_bf16(const uint16_t *p, __mmask16 m)
{
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16);
}
VEC_FN void vf_narrow_bf16(uint16_t *p, __mmask16 m, vf x)
{
    _mm256_mask_storeu_epi16(p, m, (__m256i)_mm512_cvtneps_pbh(x));
}

/* 1 / (1 + e^-x), as vf_exp2_bf16. */
VEC_FN vf vf_sigmoid_bf16(vf x)
{
    vf t = vf_min(vf_set1(126.0f), vf_mul(x, vf_set1(-0x1.715476p+0f))); /* 1 / (1 + 2^t) stays a normal number */
    vf e = vf_add(vf_set1(1.0f), vf_exp2_bf16(t)), r = _mm512_rcp14_ps(e);
    return vf_mul(r, vf_fnma(e, r, vf_set1(2.0f)));
}

#include VEC_FILE
#undef VL
#undef VEC_PASS
#undef VEC_ISA
#undef VEC_BF16
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
