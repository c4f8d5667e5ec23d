/* One chunk of the delta rule, in the vectors of vec.h (what it computes: delta.h). Included after chunk.h and vec_scan.h; no guard. */

/* dst_i [Kp] = src_i m / sqrt(|src_i|^2 + eps), or src_i m where eps < 0; r_i is what src_i was multiplied by; r has whole vectors. */
static void VEC_NAME(unit_rows)(float *dst, const float *src, int64_t stride, int64_t n, int64_t K, int64_t Kp, float eps, float m, float *r)
{
    for (int64_t i = 0; i < n; i++, src += stride) {
        float *to = dst + i * Kp;
        vf sum = vf_zero();
        int64_t k = 0;
        for (; k + VL <= K; k += VL) {
            vf x = vf_load(src + k);
            sum = vf_fma(x, x, sum);
            vf_store(to + k, x);
        }
        if (k < K) {
            vf x = vf_loadn(src + k, K - k);
            sum = vf_fma(x, x, sum);
            vf_store(to + k, x);
        }
        r[i] = vf_hsum(sum);
    }
    for (int64_t i = n; i < VEC_NAME(padded)(n); i++) r[i] = 1;
    vf e = vf_set1(eps), by = vf_set1(m);
    for (int64_t i = 0; i < n; i += VL) vf_store(r + i, eps >= 0 ? vf_div(by, vf_sqrt(vf_add(vf_load(r + i), e))) : by);
    for (int64_t i = 0; i < n; i++) VEC_NAME(scale_row)(dst + i * Kp, dst + i * Kp, Kp, r[i]);
}

/* A row of zeros but for a one at place i < VL. */
VEC_FN vf VEC_NAME(one_at)(int64_t i)
{
    static const float one[2 * VL] = {[VL] = 1};
    return vf_load(one + VL - i);
}

/* The products of chunk x with its decays: kk becomes -D kk below the diagonal, qk D qk up to it (if wanted); zeros above, to the end of the vectors that
 * hold the diagonals of four rows. D goes to x->D if it is kept. */
static void VEC_NAME(delta_decay)(struct delta_chunk *x, int want_q)
{
    int64_t n = x->n, C = DELTA_CHUNK;
    vf zero = vf_zero();
    for (int64_t j = 0; j < n; j += VL) {
        vf w = zero; /* D_ij of these columns, row by row */
        for (int64_t i = j; i < n; i++) {
            float *kk = x->kk + i * C + j, *qk = x->qk + i * C + j;
            w = vf_mul(w, vf_set1(x->a[i]));
            vf_store(kk, vf_sub(zero, vf_mul(vf_load(kk), w)));
            if (i < j + VL) w = vf_add(w, VEC_NAME(one_at)(i - j));
            if (want_q) vf_store(qk, vf_mul(vf_load(qk), w));
            if (x->D) vf_store(x->D + i * C + j, w);
        }
    }
}

/* Reads the tokens of chunk x->t0, x->n of one head: q, k, decays, beta, and the two triangular matrices (qk only if wanted). */
static void VEC_NAME(delta_begin)(const struct delta *o, struct delta_chunk *x, int64_t b, int64_t h, int want_q)
{
    int64_t n = x->n, Kp = o->Kp, key = h / o->R, C = DELTA_CHUNK;
    const float *q = o->q + b * o->sq.b + x->t0 * o->sq.t + key * o->sq.h;
    const float *k = o->k + b * o->sk.b + x->t0 * o->sk.t + key * o->sk.h;
    const float *g = o->g + b * o->sg.b + x->t0 * o->sg.t + h * o->sg.h;
    const float *beta = o->beta + b * o->sbeta.b + x->t0 * o->sbeta.t + h * o->sbeta.h;
    VEC_NAME(unit_rows)(x->k, k, o->sk.t, n, o->K, Kp, o->eps, 1, x->rk);
    if (want_q) VEC_NAME(unit_rows)(x->q, q, o->sq.t, n, o->K, Kp, o->eps, o->scale, x->rq);
    for (int64_t i = 0; i < C; i++) x->a[i] = i < n ? g[i * o->sg.t] : 0;
    for (int64_t i = 0; i < n; i += VL) vf_store(x->a + i, vf_exp(vf_load(x->a + i)));
    for (int64_t i = 0; i < n; i++) {
        x->beta[i] = beta[i * o->sbeta.t];
        x->e[i] = i ? x->e[i - 1] * x->a[i] : x->a[i];
    }
    x->f[n - 1] = 1;
    for (int64_t i = n - 1; i > 0; i--) x->f[i - 1] = x->f[i] * x->a[i];

    VEC_NAME(flip)(x->kt, C, x->k, Kp, n, o->K);
    VEC_NAME(mm_lower)(n, x->k, Kp, x->kt, C, o->K, x->kk, C);
    if (want_q) VEC_NAME(mm_lower)(n, x->q, Kp, x->kt, C, o->K, x->qk, C);
    VEC_NAME(delta_decay)(x, want_q);
}

/* Rows r0 .. r0 + mr - 1 of d (and err) in nv vectors from v0 on, those before are known: err = v - e S^T k - D (k.k) d, d = beta err. */
VEC_FN void VEC_NAME(solve_block)(int mr, int nv, const struct delta *o, const struct delta_chunk *x, const float *v, const float *S, int64_t r0, int64_t v0)
{
    int64_t Vp = o->Vp, C = DELTA_CHUNK;
    vf acc[4][MM_VECTORS];
    float *d = x->d + r0 * Vp + v0;
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) acc[r][i] = vf_zero();
    if (S) VEC_NAME(scan_run)(mr, nv, acc, x->k + r0 * o->Kp, o->Kp, 1, S + v0, Vp, o->K);
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++) {
        const float *row = v + (r0 + r) * o->sv.t + v0;
        vf e = vf_set1(x->e[r0 + r]);
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            int64_t left = o->V - v0 - i * VL;
            acc[r][i] = vf_fnma(e, acc[r][i], left >= VL ? vf_load(row + i * VL) : vf_loadn(row + i * VL, left));
        }
    }
    VEC_NAME(scan_run)(mr, nv, acc, x->kk + r0 * C, C, 1, x->d + v0, Vp, r0);
#pragma GCC unroll 4
    for (int r = 0; r < mr; r++) {
        const float *kk = x->kk + (r0 + r) * C + r0;
        vf beta = vf_set1(x->beta[r0 + r]);
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            vf y = acc[r][i];
#pragma GCC unroll 4
            for (int m = 0; m < r; m++) y = vf_fma(vf_set1(kk[m]), acc[m][i], y);
            if (x->err) vf_store(x->err + (r0 + r) * Vp + v0 + i * VL, y);
            acc[r][i] = vf_mul(y, beta);
            vf_store(d + r * Vp + i * VL, acc[r][i]);
        }
    }
}

VEC_FN void VEC_NAME(solve_panel)(int nv, const struct delta *o, const struct delta_chunk *x, const float *v, const float *S, int64_t v0)
{
    int64_t r = 0;
    for (; r + 4 <= x->n; r += 4) VEC_NAME(solve_block)(4, nv, o, x, v, S, r, v0);
    for (; r < x->n; r++) VEC_NAME(solve_block)(1, nv, o, x, v, S, r, v0);
}

/* x->d (and x->err) from the state S [K][Vp] before the chunk; NULL: a state of zero. */
static void VEC_NAME(delta_solve)(const struct delta *o, struct delta_chunk *x, int64_t b, int64_t h, const float *S)
{
    const float *v = o->v + b * o->sv.b + x->t0 * o->sv.t + h * o->sv.h;
    int64_t j = 0;
    for (; j + 2 * VL <= o->Vp; j += 2 * VL) VEC_NAME(solve_panel)(2, o, x, v, S, j);
    if (j < o->Vp) VEC_NAME(solve_panel)(1, o, x, v, S, j);
}

/* S = e_n before + sum f_j k_j (x) d_j; before NULL: it was zero. fd [n][Vp] receives f_j d_j (may be x->d). */
static void VEC_NAME(delta_advance)(const struct delta *o, struct delta_chunk *x, float *fd, const float *before, float *S)
{
    int64_t n = x->n, Vp = o->Vp;
    for (int64_t i = 0; i < n; i++) VEC_NAME(scale_row)(fd + i * Vp, x->d + i * Vp, Vp, x->f[i]);
    struct scan_sum next = {.keep = before ? x->e[n - 1] : 0, .was = before, .a2 = x->kt, .ar2 = DELTA_CHUNK, .ac2 = 1, .b2 = fd, .bs2 = Vp,
                            .n2 = n, .c = S, .cs = Vp};
    VEC_NAME(scan_sum)(&next, o->K, Vp);
}
