#include "kernels/cuda/attn.h"

/* ---- by FMA ---- */

/* A block: 64 queries of a head, 16 EV of the values' columns. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) forward_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<T, 4> out, cu_view<float, 3> lse, struct attn a, bool kby4, bool vby4)
{
    KN_SHARED(float, mem);
    float *plane = mem + STAGE;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (a.T + TILE - 1) / TILE;
    int bh = blockIdx.x / blocks, b = bh / a.H, h = bh % a.H, g = h / (a.H / a.G), t0 = (blocks - 1 - (int)blockIdx.x % blocks) * TILE; /* the longest first */
    int e0 = blockIdx.y * 16 * EV, nq = attn_min(TILE, a.T - t0), ne = attn_min(16 * EV, a.E - e0), pos0 = a.shift + t0;
    const T *query = cu_at(q, b, t0, h, 0);
    float o[4][EV] = {}, top[4], sum[4] = {};
    KN_UNROLL for (int i = 0; i < 4; i++) top[i] = -INFINITY;
    for (int j0 = attn_first(a, pos0) / TILE * TILE; j0 < pos0 + nq; j0 += TILE) {
        int nk = attn_min(TILE, a.S - j0);
        float s[4][4] = {};
        attn_dots(s, mem, query, q.s[1], nq, cu_at(k, b, j0, g, 0), k.s[1], nk, a.K, kby4);
        KN_UNROLL for (int i = 0; i < 4; i++) {
            int pos = pos0 + ty + 16 * i;
            float best = top[i], some = 0;
            KN_UNROLL for (int j = 0; j < 4; j++) {
                s[i][j] = attn_sees(a, pos, j0 + tx + 16 * j) ? s[i][j] * a.c : -INFINITY;
                best = fmaxf(best, s[i][j]);
            }
            best = attn_row_max(best);
            float base = best == -INFINITY ? 0.0f : best, fade = kn_exp2(top[i] - base);
            KN_UNROLL for (int j = 0; j < 4; j++) {
                float p = kn_exp2(s[i][j] - base);
                some += p;
                plane[(ty + 16 * i) * PLANE_ROW + tx + 16 * j] = p;
            }
            sum[i] = fmaf(sum[i], fade, some);
            top[i] = best;
            KN_UNROLL for (int e = 0; e < EV; e++) o[i][e] *= fade;
        }
        attn_gather<EV>(o, plane, mem, cu_at(v, b, j0, g, e0), v.s[1], nk, ne, vby4);
    }
    KN_UNROLL for (int i = 0; i < 4; i++) {
        int r = ty + 16 * i;
        float l = attn_row_sum(sum[i]), by = 1.0f / l;
        if (r >= nq) continue;
        if (lse.p && tx == 0 && e0 == 0) *cu_at(lse, b, h, t0 + r) = (top[i] + log2f(l)) * LN2;
        KN_UNROLL for (int e = 0; e < EV; e++) {
            int c = attn_column<EV>(e);
            if (c < ne) cu_put(cu_at(out, b, t0 + r, h, e0 + c), o[i][e] * by);
        }
    }
}

template <class T>
static st_t run_plain(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out, const struct kn_tensor *lse,
                      struct attn a)
{
    int ev = sizeof(T) == 2 ? 16 : attn_ev(a.E);
    dim3 grid((unsigned)(cuda_blocks(a.T, TILE) * a.B * a.H), (unsigned)cuda_blocks(a.E, 16 * ev));
    bool kby4 = cuda_by4(q) && cuda_by4(k), vby4 = cuda_by4(v);
    if constexpr (sizeof(T) == 4) {
        if (ev == 2) CUDA_RUN(dev, (forward_plain<T, 2>), grid, PLAIN_THREADS, PLAIN_SHARED, q, k, v, out, lse, a, kby4, vby4);
        if (ev == 4) CUDA_RUN(dev, (forward_plain<T, 4>), grid, PLAIN_THREADS, PLAIN_SHARED, q, k, v, out, lse, a, kby4, vby4);
        if (ev == 8) CUDA_RUN(dev, (forward_plain<T, 8>), grid, PLAIN_THREADS, PLAIN_SHARED, q, k, v, out, lse, a, kby4, vby4);
    }
    if (ev == 16) CUDA_RUN(dev, (forward_plain<T, 16>), grid, PLAIN_THREADS, PLAIN_SHARED, q, k, v, out, lse, a, kby4, vby4);
    return ST_OK;
}

extern "C" st_t cuda_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, int64_t window, double scale,
                               const struct kn_tensor *out, const struct kn_tensor *lse)
{
    CUDA_TRY(kn_check_attention(q, k, v, window, scale, out, lse));
    if (!attn_has(dev, q, v, scale) || !attn_fits(q, k, v)) return ST_ENOTSUP;
    if (!kn_count(out)) return ST_OK;
    if (kn_absent(lse)) lse = NULL;
    struct attn a = attn_of(q, k, v, window, scale);
    return q->dtype == KN_BF16 ? run_plain<bf16>(dev, q, k, v, out, lse, a) : run_plain<float>(dev, q, k, v, out, lse, a);
}
