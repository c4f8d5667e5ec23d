/* Routing. Forward, in chunks of 32 tokens:
 *   choose    a block a chunk: p, the k largest logits, w; the chunk's pairs of each expert and its sums of p
 *   add_up    what comes before a chunk's pairs within an expert; the sums of the chunks' p
 *   bounds    offset; the load-balance loss
 *   place     a warp a chunk walks through its pairs in order, 32 at a time
 * so that a pair's row depends on counts alone, and sums over tokens go by chunks in their order. Backward: a warp a token.
 * Bytes a token: forward 4 E read and written, 16 k or so written, 16 E / 32 of counts and sums; backward 12 E (sigmoid: 16 E).
 *
 * The largest: a logit as a whole number that is ordered as it is; a lane keeps the largest of its own, a slot takes the largest of the lanes, the lowest expert of equal ones,
 * and that lane looks for its next. For many slots (k > 32) a token's logits are sorted (bitonic, Batcher 1968) instead. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, WARPS = THREADS / 32, CHUNK = 32, SCAN = 1024, SLOTS_MOST = 32, SORTED_MOST = 4096;

/* As ref/moe.c: what is divided by is never 0. */
constexpr float TINY = 1e-20f;

/* Rises with z, -0 as 0, and is never 0 (what is taken). */
KN_DEVICE uint32_t key_of(float z)
{
    uint32_t u = __float_as_uint(z == 0 ? 0.0f : z);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return u ? u : 1;
}
KN_DEVICE float logit_of(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

/* p before the division by the sum. */
KN_DEVICE float share_of(float z, float max, int sigmoid)
{
    return sigmoid ? 1.0f / (1.0f + __expf(-z)) : __expf(z - max);
}

namespace {
struct chosen {
    cu_mat<float> z, p, w;
    cu_mat<int32_t> index;
    int64_t N;
    int E, k, sigmoid;
    int *count;  /* [chunks, E] */
    float *sum;  /* [chunks, E]; NULL: no loss wanted */
};
}

/* GROUP warps a token (1, or the block), V logits a lane: E <= 32 V GROUP, k <= SLOTS_MOST. */
template <int V, int GROUP> KN_KERNEL(THREADS) choose(struct chosen c)
{
    constexpr int AT_ONCE = WARPS / GROUP, WIDTH = 32 * GROUP;
    KN_SHARED(unsigned char, mem);
    int *count = (int *)mem;                           /* [E] */
    float *sums = (float *)(count + c.E);              /* [AT_ONCE, E] */
    float *part = sums + (c.sum ? AT_ONCE * c.E : 0);  /* [32] */
    uint32_t *best = (uint32_t *)(part + 32);          /* [2, WARPS, 2]: key, expert */
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, mine = threadIdx.x % WIDTH, turn = 0;
    float total[V] = {};
    for (int e = threadIdx.x; e < c.E; e += THREADS) count[e] = 0;
    __syncthreads();
    int64_t end = (int64_t)(blockIdx.x + 1) * CHUNK;
    if (end > c.N) end = c.N;
    for (int64_t t = (int64_t)blockIdx.x * CHUNK + threadIdx.x / WIDTH; t < end; t += AT_ONCE) {
        uint32_t key[V], top = 0, top_e = 0;
        KN_UNROLL for (int i = 0; i < V; i++) {
            int e = i * WIDTH + mine;
            key[i] = e < c.E ? key_of(*cu_at(c.z, t, e)) : 0;
            if (key[i] > top) top = key[i], top_e = (uint32_t)e;
        }
        /* The first slot's, which softmax needs as well. */
        uint32_t k0 = __reduce_max_sync(KN_FULL, top);
        if (GROUP > 1) {
            uint32_t *to = best + turn * WARPS * 2;
            if (lane == 0) to[2 * warp] = k0;
            __syncthreads();
            KN_UNROLL for (int i = 0; i < WARPS; i++) k0 = to[2 * i] > k0 ? to[2 * i] : k0;
            turn ^= 1;
        }
        float max = logit_of(k0), all = 0, share[V];
        KN_UNROLL for (int i = 0; i < V; i++) {
            share[i] = key[i] ? share_of(logit_of(key[i]), max, c.sigmoid) : 0;
            all += share[i];
        }
        all = GROUP > 1 ? cu_block_sum(all, part) : cu_warp_sum(all);
        if (c.sigmoid) all += TINY;
        KN_UNROLL for (int i = 0; i < V; i++) {
            int e = i * WIDTH + mine;
            float p = share[i] / all;
            if (e < c.E) *cu_at(c.p, t, e) = p;
            total[i] += p;
        }
        uint32_t my_key = 0, my_e = 0; /* of the slot that is the lane's number */
        for (int s = 0; s < c.k; s++) {
            uint32_t k = __reduce_max_sync(KN_FULL, top), e = __reduce_min_sync(KN_FULL, top == k ? top_e : 0xffffffffu);
            if (GROUP > 1) {
                uint32_t *to = best + turn * WARPS * 2; /* the other half is still being read */
                if (lane == 0) to[2 * warp] = k, to[2 * warp + 1] = e;
                __syncthreads();
                KN_UNROLL for (int i = 0; i < WARPS; i++)
                    if (to[2 * i] > k || (to[2 * i] == k && to[2 * i + 1] < e)) k = to[2 * i], e = to[2 * i + 1];
                turn ^= 1;
            }
            if (lane == s) my_key = k, my_e = e;
            if (top == k && top_e == e) {
                top = 0;
                KN_UNROLL for (int i = 0; i < V; i++) {
                    uint32_t at = (uint32_t)(i * WIDTH + mine);
                    if (at == e) key[i] = 0;
                    if (key[i] > top) top = key[i], top_e = at;
                }
            }
        }
        float p = lane < c.k ? share_of(logit_of(my_key), max, c.sigmoid) / all : 0, sum = cu_warp_sum(p);
        if (c.sigmoid) sum += TINY;
        if (lane < c.k && (GROUP == 1 || warp == 0)) {
            *cu_at(c.index, t, lane) = (int32_t)my_e;
            *cu_at(c.w, t, lane) = p / sum;
            atomicAdd(&count[my_e], 1);
        }
    }
    if (c.sum)
        KN_UNROLL for (int i = 0; i < V; i++) {
            int e = i * WIDTH + mine;
            if (e < c.E) sums[threadIdx.x / WIDTH * c.E + e] = total[i];
        }
    __syncthreads();
    for (int e = threadIdx.x; e < c.E; e += THREADS) {
        c.count[(int64_t)blockIdx.x * c.E + e] = count[e];
        if (!c.sum) continue;
        float sum = 0;
        KN_UNROLL for (int i = 0; i < AT_ONCE; i++) sum += sums[i * c.E + e];
        c.sum[(int64_t)blockIdx.x * c.E + e] = sum;
    }
}

/* Any k: the block sorts keys, each over the complement of its expert, of one token after the other. size: E, to a power of two. */
KN_KERNEL(THREADS) choose_sorted(struct chosen c, int size)
{
    KN_SHARED(unsigned long long, key); /* [size] */
    int *count = (int *)(key + size);   /* [E] */
    float *part = (float *)(count + c.E), total[SORTED_MOST / THREADS] = {};
    for (int e = threadIdx.x; e < c.E; e += THREADS) count[e] = 0;
    int64_t end = (int64_t)(blockIdx.x + 1) * CHUNK;
    if (end > c.N) end = c.N;
    for (int64_t t = (int64_t)blockIdx.x * CHUNK; t < end; t++) {
        for (int e = threadIdx.x; e < size; e += THREADS) key[e] = e < c.E ? (unsigned long long)key_of(*cu_at(c.z, t, e)) << 32 | (0xffffffffu - (uint32_t)e) : 0;
        __syncthreads();
        for (int run = 2; run <= size; run *= 2)
            for (int apart = run / 2; apart; apart /= 2) {
                for (int i = threadIdx.x; i < size / 2; i += THREADS) {
                    int a = i / apart * 2 * apart + i % apart, b = a + apart;
                    unsigned long long x = key[a], y = key[b];
                    if ((x < y) == !(a & run)) key[a] = y, key[b] = x; /* falling, every other run rising */
                }
                __syncthreads();
            }
        float max = logit_of((uint32_t)(key[0] >> 32)), all = 0, sum = 0;
        for (int i = threadIdx.x; i < c.E; i += THREADS) all += share_of(logit_of((uint32_t)(key[i] >> 32)), max, c.sigmoid);
        all = cu_block_sum(all, part);
        if (c.sigmoid) all += TINY;
        for (int s = threadIdx.x; s < c.k; s += THREADS) sum += share_of(logit_of((uint32_t)(key[s] >> 32)), max, c.sigmoid) / all;
        sum = cu_block_sum(sum, part);
        if (c.sigmoid) sum += TINY;
        KN_UNROLL for (int i = 0; i < SORTED_MOST / THREADS; i++) {
            int e = i * THREADS + threadIdx.x;
            if (e >= c.E) continue;
            float p = share_of(logit_of(key_of(*cu_at(c.z, t, e))), max, c.sigmoid) / all;
            *cu_at(c.p, t, e) = p;
            total[i] += p;
        }
        for (int s = threadIdx.x; s < c.k; s += THREADS) {
            uint32_t e = 0xffffffffu - (uint32_t)key[s];
            *cu_at(c.index, t, s) = (int32_t)e;
            *cu_at(c.w, t, s) = share_of(logit_of((uint32_t)(key[s] >> 32)), max, c.sigmoid) / all / sum;
            atomicAdd(&count[e], 1);
        }
        __syncthreads();
    }
    KN_UNROLL for (int i = 0; i < SORTED_MOST / THREADS; i++) {
        int e = i * THREADS + threadIdx.x;
        if (e >= c.E) continue;
        c.count[(int64_t)blockIdx.x * c.E + e] = count[e];
        if (c.sum) c.sum[(int64_t)blockIdx.x * c.E + e] = total[i];
    }
}

/* A block takes 32 experts, a lane each; its warps share out the chunks. count: from pairs to pairs before, within the expert. */
KN_KERNEL(SCAN) add_up(int *count, const float *sum, int chunks, int E, int *pairs, float *probability)
{
    KN_SHARED(int, before); /* [32 warps, 32], and as many floats */
    float *sums = (float *)(before + 1024);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, e = blockIdx.x * 32 + lane, each = (chunks + 31) / 32, from = warp * each, n = 0;
    int to = from + each < chunks ? from + each : chunks;
    float p = 0;
    if (e < E)
        for (int b = from; b < to; b++) {
            n += count[(int64_t)b * E + e];
            if (sum) p += sum[(int64_t)b * E + e];
        }
    before[warp * 32 + lane] = n, sums[warp * 32 + lane] = p;
    __syncthreads();
    if (e >= E) return;
    n = 0, p = 0;
    for (int i = 0; i < 32; i++) {
        if (i == warp && warp) break;
        n += before[i * 32 + lane], p += sums[i * 32 + lane];
    }
    if (warp == 0) {
        pairs[e] = n, probability[e] = p;
        n = 0;
    }
    for (int b = from; b < to; b++) {
        int *at = &count[(int64_t)b * E + e], mine = *at;
        *at = n;
        n += mine;
    }
}

/* offset, from what each expert has; *aux += E sum f P. One block. */
KN_KERNEL(SCAN) bounds(const int *pairs, const float *probability, int E, int64_t N, int k, int32_t *offset, float *aux)
{
    KN_SHARED(float, part); /* [32] floats, as many ints */
    int *warps = (int *)(part + 32), lane = threadIdx.x % 32, warp = threadIdx.x / 32, each = (E + SCAN - 1) / SCAN, from = (int)threadIdx.x * each, n = 0;
    float loss = 0;
    for (int i = from; i < from + each && i < E; i++) {
        n += pairs[i];
        if (aux) loss = fmaf((float)pairs[i], probability[i], loss);
    }
    int sum = n;
    KN_UNROLL for (int o = 1; o < 32; o *= 2) {
        int v = __shfl_up_sync(KN_FULL, sum, o);
        if (lane >= o) sum += v;
    }
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        int v = warps[lane];
        KN_UNROLL for (int o = 1; o < 32; o *= 2) {
            int w = __shfl_up_sync(KN_FULL, v, o);
            if (lane >= o) v += w;
        }
        warps[lane] = v;
    }
    loss = cu_block_sum(loss, part); /* its barriers are warps' too */
    n = sum - n + (warp ? warps[warp - 1] : 0);
    for (int i = from; i < from + each && i < E; i++) offset[i] = n, n += pairs[i];
    if (threadIdx.x == 0) {
        offset[E] = (int32_t)(N * k);
        if (aux) *aux += loss * ((float)E / ((float)N * (float)N * (float)k));
    }
}

KN_KERNEL(32) place(cu_mat<int32_t> index, const int *count, const int32_t *offset, int E, int64_t N, int k, int32_t *order, int32_t *row)
{
    KN_SHARED(int, next); /* [E] */
    int lane = threadIdx.x;
    for (int e = lane; e < E; e += 32) next[e] = offset[e] + count[(int64_t)blockIdx.x * E + e];
    __syncwarp();
    int64_t t0 = (int64_t)blockIdx.x * CHUNK;
    int pairs = (int)(N - t0 < CHUNK ? N - t0 : CHUNK) * k;
    for (int i = lane; i - lane < pairs; i += 32) {
        int e = i < pairs ? *cu_at(index, t0 + i / k, i % k) : -1;
        unsigned alike = __match_any_sync(KN_FULL, e);
        int r = e < 0 ? 0 : next[e] + __popc(alike & ((1u << lane) - 1));
        __syncwarp();
        if (e >= 0) {
            int pair = (int)(t0 * k) + i;
            order[r] = pair, row[pair] = r;
            if (alike >> lane == 1) next[e] = r + 1; /* the last of them */
        }
        __syncwarp();
    }
}

template <int V, int GROUP> static st_t run_choose(struct kn_dev *dev, const struct chosen &c, int64_t chunks)
{
    size_t sums = c.sum ? (size_t)(WARPS / GROUP) * (size_t)c.E : 0;
    CUDA_RUN(dev, (choose<V, GROUP>), chunks, THREADS, ((size_t)c.E + sums + 32 + 4 * WARPS) * sizeof(float), c);
    return ST_OK;
}

static st_t choose_all(struct kn_dev *dev, const struct chosen &c, int64_t chunks)
{
    if (c.k > SLOTS_MOST) {
        int size = 2;
        while (size < c.E) size *= 2;
        CUDA_RUN(dev, choose_sorted, chunks, THREADS, (size_t)size * sizeof(unsigned long long) + ((size_t)c.E + 32) * sizeof(float), c, size);
        return ST_OK;
    }
    if (c.E <= 32) return run_choose<1, 1>(dev, c, chunks);
    if (c.E <= 64) return run_choose<2, 1>(dev, c, chunks);
    if (c.E <= 128) return run_choose<4, 1>(dev, c, chunks);
    if (c.E <= 256) return run_choose<8, 1>(dev, c, chunks);
    if (c.E <= 1024) return run_choose<4, WARPS>(dev, c, chunks);
    return run_choose<16, WARPS>(dev, c, chunks);
}

extern "C" st_t cuda_route(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index, const struct kn_tensor *w,
                           const struct kn_tensor *offset, const struct kn_tensor *order, const struct kn_tensor *row, const struct kn_tensor *aux)
{
    CUDA_TRY(kn_check_route(z, sigmoid, p, index, w, offset, order, row, aux));
    if (!cuda_is_f32(z)) return ST_ENOTSUP;
    int64_t N = z->d[0], chunks = cuda_blocks(N, CHUNK);
    int E = (int)z->d[1], k = (int)w->d[1];
    bool loss = !kn_absent(aux) && N;
    void *mem;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(2 * chunks + 2) * (size_t)E * sizeof(int), &mem));
    int *count = (int *)mem, *pairs = count + chunks * E;
    float *probability = (float *)(pairs + E), *sum = probability + E;
    struct chosen c = {z, p, w, index, N, E, k, sigmoid, count, loss ? sum : NULL};
    CUDA_TRY(choose_all(dev, c, chunks));
    CUDA_RUN(dev, add_up, cuda_blocks(E, 32), SCAN, 2 * 1024 * sizeof(int), count, (const float *)c.sum, (int)chunks, E, pairs, probability);
    CUDA_RUN(dev, bounds, 1, SCAN, 64 * sizeof(int), (const int *)pairs, (const float *)probability, E, N, k, (int32_t *)offset->p, loss ? (float *)aux->p : (float *)NULL);
    CUDA_RUN(dev, place, chunks, 32, (size_t)E * sizeof(int), index, (const int *)count, (const int32_t *)offset->p, E, N, k, (int32_t *)order->p, (int32_t *)row->p);
    return ST_OK;
}

/* The formulas: ref/moe.c. every = aux E / (N N k): what an expert's number of pairs gives each of its p. */
KN_KERNEL(THREADS) backward(cu_mat<float> z, int sigmoid, cu_mat<float> p, cu_mat<int32_t> index, cu_mat<float> w, const int32_t *offset, cu_mat<float> dw, float every, cu_mat<float> dz, int64_t N, int E, int k)
{
    int lane = threadIdx.x % 32;
    int64_t t = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (t >= N) return;
    float sum = 0, wdw = 0, pdp = 0;
    for (int s = lane; s < k; s += 32) {
        sum += *cu_at(p, t, *cu_at(index, t, s));
        wdw = fmaf(*cu_at(w, t, s), *cu_at(dw, t, s), wdw);
    }
    sum = cu_warp_sum(sum), wdw = cu_warp_sum(wdw);
    if (sigmoid) sum += TINY;
    for (int s = lane; s < k; s += 32) pdp = fmaf(*cu_at(p, t, *cu_at(index, t, s)), (*cu_at(dw, t, s) - wdw) / sum, pdp);
    if (every != 0)
        for (int e = lane; e < E; e += 32) pdp = fmaf(*cu_at(p, t, e), every * (float)(offset[e + 1] - offset[e]), pdp);
    pdp = cu_warp_sum(pdp);
    for (int e = lane; e < E; e += 32) {
        float v = *cu_at(p, t, e) * ((every != 0 ? every * (float)(offset[e + 1] - offset[e]) : 0) - pdp);
        if (sigmoid) v /= 1.0f + __expf(*cu_at(z, t, e)); /* 1 - sigmoid(z) = 1 / (1 + e^z) */
        *cu_at(dz, t, e) = v;
    }
    __syncwarp();
    /* The chosen have more: written again, each expert's by one lane. */
    for (int s = lane; s < k; s += 32) {
        int e = *cu_at(index, t, s);
        float dp = (*cu_at(dw, t, s) - wdw) / sum + (every != 0 ? every * (float)(offset[e + 1] - offset[e]) : 0), v = *cu_at(p, t, e) * (dp - pdp);
        if (sigmoid) v /= 1.0f + __expf(*cu_at(z, t, e));
        *cu_at(dz, t, e) = v;
    }
}

extern "C" st_t cuda_route_bwd(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index, const struct kn_tensor *w,
                               const struct kn_tensor *offset, const struct kn_tensor *dw, double aux, const struct kn_tensor *dz)
{
    CUDA_TRY(kn_check_route_bwd(z, sigmoid, p, index, w, offset, dw, aux, dz));
    if (!cuda_is_f32(z)) return ST_ENOTSUP;
    int64_t N = z->d[0], E = z->d[1], k = w->d[1];
    float every = N ? (float)(aux * (double)E / ((double)N * (double)N * (double)k)) : 0;
    CUDA_RUN(dev, backward, cuda_blocks(N, WARPS), THREADS, 0, z, sigmoid, p, index, w, (const int32_t *)offset->p, dw, every, dz, N, (int)E, (int)k);
    return ST_OK;
}
