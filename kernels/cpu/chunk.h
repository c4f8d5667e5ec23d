/* What chunked scans are made of, in the vectors of vec.h: small products with triangular matrices, transposes, rows.
 * Included by a pass of vec_each.h after vec_mm.h; no guard, like those. Rows are padded with zeros to whole vectors. A
 * triangular matrix L is [n][ls], row-major, with zeros above its diagonal up to the end of a block of four rows and columns. */

static inline int64_t VEC_NAME(padded)(int64_t n)
{
    return (n + VL - 1) / VL * VL;
}

/* dst[c][r] = src[r][c], rows x cols */
__attribute__((unused)) static void VEC_NAME(turn)(float *dst, int64_t ds, const float *src, int64_t ss, int64_t rows, int64_t cols)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *s = src + r * ss;
        float *d = dst + r;
        int64_t c = 0;
        for (; c + 4 <= cols; c += 4, d += 4 * ds)
            VEC_NAME(transpose4)
            (d, d + ds, d + 2 * ds, d + 3 * ds, s + c, s + ss + c, s + 2 * ss + c, s + 3 * ss + c, 1, 1, 1, 1);
        for (; c < cols; c++, d += ds)
            for (int i = 0; i < 4; i++) d[i] = s[i * ss + c];
    }
    for (; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) dst[c * ds + r] = src[r * ss + c];
}

/* The same, and the rows of dst are filled with zeros to whole vectors. */
__attribute__((unused)) static void VEC_NAME(flip)(float *dst, int64_t ds, const float *src, int64_t ss, int64_t rows, int64_t cols)
{
    VEC_NAME(turn)(dst, ds, src, ss, rows, cols);
    for (int64_t r = rows; r < VEC_NAME(padded)(rows); r++)
        for (int64_t c = 0; c < cols; c++) dst[c * ds + r] = 0;
}

/* dst[i][Np] = src[i][0..N) * m, zeros after. */
__attribute__((unused)) static void VEC_NAME(pad_row)(float *dst, const float *src, int64_t N, float m)
{
    vf x = vf_set1(m);
    int64_t k = 0;
    for (; k + VL <= N; k += VL) vf_store(dst + k, vf_mul(vf_load(src + k), x));
    if (k < N) vf_store(dst + k, vf_mul(vf_loadn(src + k, N - k), x));
}

__attribute__((unused)) static void VEC_NAME(unpad_row)(float *dst, const float *src, int64_t N)
{
    int64_t k = 0;
    for (; k + VL <= N; k += VL) vf_store(dst + k, vf_load(src + k));
    if (k < N) vf_storen(dst + k, vf_loadn(src + k, N - k), N - k);
}

/* Both of whole vectors. */
VEC_FN float VEC_NAME(dot_row)(const float *a, const float *b, int64_t Np)
{
    vf s = vf_zero();
    for (int64_t k = 0; k < Np; k += VL) s = vf_fma(vf_load(a + k), vf_load(b + k), s);
    return vf_hsum(s);
}

VEC_FN void VEC_NAME(scale_row)(float *dst, const float *src, int64_t Np, float m)
{
    vf x = vf_set1(m);
    for (int64_t k = 0; k < Np; k += VL) vf_store(dst + k, vf_mul(vf_load(src + k), x));
}

/* The lower half of c [n][cs] = a [n][K] b [K][n]: whole vectors up to the diagonal's, what lies above it in them is
 * arbitrary. */
__attribute__((unused)) static void VEC_NAME(mm_lower)(int64_t n, const float *a, int64_t as, const float *b,
                                                       int64_t bs, int64_t K, float *c, int64_t cs)
{
    for (int64_t i = 0; i < n; i += 4) {
        int64_t rows = n - i < 4 ? n - i : 4;
        VEC_NAME(mm_set)(rows, (i + rows + VL - 1) / VL, a + i * as, as, 1, b, bs, K, c + i * cs, cs);
    }
}

/* c [n][nv vectors] += L b. */
__attribute__((unused)) static void VEC_NAME(mm_tri)(int64_t n, int64_t nv, const float *L, int64_t ls, const float *b,
                                                     int64_t bs, float *c, int64_t cs)
{
    for (int64_t i = 0; i < n; i += 4) {
        int64_t rows = n - i < 4 ? n - i : 4;
        VEC_NAME(mm_add)(rows, nv, L + i * ls, ls, 1, b, bs, i + rows, c + i * cs, cs);
    }
}

/* c [n][nv vectors] += L^T b. */
__attribute__((unused)) static void VEC_NAME(mm_trit)(int64_t n, int64_t nv, const float *L, int64_t ls, const float *b,
                                                      int64_t bs, float *c, int64_t cs)
{
    for (int64_t j = 0; j < n; j += 4) {
        int64_t rows = n - j < 4 ? n - j : 4;
        VEC_NAME(mm_add)(rows, nv, L + j * ls + j, 1, ls, b + j * bs, bs, n - j, c + j * cs, cs);
    }
}
