/* What Mamba-2's scan in bf16 shares forward and backward: operands rounded to pairs. The pass of vec_bf16.h includes this after vec_mm.h. "Rows of
 * pairs" are rows [rows][K / 2] with their numbers in order; "pairs of rows" [rows / 2][K] hold rows 2 i and 2 i + 1 in place i. K is whole vectors,
 * rows is even; those from n on are zeros. */

/* A vector of floats as 16 numbers in order. */
VEC_FN void half_bf16(float *dst, vf x)
{
    _mm256_storeu_si256((void *)dst, (__m256i)_mm512_cvtneps_pbh(x));
}

/* Rows times scale (NULL: 1). */
__attribute__((unused)) static void rows_of_pairs(float *dst, int64_t rows, const float *src, int64_t stride, int64_t n, int64_t K, const float *scale)
{
    for (int64_t l = 0; l < n; l++, src += stride, dst += K / 2) {
        vf s = vf_set1(scale ? scale[l] : 1.0f);
        for (int64_t k = 0; k < K; k += VL) half_bf16(dst + k / 2, vf_mul(s, vf_load(src + k)));
    }
    if (n < rows) memset(dst, 0, (size_t)((rows - n) * K / 2) * sizeof *dst);
}

__attribute__((unused)) static void pairs_of_rows(float *dst, int64_t rows, const float *src, int64_t stride, int64_t n, int64_t K, const float *scale)
{
    for (int64_t l = 0; l < n; l += 2, src += 2 * stride, dst += K) {
        vf s = vf_set1(scale ? scale[l] : 1.0f), t = vf_set1(scale ? scale[l + 1] : 1.0f);
        int two = l + 1 < n;
        for (int64_t k = 0; k < K; k += VL)
            vf_store(dst + k, vf_pairs_bf16(vf_mul(s, vf_load(src + k)), two ? vf_mul(t, vf_load(src + stride + k)) : vf_zero()));
    }
    int64_t left = rows / 2 - (n + 1) / 2;
    if (left > 0) memset(dst, 0, (size_t)(left * K) * sizeof *dst);
}

/* Rows of pairs [SSD_CHUNK][K / 2] turned: [K / 2][SSD_CHUNK]. */
__attribute__((unused)) static void lanes_of_pairs(float *dst, const float *src, int64_t K)
{
    cpu_gemm_bf16->pack_half(dst, SSD_CHUNK, (const uint16_t *)src, K, 1, SSD_CHUNK, K);
}
