/* Rotary position embedding, halves convention, in place. Bytes a number: read and written, 8, or 4 in bf16.
 *
 * A thread has W frequencies (4, or 1 for any strides and sizes) of one position and some of its heads: angles are worked out once for all of them. An angle is
 * kept in quarter turns, position * theta^(-2i/K) * 2 / pi, in f64, where positions of millions leave nine digits behind the point; what is left after the nearest whole
 * number goes to sine and cosine in f32, and that number's last two bits turn them. */
#include "kernels/cuda/cuda.h"

constexpr int THREADS = 256, AHEAD = 4, HEADS_MOST = 32; /* heads on their way at a time; heads of a thread */
constexpr double TWO_BY_PI = 0.63661977236758134308;

namespace {
template <int W> struct piece {
    float v[W];
};
}
template <class T> KN_DEVICE void get(piece<4> &p, const T *at)
{
    float4 f = cu_get4(at);
    p = {{f.x, f.y, f.z, f.w}};
}
template <class T> KN_DEVICE void get(piece<1> &p, const T *at)
{
    p.v[0] = cu_get(at);
}
template <class T> KN_DEVICE void put(T *at, const piece<4> &p)
{
    cu_write4(at, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]));
}
template <class T> KN_DEVICE void put(T *at, const piece<1> &p)
{
    cu_put(at, p.v[0]);
}

/* Cosine and sine of position * 2^-octaves: whole quarter turns aside, polynomials in r^2 through Chebyshev's nodes on |r| <= 1/2, off by 8e-8 at most with their
 * rounding. */
KN_DEVICE void turn_of(int64_t position, double octaves, float &c, float &s)
{
    double quarters = (double)position * (exp2(-octaves) * TWO_BY_PI), whole = rint(quarters);
    float r = (float)(quarters - whole), u = r * r;
    float sine = r * fmaf(fmaf(fmaf(-0.00460214913f, u, 0.0796802193f), u, -0.64596349f), u, 1.57079637f);
    float cosine = fmaf(fmaf(fmaf(fmaf(0.000906739908f, u, -0.0208615288f), u, 0.253669411f), u, -1.23370051f), u, 1.0f);
    int q = (int)((int64_t)whole & 3);
    c = q & 1 ? sine : cosine, s = q & 1 ? cosine : sine;
    if (q == 1 || q == 2) c = -c;
    if (q >= 2) s = -s;
}

template <int W, class T>
KN_KERNEL(THREADS) rotate(cu_view<T, 4> x, int64_t n, int64_t positions, int64_t heads, int64_t half, int64_t parts, int64_t each, int64_t pos0, double octave, float sign)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    int64_t pieces = half / W, i = at % pieces * W, part = at / pieces % parts, position = at / pieces / parts, b = position / positions, t = position % positions;
    int64_t h = part * each, end = h + each < heads ? h + each : heads;
    piece<W> c, s;
    KN_UNROLL for (int j = 0; j < W; j++)
    {
        turn_of(pos0 + t, (double)(i + j) * octave, c.v[j], s.v[j]);
        s.v[j] *= sign;
    }
    for (; h < end; h += AHEAD) {
        piece<W> lo[AHEAD], hi[AHEAD];
        KN_UNROLL for (int k = 0; k < AHEAD; k++)
            if (h + k < end) get(lo[k], cu_at(x, b, t, h + k, i)), get(hi[k], cu_at(x, b, t, h + k, i + half));
        KN_UNROLL for (int k = 0; k < AHEAD; k++)
        {
            if (h + k >= end) continue;
            KN_UNROLL for (int j = 0; j < W; j++)
            {
                float u = lo[k].v[j], v = hi[k].v[j];
                lo[k].v[j] = fmaf(-v, s.v[j], u * c.v[j]);
                hi[k].v[j] = fmaf(u, s.v[j], v * c.v[j]);
            }
            put(cu_at(x, b, t, h + k, i), lo[k]);
            put(cu_at(x, b, t, h + k, i + half), hi[k]);
        }
    }
}

template <int W, class T> static st_t run(struct kn_dev *dev, const struct kn_tensor *x, int64_t pos0, double theta, int inverse)
{
    int64_t positions = x->d[1], heads = x->d[2], half = x->d[3] / 2, one = x->d[0] * positions * (half / W), each = heads < HEADS_MOST ? heads : HEADS_MOST;
    while (each > 1 && one * ((heads + each - 1) / each) < (int64_t)cuda_of(dev)->sms * 2048) each = (each + 1) / 2;
    int64_t parts = (heads + each - 1) / each;
    CUDA_RUN(dev, (rotate<W, T>), cuda_blocks(one * parts, THREADS), THREADS, 0, x, one * parts, positions, heads, half, parts, each, pos0, log2(theta) / (double)half, inverse ? -1.0f : 1.0f);
    return ST_OK;
}

extern "C" st_t cuda_rope(struct kn_dev *dev, const struct kn_tensor *x, int64_t pos0, double theta, int inverse)
{
    CUDA_TRY(kn_check_rope(x, pos0, theta, inverse));
    if (!cuda_has(dev, x)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    bool by4 = cuda_by4(x) && x->d[3] % 8 == 0;
    if (x->dtype == KN_BF16) return by4 ? run<4, bf16>(dev, x, pos0, theta, inverse) : run<1, bf16>(dev, x, pos0, theta, inverse);
    return by4 ? run<4, float>(dev, x, pos0, theta, inverse) : run<1, float>(dev, x, pos0, theta, inverse);
}
