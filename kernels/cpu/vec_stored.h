/* Weights at rest as vectors of floats: VL numbers of a row (get), the first n of them (some), and the row's factor (scale). Included by a pass of
 * vec_each.h; like vec.h it has no guard. */
#if VEC_ISA == 2
VEC_FN vf VEC_NAME(get_bf16)(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
VEC_FN vf VEC_NAME(get_i8)(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
#elif VEC_ISA == 1
VEC_FN vf VEC_NAME(get_bf16)(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
VEC_FN vf VEC_NAME(get_i8)(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#else
VEC_FN vf VEC_NAME(get_bf16)(const uint16_t *p)
{
    uint32_t u[VL];
    for (int i = 0; i < VL; i++) u[i] = (uint32_t)p[i] << 16;
    vf v;
    memcpy(&v, u, sizeof v);
    return v;
}
VEC_FN vf VEC_NAME(get_i8)(const int8_t *p)
{
    return (vf){p[0], p[1], p[2], p[3]};
}
#endif

/* The first n < VL of them, the rest 0; nothing beyond is read. */
VEC_FN vf VEC_NAME(some_bf16)(const uint16_t *p, long n)
{
    uint16_t t[VL] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return VEC_NAME(get_bf16)(t);
}
VEC_FN vf VEC_NAME(some_i8)(const int8_t *p, long n)
{
    int8_t t[VL] = {0};
    memcpy(t, p, (size_t)n);
    return VEC_NAME(get_i8)(t);
}

VEC_FN float VEC_NAME(scale_bf16)(const uint16_t *p, long k)
{
    (void)p, (void)k;
    return 1;
}
VEC_FN float VEC_NAME(scale_i8)(const int8_t *p, long k)
{
    float s;
    memcpy(&s, p + k, sizeof s);
    return s;
}
