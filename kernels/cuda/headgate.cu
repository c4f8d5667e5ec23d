/* y = x sigmoid(g) of every head. Bytes a number: forward x, g read, y written, 12; backward x, g, dy read, dx, dg written, 20.
 *
 * A thread has pieces p, p + S, … of all there are, four numbers of a head each or one, S being the number of threads: neighbours in a warp are neighbours in memory. It knows a
 * piece's place by adding S's digits to the last one's, without a division, and reads four pieces before it writes one. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, AHEAD = 4;

namespace {
struct place {
    int64_t n, b, t, h, k;
};
}
namespace {
struct walk {
    int64_t n, T, H, K; /* pieces; digits are below T, H, K */
    place step;
    int64_t turns;
};
}

KN_DEVICE place place_of(int64_t n, const walk &w)
{
    int64_t head = n / w.K, position = head / w.H;
    return {n, position / w.T, position % w.T, head % w.H, n % w.K};
}
KN_DEVICE void go_on(place &p, const walk &w)
{
    p.n += w.step.n, p.b += w.step.b, p.t += w.step.t, p.h += w.step.h, p.k += w.step.k;
    if (p.k >= w.K) p.k -= w.K, p.h++;
    if (p.h >= w.H) p.h -= w.H, p.t++;
    if (p.t >= w.T) p.t -= w.T, p.b++;
}

namespace {
template <int W> struct piece {
    float v[W];
};
}
KN_DEVICE void get(piece<4> &p, const float *at)
{
    float4 f = cu_get4(at);
    p = {{f.x, f.y, f.z, f.w}};
}
KN_DEVICE void get(piece<1> &p, const float *at)
{
    p.v[0] = *at;
}
KN_DEVICE void put(float *at, const piece<4> &p)
{
    cu_write4(at, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]));
}
KN_DEVICE void put(float *at, const piece<1> &p)
{
    *at = p.v[0];
}
template <int W> KN_DEVICE float *of(const cu_view<float, 4> &t, const place &p)
{
    return cu_at(t, p.b, p.t, p.h, W * p.k);
}

KN_DEVICE float sigmoid(float z)
{
    return __fdividef(1.0f, 1.0f + __expf(-z));
}

template <int W> KN_KERNEL(THREADS) forward(walk w, cu_view<float, 4> x, cu_view<float, 4> g, cu_view<float, 4> y)
{
    place first = place_of((int64_t)blockIdx.x * THREADS + threadIdx.x, w);
    for (int64_t turn = 0; turn < w.turns; turn++) {
        piece<W> vx[AHEAD], vg[AHEAD];
        place p = first;
        KN_UNROLL for (int i = 0; i < AHEAD; i++, go_on(p, w)) if (p.n < w.n) get(vx[i], of<W>(x, p)), get(vg[i], of<W>(g, p));
        KN_UNROLL for (int i = 0; i < AHEAD; i++, go_on(first, w))
        {
            if (first.n >= w.n) continue;
            KN_UNROLL for (int j = 0; j < W; j++) vx[i].v[j] *= sigmoid(vg[i].v[j]);
            put(of<W>(y, first), vx[i]);
        }
    }
}

template <int W>
KN_KERNEL(THREADS) backward(walk w, cu_view<float, 4> x, cu_view<float, 4> g, cu_view<float, 4> dy, cu_view<float, 4> dx, cu_view<float, 4> dg)
{
    place first = place_of((int64_t)blockIdx.x * THREADS + threadIdx.x, w);
    for (int64_t turn = 0; turn < w.turns; turn++) {
        piece<W> vx[AHEAD], vg[AHEAD], vy[AHEAD];
        place p = first;
        KN_UNROLL for (int i = 0; i < AHEAD; i++, go_on(p, w)) if (p.n < w.n) get(vx[i], of<W>(x, p)), get(vg[i], of<W>(g, p)), get(vy[i], of<W>(dy, p));
        KN_UNROLL for (int i = 0; i < AHEAD; i++, go_on(first, w))
        {
            if (first.n >= w.n) continue;
            KN_UNROLL for (int j = 0; j < W; j++)
            {
                float s = sigmoid(vg[i].v[j]), d = vy[i].v[j] * s;
                vg[i].v[j] = d * vx[i].v[j] * (1.0f - s);
                vy[i].v[j] = d;
            }
            put(of<W>(dg, first), vg[i]);
            put(of<W>(dx, first), vy[i]);
        }
    }
}

/* Pieces of W numbers of x, and the blocks that take them. */
static walk walk_of(struct kn_dev *dev, const struct kn_tensor *x, int W, int64_t *blocks)
{
    walk w = {kn_count(x) / W, x->d[1], x->d[2], x->d[3] / W, {}, 0};
    *blocks = cuda_blocks(w.n, THREADS, (int64_t)cuda_of(dev)->sms * 16);
    int64_t s = *blocks * THREADS;
    w.step = {s, s / w.K / w.H / w.T, s / w.K / w.H % w.T, s / w.K % w.H, s % w.K};
    w.turns = (w.n + s * AHEAD - 1) / (s * AHEAD);
    return w;
}

extern "C" st_t cuda_headgate(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *y)
{
    CUDA_TRY(kn_check_headgate(x, g, y));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    int64_t blocks;
    bool by4 = cuda_by4(x) && cuda_by4(g) && cuda_by4(y);
    walk w = walk_of(dev, x, by4 ? 4 : 1, &blocks);
    if (by4) CUDA_RUN(dev, forward<4>, blocks, THREADS, 0, w, x, g, y);
    else CUDA_RUN(dev, forward<1>, blocks, THREADS, 0, w, x, g, y);
    return ST_OK;
}

extern "C" st_t cuda_headgate_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *g, const struct kn_tensor *dy, const struct kn_tensor *dx,
                                  const struct kn_tensor *dg)
{
    CUDA_TRY(kn_check_headgate_bwd(x, g, dy, dx, dg));
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    int64_t blocks;
    bool by4 = cuda_by4(x) && cuda_by4(g) && cuda_by4(dy) && cuda_by4(dx) && cuda_by4(dg);
    walk w = walk_of(dev, x, by4 ? 4 : 1, &blocks);
    if (by4) CUDA_RUN(dev, backward<4>, blocks, THREADS, 0, w, x, g, dy, dx, dg);
    else CUDA_RUN(dev, backward<1>, blocks, THREADS, 0, w, x, g, dy, dx, dg);
    return ST_OK;
}
