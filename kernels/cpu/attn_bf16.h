/* What attention's forward and backward share in bf16: the pass of vec_bf16.h includes this after vec_mm.h. Operands of products are pairs of bf16 in
 * 32 bits; "rows of pairs" are rows [n][K2] with their numbers in order, K2 = K / 2 rounded up; "pairs of rows" [n / 2][K] hold rows 2 i and 2 i + 1 in
 * place i. Scores, weights before rounding, and all sums are f32. */

/* x where the row at pos sees key `at`, which is when low <= at <= pos; else never. */
VEC_FN vf seen_bf16(vf x, vf at, vf pos, vf low, vf never)
{
    __mmask16 m = _mm512_cmp_ps_mask(at, pos, _CMP_LE_OQ) & _mm512_cmp_ps_mask(at, low, _CMP_GE_OQ);
    return _mm512_mask_blend_ps(m, never, x);
}

/* The first n keys of a head as rows of pairs [n rounded up to even][K2]. */
__attribute__((unused)) static void rows_of_pairs(float *dst, const float *src, int half, int64_t stride, int64_t n, int64_t K)
{
    int64_t K2 = (K + 1) / 2;
    cpu_gemm_bf16->lay(dst, K2, src, half, stride, n, K);
    if (n % 2) memset(dst + n * K2, 0, (size_t)K2 * sizeof *dst);
}

/* The 64 rows of a block as rows of pairs. */
__attribute__((unused)) static void block_of_pairs(float *dst, const float *const *src, int half, int64_t K)
{
    int64_t K2 = (K + 1) / 2;
    for (int i = 0; i < LANES; i++) cpu_gemm_bf16->lay(dst + i * K2, K2, src[i], half, 0, 1, K);
}

/* Rows of pairs [LANES][K2] turned: [K2][LANES]. */
__attribute__((unused)) static void lanes_of_pairs(float *dst, const float *src, int64_t K)
{
    int64_t K2 = (K + 1) / 2;
    cpu_gemm_bf16->pack_half(dst, LANES, (const uint16_t *)src, 2 * K2, 1, LANES, 2 * K2);
}

/* n keys of a head as pairs of rows. */
__attribute__((unused)) static void pairs_of_rows(float *dst, const float *src, int half, int64_t stride, int64_t n, int64_t K)
{
    if (half) cpu_gemm_bf16->pack_half(dst, K, (const uint16_t *)src, 1, stride, K, n);
    else cpu_gemm_bf16->pack(dst, K, src, 1, stride, K, n);
}

/* dst[lane][k] = src[k][lane] * m[lane] for the first n lanes, rounded to bf16 where half; tmp: [LANES][K]. */
__attribute__((unused)) static void lanes_to_any(float *const *dst, int half, const float *src, int n, int64_t K, const float *m, float *tmp)
{
    float *rows[LANES];
    for (int i = 0; i < n; i++) rows[i] = half ? tmp + i * K : dst[i];
    lanes_to_rows_bf16(rows, src, n, K, m);
    for (int i = 0; half && i < n; i++) cpu_gemm_bf16->narrow((uint16_t *)dst[i], 0, rows[i], 0, 0, 1, K);
}
