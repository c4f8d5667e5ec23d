/* What CUDA C says differently from C++: launches, shared memory, PTX and fast intrinsics. The one place of them, so that tests/cudahost can put a header of
 * the same name in its stead and the kernels compile for the host, thread for thread (kernels/cuda/README.md has the rules).
 *
 *   KN_KERNEL(256) scale(const float *x, float *y, int64_t n)          // at most 256 threads a block
 *   {
 *       KN_SHARED(float, part);                                       // all the dynamic shared memory there is, 128-byte aligned
 *       …
 *   }
 *   KN_LAUNCH(scale, grid, block, shared_bytes, stream, x, y, n);
 *
 * Fragments are those of PTX ISA 8, "Matrix fragments for mma.m16n8k16": of lane l, with r = l / 4 and c = 2 (l % 4),
 *   a[0] rows r, columns c c+1;  a[1] r+8, c;  a[2] r, c+8;  a[3] r+8, c+8        (bf16 pairs, the lower column in the lower half)
 *   b[0] rows c c+1 of column r;  b[1] rows c+8 c+9 of column r                     d[0] d[1] row r, columns c c+1;  d[2] d[3] row r+8 */
#ifndef TAUT_KERNELS_CUDA_PTX_H
#define TAUT_KERNELS_CUDA_PTX_H

#include <cuda_runtime.h>
#include <stdint.h>

#define KN_KERNEL(threads) static __global__ void __launch_bounds__(threads)
/* A kernel of its own register budget: at least `blocks` of it on a multiprocessor. */
#define KN_KERNEL_MIN(threads, blocks) static __global__ void __launch_bounds__(threads, blocks)
#define KN_DEVICE static __device__ __forceinline__
#define KN_UNROLL _Pragma("unroll")
#define KN_ROLLED _Pragma("unroll 1") /* a loop that shall stay one, for its registers' sake */
#define KN_SHARED(type, name)                                 \
    extern __shared__ __align__(128) unsigned char kn_smem[]; \
    type *name = (type *)kn_smem
#define KN_LAUNCH(kernel, grid, block, shared, stream, ...) ((kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__))
#define KN_FULL 0xffffffffu

/* As KN_LAUNCH; but where `early`, which takes compute capability 9.0, the kernel may begin as soon as all blocks of the stream's previous one have called kn_let_next or
 * ended. All its threads call kn_wait_prior; what they do before is to ask for memory that they will want (kn_prefetch), and neither reads nor writes any. */
#define KN_LAUNCH_EARLY(early, kernel, grid, block, shared, stream, ...) kn_launch_early((early), (kernel), (grid), (block), (shared), (stream), __VA_ARGS__)
template <class... P, class... A> static inline void kn_launch_early(bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A... a)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = stream;
    config.attrs = &attribute, config.numAttrs = early;
    (void)cudaLaunchKernelEx(&config, kernel, a...); /* what goes wrong is cudaGetLastError's */
}

KN_DEVICE uint32_t kn_shared_at(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Two numbers rounded to bf16, to nearest even: lo in the lower half. */
KN_DEVICE uint32_t kn_pack_bf16(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

/* d += a b, m16n8k16 of bf16 with sums in f32. By the whole warp. */
KN_DEVICE void kn_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices of 16-bit numbers: lane 8 i + j names the j-th row of the i-th, 16 bytes at p in shared memory, 16-byte aligned. r[i]: the pair of
 * columns 2 (lane % 4) of row lane / 4; _t: of the transposed. By the whole warp. */
KN_DEVICE void kn_ldmatrix(uint32_t r[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(kn_shared_at(p)) : "memory");
}
KN_DEVICE void kn_ldmatrix_t(uint32_t r[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(kn_shared_at(p)) : "memory");
}

/* Asynchronous copy of 16 bytes, both aligned to 16, from global to shared memory; wanted = 0: zeros are written and nothing is read. Copies belong to the
 * group that the thread's next kn_cp_commit closes; kn_cp_wait<N>: all but the last N of the thread's own groups are there. For other threads' eyes a barrier must follow. */
KN_DEVICE void kn_cp16(void *shared, const void *global, bool wanted)
{
    int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(kn_shared_at(shared)), "l"(global), "r"(bytes) : "memory");
}
KN_DEVICE void kn_cp_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> KN_DEVICE void kn_cp_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 16 and 8 bytes at once; p aligned to as many. */
KN_DEVICE uint4 kn_load16(const void *p)
{
    return *(const uint4 *)p;
}
KN_DEVICE void kn_store16(void *p, uint4 v)
{
    *(uint4 *)p = v;
}
KN_DEVICE uint2 kn_load8(const void *p)
{
    return *(const uint2 *)p;
}
KN_DEVICE void kn_store8(void *p, uint2 v)
{
    *(uint2 *)p = v;
}

/* The same, and 4, of what nobody writes while the kernel runs and this thread alone reads: L1 keeps no line of it. */
KN_DEVICE uint4 kn_stream16(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}
KN_DEVICE uint2 kn_stream8(const void *p)
{
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}
KN_DEVICE uint32_t kn_stream4(const void *p)
{
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

/* All that the stream's earlier kernels wrote is there. (PTX ISA 8, griddepcontrol.) */
KN_DEVICE void kn_wait_prior(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* From here on the stream's next kernel may begin, if it was launched early. */
KN_DEVICE void kn_let_next(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/* The line of device memory around p to L2. */
KN_DEVICE void kn_prefetch(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
/* The stores again, to global memory alone: one instruction each, where the compiler takes *(uint4 *)p = v apart and does not always find the parts again. */
KN_DEVICE void kn_write16(void *p, uint4 v)
{
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(__cvta_generic_to_global(p)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
KN_DEVICE void kn_write8(void *p, uint2 v)
{
    asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(__cvta_generic_to_global(p)), "r"(v.x), "r"(v.y) : "memory");
}

/* 2^x, an approximation within 2 units in the last place. */
KN_DEVICE float kn_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
