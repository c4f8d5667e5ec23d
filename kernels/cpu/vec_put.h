/* A store into rows of floats or of bf16, in the vectors of vec.h. Included by a pass of vec_each.h; like vec.h it has no guard. */

/* n <= VL numbers at place j, rounded to bf16 (nearest, ties to even; a NaN stays one) where half. */
VEC_FN void VEC_NAME(put)(void *p, int half, int64_t j, vf v, long n)
{
    if (!half) {
        if (n == VL) vf_store((float *)p + j, v);
        else vf_storen((float *)p + j, v, n);
        return;
    }
#if VEC_ISA == 2
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
    _mm256_mask_storeu_epi16((uint16_t *)p + j, (__mmask16)(0xffffu >> (16 - n)), _mm512_cvtepi32_epi16(r));
#else
    float t[VL];
    vf_store(t, v);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &t[i], sizeof u);
        ((uint16_t *)p)[j + i] = t[i] != t[i] ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
#endif
}
