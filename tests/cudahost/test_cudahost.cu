/* The host's stand-in for a GPU, itself: that right kernels give what they should, and that each mistake it is there for is noticed. */
#include <kn_ptx.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "base/rng.h"
#include "tests/tap.h"
}

constexpr int N = 128;
static cudaStream_t stream;

template <class T> static T *device(int64_t n)
{
    void *p = NULL;
    if (cudaMalloc(&p, (size_t)n * sizeof(T))) abort();
    return (T *)p;
}

/* ---- right and wrong kernels ---- */

enum fault { RIGHT, NO_BARRIER, NO_WAIT, WRONG_WAIT, NO_ZERO, GLOBAL_PAST, SHARED_PAST, DIVERGENT, DIVERGENT_PLACE, LEFT, WARP_LEFT, WARP_PLACE, SMALL_MASK, MISALIGNED, MISALIGNED_COPY, NO_SYNCWARP };

/* y = x backwards, through shared memory. */
KN_KERNEL(N) backwards(const float *x, float *y, int fault)
{
    KN_SHARED(float, s);
    int i = threadIdx.x;
    s[i + (fault == SHARED_PAST)] = x[i];
    if (fault == LEFT && i == 3) return;
    if (fault == DIVERGENT && i < 16) {
    } else if (fault == DIVERGENT_PLACE && i < 16) {
        __syncthreads();
    } else if (fault != NO_BARRIER) {
        __syncthreads();
    }
    y[i + (fault == GLOBAL_PAST)] = s[N - 1 - i];
}

/* y = x through asynchronous copies, in two halves. */
KN_KERNEL(N) copies(const float *x, float *y, int fault)
{
    KN_SHARED(float, s);
    int i = threadIdx.x;
    if (i < N / 8) kn_cp16(s + 4 * i + (fault == MISALIGNED_COPY), x + 4 * i, true);
    kn_cp_commit();
    if (i >= N / 8 && i < N / 4) kn_cp16(s + 4 * i, x + 4 * i, true);
    kn_cp_commit();
    if (fault == WRONG_WAIT) kn_cp_wait<1>();
    else if (fault != NO_WAIT) kn_cp_wait<0>();
    if (fault != NO_BARRIER) __syncthreads();
    y[i] = s[(i + 64) % N];
}

/* Sum of a warp's lanes in every lane. */
KN_KERNEL(N) warp_sums(const float *x, float *y, int fault)
{
    int i = threadIdx.x, lane = i % 32;
    float v = x[i];
    if (fault == WARP_LEFT && lane == 7) return;
    for (int o = 16; o; o >>= 1) {
        unsigned mask = fault == SMALL_MASK ? 0xffffu : KN_FULL;
        if (fault == WARP_PLACE && lane < 8 && o == 4) v += __shfl_xor_sync(mask, v, o);
        else v += __shfl_xor_sync(mask, v, o);
    }
    y[i] = v;
}

/* y = x backwards within each warp, through shared memory that the warp alone uses. */
KN_KERNEL(N) warp_backwards(const float *x, float *y, int fault)
{
    KN_SHARED(float, s);
    int i = threadIdx.x;
    s[i] = x[i];
    if (fault != NO_SYNCWARP) __syncwarp();
    y[i] = s[(i & ~31) + 31 - i % 32];
}

KN_KERNEL(N) wide(const float *x, float *y, int fault)
{
    int i = threadIdx.x;
    if (i < N / 4 - 1) kn_store16(y + 4 * i, kn_load16(x + 4 * i + (fault == MISALIGNED)));
}

typedef void kernel_fn(const float *, float *, int);
static float *x, *y;

static void run(kernel_fn *k, int fault)
{
    KN_LAUNCH(k, dim3(1), dim3(N), N * sizeof(float), stream, (const float *)x, y, fault);
}

/* What a child says of it: its last line on stderr in *said. 0: it ran to its end; else the signal. */
static int child(kernel_fn *k, int fault, unsigned long long seed, char *said, size_t size)
{
    int p[2];
    fflush(stdout);
    if (pipe(p)) abort();
    pid_t pid = fork();
    if (!pid) {
        dup2(p[1], 2);
        close(p[0]), close(p[1]);
        signal(SIGSEGV, SIG_DFL), signal(SIGABRT, SIG_DFL);
        cudahost_seed(seed);
        run(k, fault);
        _exit(0);
    }
    close(p[1]);
    size_t at = 0;
    ssize_t n;
    while (at + 1 < size && (n = read(p[0], said + at, size - 1 - at)) > 0) at += (size_t)n;
    said[at] = 0;
    close(p[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void aborts(const char *what, kernel_fn *k, int fault, const char *words)
{
    char said[65536];
    int how = child(k, fault, 1, said, sizeof said);
    ok(how != 0 && (!words || strstr(said, words)), "%s is noticed%s%s", what, words ? ": " : "", words ? words : "");
    if (how == 0 || (words && !strstr(said, words))) printf("#   ended with %d: %.200s\n", how, said);
    char none[65536];
    is_int(child(k, RIGHT, 1, none, sizeof none), 0, "%s: without it, it is not", what);
}

/* Of 20 orders: how many gave another outcome than the right kernel. */
static int differ(kernel_fn *k, int fault)
{
    float want[N];
    int n = 0;
    run(k, RIGHT);
    memcpy(want, y, sizeof want);
    for (unsigned long long seed = 1; seed <= 20; seed++) {
        memset(y, 0, N * sizeof *y);
        cudahost_seed(seed);
        run(k, fault);
        n += memcmp(want, y, sizeof want) != 0;
    }
    return n;
}

static void mistakes(void)
{
    run(backwards, RIGHT);
    int bad = 0;
    for (int i = 0; i < N; i++) bad += y[i] != x[N - 1 - i];
    is_int(bad, 0, "shared memory and a barrier");
    is_int(differ(backwards, RIGHT), 0, "the order of threads does not matter to it");
    ok(differ(backwards, NO_BARRIER) >= 19, "a missing barrier");
    run(copies, RIGHT);
    bad = 0;
    for (int i = 0; i < N; i++) bad += y[i] != x[(i + 64) % N];
    is_int(bad, 0, "asynchronous copies");
    ok(differ(copies, NO_WAIT) == 20, "a missing wait");
    ok(differ(copies, WRONG_WAIT) == 20, "a wait for one group too few");
    ok(differ(copies, NO_BARRIER) >= 19, "a missing barrier after the wait");
    run(warp_backwards, RIGHT);
    ok(y[0] == x[31] && y[N - 1] == x[N - 32], "a warp's own shared memory");
    ok(differ(warp_backwards, NO_SYNCWARP) >= 19, "a missing __syncwarp");
    aborts("an index past device memory", backwards, GLOBAL_PAST, NULL);
    aborts("an index past shared memory", backwards, SHARED_PAST, NULL);
    aborts("a barrier that some leave out", backwards, DIVERGENT, "divergent barrier");
    aborts("barriers at two places", backwards, DIVERGENT_PLACE, "divergent barrier");
    aborts("a thread that leaves before the barrier", backwards, LEFT, "divergent barrier");
    aborts("a lane that leaves before the shuffle", warp_sums, WARP_LEFT, "lanes of its warp");
    aborts("shuffles at two places", warp_sums, WARP_PLACE, "divergent warp");
    aborts("a lane that its mask leaves out", warp_sums, SMALL_MASK, "leaves out the lane");
    aborts("16 bytes at no multiple of 16", wide, MISALIGNED, "misaligned");
    aborts("an asynchronous copy to no multiple of 16", copies, MISALIGNED_COPY, "misaligned");
}

/* ---- warp operations against their definitions ---- */

KN_KERNEL(32) shuffles(int *out)
{
    int l = threadIdx.x;
    out[l] = __shfl_sync(KN_FULL, 100 + l, 5);
    out[32 + l] = __shfl_sync(KN_FULL, 100 + l, l + 1, 8);
    out[64 + l] = __shfl_up_sync(KN_FULL, 100 + l, 3);
    out[96 + l] = __shfl_down_sync(KN_FULL, 100 + l, 3, 16);
    out[128 + l] = __shfl_xor_sync(KN_FULL, 100 + l, 9);
    out[160 + l] = (int)__ballot_sync(KN_FULL, l % 3 == 0);
    out[192 + l] = __any_sync(KN_FULL, l == 40) * 2 + __all_sync(KN_FULL, l < 32);
}

static void lanes(void)
{
    int *out = device<int>(224), bad = 0;
    KN_LAUNCH(shuffles, dim3(1), dim3(32), 0, stream, out);
    for (int l = 0; l < 32; l++) {
        bad += out[l] != 105;
        bad += out[32 + l] != 100 + l / 8 * 8 + (l + 1) % 8;
        bad += out[64 + l] != 100 + (l < 3 ? l : l - 3);
        bad += out[96 + l] != 100 + (l % 16 + 3 > 15 ? l : l + 3);
        bad += out[128 + l] != 100 + (l ^ 9);
        bad += (unsigned)out[160 + l] != 0x49249249u;
        bad += out[192 + l] != 1;
    }
    is_int(bad, 0, "shuffles and votes");
    cudaFree(out);
}

/* d [16,8] = a [16,16] b [16,8] in bf16, a and b in shared memory: a by ldmatrix, b, row-major, by the transposing one. */
KN_KERNEL(32) product(const uint16_t *a, const uint16_t *b, float *d)
{
    KN_SHARED(uint16_t, s);
    int l = threadIdx.x;
    for (int i = l; i < 256; i += 32) s[i] = a[i];
    for (int i = l; i < 128; i += 32) s[256 + i] = b[i];
    __syncthreads();
    uint32_t fa[4], fb[4];
    float sum[4] = {1, 1, 1, 1};
    kn_ldmatrix(fa, s + (l % 16) * 16 + l / 16 * 8);
    kn_ldmatrix_t(fb, s + 256 + (l % 16) * 8);
    kn_mma_bf16(sum, fa, fb);
    for (int i = 0; i < 4; i++) d[(l / 4 + i / 2 * 8) * 8 + 2 * (l % 4) + i % 2] = sum[i];
}

static float number(uint16_t h)
{
    return __uint_as_float((uint32_t)h << 16);
}

static void matrices(void)
{
    uint16_t *a = device<uint16_t>(256), *b = device<uint16_t>(128);
    float *d = device<float>(128);
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    for (int i = 0; i < 256; i++) a[i] = (uint16_t)(__float_as_uint((float)base_rng_normal(&r)) >> 16);
    for (int i = 0; i < 128; i++) b[i] = (uint16_t)(__float_as_uint((float)base_rng_normal(&r)) >> 16);
    KN_LAUNCH(product, dim3(1), dim3(32), 384 * sizeof(uint16_t), stream, (const uint16_t *)a, (const uint16_t *)b, d);
    double worst = 0;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            double want = 1;
            for (int k = 0; k < 16; k++) want += (double)number(a[i * 16 + k]) * (double)number(b[k * 8 + j]);
            worst = tap_worse(worst, fabs(want - (double)d[i * 8 + j]));
        }
    ok(worst < 1e-5, "ldmatrix and mma: a product (%.1e)", worst);
    uint32_t p = kn_pack_bf16(1.00390625f, -3.0f); /* halfway between two: to the even one */
    ok(p == 0xc0403f80u, "rounding to bf16, the lower number in the lower half (%08x)", p);
    cudaFree(a), cudaFree(b), cudaFree(d);
}

/* ---- the runtime ---- */

KN_KERNEL(N) add(float *p, float v)
{
    p[blockIdx.x * N + threadIdx.x] += v;
}

static void runtime(void)
{
    float *p = device<float>(2 * N);
    cudaGraph_t g;
    cudaGraphExec_t e;
    ok(p[0] != p[0] && p[2 * N - 1] != p[2 * N - 1], "memory that nobody wrote is not a number");
    cudaMemsetAsync(p, 0, 2 * N * sizeof *p, stream);
    is_int(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess, "a capture begins");
    KN_LAUNCH(add, dim3(2), dim3(N), 0, stream, p, 1.0f);
    KN_LAUNCH(add, dim3(1), dim3(N), 0, stream, p, 2.0f);
    is_int(cudaStreamEndCapture(stream, &g), cudaSuccess, "and ends");
    ok(p[0] == 0, "what is captured does not run");
    is_int(cudaGraphInstantiate(&e, g, 0), cudaSuccess, "a graph");
    cudaGraphDestroy(g);
    cudaGraphLaunch(e, stream), cudaGraphLaunch(e, stream);
    ok(p[5] == 6 && p[N + 5] == 2, "the graph runs, twice");
    cudaGraphExecDestroy(e);
    KN_LAUNCH(add, dim3(1), dim3(2048), 0, stream, p, 1.0f);
    is_int(cudaGetLastError(), cudaErrorInvalidConfiguration, "a block of 2048 threads");
    KN_LAUNCH(add, dim3(1), dim3(N), 1 << 20, stream, p, 1.0f);
    is_int(cudaGetLastError(), cudaErrorInvalidValue, "1 MiB of shared memory");
    ok(p[5] == 6 && cudaGetLastError() == cudaSuccess, "neither ran, and what is asked next is free of it");
    void *q = NULL;
    cudahost_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
    ok(!cudaMalloc(&q, 16) && !cudaFree(q) && cudaMalloc(&q, 16) == cudaErrorMemoryAllocation && !cudaMalloc(&q, 16), "a fault on demand, once");
    cudaFree(q);
    cudahost_fail("launch", 1, cudaErrorIllegalAddress);
    KN_LAUNCH(add, dim3(1), dim3(N), 0, stream, p, 1.0f);
    ok(cudaGetLastError() == cudaErrorIllegalAddress && cudaStreamSynchronize(stream) == cudaErrorIllegalAddress && cudaGetLastError() == cudaErrorIllegalAddress,
       "a device that is gone stays gone");
    cudahost_card(1, 9, 13000, (size_t)4 << 30);
    ok(cudaStreamSynchronize(stream) == cudaSuccess, "until it is put back");
    cudaFree(p);
}

int main(void)
{
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    x = device<float>(N), y = device<float>(N);
    for (int i = 0; i < N; i++) x[i] = (float)(i + 1);
    lanes();
    matrices();
    runtime();
    mistakes();
    return tap_done();
}
