/* The CUDA device: what it says where it cannot be opened, memory and its count, graphs, running out of memory, and being lost in the middle of something. */
#include <cublasLt.h>

#include <stdio.h>

#include "kernels/cuda/cuda.h"

extern "C" {
#include "base/log.h"
#include "tests/tap.h"
}

constexpr size_t MEMORY = (size_t)4 << 30;

static void refused(const char *name, st_t want, const char *words, const char *what)
{
    struct kn_dev *dev = NULL;
    struct base_err err = BASE_ERR_INIT;
    st_t st = kn_dev_open(&dev, name, 1, &err);
    ok(st == want && !dev && strstr(err.what, words), "%s: %s", what, err.what);
}

static struct kn_dev *opened(void)
{
    struct kn_dev *dev = NULL;
    struct base_err err = BASE_ERR_INIT;
    if (kn_dev_open(&dev, "cuda:0", 1, &err)) {
        printf("Bail out! %s\n", err.what);
        exit(1);
    }
    return dev;
}

static void opening(void)
{
    cudahost_card(1, 9, 0, MEMORY);
    refused("cuda:0", ST_ENOTSUP, "driver, and there is none", "no driver");
    cudahost_card(1, 9, 12040, MEMORY);
    refused("cuda:0", ST_ENOTSUP, "12.4, older than the 13.0", "too old a driver");
    cudahost_card(0, 9, 13000, MEMORY);
    refused("cuda:0", ST_ENOTSUP, "sees no GPU", "no card");
    cudahost_card(1, 7, 13000, MEMORY);
    refused("cuda:0", ST_ENOTSUP, "must be 8.0 or later, for products in bf16", "a card without bf16");
    cudahost_card(2, 9, 13000, MEMORY);
    refused("cuda:2", ST_ENOTFOUND, "CUDA sees 2", "a third card of two");
    refused("cuda:x", ST_ENOTFOUND, "cuda:x", "no number");
    refused("cuda:avx2", ST_ENOTFOUND, "cuda:avx2", "a CPU's word");
    cudahost_fail("cudaFuncGetAttributes", 1, cudaErrorNoKernelImageForDevice);
    refused("cuda:0", ST_ENOTSUP, "configure with CUDA_ARCHS=90", "a card that it was not compiled for");
    cudahost_card(1, 9, 13000, MEMORY);
    cudahost_blas(0);
    refused("cuda:0", ST_ENOTSUP, "libcublasLt.so.13 is not to be found", "no cuBLASLt");
    cudahost_blas(1);
    /* every call that opening makes, failing in turn */
    static const char *const calls[] = {"cudaGetDeviceCount", "cudaSetDevice", "cudaStreamCreateWithFlags", "cudaEventCreate", "cudaGetDeviceProperties", "cudaMemGetInfo", "cudaFuncGetAttributes"};
    int bad = 0;
    for (const char *call : calls) {
        struct kn_dev *dev = NULL;
        struct base_err err = BASE_ERR_INIT;
        cudahost_fail(call, 1, cudaErrorMemoryAllocation);
        bad += kn_dev_open(&dev, "cuda:0", 1, &err) == ST_OK || !*err.what || dev;
    }
    is_int(bad, 0, "each call of the runtime's that opening makes may fail");
    struct kn_dev *dev = opened(), *again = opened();
    ok(!strcmp(dev->info.kind, "cuda") && !strcmp(dev->info.isa, "sm_90") && dev->info.bf16 && dev->info.memory == MEMORY - MEMORY / 16 && strstr(dev->info.libraries, "cuBLASLt"), "says what it is: %s, %s",
       dev->info.name, dev->info.libraries);
    const void *const *slots = (const void *const *)dev->op;
    int empty = 0;
    for (size_t i = 0; i < sizeof *dev->op / sizeof *slots; i++) empty += !slots[i];
    is_int(empty, 0, "no slot of the vtable is empty");
    kn_dev_close(again), kn_dev_close(dev);
}

static void memory(void)
{
    struct kn_dev *dev = opened();
    void *p, *q = &dev;
    static char got[1000];
    uint64_t ns;
    is_int(kn_alloc(dev, sizeof got, &p), ST_OK, "alloc");
    memset(got, 1, sizeof got);
    int zero = !dev->vt->download(dev, got, p, sizeof got);
    for (char c : got) zero &= c == 0;
    ok(zero && kn_dev_bytes(dev) == sizeof got, "zeroed and counted");
    char text[8] = "forward";
    ok(!dev->vt->upload(dev, p, text, 8) && !dev->vt->sync(dev) && !dev->vt->download(dev, got, p, 8) && !strcmp(got, text), "there and back");
    is_int(kn_alloc(dev, SIZE_MAX, &q), ST_ENOMEM, "all the bytes there are");
    is_int(kn_alloc(dev, MEMORY - 500, &q), ST_ENOMEM, "more than is left");
    cudahost_fail("cudaMalloc", 1, cudaErrorMemoryAllocation);
    is_int(kn_alloc(dev, 16, &q), ST_ENOMEM, "out of device memory");
    ok(q == &dev && kn_dev_bytes(dev) == sizeof got && !kn_alloc(dev, 16, &q), "gives nothing, counts nothing, and the next one works");
    kn_free(dev, q, 16);
    is_int(dev->vt->elapsed(dev, &ns), ST_ESTATE, "no time without marks");
    is_int(dev->vt->mark(dev, 2), ST_EINVAL, "two marks");
    ok(!dev->vt->mark(dev, 0) && !dev->vt->mark(dev, 1) && !dev->vt->elapsed(dev, &ns), "time between marks");
    is_int(dev->vt->mark(dev, 0) ? ST_OK : dev->vt->elapsed(dev, &ns), ST_ESTATE, "none when only the first is set anew");
    kn_free(dev, p, sizeof got);
    is_int(kn_dev_bytes(dev), 0, "all given back");
    kn_dev_close(dev);
}

/* b = a a^T of n x n; its first call of a size needs scratch (a is rounded to bf16). */
static st_t square(struct kn_dev *dev, float *a, float *b, int64_t n)
{
    struct kn_tensor x = kn_t2(a, KN_F32, n, n), y = kn_transpose(&x), z = kn_t2(b, KN_F32, n, n);
    kn_precision(dev, KN_BF16);
    st_t st = dev->op->gemm(dev, 1, &x, &y, 1, &z);
    kn_precision(dev, KN_F32);
    return st;
}

static void graphs(void)
{
    enum { N = 16 };
    struct kn_dev *dev = opened();
    struct kn_graph *g = NULL;
    void *a, *b;
    float x[N * N], y[N * N];
    for (int i = 0; i < N * N; i++) x[i] = i / N == i % N;
    if (kn_alloc(dev, 4 * sizeof x, &a) || kn_alloc(dev, 4 * sizeof x, &b) || dev->vt->upload(dev, a, x, sizeof x)) abort();
    is_int(dev->vt->capture(dev), ST_OK, "a capture begins");
    is_int(square(dev, (float *)a, (float *)b, N), ST_ESTATE, "an op that needs scratch which is not there yet says so");
    is_int(dev->vt->captured(dev, &g), ST_OK, "the capture ends all the same");
    dev->vt->forget(dev, g), g = NULL;
    is_int(square(dev, (float *)a, (float *)b, N), ST_OK, "it runs once");
    is_int(dev->vt->capture(dev) || square(dev, (float *)a, (float *)b, N) || dev->vt->captured(dev, &g), 0, "then it is kept");
    if (dev->vt->download(dev, y, b, sizeof y)) abort();
    ok(y[0] == 1, "without running");
    ok(!dev->vt->replay(dev, g) && !dev->vt->replay(dev, g) && !dev->vt->download(dev, y, b, sizeof y) && y[0] == 3 && y[1] == 0, "and runs twice");
    is_int(square(dev, (float *)a, (float *)b, 2 * N), ST_OK, "a larger one moves scratch");
    is_int(dev->vt->replay(dev, g), ST_ESTALE, "so that what was kept is stale");
    dev->vt->forget(dev, g);
    g = NULL;
    is_int(dev->vt->capture(dev) || square(dev, (float *)a, (float *)b, N) || dev->vt->captured(dev, &g), 0, "kept again");
    kn_trim(dev);
    is_int(dev->vt->replay(dev, g), ST_ESTALE, "stale too where scratch was given back");
    dev->vt->forget(dev, g), dev->vt->forget(dev, NULL);
    if (square(dev, (float *)a, (float *)b, N)) abort();
    is_int(dev->vt->capture(dev) || square(dev, (float *)a, (float *)b, N), 0, "a capture that the driver refuses in the end");
    cudahost_fail("cudaGraphInstantiate", 1, cudaErrorMemoryAllocation);
    is_int(dev->vt->captured(dev, &g), ST_ENOTSUP, "is no graph");
    cudahost_fail("cudaStreamBeginCapture", 1, cudaErrorStreamCaptureUnsupported);
    ok(dev->vt->capture(dev) == ST_ENOTSUP && !square(dev, (float *)a, (float *)b, N) && !dev->vt->sync(dev), "and no lost device");
    kn_free(dev, a, 4 * sizeof x), kn_free(dev, b, 4 * sizeof x);
    kn_dev_close(dev);
}

static void lost(void)
{
    static const struct {
        const char *call;
        int error;
    } ways[] = {{"launch", cudaErrorIllegalAddress}, {"cudaStreamSynchronize", cudaErrorLaunchFailure}, {"cudaMemcpyAsync", cudaErrorECCUncorrectable}};
    for (auto &w : ways) {
        struct kn_dev *dev = opened(), *other;
        void *p, *q;
        float x[64] = {0};
        uint64_t ns;
        struct kn_graph *g;
        if (kn_alloc(dev, sizeof x, &p)) abort();
        struct kn_tensor t = kn_t2(p, KN_F32, 8, 8);
        cudahost_fail(w.call, 1, w.error);
        st_t st = dev->vt->upload(dev, p, x, sizeof x);
        if (!st) st = dev->op->gemm(dev, 1, &t, &t, 0, &t);
        if (!st) st = dev->vt->sync(dev);
        is_int(st, ST_ELOST, "%s fails for good: lost", w.call);
        ok(kn_alloc(dev, 16, &q) == ST_ELOST && dev->vt->upload(dev, p, x, 4) == ST_ELOST && dev->vt->download(dev, x, p, 4) == ST_ELOST && dev->vt->sync(dev) == ST_ELOST &&
               dev->vt->mark(dev, 0) == ST_ELOST && dev->vt->elapsed(dev, &ns) == ST_ESTATE && dev->vt->capture(dev) == ST_ELOST && dev->op->gemm(dev, 1, &t, &t, 0, &t) == ST_ELOST,
           "and everything says so");
        (void)g;
        kn_free(dev, p, sizeof x);
        kn_dev_close(dev);
        cudahost_card(1, 9, 13000, MEMORY);
        other = opened();
        ok(!kn_alloc(other, 16, &q), "a card that is back can be opened again");
        kn_free(other, q, 16);
        kn_dev_close(other);
    }
}

int main(void)
{
    base_log_init("test", LOG_ERROR);
    opening();
    memory();
    graphs();
    lost();
    size_t there, all;
    ok(!cudaMemGetInfo(&there, &all) && there == all, "in the end all memory has been given back");
    return tap_done();
}
