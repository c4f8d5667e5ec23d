/* scan_sum.h's products, in the vectors of vec.h. Included by a pass of vec_each.h or vec_bf16.h after vec_mm.h; like that it has no guard. With bf16 the
 * factors are pairs along the sum. */

/* acc[r][v] += sum over i < n of a[r ar + i ac] b[i bs + v] */
VEC_FN void VEC_NAME(scan_run)(int mr, int nv, vf acc[4][MM_VECTORS], const float *a, int64_t ar, int64_t ac, const float *b, int64_t bs,
                              int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        vf x[MM_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) x[v] = vf_load(b + v * VL);
#pragma GCC unroll 4
        for (int r = 0; r < mr; r++) {
            vf y = vf_set1(a[r * ar]);
#pragma GCC unroll 4
#ifdef VEC_BF16
            for (int v = 0; v < nv; v++) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], (__m512bh)y, (__m512bh)x[v]);
#else
            for (int v = 0; v < nv; v++) acc[r][v] = vf_fma(y, x[v], acc[r][v]);
#endif
        }
        a += ac;
        b += bs;
    }
}

VEC_FN void VEC_NAME(scan_block)(int mr, int nv, const struct scan_sum *t, int64_t r0, int64_t v0)
{
    vf acc[4][MM_VECTORS];
    float *c = t->c + r0 * t->cs + v0;
    const float *was = (t->was ? t->was : t->c) + r0 * t->cs + v0;
    vf keep = vf_set1(t->keep);
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[r][v] = t->keep != 0 ? vf_mul(keep, vf_load(was + r * t->cs + v * VL)) : vf_zero();
    if (t->n1) VEC_NAME(scan_run)(mr, nv, acc, t->a1 + r0 * t->ar1, t->ar1, t->ac1, t->b1 + v0, t->bs1, t->n1);
    if (t->scale) {
#pragma GCC unroll 4
        for (int r = 0; r < mr; r++) {
            vf s = vf_set1(t->scale[r0 + r]);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[r][v] = vf_mul(acc[r][v], s);
        }
    }
#ifdef VEC_BF16
    int64_t first = r0 / 2, end = (r0 + mr + 1) / 2;
#else
    int64_t first = r0, end = r0 + mr;
#endif
    int64_t lo = t->shape == SCAN_UPPER ? first : 0, hi = t->shape == SCAN_LOWER && end < t->n2 ? end : t->n2;
    VEC_NAME(scan_run)(mr, nv, acc, t->a2 + r0 * t->ar2 + lo * t->ac2, t->ar2, t->ac2, t->b2 + lo * t->bs2 + v0, t->bs2, hi - lo);
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) vf_store(c + r * t->cs + v * VL, acc[r][v]);
}

VEC_FN void VEC_NAME(scan_panel)(int nv, const struct scan_sum *t, int64_t rows, int64_t v0)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) VEC_NAME(scan_block)(4, nv, t, r, v0);
    for (; r < rows; r++) VEC_NAME(scan_block)(1, nv, t, r, v0);
}

/* rows of columns that are whole vectors */
__attribute__((unused)) static void VEC_NAME(scan_sum)(const struct scan_sum *t, int64_t rows, int64_t columns)
{
    int64_t v = 0;
    for (; v + MM_VECTORS * VL <= columns; v += MM_VECTORS * VL) VEC_NAME(scan_panel)(MM_VECTORS, t, rows, v);
    switch ((columns - v) / VL) {
#if MM_VECTORS > 3
    case 3: VEC_NAME(scan_panel)(3, t, rows, v); break;
#endif
#if MM_VECTORS > 2
    case 2: VEC_NAME(scan_panel)(2, t, rows, v); break;
#endif
    case 1: VEC_NAME(scan_panel)(1, t, rows, v); break;
    default: break;
    }
}
