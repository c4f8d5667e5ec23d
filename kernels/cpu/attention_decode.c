/* Attention of one query per sequence: a stream over the cache of keys and values, bound by memory. The keys are cut
 * into chunks of fixed length, so that a single sequence keeps several threads busy; each chunk leaves its maximum, its
 * sum and what it gathered, and these are merged in the order of the chunks. Here vectors run along the head, not along
 * queries as in attention.c: there is at most a group of them. */
#ifndef VEC_PASS
#include "kernels/cpu/attn.h"

#define CHUNK 256      /* keys */
#define NEVER (-1e38f) /* score of the padding up to whole vectors */

#define VEC_FILE "kernels/cpu/attention_decode.c"
#include "kernels/cpu/vec_each.h"

static void (*const chunk_each[])(const struct attn *a, int64_t b, int64_t g, int64_t j0, int64_t n, float *part,
                                  int64_t stride, float *mem) = VEC_EACH(chunk);
static void (*const add_each[])(float *y, const float *x, float scale, int64_t n) = VEC_EACH(add);
static const int lanes_each[] = VEC_EACH(lanes);

struct attn_decode attn_decode(const struct kn_dev *dev, const struct attn *a)
{
    int64_t vl = lanes_each[cpu_of(dev)->isa], Kp = (a->K + vl - 1) / vl * vl, Ep = (a->E + vl - 1) / vl * vl;
    struct attn_decode d = {.a = *a, .from = a->W ? a->S - a->W : 0, .stride = Ep + 2};
    d.chunks = (a->S - d.from + CHUNK - 1) / CHUNK;
    d.floats = a->B * a->H * d.chunks * d.stride;
    /* queries and scores of a group; keys and values of a chunk where their rows are not whole vectors */
    d.worker_floats = a->R * (Kp + CHUNK) + (Kp != a->K ? CHUNK * Kp : 0) + (Ep != a->E ? CHUNK * Ep : 0);
    return d;
}

void attn_decode_chunk(const struct kn_dev *dev, const struct attn_decode *d, int64_t b, int64_t g, int64_t chunk, float *mem)
{
    const struct attn *a = &d->a;
    int64_t j0 = d->from + chunk * CHUNK, n = a->S - j0 < CHUNK ? a->S - j0 : CHUNK;
    float *part = d->part + ((b * a->H + g * a->R) * d->chunks + chunk) * d->stride;
    chunk_each[cpu_of(dev)->isa](a, b, g, j0, n, part, d->chunks * d->stride, mem);
}

void attn_decode_merge(const struct kn_dev *dev, const struct attn_decode *d, int64_t b, int64_t h, float *out)
{
    const struct attn *a = &d->a;
    const float *part = d->part + (b * a->H + h) * d->chunks * d->stride;
    float m = part[0], l = 0;
    for (int64_t k = 1; k < d->chunks; k++) m = part[k * d->stride] > m ? part[k * d->stride] : m;
    for (int64_t k = 0; k < d->chunks; k++) l += part[k * d->stride + 1] * exp2f(part[k * d->stride] - m);
    for (int64_t e = 0; e < a->E; e++) out[e] = 0;
    for (int64_t k = 0; k < d->chunks; k++) add_each[cpu_of(dev)->isa](out, part + k * d->stride + 2, exp2f(part[k * d->stride] - m) / l, a->E);
    if (a->lse) a->lse[b * a->sl.b + h * a->sl.h] = (float)(((double)m + (double)log2f(l)) * ATTN_LN2);
}

struct ctx {
    struct kn_dev *dev;
    struct attn_decode d;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    /* neighbours in memory follow each other: key heads of one chunk, then the next chunk */
    int64_t G = c->d.a.G, chunks = c->d.chunks;
    attn_decode_chunk(c->dev, &c->d, i / G / chunks, i % G, i / G % chunks, cpu_scratch(c->dev, worker));
}

static void merge_task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    const struct attn *a = &c->d.a;
    int64_t b = i / a->H, h = i % a->H;
    attn_decode_merge(c->dev, &c->d, b, h, a->out + b * a->so.b + h * a->so.h);
}

st_t cpu_attention_decode(struct kn_dev *dev, const struct attn *a)
{
    struct ctx c = {dev, attn_decode(dev, a)};
    void *part;
    st_t st = cpu_scratch_need(dev, (size_t)c.d.worker_floats * sizeof(float));
    if (!st) st = cpu_shared(dev, CPU_SLOT_OP, (size_t)c.d.floats * sizeof(float), &part);
    if (st) return st;
    c.d.part = part;
    double values = (double)(a->B * a->G * (a->K + a->E)) / 2 * (double)(a->S - c.d.from);
    cpu_run(dev, task, &c, (int)(a->B * a->G * c.d.chunks), values * 0.8 + values * (double)a->R * 0.08);
    cpu_run(dev, merge_task, &c, (int)(a->B * a->H), (double)(a->B * a->H * c.d.chunks * a->E) * 0.5);
    return ST_OK;
}

#else

#include "kernels/cpu/vec_mm.h"

enum { VEC_NAME(lanes) = VL };

/* y += scale x, rounded twice */
static void VEC_NAME(add)(float *y, const float *x, float scale, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) {
        int64_t k = n - i < VL ? n - i : VL;
        vf_storen(y + i, vf_add(vf_loadn(y + i, k), vf_mul(vf_set1(scale), vf_loadn(x + i, k))), k);
    }
}

/* The sums of four vectors. */
VEC_FN void VEC_NAME(sum4)(float *p, vf a, vf b, vf c, vf d)
{
#if VEC_ISA == 2
    vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    vf cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)),
            hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    vf x = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1)));
#elif VEC_ISA == 1
    vf x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
#else
    p[0] = vf_hsum(a);
    p[1] = vf_hsum(b);
    p[2] = vf_hsum(c);
    p[3] = vf_hsum(d);
#endif
}

/* s[i] = q . k[i] for n keys, rows of Kp floats. */
static void VEC_NAME(scores)(float *s, const float *q, const float *k, int64_t ks, int64_t n, int64_t Kp)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4, k += 4 * ks) {
        vf x = vf_load(q);
        vf a = vf_mul(x, vf_load(k)), b = vf_mul(x, vf_load(k + ks)), c = vf_mul(x, vf_load(k + 2 * ks)),
           d = vf_mul(x, vf_load(k + 3 * ks));
        for (int64_t j = VL; j < Kp; j += VL) {
            x = vf_load(q + j);
            a = vf_fma(x, vf_load(k + j), a);
            b = vf_fma(x, vf_load(k + ks + j), b);
            c = vf_fma(x, vf_load(k + 2 * ks + j), c);
            d = vf_fma(x, vf_load(k + 3 * ks + j), d);
        }
        VEC_NAME(sum4)(s + i, a, b, c, d);
    }
    for (; i < n; i++, k += ks) {
        vf a = vf_mul(vf_load(q), vf_load(k));
        for (int64_t j = VL; j < Kp; j += VL) a = vf_fma(vf_load(q + j), vf_load(k + j), a);
        s[i] = vf_hsum(a);
    }
}

/* n rows of K floats as rows of Kp, zeros after. */
static void VEC_NAME(pad)(float *dst, const float *src, int64_t stride, int64_t n, int64_t K, int64_t Kp)
{
    for (int64_t i = 0; i < n; i++, dst += Kp, src += stride) {
        int64_t k = 0;
        for (; k + VL <= K; k += VL) vf_store(dst + k, vf_load(src + k));
        if (k < K) vf_store(dst + k, vf_loadn(src + k, K - k));
    }
}

/* Keys j0 .. j0 + n of one key head; part[r * stride]: maximum, sum, gathered values of its r-th query. */
static void VEC_NAME(chunk)(const struct attn *a, int64_t b, int64_t g, int64_t j0, int64_t n, float *part,
                            int64_t stride, float *mem)
{
    int64_t K = a->K, E = a->E, R = a->R, Kp = (K + VL - 1) / VL * VL, Ep = (E + VL - 1) / VL * VL;
    int64_t ks = a->sk.t, vs = a->sv.t;
    const float *k = a->k + b * a->sk.b + g * a->sk.h + j0 * ks, *v = a->v + b * a->sv.b + g * a->sv.h + j0 * vs;
    float *q = mem, *s = q + R * Kp, *padded = s + R * CHUNK;
    VEC_NAME(pad)(q, a->q + b * a->sq.b + g * R * a->sq.h, a->sq.h, R, K, Kp);
    if (K != Kp) {
        VEC_NAME(pad)(padded, k, ks, n, K, Kp);
        k = padded, ks = Kp;
        padded += CHUNK * Kp;
    }
    if (E != Ep) {
        VEC_NAME(pad)(padded, v, vs, n, E, Ep);
        v = padded, vs = Ep;
    }
    vf scale = vf_set1((float)(a->scale * ATTN_LOG2E));
    for (int64_t i = 0; i < R * Kp; i += VL) vf_store(q + i, vf_mul(vf_load(q + i), scale));
    /* few keys at a time, so that a group's later queries find them in the first cache */
    for (int64_t i = 0; i < n; i += 32)
        for (int64_t r = 0; r < R; r++)
            VEC_NAME(scores)(s + r * CHUNK + i, q + r * Kp, k + i * ks, ks, n - i < 32 ? n - i : 32, Kp);
    for (int64_t r = 0; r < R; r++) {
        float *x = s + r * CHUNK;
        int64_t whole = (n + VL - 1) / VL * VL;
        for (int64_t i = n; i < whole; i++) x[i] = NEVER;
        vf max = vf_load(x), sum = vf_zero();
        for (int64_t i = VL; i < whole; i += VL) max = vf_max(vf_load(x + i), max);
        float m = vf_hmax(max);
        max = vf_set1(m);
        for (int64_t i = 0; i < whole; i += VL) {
            vf p = VEC_NAME(exp2_down)(vf_sub(vf_load(x + i), max));
            vf_store(x + i, p);
            sum = vf_add(sum, p);
        }
        part[r * stride] = m;
        part[r * stride + 1] = vf_hsum(sum);
    }
    VEC_NAME(mm_set)(R, Ep / VL, s, CHUNK, 1, v, vs, n, part + 2, stride);
}

#endif
