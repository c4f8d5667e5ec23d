/* One chunk of the delta rule, in the vectors of vec.h (what it computes: delta.h). Included after chunk.h; no guard. */

/* dst = src m / sqrt(|src|^2 + eps), or src m where eps < 0; returns what src was multiplied by. */
static float VEC_NAME(unit_row)(float *dst, const float *src, int64_t K, int64_t Kp, float eps, float m)
{
    VEC_NAME(pad_row)(dst, src, K, 1);
    if (eps >= 0) m /= sqrtf(VEC_NAME(dot_row)(dst, dst, Kp) + eps);
    VEC_NAME(scale_row)(dst, dst, Kp, m);
    return m;
}

/* Reads the tokens of chunk x->t0, x->n of one head: q, k, decays, beta, and the two triangular matrices (qk only if wanted). */
static void VEC_NAME(delta_begin)(const struct delta *o, struct delta_chunk *x, int64_t b, int64_t h, int want_q)
{
    int64_t n = x->n, Kp = o->Kp, key = h / o->R, C = DELTA_CHUNK;
    const float *q = o->q + b * o->sq.b + x->t0 * o->sq.t + key * o->sq.h;
    const float *k = o->k + b * o->sk.b + x->t0 * o->sk.t + key * o->sk.h;
    const float *g = o->g + b * o->sg.b + x->t0 * o->sg.t + h * o->sg.h;
    const float *beta = o->beta + b * o->sbeta.b + x->t0 * o->sbeta.t + h * o->sbeta.h;
    float along[DELTA_CHUNK] = {0};
    for (int64_t i = 0; i < C; i++) x->a[i] = i < n ? g[i * o->sg.t] : 0;
    for (int64_t i = 0; i < n; i += VL) vf_store(x->a + i, vf_exp(vf_load(x->a + i)));
    for (int64_t i = 0; i < n; i++) {
        x->rk[i] = VEC_NAME(unit_row)(x->k + i * Kp, k + i * o->sk.t, o->K, Kp, o->eps, 1);
        if (want_q) x->rq[i] = VEC_NAME(unit_row)(x->q + i * Kp, q + i * o->sq.t, o->K, Kp, o->eps, o->scale);
        x->beta[i] = beta[i * o->sbeta.t];
        x->e[i] = i ? x->e[i - 1] * x->a[i] : x->a[i];
    }
    x->f[n - 1] = 1;
    for (int64_t i = n - 1; i > 0; i--) x->f[i - 1] = x->f[i] * x->a[i];

    VEC_NAME(flip)(x->kt, C, x->k, Kp, n, o->K);
    VEC_NAME(mm_lower)(n, x->k, Kp, x->kt, C, o->K, x->kk, C);
    if (want_q) VEC_NAME(mm_lower)(n, x->q, Kp, x->kt, C, o->K, x->qk, C);
    for (int64_t i = 0; i < n; i++) {
        float *kk = x->kk + i * C, *qk = x->qk + i * C;
        vf a = vf_set1(x->a[i]), zero = vf_zero();
        int64_t end = VEC_NAME(padded)((i | 3) + 1);
        for (int64_t j = 0; j < end; j += VL) vf_store(along + j, vf_mul(vf_load(along + j), a));
        along[i] = 1;
        for (int64_t j = 0; j < end; j += VL) {
            vf w = vf_load(along + j);
            vf_store(kk + j, vf_sub(zero, vf_mul(vf_load(kk + j), w)));
            if (want_q) vf_store(qk + j, vf_mul(vf_load(qk + j), w));
            if (x->D) vf_store(x->D + i * C + j, w);
        }
        kk[i] = 0;
    }
}

/* x->d (and x->err) from the state S [K][Vp] before the chunk; NULL: a state of zero. */
static void VEC_NAME(delta_solve)(const struct delta *o, struct delta_chunk *x, int64_t b, int64_t h, const float *S)
{
    int64_t n = x->n, Vp = o->Vp, C = DELTA_CHUNK;
    const float *v = o->v + b * o->sv.b + x->t0 * o->sv.t + h * o->sv.h;
    float *d = x->d;
    if (S) VEC_NAME(mm_set)(n, Vp / VL, x->k, o->Kp, 1, S, Vp, o->K, d, Vp);
    for (int64_t i = 0; i < n; i++) {
        float *row = d + i * Vp;
        const float *in = v + i * o->sv.t;
        vf e = vf_set1(x->e[i]);
        for (int64_t j = 0; j < Vp; j += VL) {
            vf y = j + VL <= o->V ? vf_load(in + j) : vf_loadn(in + j, o->V - j);
            vf_store(row + j, S ? vf_fnma(e, vf_load(row + j), y) : y);
        }
    }
    for (int64_t i0 = 0; i0 < n; i0 += 4) {
        int64_t rows = n - i0 < 4 ? n - i0 : 4;
        if (i0) VEC_NAME(mm_add)(rows, Vp / VL, x->kk + i0 * C, C, 1, d, Vp, i0, d + i0 * Vp, Vp);
        for (int64_t i = i0; i < i0 + rows; i++) {
            float *row = d + i * Vp;
            vf beta = vf_set1(x->beta[i]);
            for (int64_t j = 0; j < Vp; j += VL) {
                vf y = vf_load(row + j);
                for (int64_t m = i0; m < i; m++) y = vf_fma(vf_set1(x->kk[i * C + m]), vf_load(d + m * Vp + j), y);
                if (x->err) vf_store(x->err + i * Vp + j, y);
                vf_store(row + j, vf_mul(y, beta));
            }
        }
    }
}

/* S = e_n S + sum f_j k_j (x) d_j; fresh: S was zero. fd [n][Vp] receives f_j d_j (may be x->d). */
static void VEC_NAME(delta_advance)(const struct delta *o, struct delta_chunk *x, float *fd, const float *before, float *S)
{
    int64_t n = x->n, Vp = o->Vp;
    for (int64_t i = 0; i < n; i++) VEC_NAME(scale_row)(fd + i * Vp, x->d + i * Vp, Vp, x->f[i]);
    if (!before) {
        VEC_NAME(mm_set)(o->K, Vp / VL, x->kt, DELTA_CHUNK, 1, fd, Vp, n, S, Vp);
        return;
    }
    VEC_NAME(scale_row)(S, before, o->K * Vp, x->e[n - 1]);
    VEC_NAME(mm_add)(o->K, Vp / VL, x->kt, DELTA_CHUNK, 1, fd, Vp, n, S, Vp);
}
