#include "kernels/cuda/attn.h"

/* ---- row sums ---- */

constexpr int THREADS = 256;

/* For each query, rows padded to Tp a head: delta = dout . out and the base-2 logarithm of its softmax's denominator. Rows beyond T: 0 and infinity, so that
 * their weights 2^(s - l) are 0. Eight lanes a row. */
template <class T>
KN_KERNEL(THREADS) row_sums(cu_view<const T, 4> out, cu_view<const T, 4> dout, cu_view<const float, 3> lse, int B, int H, int rows, int Tp, int E, bool by4, float *delta, float *l2)
{
    int lane = threadIdx.x % 8;
    int64_t at = (int64_t)blockIdx.x * (THREADS / 8) + threadIdx.x / 8, n = (int64_t)B * H * Tp;
    int64_t bh = at / Tp, b = bh / H, h = bh % H, t = at % Tp;
    float sum = 0;
    bool there = at < n && t < rows;
    if (there) {
        const T *x = cu_at(out, b, t, h, 0), *y = cu_at(dout, b, t, h, 0);
        for (int e = 4 * lane; e < E; e += 32) {
            float4 u, w;
            if (by4) {
                u = cu_get4(x + e), w = cu_get4(y + e);
            } else {
                u.x = cu_get(x + e), w.x = cu_get(y + e);
                u.y = e + 1 < E ? cu_get(x + e + 1) : 0, w.y = e + 1 < E ? cu_get(y + e + 1) : 0;
                u.z = e + 2 < E ? cu_get(x + e + 2) : 0, w.z = e + 2 < E ? cu_get(y + e + 2) : 0;
                u.w = e + 3 < E ? cu_get(x + e + 3) : 0, w.w = e + 3 < E ? cu_get(y + e + 3) : 0;
            }
            sum = fmaf(u.w, w.w, fmaf(u.z, w.z, fmaf(u.y, w.y, fmaf(u.x, w.x, sum))));
        }
    }
    KN_UNROLL for (int o = 4; o; o >>= 1) sum += __shfl_xor_sync(KN_FULL, sum, o);
    if (lane || at >= n) return;
    delta[at] = sum;
    l2[at] = there ? *cu_at(lse, b, h, t) * LOG2E : INFINITY;
}

template <class T>
static st_t run_row_sums(struct kn_dev *dev, const struct kn_tensor *out, const struct kn_tensor *dout, const struct kn_tensor *lse, const struct attn &a, int Tp, float *delta, float *l2)
{
    CUDA_RUN(dev, row_sums<T>, cuda_blocks((int64_t)a.B * a.H * Tp, THREADS / 8), THREADS, 0, out, dout, lse, a.B, a.H, a.T, Tp, a.E, cuda_by4(out) && cuda_by4(dout), delta, l2);
    return ST_OK;
}

/* ---- by FMA ---- */

struct sums {
    const float *delta, *l2; /* [B, H, T] */
};
struct by4 {
    bool qk, vo, q, k, o; /* q and k; v and dout; each alone (o: dout) */
};

/* A block: 64 keys of a key head, 16 EV columns of dk and dv; tiles of queries of all its query heads, one after the other. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) keys_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<const T, 4> dout, struct sums w, cu_view<T, 4> dk, cu_view<T, 4> dv, struct attn a,
                                    struct by4 f)
{
    KN_SHARED(float, mem);
    float *plane = mem + STAGE;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (a.S + TILE - 1) / TILE, R = a.H / a.G;
    int bg = blockIdx.x / blocks, b = bg / a.G, g = bg % a.G, j0 = (int)blockIdx.x % blocks * TILE; /* the longest first */
    int c0 = blockIdx.y * 16 * EV, nk = attn_min(TILE, a.S - j0), cols_k = attn_min(16 * EV, a.K - c0), cols_v = attn_min(16 * EV, a.E - c0);
    int last = a.W ? attn_min(a.T - 1, j0 + nk - 1 + a.W - 1) : a.T - 1;
    const T *key = cu_at(k, b, j0, g, 0), *value = cu_at(v, b, j0, g, 0);
    float sk[4][EV] = {}, sv[4][EV] = {};
    for (int h = g * R; h < (g + 1) * R; h++)
        for (int t0 = j0; t0 <= last; t0 += TILE) {
            int nq = attn_min(TILE, a.T - t0);
            const T *query = cu_at(q, b, t0, h, 0), *grad = cu_at(dout, b, t0, h, 0);
            const float *delta = w.delta + ((int64_t)b * a.H + h) * a.T + t0, *l2 = w.l2 + ((int64_t)b * a.H + h) * a.T + t0;
            float p[4][4] = {}, dp[4][4] = {};
            attn_dots(p, mem, key, k.s[1], nk, query, q.s[1], nq, a.K, f.qk);
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int t = tx + 16 * j;
                float l = t < nq ? l2[t] : INFINITY;
                KN_UNROLL for (int i = 0; i < 4; i++) {
                    p[i][j] = attn_sees(a, t0 + t, j0 + ty + 16 * i) ? kn_exp2(fmaf(p[i][j], a.c, -l)) : 0.0f;
                    plane[(ty + 16 * i) * PLANE_ROW + t] = p[i][j];
                }
            }
            if (cols_v > 0) attn_gather<EV>(sv, plane, mem, grad + c0, dout.s[1], nq, cols_v, f.o);
            if (cols_k <= 0) continue;
            attn_dots(dp, mem, value, v.s[1], nk, grad, dout.s[1], nq, a.E, f.vo);
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int t = tx + 16 * j;
                float d = t < nq ? delta[t] : 0.0f;
                KN_UNROLL for (int i = 0; i < 4; i++) plane[(ty + 16 * i) * PLANE_ROW + t] = p[i][j] * (dp[i][j] - d);
            }
            attn_gather<EV>(sk, plane, mem, query + c0, q.s[1], nq, cols_k, f.q);
        }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        if (r >= nk) continue;
        KN_UNROLL for (int e = 0; e < EV; e++) {
            int c = attn_column<EV>(e);
            if (c < cols_k) cu_put(cu_at(dk, b, j0 + r, g, c0 + c), sk[i][e] * a.scale);
            if (c < cols_v) cu_put(cu_at(dv, b, j0 + r, g, c0 + c), sv[i][e]);
        }
    }
}

/* A block: 64 queries of a head, 16 EV columns of dq. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) queries_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<const T, 4> dout, struct sums w, cu_view<T, 4> dq, struct attn a, struct by4 f)
{
    KN_SHARED(float, mem);
    float *plane = mem + STAGE;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (a.T + TILE - 1) / TILE;
    int bh = blockIdx.x / blocks, b = bh / a.H, h = bh % a.H, g = h / (a.H / a.G), t0 = (blocks - 1 - (int)blockIdx.x % blocks) * TILE;
    int c0 = blockIdx.y * 16 * EV, nq = attn_min(TILE, a.T - t0), cols = attn_min(16 * EV, a.K - c0);
    const T *query = cu_at(q, b, t0, h, 0), *grad = cu_at(dout, b, t0, h, 0);
    float l[4], d[4], sum[4][EV] = {};
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        int64_t at = (int64_t)bh * a.T + t0 + r;
        l[i] = r < nq ? w.l2[at] : INFINITY, d[i] = r < nq ? w.delta[at] : 0.0f;
    }
    for (int j0 = attn_first(a, t0) / TILE * TILE; j0 < t0 + nq; j0 += TILE) {
        int nk = attn_min(TILE, a.S - j0);
        const T *key = cu_at(k, b, j0, g, 0), *value = cu_at(v, b, j0, g, 0);
        float s[4][4] = {}, dp[4][4] = {};
        attn_dots(s, mem, query, q.s[1], nq, key, k.s[1], nk, a.K, f.qk);
        attn_dots(dp, mem, grad, dout.s[1], nq, value, v.s[1], nk, a.E, f.vo);
        KN_UNROLL for (int i = 0; i < 4; i++)
            KN_UNROLL for (int j = 0; j < 4; j++) {
                int r = ty + 16 * i, c = tx + 16 * j;
                float p = attn_sees(a, t0 + r, j0 + c) ? kn_exp2(fmaf(s[i][j], a.c, -l[i])) : 0.0f;
                plane[r * PLANE_ROW + c] = p * (dp[i][j] - d[i]);
            }
        attn_gather<EV>(sum, plane, mem, key + c0, k.s[1], nk, cols, f.k);
    }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        if (r >= nq) continue;
        KN_UNROLL for (int e = 0; e < EV; e++) {
            int c = attn_column<EV>(e);
            if (c < cols) cu_put(cu_at(dq, b, t0 + r, h, c0 + c), sum[i][e] * a.scale);
        }
    }
}

struct grads {
    const struct kn_tensor *q, *k, *v, *out, *lse, *dout, *dq, *dk, *dv;
};

template <class T, int EV> static st_t run_plain_ev(struct kn_dev *dev, const struct grads *t, struct attn a, struct sums w)
{
    struct by4 f = {cuda_by4(t->q) && cuda_by4(t->k), cuda_by4(t->v) && cuda_by4(t->dout), cuda_by4(t->q), cuda_by4(t->k), cuda_by4(t->dout)};
    dim3 keys((unsigned)(cuda_blocks(a.S, TILE) * a.B * a.G), (unsigned)cuda_blocks(a.K > a.E ? a.K : a.E, 16 * EV));
    dim3 queries((unsigned)(cuda_blocks(a.T, TILE) * a.B * a.H), (unsigned)cuda_blocks(a.K, 16 * EV));
    CUDA_RUN(dev, (keys_plain<T, EV>), keys, PLAIN_THREADS, PLAIN_SHARED, t->q, t->k, t->v, t->dout, w, t->dk, t->dv, a, f);
    CUDA_RUN(dev, (queries_plain<T, EV>), queries, PLAIN_THREADS, PLAIN_SHARED, t->q, t->k, t->v, t->dout, w, t->dq, a, f);
    return ST_OK;
}

template <class T> static st_t run_plain(struct kn_dev *dev, const struct grads *t, struct attn a)
{
    int64_t rows = (int64_t)a.B * a.H * a.T;
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, 2 * (size_t)rows * sizeof(float), &p));
    float *delta = (float *)p, *l2 = delta + rows;
    CUDA_TRY(run_row_sums<T>(dev, t->out, t->dout, t->lse, a, a.T, delta, l2));
    struct sums w = {delta, l2};
    int ev = attn_ev(a.K > a.E ? a.K : a.E);
    if constexpr (sizeof(T) == 4) {
        if (ev == 2) return run_plain_ev<T, 2>(dev, t, a, w);
        if (ev == 4) return run_plain_ev<T, 4>(dev, t, a, w);
        if (ev == 8) return run_plain_ev<T, 8>(dev, t, a, w);
    }
    return run_plain_ev<T, 16>(dev, t, a, w);
}

extern "C" st_t cuda_attention_bwd(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out,
                                   const struct kn_tensor *lse, const struct kn_tensor *dout, int64_t window, double scale, const struct kn_tensor *dq, const struct kn_tensor *dk,
                                   const struct kn_tensor *dv)
{
    CUDA_TRY(kn_check_attention_bwd(q, k, v, out, lse, dout, window, scale, dq, dk, dv));
    if (!attn_has(dev, q, v, scale) || !attn_fits(q, k, v)) return ST_ENOTSUP;
    if (!kn_count(q)) return ST_OK;
    struct attn a = attn_of(q, k, v, window, scale);
    struct grads t = {q, k, v, out, lse, dout, dq, dk, dv};
    return q->dtype == KN_BF16 ? run_plain<bf16>(dev, &t, a) : run_plain<float>(dev, &t, a);
}
