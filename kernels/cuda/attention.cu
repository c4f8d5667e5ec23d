/* Causal attention, forward.
 *
 * A block takes a tile of queries of one head and goes through the tiles of keys that any of them sees, with the online softmax of Milakov & Gimelshein 2018
 * (arXiv:1805.02867) in base 2; scores never leave the chip (Dao 2022, arXiv:2205.14135). Three ways:
 *   decode         T = 1: bytes of K and V, each read once for up to 8 query heads; keys cut into chunks so that the card is full, chunks summed in their order
 *   forward_mma    precision bf16, E = K <= 256: products of 16 x 16 x 8 on tensor cores, work shared as in FlashAttention-2 (Dao 2023, arXiv:2307.08691): a warp owns its
 *                  queries, weights go from the scores' registers into the second product. 4 B H K operations a pair of query and key that see each other; K and V are
 *                  read T / 128 times, mostly from the L2 cache
 *   forward_plain  everything else, by FMA in f32: any strides and head sizes; beyond 256 columns of the values a block each 256, with the scores worked out again */
#include "kernels/cuda/attn.h"

/* ---- by FMA ---- */

/* A block: 64 queries of a head, 16 EV of the values' columns. */
template <class T, int EV>
KN_KERNEL(PLAIN_THREADS) forward_plain(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<T, 4> out, cu_view<float, 3> lse, struct attn a, bool kby4,
                                       bool vby4)
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
static st_t run_plain(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out,
                      const struct kn_tensor *lse, struct attn a)
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

/* ---- one query (decode) ---- memory-bound: each key and value is read once for up to 8 query heads */

constexpr int DECODE_THREADS = 128, DECODE_MOST = 512, /* keys a block at most */
    DECODE_HEADS = 8;

/* A block: `chunk` keys for RT query heads of a key head. With several chunks its share goes to part, [chunk][B H] rows of 2 + E numbers: maximum, sum, and what it
 * has gathered; else to out. */
template <class T, int RT>
KN_KERNEL(DECODE_THREADS) decode(cu_view<const T, 4> q, cu_view<const T, 4> k, cu_view<const T, 4> v, cu_view<T, 4> out, cu_view<float, 3> lse, struct attn a, int chunk,
                                 int chunks, float *part, bool kby4, bool vby4)
{
    KN_SHARED(float, mem);
    constexpr int AHEAD = 4; /* keys whose loads are under way at once, a lane */
    int R = a.H / a.G, tiles = (R + RT - 1) / RT, Kp = (a.K + 3) / 4 * 4;
    float *sq = mem, *sp = sq + RT * Kp, *red = sp + RT * chunk, *stat = red + DECODE_THREADS * RT * 4;
    int split = blockIdx.x % chunks, bg = blockIdx.x / chunks / tiles, r0 = (int)blockIdx.x / chunks % tiles * RT, b = bg / a.G, g = bg % a.G;
    int j0 = attn_first(a, a.S - 1) + split * chunk, nk = attn_min(chunk, a.S - j0), nr = attn_min(RT, R - r0);
    int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, c = lane % 8;
    for (int i = tid; i < RT * Kp; i += DECODE_THREADS) {
        int r = i / Kp, d = i % Kp;
        sq[i] = r < nr && d < a.K ? cu_get(cu_at(q, b, 0, g * R + r0 + r, d)) * a.c : 0.0f;
    }
    __syncthreads();
    /* scores: eight lanes a key */
    const T *key = cu_at(k, b, j0, g, 0);
    for (int from = warp * 4; from < nk; from += 16 * AHEAD) {
        float acc[AHEAD][RT] = {};
        const T *row[AHEAD];
        KN_UNROLL for (int u = 0; u < AHEAD; u++) row[u] = key + attn_min(from + lane / 8 + 16 * u, nk - 1) * k.s[1];
        for (int d = 4 * c; d < a.K; d += 32) {
            float4 x[AHEAD];
            KN_UNROLL for (int u = 0; u < AHEAD; u++) {
                if (kby4) {
                    x[u] = cu_get4(row[u] + d);
                } else {
                    x[u].x = cu_get(row[u] + d);
                    x[u].y = d + 1 < a.K ? cu_get(row[u] + d + 1) : 0.0f;
                    x[u].z = d + 2 < a.K ? cu_get(row[u] + d + 2) : 0.0f;
                    x[u].w = d + 3 < a.K ? cu_get(row[u] + d + 3) : 0.0f;
                }
            }
            KN_UNROLL for (int r = 0; r < RT; r++) {
                float4 y = cu_get4(sq + r * Kp + d);
                KN_UNROLL for (int u = 0; u < AHEAD; u++) acc[u][r] = fmaf(x[u].w, y.w, fmaf(x[u].z, y.z, fmaf(x[u].y, y.y, fmaf(x[u].x, y.x, acc[u][r]))));
            }
        }
        KN_UNROLL for (int u = 0; u < AHEAD; u++) {
            int j = from + lane / 8 + 16 * u;
            KN_UNROLL for (int r = 0; r < RT; r++) {
                KN_UNROLL for (int o = 4; o; o >>= 1) acc[u][r] += __shfl_xor_sync(KN_FULL, acc[u][r], o);
                if (c == 0 && j < nk) sp[r * chunk + j] = acc[u][r];
            }
        }
    }
    __syncthreads();
    for (int r = warp; r < RT; r += DECODE_THREADS / 32) {
        float top = -INFINITY, sum = 0;
        for (int j = lane; j < nk; j += 32) top = fmaxf(top, sp[r * chunk + j]);
        top = cu_warp_max(top);
        float base = top == -INFINITY ? 0.0f : top; /* nothing but NaN */
        for (int j = lane; j < nk; j += 32) {
            float p = kn_exp2(sp[r * chunk + j] - base);
            sp[r * chunk + j] = p;
            sum += p;
        }
        sum = cu_warp_sum(sum);
        if (lane == 0) stat[2 * r] = base, stat[2 * r + 1] = sum;
    }
    __syncthreads();
    /* values: `width` threads a row, four columns each, the rows dealt out among the groups of threads */
    int fours = (a.E + 3) / 4, width = 1;
    while (width < fours && width < DECODE_THREADS) width *= 2;
    int groups = DECODE_THREADS / width, group = tid / width;
    const T *value = cu_at(v, b, j0, g, 0);
    for (int e0 = 0; e0 < fours; e0 += width) {
        int e = 4 * (e0 + tid % width);
        float4 acc[RT];
        KN_UNROLL for (int r = 0; r < RT; r++) acc[r] = make_float4(0, 0, 0, 0);
        if (e < a.E)
            for (int from = group; from < nk; from += AHEAD * groups) {
                float4 x[AHEAD];
                KN_UNROLL for (int u = 0; u < AHEAD; u++) {
                    const T *at = value + attn_min(from + u * groups, nk - 1) * v.s[1] + e;
                    if (vby4) {
                        x[u] = cu_get4(at);
                    } else {
                        x[u].x = cu_get(at);
                        x[u].y = e + 1 < a.E ? cu_get(at + 1) : 0.0f;
                        x[u].z = e + 2 < a.E ? cu_get(at + 2) : 0.0f;
                        x[u].w = e + 3 < a.E ? cu_get(at + 3) : 0.0f;
                    }
                }
                KN_UNROLL for (int u = 0; u < AHEAD; u++) {
                    int j = from + u * groups;
                    if (j >= nk) break;
                    KN_UNROLL for (int r = 0; r < RT; r++) {
                        float p = sp[r * chunk + j];
                        acc[r].x = fmaf(p, x[u].x, acc[r].x), acc[r].y = fmaf(p, x[u].y, acc[r].y);
                        acc[r].z = fmaf(p, x[u].z, acc[r].z), acc[r].w = fmaf(p, x[u].w, acc[r].w);
                    }
                }
            }
        KN_UNROLL for (int r = 0; r < RT; r++) cu_put4(red + (r * DECODE_THREADS + tid) * 4, acc[r]);
        __syncthreads();
        for (int i = tid; i < nr * width * 4; i += DECODE_THREADS) {
            int r = i / (width * 4), col = 4 * e0 + i % (width * 4), h = g * R + r0 + r;
            if (col >= a.E) continue;
            float sum = 0;
            for (int n = 0; n < groups; n++) sum += red[(r * DECODE_THREADS + n * width) * 4 + i % (width * 4)];
            if (chunks == 1) cu_put(cu_at(out, b, 0, h, col), sum / stat[2 * r + 1]);
            else part[((int64_t)split * a.B * a.H + (int64_t)b * a.H + h) * (2 + a.E) + 2 + col] = sum;
        }
        __syncthreads();
    }
    if (tid >= nr) return;
    int h = g * R + r0 + tid;
    if (chunks > 1) {
        float *to = part + ((int64_t)split * a.B * a.H + (int64_t)b * a.H + h) * (2 + a.E);
        to[0] = stat[2 * tid], to[1] = stat[2 * tid + 1];
    } else if (lse.p) {
        *cu_at(lse, b, h, 0) = (stat[2 * tid] + log2f(stat[2 * tid + 1])) * LN2;
    }
}

/* Chunks in their order. A block: a query head. */
template <class T> KN_KERNEL(DECODE_THREADS) decode_sum(const float *part, int chunks, cu_view<T, 4> out, cu_view<float, 3> lse, struct attn a)
{
    int bh = blockIdx.x, b = bh / a.H, h = bh % a.H;
    int64_t row = 2 + a.E, step = (int64_t)a.B * a.H * row;
    part += bh * row;
    float top = -INFINITY, sum = 0;
    for (int s = 0; s < chunks; s++) top = fmaxf(top, part[s * step]);
    for (int s = 0; s < chunks; s++) sum = fmaf(part[s * step + 1], kn_exp2(part[s * step] - top), sum);
    for (int e = threadIdx.x; e < a.E; e += DECODE_THREADS) {
        float o = 0;
        for (int s = 0; s < chunks; s++) o = fmaf(part[s * step + 2 + e], kn_exp2(part[s * step] - top), o);
        cu_put(cu_at(out, b, 0, h, e), o / sum);
    }
    if (threadIdx.x == 0 && lse.p) *cu_at(lse, b, h, 0) = (top + log2f(sum)) * LN2;
}

static size_t decode_shared(struct attn a, int heads, int64_t chunk)
{
    return (size_t)(heads * ((a.K + 3) / 4 * 4) + heads * chunk + DECODE_THREADS * heads * 4 + 2 * heads) * sizeof(float);
}

template <class T>
static st_t run_decode(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out,
                       const struct kn_tensor *lse, struct attn a)
{
    int R = a.H / a.G, heads = R > 4 ? DECODE_HEADS : R > 2 ? 4 : R;
    int64_t tiles = (int64_t)a.B * a.G * cuda_blocks(R, heads), keys = a.W ? a.W : a.S;
    int64_t chunks = cuda_blocks(4 * cuda_of(dev)->sms, tiles, cuda_blocks(keys, 64)), chunk = cuda_blocks(cuda_blocks(keys, chunks), 16) * 16;
    if (chunk > DECODE_MOST) chunk = DECODE_MOST;
    chunks = cuda_blocks(keys, chunk);
    void *part = NULL;
    if (chunks > 1) CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(chunks * a.B * a.H) * (size_t)(2 + a.E) * sizeof(float), &part));
    size_t shared = decode_shared(a, heads, chunk);
    bool kby4 = cuda_by4(k), vby4 = cuda_by4(v);
    int64_t blocks = tiles * chunks;
    switch (heads) {
    case 1: CUDA_RUN(dev, (decode<T, 1>), blocks, DECODE_THREADS, shared, q, k, v, out, lse, a, (int)chunk, (int)chunks, (float *)part, kby4, vby4); break;
    case 2: CUDA_RUN(dev, (decode<T, 2>), blocks, DECODE_THREADS, shared, q, k, v, out, lse, a, (int)chunk, (int)chunks, (float *)part, kby4, vby4); break;
    case 4: CUDA_RUN(dev, (decode<T, 4>), blocks, DECODE_THREADS, shared, q, k, v, out, lse, a, (int)chunk, (int)chunks, (float *)part, kby4, vby4); break;
    default: CUDA_RUN(dev, (decode<T, 8>), blocks, DECODE_THREADS, shared, q, k, v, out, lse, a, (int)chunk, (int)chunks, (float *)part, kby4, vby4); break;
    }
    if (chunks > 1) CUDA_RUN(dev, decode_sum<T>, (int64_t)a.B * a.H, DECODE_THREADS, 0, (const float *)part, (int)chunks, out, lse, a);
    return ST_OK;
}

/* ---- on tensor cores ---- */

/* A block: BM queries of a head, 16 MT a warp; tiles of BN keys. The copy of a tile's values runs under the product of queries and keys, that of the next keys under the
 * product of weights and values. */
template <int D, int BM, int BN, int WARPS, class O>
KN_KERNEL_MIN(WARPS * 32, WARPS > 4 ? 1 : D > 64 ? 2 : 3)
forward_mma(cu_view<const bf16, 4> q, cu_view<const bf16, 4> k, cu_view<const bf16, 4> v, cu_view<O, 4> out, cu_view<float, 3> lse, struct attn a, int cols, bool pairs)
{
    constexpr int MT = BM / WARPS / 16, THREADS = WARPS * 32;
    KN_SHARED(bf16, sq);
    bf16 *sk = sq + BM * D, *sv = sk + BN * D;
    int lane = threadIdx.x % 32, row = lane / 4, col = lane % 4 * 2, b = blockIdx.z, h = blockIdx.y, g = h / (a.H / a.G);
    int t0 = (int)(gridDim.x - 1 - blockIdx.x) * BM; /* the longest first */
    int nq = attn_min(BM, a.T - t0), first = a.shift + t0, last = first + nq - 1;
    int r0 = __shfl_sync(KN_FULL, (int)threadIdx.x / 32, 0) * 16 * MT, wfirst = first + r0, wlast = attn_min(last, wfirst + 16 * MT - 1); /* the warp's */
    int j0 = attn_first(a, first) / BN * BN;
    const bf16 *keys = cu_at(k, b, 0, g, 0), *values = cu_at(v, b, 0, g, 0);
    float o[MT][D / 8][4] = {}, top[MT][2], sum[MT][2] = {};
    KN_UNROLL for (int m = 0; m < MT; m++) top[m][0] = top[m][1] = -INFINITY;

    attn_copy<D, BM, THREADS>(sq, cu_at(q, b, t0, h, 0), (int)q.s[1], nq, cols);
    attn_copy<D, BN, THREADS>(sk, keys + j0 * k.s[1], (int)k.s[1], a.S - j0, cols);
    kn_cp_commit();
    for (; j0 <= last; j0 += BN) {
        kn_cp_wait<0>();
        __syncthreads(); /* the keys are there, the last values read */
        attn_copy<D, BN, THREADS>(sv, values + j0 * v.s[1], (int)v.s[1], a.S - j0, cols);
        kn_cp_commit();
        bool live = j0 <= wlast && j0 + BN > attn_first(a, wfirst);
        float s[MT][BN / 8][4] = {};
        if (live) {
            KN_UNROLL for (int d = 0; d < D / 16; d++) {
                uint32_t x[MT][4];
                KN_UNROLL for (int m = 0; m < MT; m++) attn_left<D>(x[m], sq, r0 + 16 * m, 2 * d);
                KN_UNROLL for (int n = 0; n < BN / 16; n++) {
                    uint32_t y[4];
                    attn_right<D>(y, sk, 16 * n, 2 * d);
                    KN_UNROLL for (int m = 0; m < MT; m++) kn_mma_bf16(s[m][2 * n], x[m], y), kn_mma_bf16(s[m][2 * n + 1], x[m], y + 2);
                }
            }
        }
        kn_cp_wait<0>();
        __syncthreads(); /* the values are there, the keys read */
        if (j0 + BN <= last) {
            attn_copy<D, BN, THREADS>(sk, keys + (j0 + BN) * k.s[1], (int)k.s[1], a.S - j0 - BN, cols);
            kn_cp_commit();
        }
        if (!live) continue;
        if (j0 + BN - 1 > wfirst || (a.W && j0 <= wlast - a.W)) {
            KN_UNROLL for (int m = 0; m < MT; m++)
                KN_UNROLL for (int n = 0; n < BN / 8; n++)
                    KN_UNROLL for (int i = 0; i < 4; i++)
                        if (!attn_sees(a, wfirst + 16 * m + row + i / 2 * 8, j0 + 8 * n + col + i % 2)) s[m][n][i] = -INFINITY;
        }
        KN_UNROLL for (int m = 0; m < MT; m++)
            KN_UNROLL for (int i = 0; i < 2; i++) {
                float best = top[m][i];
                KN_UNROLL for (int n = 0; n < BN / 8; n++) best = fmaxf(best, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
                best = fmaxf(best, __shfl_xor_sync(KN_FULL, best, 1));
                best = fmaxf(best, __shfl_xor_sync(KN_FULL, best, 2));
                float base = fmaxf(best, LOWEST) * a.c, fade = kn_exp2(fmaf(top[m][i], a.c, -base)), some = 0;
                top[m][i] = best;
                KN_UNROLL for (int n = 0; n < BN / 8; n++)
                    KN_UNROLL for (int u = 2 * i; u < 2 * i + 2; u++) some += s[m][n][u] = kn_exp2(fmaf(s[m][n][u], a.c, -base));
                sum[m][i] = fmaf(sum[m][i], fade, some);
                KN_UNROLL for (int n = 0; n < D / 8; n++) o[m][n][2 * i] *= fade, o[m][n][2 * i + 1] *= fade;
            }
        KN_UNROLL for (int n = 0; n < BN / 16; n++) {
            uint32_t x[MT][4];
            KN_UNROLL for (int m = 0; m < MT; m++) attn_sums_left(x[m], s[m][2 * n], s[m][2 * n + 1]);
            KN_UNROLL for (int d = 0; d < D / 16; d++) {
                uint32_t y[4];
                attn_right_t<D>(y, sv, 16 * n, 2 * d);
                KN_UNROLL for (int m = 0; m < MT; m++) kn_mma_bf16(o[m][2 * d], x[m], y), kn_mma_bf16(o[m][2 * d + 1], x[m], y + 2);
            }
        }
    }
    KN_UNROLL for (int m = 0; m < MT; m++)
        KN_UNROLL for (int i = 0; i < 2; i++) {
            int t = t0 + r0 + 16 * m + row + 8 * i;
            float l = sum[m][i];
            l += __shfl_xor_sync(KN_FULL, l, 1);
            l += __shfl_xor_sync(KN_FULL, l, 2);
            if (t >= a.T) continue;
            float by = 1.0f / l;
            if (lse.p && col == 0) *cu_at(lse, b, h, t) = fmaf(top[m][i], a.scale, log2f(l) * LN2);
            O *to = cu_at(out, b, t, h, col);
            KN_UNROLL for (int n = 0; n < D / 8; n++) attn_put2(to + 8 * n, o[m][n][2 * i] * by, o[m][n][2 * i + 1] * by, 8 * n + col, a.K, pairs);
        }
}

template <int D, int BM, int BN, int WARPS>
static st_t run_mma_tiles(struct kn_dev *dev, const struct kn_tensor *in, const struct kn_tensor *out, const struct kn_tensor *lse, struct attn a)
{
    size_t shared = (size_t)(BM + 2 * BN) * D * sizeof(bf16);
    dim3 blocks((unsigned)cuda_blocks(a.T, BM), (unsigned)a.H, (unsigned)a.B);
    int cols = (a.K + 7) / 8 * 8;
    bool pairs = attn_pairs(out);
    if (out->dtype == KN_BF16) CUDA_RUN(dev, (forward_mma<D, BM, BN, WARPS, bf16>), blocks, WARPS * 32, shared, &in[0], &in[1], &in[2], out, lse, a, cols, pairs);
    else CUDA_RUN(dev, (forward_mma<D, BM, BN, WARPS, float>), blocks, WARPS * 32, shared, &in[0], &in[1], &in[2], out, lse, a, cols, pairs);
    return ST_OK;
}

static st_t run_mma(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, const struct kn_tensor *out,
                    const struct kn_tensor *lse, struct attn a)
{
    const struct kn_tensor *t[3] = {q, k, v};
    struct kn_tensor in[3];
    size_t bytes = attn_packed(q) + attn_packed(k) + attn_packed(v);
    void *mem = NULL;
    if (bytes) CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, bytes, &mem));
    CUDA_TRY(attn_operands(dev, t, in, 3, mem));
    if (a.K <= 32) return run_mma_tiles<32, 128, 64, 4>(dev, in, out, lse, a);
    bool few = cuda_blocks(a.T, 128) * a.B * a.H < cuda_of(dev)->sms; /* smaller tiles, so that more of the card works */
    if (a.K <= 64) return few ? run_mma_tiles<64, 64, 64, 4>(dev, in, out, lse, a) : run_mma_tiles<64, 128, 64, 4>(dev, in, out, lse, a);
    if (a.K <= 96) return run_mma_tiles<96, 128, 64, 4>(dev, in, out, lse, a);
    if (a.K <= 128) return few ? run_mma_tiles<128, 64, 64, 4>(dev, in, out, lse, a) : run_mma_tiles<128, 128, 64, 4>(dev, in, out, lse, a);
    if (a.K <= 192) return run_mma_tiles<192, 128, 64, 8>(dev, in, out, lse, a);
    return run_mma_tiles<256, 64, 64, 4>(dev, in, out, lse, a);
}

extern "C" st_t cuda_attention(struct kn_dev *dev, const struct kn_tensor *q, const struct kn_tensor *k, const struct kn_tensor *v, int64_t window, double scale,
                               const struct kn_tensor *out, const struct kn_tensor *lse)
{
    CUDA_TRY(kn_check_attention(q, k, v, window, scale, out, lse));
    if (!attn_has(dev, q, v, scale) || !attn_fits(q, k, v)) return ST_ENOTSUP;
    if (!kn_count(out)) return ST_OK;
    if (kn_absent(lse)) lse = NULL;
    struct attn a = attn_of(q, k, v, window, scale);
    if (a.T == 1 && decode_shared(a, DECODE_HEADS, DECODE_MOST) <= cuda_of(dev)->shared_most)
        return q->dtype == KN_BF16 ? run_decode<bf16>(dev, q, k, v, out, lse, a) : run_decode<float>(dev, q, k, v, out, lse, a);
    if (attn_rounds(dev, q, v, scale)) return run_mma(dev, q, k, v, out, lse, a);
    return q->dtype == KN_BF16 ? run_plain<bf16>(dev, q, k, v, out, lse, a) : run_plain<float>(dev, q, k, v, out, lse, a);
}
