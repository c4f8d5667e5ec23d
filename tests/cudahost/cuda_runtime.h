/* The part of CUDA's runtime that kernels/cuda uses, for the host: kernels run thread for thread, one block at a time, threads as fibers that give way at barriers
 * and warp collectives, blocks and threads in an order that is drawn anew each time. A stream's work has finished when the call returns; one that is captured keeps its
 * launches for the graph.
 *
 * What it catches by an abort, with a line that says where:
 *   - a barrier or warp collective that not all of its threads reach, or that they reach at different places
 *   - device memory before kn_wait_prior in a kernel that was launched early (a segmentation fault), or no kn_wait_prior there
 *   - shared and device memory past its end (a page without access stands there; what was asked for ends at it, to 16 bytes), misaligned accesses of 16 bytes
 * and by an outcome that is no number or differs from run to run: shared memory or scratch read before it was written (all bits are 1), a missing barrier, a missing
 * wait for an asynchronous copy.
 *
 * Faults on demand: cudahost_fail("cudaMalloc", 3, error) lets the third next call of that name fail; cudahost_card says what is there. CUDAHOST_FAIL=cudaMalloc:3:2 and
 * CUDAHOST_CARD=count:major:driver in the environment say the same to whole programs. */
#ifndef TAUT_TESTS_CUDAHOST_RUNTIME_H
#define TAUT_TESTS_CUDAHOST_RUNTIME_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- the language ---- */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

struct cudahost_stream;
namespace cudahost {
extern dim3 thread, block, grid_size, block_size; /* of the fiber that runs */
static constexpr size_t LANE = 64;                /* bytes that a lane may give */
void sync(const char *file, int line);
/* Every lane of mask gives n <= LANE bytes and gets those of all, LANE apart, valid until the warp's next collective but one. */
const unsigned char *exchange(const void *in, size_t n, unsigned mask, const char *file, int line);
int lane(void);
void *shared(void);
void check_aligned(const void *p, size_t to, const char *what);
void check_global(const void *p); /* not in shared memory */
void cp16(void *dst, const void *src, bool wanted);
void cp_commit(void);
void cp_wait(int left);
void next_early(bool early); /* the next launch is */
void wait_prior(const char *file, int line);
void launch(const char *name, dim3 grid, dim3 block, size_t shared, cudahost_stream *s, std::function<void()> body);
}
#define threadIdx (cudahost::thread)
#define blockIdx (cudahost::block)
#define gridDim (cudahost::grid_size)
#define blockDim (cudahost::block_size)
#define __syncthreads() cudahost::sync(__FILE__, __LINE__)
#define CUDAHOST_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <class T> static inline T cudahost_from(unsigned mask, T v, int from, const char *file, int line)
{
    T out;
    memcpy(&out, cudahost::exchange(&v, sizeof v, mask, file, line) + cudahost::LANE * (size_t)from, sizeof out);
    return out;
}
/* A lane of another segment of `width`, or none: the caller's own number, as in CUDA. */
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, CUDAHOST_AT)
{
    int l = cudahost::lane();
    return cudahost_from(mask, v, (l & ~(width - 1)) | (from & (width - 1)), file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32, CUDAHOST_AT)
{
    int l = cudahost::lane(), from = l ^ with;
    return cudahost_from(mask, v, from / width > l / width ? l : from, file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, CUDAHOST_AT)
{
    int l = cudahost::lane();
    return cudahost_from(mask, v, l % width < (int)by ? l : l - (int)by, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, CUDAHOST_AT)
{
    int l = cudahost::lane();
    return cudahost_from(mask, v, l % width + (int)by >= width ? l : l + (int)by, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int v, CUDAHOST_AT)
{
    const unsigned char *all = cudahost::exchange(&v, sizeof v, mask, file, line);
    unsigned out = 0;
    for (int i = 0; i < 32; i++) {
        int b;
        memcpy(&b, all + cudahost::LANE * (size_t)i, sizeof b);
        if (mask >> i & 1 && b) out |= 1u << i;
    }
    return out;
}
static inline int __any_sync(unsigned mask, int v, CUDAHOST_AT)
{
    return __ballot_sync(mask, v, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int v, CUDAHOST_AT)
{
    return __ballot_sync(mask, v, file, line) == mask;
}
static inline unsigned __reduce_max_sync(unsigned mask, unsigned v, CUDAHOST_AT)
{
    const unsigned char *all = cudahost::exchange(&v, sizeof v, mask, file, line);
    for (int i = 0; i < 32; i++) {
        unsigned u;
        memcpy(&u, all + cudahost::LANE * (size_t)i, sizeof u);
        if (mask >> i & 1 && u > v) v = u;
    }
    return v;
}
static inline unsigned __reduce_min_sync(unsigned mask, unsigned v, CUDAHOST_AT)
{
    return ~__reduce_max_sync(mask, ~v, file, line);
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T v, CUDAHOST_AT)
{
    const unsigned char *all = cudahost::exchange(&v, sizeof v, mask, file, line);
    unsigned out = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1 && !memcmp(all + cudahost::LANE * (size_t)i, &v, sizeof v)) out |= 1u << i;
    return out;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDAHOST_AT)
{
    int nothing = 0;
    cudahost::exchange(&nothing, sizeof nothing, mask, file, line);
}

static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __int_as_float(int i)
{
    return __uint_as_float((uint32_t)i);
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#define __expf(x) expf(x) /* functions of those names are the C library's own */
#define __logf(x) logf(x)
static inline float __fdividef(float x, float y)
{
    return x / y;
}
template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
/* Whole numbers alone: floats are not added by atomics. */
static inline int atomicAdd(int *p, int v)
{
    int old = *p;
    *p += v;
    return old;
}
static inline unsigned atomicAdd(unsigned *p, unsigned v)
{
    unsigned old = *p;
    *p += v;
    return old;
}
static inline void __threadfence(void) {}

/* ---- the runtime ---- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorECCUncorrectable = 214,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchOutOfResources = 701,
    cudaErrorLaunchFailure = 719,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureWrongThread = 908,
};
typedef cudahost_stream *cudaStream_t;
typedef struct cudahost_event *cudaEvent_t;
typedef struct cudahost_graph *cudaGraph_t;
typedef struct cudahost_graph *cudaGraphExec_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive, cudaStreamCaptureStatusInvalidated };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin, totalGlobalMem;
    int l2CacheSize;
};

const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int i);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i);
cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int i);
cudaError_t cudaDriverGetVersion(int *v);
cudaError_t cudaRuntimeGetVersion(int *v);
cudaError_t cudaMemGetInfo(size_t *there, size_t *all);
cudaError_t cudaMalloc(void **p, size_t n);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocManaged(void **p, size_t n);
cudaError_t cudaMallocHost(void **p, size_t n);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *out);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode m);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b);
cudaError_t cudahost_func_attribute(int value);
struct cudaFuncAttributes {
    int ptxVersion, binaryVersion;
};
cudaError_t cudahost_func_attributes(struct cudaFuncAttributes *a);
#define cudaFuncGetAttributes(a, kernel) ((void)(kernel), cudahost_func_attributes(a))
#define cudaFuncSetAttribute(kernel, which, value) ((void)(kernel), (void)(which), cudahost_func_attribute(value))

/* ---- what tests say of it ---- */
extern "C" {
void cudahost_fail(const char *call, int n, int error);
void cudahost_card(int count, int major, int driver, size_t memory); /* 1, 9, 13000 and 64 MiB * 64 to begin with */
void cudahost_seed(unsigned long long seed);
}

#endif
