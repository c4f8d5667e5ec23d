/* Embedding: rows of a table by token, and the table's gradient. A token that the table lacks gives a row of NaN and no gradient: nobody waits here to say so.
 *
 * Forward: a warp has a piece of a row. Bytes a number: the table's (4, 2, 1) read, 4 written.
 *
 * Backward, D numbers of N tokens; bytes a number of dout: 4 read, and of each row of the table that is touched 8. Three kernels:
 *   order   sorts the places 0 .. N - 1 by token, those of one token rising. Block b takes the tokens whose low bits are b, so that frequent neighbours part: it reads all tokens
 *           twice, counts those of lower blocks (where its own begin) and lists its own in their order, then sorts the list by the tokens' high bits, by counting
 *   sum     32 places a warp, and 32 quads of their rows: runs of one token that begin and end here are added to the table, others become parts
 *   join    a warp for each run that goes on beyond its 32 places adds its parts in their order
 * so that the work is even however often a token occurs, and each sum's order is its places' order within groups of 32, then the groups'. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, AHEAD = 4;
constexpr int ORDER_THREADS = 512, ORDER_WARPS = ORDER_THREADS / 32, BINS = 256, KEYS_MOST = ORDER_THREADS; /* a thread a key */
constexpr int RUN = 32, GROUP = 8;                                                                           /* places of a warp; tokens or rows on their way at a time */

namespace {
template <int W> struct piece {
    float v[W];
};
}
KN_DEVICE void get(piece<4> &p, const float *row, int64_t d, int64_t, float)
{
    float4 f = cu_get4(row + d);
    p = {{f.x, f.y, f.z, f.w}};
}
KN_DEVICE void get(piece<1> &p, const float *row, int64_t d, int64_t step, float)
{
    p.v[0] = row[d * step];
}
KN_DEVICE void get(piece<4> &p, const bf16 *row, int64_t d, int64_t, float)
{
    float4 f = cu_get4(row + d);
    p = {{f.x, f.y, f.z, f.w}};
}
KN_DEVICE void get(piece<1> &p, const bf16 *row, int64_t d, int64_t, float)
{
    p.v[0] = cu_get(row + d);
}
KN_DEVICE void get(piece<4> &p, const int8_t *row, int64_t d, int64_t, float scale)
{
    uint32_t u = *(const uint32_t *)(row + d);
    KN_UNROLL for (int i = 0; i < 4; i++) p.v[i] = (float)(int8_t)(u >> (8 * i)) * scale;
}
KN_DEVICE void get(piece<1> &p, const int8_t *row, int64_t d, int64_t, float scale)
{
    p.v[0] = (float)row[d] * scale;
}
KN_DEVICE void put(float *row, int64_t d, int64_t, const piece<4> &p)
{
    cu_write4(row + d, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]));
}
KN_DEVICE void put(float *row, int64_t d, int64_t step, const piece<1> &p)
{
    row[d * step] = p.v[0];
}
/* What stands behind the numbers of an int8 row (tensor.h), which may begin anywhere. */
KN_DEVICE float scale_of(const int8_t *row, int64_t D)
{
    uint32_t u = 0;
    KN_UNROLL for (int i = 0; i < 4; i++) u |= (uint32_t)(uint8_t)row[D + i] << (8 * i);
    return __uint_as_float(u);
}
template <class S> KN_DEVICE float scale_of(const S *, int64_t)
{
    return 1;
}

template <int W, class S>
KN_KERNEL(THREADS) rows(const int32_t *tok, int64_t tok_step, const S *w, int64_t w_row, int64_t w_step, int64_t V, cu_mat<float> out, int64_t tasks, int64_t parts, int64_t D)
{
    int64_t task = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32, n = task / parts, from = task % parts * (32 * AHEAD * W) + threadIdx.x % 32 * W;
    if (task >= tasks) return;
    int32_t t = tok[n * tok_step];
    float *to = cu_at(out, n, 0);
    if (t < 0 || t >= V) {
        piece<W> none;
        KN_UNROLL for (int j = 0; j < W; j++) none.v[j] = __int_as_float(0x7fffffff);
        KN_UNROLL for (int i = 0; i < AHEAD; i++)
            if (from + i * 32 * W < D) put(to, from + i * 32 * W, out.s[1], none);
        return;
    }
    const S *row = w + t * w_row;
    float scale = scale_of(row, D);
    piece<W> p[AHEAD];
    KN_UNROLL for (int i = 0; i < AHEAD; i++)
        if (from + i * 32 * W < D) get(p[i], row, from + i * 32 * W, w_step, scale);
    KN_UNROLL for (int i = 0; i < AHEAD; i++)
        if (from + i * 32 * W < D) put(to, from + i * 32 * W, out.s[1], p[i]);
}

template <int W, class S> static st_t forward(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *out)
{
    int64_t D = out->d[1], parts = (D + 32 * AHEAD * W - 1) / (32 * AHEAD * W), tasks = out->d[0] * parts;
    CUDA_RUN(dev, (rows<W, S>), cuda_blocks(tasks, THREADS / 32), THREADS, 0, (const int32_t *)tok->p, tok->s[0], (const S *)w->p, w->s[0], w->s[1], w->d[0], out, tasks, parts, D);
    return ST_OK;
}

extern "C" st_t cuda_embed(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *out)
{
    CUDA_TRY(kn_check_embed(tok, w, out));
    if (!cuda_is_f32(out)) return ST_ENOTSUP;
    if (kn_count(out) == 0) return ST_OK;
    bool by4 = cuda_by4(out);
    switch (w->dtype) {
    case KN_F32: return by4 && cuda_by4(w) ? forward<4, float>(dev, tok, w, out) : forward<1, float>(dev, tok, w, out);
    case KN_BF16: return by4 && cuda_by4(w) ? forward<4, bf16>(dev, tok, w, out) : forward<1, bf16>(dev, tok, w, out);
    case KN_I8: return by4 && cuda_by4(w) ? forward<4, int8_t>(dev, tok, w, out) : forward<1, int8_t>(dev, tok, w, out);
    default: return ST_ENOTSUP;
    }
}

/* ---- backward ---- */

KN_DEVICE int warp_sum(int v)
{
    KN_UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(KN_FULL, v, o);
    return v;
}
KN_DEVICE unsigned lanes_below(void)
{
    return (1u << threadIdx.x % 32) - 1;
}

/* Of places at, at + 32, … below end. */
KN_DEVICE void tokens(int32_t (&t)[GROUP], const int32_t *tok, int64_t step, int at, int end)
{
    KN_UNROLL for (int i = 0; i < GROUP; i++) t[i] = at + 32 * i < end ? tok[(at + 32 * i) * step] : -1;
}

namespace {
struct order_memory {
    int own[ORDER_WARPS], lower[ORDER_WARPS], key[ORDER_WARPS];
};
}

/* Places sorted by token, in to_tok and to_place; behind those of all tokens that the table has, to_tok is -1. list_tok, list_place: memory of as many. */
KN_KERNEL(ORDER_THREADS)
order(const int32_t *tok, int64_t tok_step, int N, int V, int bits, int keys, int32_t *list_tok, int32_t *list_place, int32_t *to_tok, int32_t *to_place)
{
    KN_SHARED(order_memory, m);
    int *count = (int *)(m + 1); /* [ORDER_WARPS][keys] */
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, bin = blockIdx.x, mask = (1 << bits) - 1;

    /* How many are this block's, and how many stand before them; each warp a stretch of the places. */
    int stretch = (N + ORDER_THREADS - 1) / ORDER_THREADS * 32, from = warp * stretch, end = N - from < stretch ? N : from + stretch, own = 0, lower = 0;
    if (N <= from) end = from = 0;
    for (int base = from; base < end; base += 32 * GROUP) {
        int32_t t[GROUP];
        tokens(t, tok, tok_step, base + lane, end);
        KN_UNROLL for (int i = 0; i < GROUP; i++)
            if (t[i] >= 0 && t[i] < V) own += (t[i] & mask) == bin, lower += (t[i] & mask) < bin;
    }
    own = warp_sum(own), lower = warp_sum(lower);
    if (lane == 0) m->own[warp] = own, m->lower[warp] = lower;
    for (int i = threadIdx.x; i < ORDER_WARPS * keys; i += ORDER_THREADS) count[i] = 0;
    __syncthreads();
    int begin = 0, all = 0, at = 0;
    for (int i = 0; i < ORDER_WARPS; i++) {
        if (i == warp) at = all;
        begin += m->lower[i], all += m->own[i];
    }

    /* The list. */
    at += begin;
    for (int base = from; base < end; base += 32 * GROUP) {
        int32_t t[GROUP];
        tokens(t, tok, tok_step, base + lane, end);
        KN_UNROLL for (int i = 0; i < GROUP; i++)
        {
            bool mine = t[i] >= 0 && t[i] < V && (t[i] & mask) == bin;
            unsigned who = __ballot_sync(KN_FULL, mine);
            int o = at + __popc(who & lanes_below());
            if (mine) list_tok[o] = t[i], list_place[o] = base + 32 * i + lane;
            at += __popc(who);
        }
    }
    __syncthreads();

    /* Each warp counts the keys of its stretch of the list; then learns where its first of each key goes. */
    stretch = (all + ORDER_THREADS - 1) / ORDER_THREADS * 32, from = warp * stretch, end = all - from < stretch ? all : from + stretch;
    if (all <= from) end = from = 0;
    for (int i = from + lane; i < end; i += 32) atomicAdd(&count[warp * keys + (list_tok[begin + i] >> bits)], 1);
    __syncthreads();
    int k = threadIdx.x, total = 0, upto;
    if (k < keys)
        for (int i = 0; i < ORDER_WARPS; i++) total += count[i * keys + k];
    upto = total;
    KN_UNROLL for (int o = 1; o < 32; o *= 2)
    {
        int v = __shfl_up_sync(KN_FULL, upto, o);
        if (lane >= o) upto += v;
    }
    if (lane == 31) m->key[warp] = upto;
    __syncthreads();
    int place = begin + upto - total;
    for (int i = 0; i < warp; i++) place += m->key[i];
    if (k < keys)
        for (int i = 0; i < ORDER_WARPS; i++) {
            int n = count[i * keys + k];
            count[i * keys + k] = place;
            place += n;
        }
    __syncthreads();

    /* To its place, behind the lower lanes of the same key. */
    for (int base = from; base < end; base += 32) {
        bool there = base + lane < end;
        int32_t t = there ? list_tok[begin + base + lane] : 0;
        int key = t >> bits;
        unsigned same = __ballot_sync(KN_FULL, there);
        for (int b = 1; b < keys; b *= 2) {
            unsigned has = __ballot_sync(KN_FULL, key & b);
            same &= key & b ? has : ~has;
        }
        int before = __popc(same & lanes_below()), o = there ? count[warp * keys + key] + before : 0;
        __syncwarp();
        if (there) {
            to_tok[o] = t, to_place[o] = list_place[begin + base + lane];
            if (before == 0) count[warp * keys + key] += __popc(same);
        }
        __syncwarp();
    }
    if (bin == mask)
        for (int i = begin + all + threadIdx.x; i < N; i += ORDER_THREADS) to_tok[i] = -1;
}

/* part [groups][2][D]: of each group of RUN places the sum of the run that an earlier group began, and of the one that it begins and does not end. */
template <int W>
KN_KERNEL(THREADS) sum(const int32_t *tok, const int32_t *place, int N, cu_mat<float> dout, cu_mat<float> dw, float *part, int64_t tasks, int64_t parts, int64_t D)
{
    int64_t task = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32, group = task / parts, d = task % parts * (32 * W) + threadIdx.x % 32 * W;
    if (task >= tasks) return;
    int lane = threadIdx.x % 32, e = (int)group * RUN + lane;
    int32_t t = e < N ? tok[e] : -1, p = t >= 0 ? place[e] : 0;
    int32_t left = e > 0 && e <= N ? tok[e - 1] : -1, right = e < N - 1 ? tok[e + 1] : -1;
    unsigned valid = __ballot_sync(KN_FULL, t >= 0), begins = __ballot_sync(KN_FULL, t != left), ends = __ballot_sync(KN_FULL, t != right) & valid;
    if (!valid) return;
    int begun = begins ? __ffs(begins) - 1 : RUN; /* the first place of a run that begins here */
    float *before = part + group * 2 * D, *after = before + D;
    piece<W> acc = {};
    for (int base = 0; base < RUN && valid >> base; base += GROUP) {
        piece<W> row[GROUP], old[GROUP];
        KN_UNROLL for (int i = 0; i < GROUP; i++)
        {
            int at = base + i;
            int64_t from = __shfl_sync(KN_FULL, p, at), to = __shfl_sync(KN_FULL, t, at);
            row[i] = old[i] = {};
            if (d >= D || !(valid >> at & 1)) continue;
            get(row[i], cu_at(dout, from, 0), d, dout.s[1], 1);
            if (ends >> at & 1 && at >= begun) get(old[i], cu_at(dw, to, 0), d, dw.s[1], 1);
        }
        KN_UNROLL for (int i = 0; i < GROUP; i++)
        {
            int at = base + i;
            int64_t to = __shfl_sync(KN_FULL, t, at);
            KN_UNROLL for (int j = 0; j < W; j++) acc.v[j] += row[i].v[j];
            if (!(ends >> at & 1)) continue;
            KN_UNROLL for (int j = 0; j < W; j++) old[i].v[j] += acc.v[j];
            if (d < D && at >= begun) put(cu_at(dw, to, 0), d, dw.s[1], old[i]);
            else if (d < D) put(before, d, 1, acc);
            acc = {};
        }
    }
    if (valid >> (RUN - 1) && !(ends >> (RUN - 1)) && d < D) put(begun < RUN ? after : before, d, 1, acc);
}

template <int W> KN_KERNEL(THREADS) join(const int32_t *tok, int N, const float *part, cu_mat<float> dw, int64_t tasks, int64_t parts, int64_t D)
{
    int64_t task = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32, group = task / parts, d = task % parts * (32 * W) + threadIdx.x % 32 * W;
    if (task >= tasks) return;
    int lane = threadIdx.x % 32, first = (int)group * RUN, last = first + RUN - 1;
    if (last >= N - 1) return;
    int32_t t = tok[last];
    if (t < 0 || t != tok[last + 1] || (t == tok[first] && first > 0 && t == tok[first - 1])) return;
    piece<W> acc = {}, old = {};
    if (d < D) get(acc, part + (2 * group + 1) * D, d, 1, 1);
    for (int64_t from = group + 1;; from += 32) {
        /* Of the next 32 groups: which the run goes on beyond. */
        int64_t end = (from + lane) * RUN + RUN - 1;
        unsigned on = __ballot_sync(KN_FULL, end < N - 1 && tok[end] == t && tok[end + 1] == t);
        int n = on == KN_FULL ? 32 : __ffs((int)~on);
        for (int base = 0; base < n; base += GROUP) {
            piece<W> more[GROUP];
            KN_UNROLL for (int i = 0; i < GROUP; i++)
            {
                more[i] = {};
                if (d < D && base + i < n) get(more[i], part + 2 * (from + base + i) * D, d, 1, 1);
            }
            KN_UNROLL for (int i = 0; i < GROUP; i++)
                KN_UNROLL for (int j = 0; j < W; j++) acc.v[j] += more[i].v[j];
        }
        if (on != KN_FULL) break;
    }
    if (d >= D) return;
    get(old, cu_at(dw, t, 0), d, dw.s[1], 1);
    KN_UNROLL for (int j = 0; j < W; j++) old.v[j] += acc.v[j];
    put(cu_at(dw, t, 0), d, dw.s[1], old);
}

template <int W> static st_t backward(struct kn_dev *dev, const int32_t *tok, const int32_t *place, const struct kn_tensor *dout, const struct kn_tensor *dw)
{
    int64_t N = dout->d[0], D = dout->d[1], groups = (N + RUN - 1) / RUN, parts = (D + 32 * W - 1) / (32 * W), tasks = groups * parts;
    void *part;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_B, (size_t)(2 * groups * D) * sizeof(float), &part));
    CUDA_RUN(dev, sum<W>, cuda_blocks(tasks, THREADS / 32), THREADS, 0, tok, place, (int)N, dout, dw, (float *)part, tasks, parts, D);
    if (groups > 1) CUDA_RUN(dev, join<W>, cuda_blocks(tasks, THREADS / 32), THREADS, 0, tok, (int)N, (const float *)part, dw, tasks, parts, D);
    return ST_OK;
}

extern "C" st_t cuda_embed_bwd(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *dout, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_embed_bwd(tok, dout, dw));
    int64_t N = dout->d[0], V = dw->d[0];
    if (!cuda_is_f32(dw) || N > INT32_MAX / 2 || V > INT32_MAX / 2) return ST_ENOTSUP;
    if (kn_count(dout) == 0) return ST_OK;
    int bits = 0;
    while ((int64_t)1 << bits < V && ((int64_t)1 << bits < BINS || V > (int64_t)KEYS_MOST << bits)) bits++;
    int keys = (int)((V + ((int64_t)1 << bits) - 1) >> bits);
    void *p;
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(4 * N) * sizeof(int32_t), &p));
    int32_t *list = (int32_t *)p, *sorted = list + 2 * N;
    CUDA_RUN(dev, order, (int64_t)1 << bits, ORDER_THREADS, sizeof(order_memory) + (size_t)(ORDER_WARPS * keys) * sizeof(int), (const int32_t *)tok->p, tok->s[0], (int)N, (int)V, bits,
             keys, list, list + N, sorted, sorted + N);
    return cuda_by4(dout) && cuda_by4(dw) ? backward<4>(dev, sorted, sorted + N, dout, dw) : backward<1>(dev, sorted, sorted + N, dout, dw);
}
