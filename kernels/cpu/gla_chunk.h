/* One chunk of gated linear attention, in the vectors of vec.h (what it computes: gla.h). Included after chunk.h and vec_scan.h; no guard. */

VEC_FN void VEC_NAME(mul_row)(float *dst, const float *a, const float *b, int64_t Np)
{
    for (int64_t k = 0; k < Np; k += VL) vf_store(dst + k, vf_mul(vf_load(a + k), vf_load(b + k)));
}

/* Reads the tokens of chunk x->t0, x->n of one head, and what carries them to and from the state. */
static void VEC_NAME(gla_begin)(const struct gla *o, struct gla_chunk *x, int64_t b, int64_t h)
{
    int64_t n = x->n, Kp = o->Kp;
    const float *q = o->q + b * o->sq.b + x->t0 * o->sq.t + h * o->sq.h, *k = o->k + b * o->sk.b + x->t0 * o->sk.t + h * o->sk.h;
    const float *v = o->v + b * o->sv.b + x->t0 * o->sv.t + h * o->sv.h, *g = o->g + b * o->sg.b + x->t0 * o->sg.t + h * o->sg.h;
    for (int64_t j = 0; j < Kp; j += VL) {
        vf e = vf_set1(1.0f), f = e, scale = vf_set1(o->scale);
        int64_t left = o->K - j;
        for (int64_t i = 0; i < n; i++) {
            const float *qi = q + i * o->sq.t + j, *ki = k + i * o->sk.t + j, *gi = g + i * o->sg.t + j;
            int64_t at = i * Kp + j;
            vf a = vf_exp(left >= VL ? vf_load(gi) : vf_loadn(gi, left)), query = vf_mul(left >= VL ? vf_load(qi) : vf_loadn(qi, left), scale);
            e = vf_mul(e, a);
            vf_store(x->a + at, a);
            vf_store(x->q + at, query);
            vf_store(x->eq + at, vf_mul(e, query));
            vf_store(x->k + at, left >= VL ? vf_load(ki) : vf_loadn(ki, left));
        }
        vf_store(x->last + j, e);
        for (int64_t i = n - 1; i >= 0; i--) {
            vf_store(x->fk + i * Kp + j, vf_mul(f, vf_load(x->k + i * Kp + j)));
            f = vf_mul(f, vf_load(x->a + i * Kp + j));
        }
    }
    for (int64_t i = 0; i < n; i++) VEC_NAME(pad_row)(x->v + i * o->Vp, v + i * o->sv.t, o->V, 1);
}

/* dst_i = src_i a_from .. a_i for i in [from, end); B [Kp], if wanted, is all of them. */
static void VEC_NAME(forth)(float *dst, const float *src, const float *a, int64_t Kp, int64_t from, int64_t end, float *B)
{
    for (int64_t j = 0; j < Kp; j += VL) {
        vf e = vf_set1(1.0f);
        for (int64_t i = from; i < end; i++) {
            e = vf_mul(e, vf_load(a + i * Kp + j));
            vf_store(dst + i * Kp + j, vf_mul(e, vf_load(src + i * Kp + j)));
        }
        if (B) vf_store(B + j, e);
    }
}

/* dst_i = src_i a_(i+1) .. a_(end-1) */
static void VEC_NAME(to_end)(float *dst, const float *src, const float *a, int64_t Kp, int64_t from, int64_t end)
{
    for (int64_t j = 0; j < Kp; j += VL) {
        vf f = vf_set1(1.0f);
        for (int64_t i = end - 1; i >= from; i--) {
            vf_store(dst + i * Kp + j, vf_mul(f, vf_load(src + i * Kp + j)));
            f = vf_mul(f, vf_load(a + i * Kp + j));
        }
    }
}

/* x->P; x->tile, near and B [n][Kp], [Kp] are overwritten. */
static void VEC_NAME(gla_pairs)(const struct gla *o, struct gla_chunk *x, float *near, float *B)
{
    int64_t n = x->n, Kp = o->Kp, C = GLA_CHUNK, K = o->K;
    for (int64_t from = 0; from < n; from += GLA_PIECE) {
        int64_t end = from + GLA_PIECE < n ? from + GLA_PIECE : n;
        VEC_NAME(forth)(near, x->q, x->a, Kp, from, end, B);
        if (from)
            VEC_NAME(mm_set)(end - from, (from + VL - 1) / VL, near + from * Kp, Kp, 1, x->kt, C, K, x->P + from * C, C);
        for (int64_t i = from; i < end; i++) {
            float *row = x->P + i * C;
            for (int64_t j = from; j < i; j++) {
                float *k = x->tile + (j - from) * Kp;
                VEC_NAME(mul_row)(k, k, x->a + i * Kp, Kp);
                row[j] = VEC_NAME(dot_row)(x->q + i * Kp, k, Kp);
            }
            memcpy(x->tile + (i - from) * Kp, x->k + i * Kp, (size_t)Kp * sizeof(float));
            row[i] = VEC_NAME(dot_row)(x->q + i * Kp, x->k + i * Kp, Kp);
            for (int64_t j = i + 1; j < from + GLA_PIECE; j++) row[j] = 0;
        }
        if (end == n) break;
        for (int64_t k = 0; k < K && from; k++) VEC_NAME(scale_row)(x->kt + k * C, x->kt + k * C, VEC_NAME(padded)(from), B[k]);
        VEC_NAME(to_end)(near, x->k, x->a, Kp, from, end);
        /* what is beyond in its vector is overwritten where the product puts it */
        VEC_NAME(turn)(x->kt + from, C, near + from * Kp, Kp, end - from, K);
    }
}

/* S = diag(e_n) S + (f k)^T v; before NULL: zero. */
static void VEC_NAME(gla_advance)(const struct gla *o, const struct gla_chunk *x, const float *before, float *S)
{
    int64_t Vp = o->Vp;
    struct scan_sum next = {.keep = before ? 1 : 0, .was = before, .scale = before ? x->last : NULL, .a2 = x->fk, .ar2 = 1, .ac2 = o->Kp, .b2 = x->v, .bs2 = Vp,
                            .n2 = x->n, .c = S, .cs = Vp};
    VEC_NAME(scan_sum)(&next, o->K, Vp);
}
