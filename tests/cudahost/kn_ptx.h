/* kernels/cuda/ptx/kn_ptx.h for the host: the same names, each warp operation by gathering what its lanes hold. Fragments as they stand there. */
#ifndef TAUT_TESTS_CUDAHOST_PTX_H
#define TAUT_TESTS_CUDAHOST_PTX_H

#include <cuda_runtime.h>
#include <tuple>

#define KN_KERNEL(threads) static void
#define KN_KERNEL_MIN(threads, blocks) static void
#define KN_DEVICE static inline __attribute__((unused))
#define KN_UNROLL
#define KN_ROLLED
#define KN_SHARED(type, name) type *name = (type *)cudahost::shared()
#define KN_FULL 0xffffffffu

/* Arguments are copied at the launch, as a launch does. */
template <class... P, class... A> static void kn_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A... a)
{
    std::tuple<P...> args(a...);
    cudahost::launch(name, grid, block, shared, s, [=] { std::apply(kernel, args); });
}
#define KN_LAUNCH(kernel, grid, block, shared, stream, ...) kn_launch(#kernel, kernel, (grid), (block), (shared), (stream), __VA_ARGS__)
/* Kernels run one after the other; but now and then nothing is there for the first block up to its kn_wait_prior. */
#define KN_LAUNCH_EARLY(early, kernel, grid, block, shared, stream, ...) (cudahost::next_early(early), KN_LAUNCH(kernel, grid, block, shared, stream, __VA_ARGS__))
KN_DEVICE void kn_wait_prior(CUDAHOST_AT)
{
    cudahost::wait_prior(file, line);
}
KN_DEVICE void kn_let_next(void) {}
KN_DEVICE void kn_prefetch(const void *) {}

KN_DEVICE uint32_t kn_bf16_of(float f)
{
    uint32_t u = __float_as_uint(f);
    return f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
KN_DEVICE uint32_t kn_pack_bf16(float lo, float hi)
{
    return kn_bf16_of(lo) | kn_bf16_of(hi) << 16;
}
KN_DEVICE float kn_half_of(uint32_t pair, int which)
{
    return __uint_as_float(which ? pair & 0xffff0000u : pair << 16);
}

/* Rows of a are spread over the lanes that hold them, columns of b likewise. */
KN_DEVICE void kn_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], CUDAHOST_AT)
{
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const unsigned char *all = cudahost::exchange(mine, sizeof mine, KN_FULL, file, line);
    auto of = [&](int lane) { return (const uint32_t *)(all + cudahost::LANE * (size_t)lane); };
    int l = cudahost::lane();
    for (int i = 0; i < 4; i++) {
        int row = l / 4, col = 2 * (l % 4) + (i & 1);
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            const uint32_t *ra = of(row * 4 + k % 8 / 2), *rb = of(col * 4 + k % 8 / 2);
            sum += kn_half_of(ra[(i >> 1) + 2 * (k / 8)], k & 1) * kn_half_of(rb[4 + k / 8], k & 1);
        }
        d[i] += sum;
    }
}

KN_DEVICE void kn_ldmatrix_any(uint32_t r[4], const void *p, bool turned, const char *file, int line)
{
    cudahost::check_aligned(p, 16, "ldmatrix");
    const unsigned char *all = cudahost::exchange(&p, sizeof p, KN_FULL, file, line);
    int l = cudahost::lane();
    for (int i = 0; i < 4; i++) {
        uint32_t pair = 0;
        for (int h = 0; h < 2; h++) {
            int row = turned ? 2 * (l % 4) + h : l / 4, col = turned ? l / 4 : 2 * (l % 4) + h;
            const unsigned char *at;
            uint16_t v;
            memcpy(&at, all + cudahost::LANE * (size_t)(8 * i + row), sizeof at);
            memcpy(&v, at + 2 * col, sizeof v);
            pair |= (uint32_t)v << (16 * h);
        }
        r[i] = pair;
    }
    __syncwarp(KN_FULL, file, line); /* nobody writes there before all have read */
}
KN_DEVICE void kn_ldmatrix(uint32_t r[4], const void *p, CUDAHOST_AT)
{
    kn_ldmatrix_any(r, p, false, file, line);
}
KN_DEVICE void kn_ldmatrix_t(uint32_t r[4], const void *p, CUDAHOST_AT)
{
    kn_ldmatrix_any(r, p, true, file, line);
}

KN_DEVICE void kn_cp16(void *shared, const void *global, bool wanted)
{
    cudahost::cp16(shared, global, wanted);
}
KN_DEVICE void kn_cp_commit(void)
{
    cudahost::cp_commit();
}
template <int N> KN_DEVICE void kn_cp_wait(void)
{
    cudahost::cp_wait(N);
}

KN_DEVICE uint4 kn_load16(const void *p)
{
    cudahost::check_aligned(p, 16, "load of 16 bytes");
    return *(const uint4 *)p;
}
KN_DEVICE void kn_store16(void *p, uint4 v)
{
    cudahost::check_aligned(p, 16, "store of 16 bytes");
    *(uint4 *)p = v;
}
KN_DEVICE uint2 kn_load8(const void *p)
{
    cudahost::check_aligned(p, 8, "load of 8 bytes");
    return *(const uint2 *)p;
}
KN_DEVICE void kn_store8(void *p, uint2 v)
{
    cudahost::check_aligned(p, 8, "store of 8 bytes");
    *(uint2 *)p = v;
}
KN_DEVICE uint4 kn_stream16(const void *p)
{
    return kn_load16(p);
}
KN_DEVICE uint2 kn_stream8(const void *p)
{
    return kn_load8(p);
}
KN_DEVICE uint32_t kn_stream4(const void *p)
{
    cudahost::check_aligned(p, 4, "load of 4 bytes");
    return *(const uint32_t *)p;
}
KN_DEVICE void kn_write16(void *p, uint4 v)
{
    cudahost::check_global(p);
    kn_store16(p, v);
}
KN_DEVICE void kn_write8(void *p, uint2 v)
{
    cudahost::check_global(p);
    kn_store8(p, v);
}
KN_DEVICE float kn_exp2(float x)
{
    return exp2f(x);
}

#endif
