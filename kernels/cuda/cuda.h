/* What the CUDA device's files share: its state, how kernels see tensors, and sums over warps and blocks. kernels/cuda/README.md has the rules.
 *
 * An op is a host function cuda_<name> with the op's parameters: it asks kn_check_<name>, refuses what the device lacks, and enqueues kernels on the device's
 * stream in order. It never waits, and allocates nothing but scratch that grows (cuda_scratch). Whatever depends on a tensor's numbers is decided on the device.
 *
 * Bits: the same for the same shapes on the same card. Sums are cut by shape alone, floats are never added by atomics. */
#ifndef TAUT_KERNELS_CUDA_CUDA_H
#define TAUT_KERNELS_CUDA_CUDA_H

#include <kn_ptx.h>
#include <math.h>

extern "C" {
#include "kernels/check.h"
#include "kernels/device.h"
}

/* Scratch that lives until the slot's next user. An op that needs two at once takes two slots; GEMM's are those of products inside of other ops. */
enum cuda_slot { CUDA_SLOT_A, CUDA_SLOT_B, CUDA_SLOT_C, CUDA_SLOT_GEMM_A, CUDA_SLOT_GEMM_B, CUDA_SLOT_GEMM_C, CUDA_SLOT_WORKSPACE /* cuBLASLt's */, CUDA_SLOT_COUNT };

struct cuda_blas; /* blas.cu */

struct cuda {
    int index;
    cudaStream_t stream;
    cudaEvent_t mark[2];
    bool marked[2];
    bool early;           /* KN_LAUNCH_EARLY: the card can, and what it runs was compiled for such a card */
    int sms;              /* multiprocessors */
    size_t shared_most;   /* bytes of shared memory that a block may ask for */
    struct {
        void *p;
        size_t bytes;
    } slot[CUDA_SLOT_COUNT];
    uint64_t moved; /* grows with every piece of scratch that is given up: graphs hold its addresses */
    struct cuda_blas *blas;
    st_t lost; /* ST_ELOST from the first error on that no later call can survive */
};

static inline struct cuda *cuda_of(struct kn_dev *dev)
{
    return (struct cuda *)dev->self;
}

extern "C" {
#define KN_OP(name, args) st_t cuda_##name KN_ARGS args;
#include "kernels/ops.def"
#undef KN_OP

extern const struct kn_ops kn_cuda_ops;
extern const struct kn_dev_vtable kn_cuda_vtable;

/* *out: `bytes` of device memory, 256-byte aligned, contents undefined. ST_ENOMEM; ST_ESTATE where it would have to grow while a graph is captured. */
st_t cuda_scratch(struct kn_dev *dev, enum cuda_slot slot, size_t bytes, void **out);
/* What a runtime call or the launches since the last look said. ST_ENOMEM: out of device memory; ST_ELOST: the device or its context is gone, and every call
 * says so from then on. */
st_t cuda_status(struct kn_dev *dev, cudaError_t e);

/* blas.cu: products through cuBLASLt. */
st_t cuda_blas_new(struct cuda_blas **out, struct kn_dev *dev, struct base_err *err);
void cuda_blas_free(struct cuda_blas *b);

/* C [M,N] = alpha A [M,P] B [P,N] + beta C of `batch` matrices, their starts a step of elements apart. Types: all f32; or a, b bf16 and c f32 or bf16.
 * One of a matrix's two strides is 1 and the other at least the other dim; else ST_EINVAL. */
struct cuda_matrix {
    const void *p;
    enum kn_dtype dtype;
    int64_t s0, s1, step;
};
st_t cuda_blas_matmul(struct kn_dev *dev, int64_t M, int64_t N, int64_t P, int64_t batch, float alpha, const struct cuda_matrix *a, const struct cuda_matrix *b,
                      float beta, const struct cuda_matrix *c);

/* gemm.cu. *out: the matrix t [d0,d1] as products want it: of type `want` (f32 or bf16) and with a unit stride; t's own memory where that is so, else a copy in the
 * slot. t: f32, bf16, or, transposed (s[0] = 1), KN_I8. Its numbers are rounded to bf16, or widened exactly. */
st_t cuda_operand(struct kn_dev *dev, const struct kn_tensor *t, enum kn_dtype want, enum cuda_slot slot, struct cuda_matrix *out);
/* As cuda_blas_matmul of one matrix, c of any strides and P = 0 allowed: what cuBLASLt does not take goes its plain way. a, b: cuda_operand's. */
st_t cuda_matmul(struct kn_dev *dev, int64_t M, int64_t N, int64_t P, float alpha, const struct cuda_matrix *a, const struct cuda_matrix *b, float beta,
                 const struct cuda_matrix *c);
}

/* Enqueues kernel<<<grid, block, shared>>>; what was asked wrongly comes out at once, what goes wrong on the device at a later look. Within ops:
 *   CUDA_RUN(dev, kernel, grid, block, shared, args…);      returns from the op where it is refused
 *   CUDA_RUN_EARLY(…);                                      the same by KN_LAUNCH_EARLY, where the card can
 * A grid of nothing is not launched. grid: int64_t or dim3. */
static inline dim3 cuda_grid(int64_t x)
{
    return dim3((unsigned)x);
}
static inline dim3 cuda_grid(dim3 g)
{
    return g;
}
#define CUDA_RUN(dev, kernel, grid, block, shared, ...) CUDA_RUN_BY(KN_LAUNCH, dev, kernel, grid, block, shared, __VA_ARGS__)
#define CUDA_RUN_EARLY(dev, kernel, grid, block, shared, ...) CUDA_RUN_BY(CUDA_LAUNCH_EARLY, dev, kernel, grid, block, shared, __VA_ARGS__)
#define CUDA_LAUNCH_EARLY(kernel, grid, block, shared, stream, ...) KN_LAUNCH_EARLY(early_, kernel, grid, block, shared, stream, __VA_ARGS__)
#define CUDA_RUN_BY(launch, dev, kernel, grid, block, shared, ...)                                                                         \
    do {                                                                                                                                   \
        dim3 grid_ = cuda_grid(grid);                                                                                                      \
        size_t shared_ = (shared);                                                                                                         \
        [[maybe_unused]] bool early_ = cuda_of(dev)->early;                                                                           \
        if (cuda_of(dev)->lost) return cuda_of(dev)->lost;                                                                                 \
        if (!grid_.x || !grid_.y || !grid_.z) break;                                                                                       \
        if (shared_ > 48 << 10) {                                                                                                          \
            st_t st_ = cuda_status(dev, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_));          \
            if (st_) return st_;                                                                                                           \
        }                                                                                                                                  \
        launch(kernel, grid_, block, shared_, cuda_of(dev)->stream, __VA_ARGS__);                                                          \
        st_t st_ = cuda_status(dev, cudaGetLastError());                                                                                   \
        if (st_) return st_;                                                                                                               \
    } while (0)
#define CUDA_TRY(call)               \
    do {                             \
        st_t try_ = (call);          \
        if (try_) return try_;       \
    } while (0)

/* ceil(n / by) blocks, at most `most` (a loop in the kernel covers the rest); 0 for nothing. */
static inline int64_t cuda_blocks(int64_t n, int64_t by, int64_t most = INT32_MAX)
{
    int64_t b = (n + by - 1) / by;
    return b < most ? b : most;
}

/* f32 everywhere, or bf16 where the op allows it under that precision. */
static inline bool cuda_is_f32(const struct kn_tensor *t)
{
    return t->dtype == KN_F32;
}
static inline bool cuda_is_bf16(const struct kn_dev *dev, const struct kn_tensor *t)
{
    return t->dtype == KN_BF16 && dev->precision == KN_BF16;
}
/* f32, or bf16 under that precision. */
static inline bool cuda_has(const struct kn_dev *dev, const struct kn_tensor *t)
{
    return cuda_is_f32(t) || cuda_is_bf16(dev, t);
}

/* cu_get4 and cu_put4 reach all of t: its last stride is 1, and its last dim, the other strides and its start are whole fours. */
static inline bool cuda_by4(const struct kn_tensor *t)
{
    size_t four = 4 * kn_dtype_size(t->dtype);
    bool yes = t->s[t->rank - 1] == 1 && t->d[t->rank - 1] % 4 == 0 && (uintptr_t)t->p % four == 0;
    for (int i = 0; i < t->rank - 1; i++) yes &= t->s[i] % 4 == 0;
    return yes;
}

/* ---- tensors in kernels ---- */

typedef uint16_t bf16; /* raw */

KN_DEVICE float cu_widen(bf16 h)
{
    return __uint_as_float((uint32_t)h << 16);
}
KN_DEVICE bf16 cu_round(float f)
{
    return (bf16)kn_pack_bf16(f, 0.0f);
}
KN_DEVICE float cu_get(const float *p)
{
    return *p;
}
KN_DEVICE float cu_get(const bf16 *p)
{
    return cu_widen(*p);
}
KN_DEVICE void cu_put(float *p, float v)
{
    *p = v;
}
KN_DEVICE void cu_put(bf16 *p, float v)
{
    *p = cu_round(v);
}

/* Four neighbours at once: p aligned to four of them. */
KN_DEVICE float4 cu_get4(const float *p)
{
    uint4 v = kn_load16(p);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}
KN_DEVICE float4 cu_get4(const bf16 *p)
{
    uint2 v = kn_load8(p);
    return make_float4(__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16), __uint_as_float(v.y & 0xffff0000u));
}
KN_DEVICE void cu_put4(float *p, float4 v)
{
    kn_store16(p, make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)));
}
KN_DEVICE void cu_put4(bf16 *p, float4 v)
{
    kn_store8(p, make_uint2(kn_pack_bf16(v.x, v.y), kn_pack_bf16(v.z, v.w)));
}
/* cu_put4 to global memory alone (kn_write16). */
KN_DEVICE void cu_write4(float *p, float4 v)
{
    kn_write16(p, make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)));
}
KN_DEVICE void cu_write4(bf16 *p, float4 v)
{
    kn_write8(p, make_uint2(kn_pack_bf16(v.x, v.y), kn_pack_bf16(v.z, v.w)));
}

/* A tensor as kernels see it: its strides in elements, p NULL where it is absent. T float, bf16 or int32_t. */
template <class T, int R> struct cu_view {
    T *p;
    int64_t s[R];
    cu_view(const struct kn_tensor *t) : p(t ? (T *)t->p : NULL)
    {
        for (int i = 0; i < R; i++) s[i] = t && i < t->rank ? t->s[i] : 0;
    }
};
template <class T> using cu_vec = cu_view<T, 1>;
template <class T> using cu_mat = cu_view<T, 2>;
template <class T> KN_DEVICE T *cu_at(const cu_view<T, 1> &v, int64_t i)
{
    return v.p + i * v.s[0];
}
template <class T> KN_DEVICE T *cu_at(const cu_view<T, 2> &v, int64_t i, int64_t j)
{
    return v.p + i * v.s[0] + j * v.s[1];
}
template <class T> KN_DEVICE T *cu_at(const cu_view<T, 3> &v, int64_t i, int64_t j, int64_t k)
{
    return v.p + i * v.s[0] + j * v.s[1] + k * v.s[2];
}
template <class T> KN_DEVICE T *cu_at(const cu_view<T, 4> &v, int64_t i, int64_t j, int64_t k, int64_t l)
{
    return v.p + i * v.s[0] + j * v.s[1] + k * v.s[2] + l * v.s[3];
}

/* ---- sums ---- in an order that the number of threads alone decides */

/* Over the warp's 32 lanes, the same bits in each. */
KN_DEVICE float cu_warp_sum(float v)
{
    KN_UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(KN_FULL, v, o);
    return v;
}
KN_DEVICE float cu_warp_max(float v)
{
    KN_UNROLL for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(KN_FULL, v, o));
    return v;
}
/* Over a block of whole warps, at most 1024 threads; part: 32 floats of shared memory, free again after the next barrier. The
 * same bits in every thread. */
KN_DEVICE float cu_block_sum(float v, float *part)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    v = cu_warp_sum(v);
    __syncthreads();
    if (lane == 0) part[warp] = v;
    __syncthreads();
    v = cu_warp_sum(lane < warps ? part[lane] : 0.0f);
    return v;
}

#endif
