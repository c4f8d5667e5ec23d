/* The CUDA device: memory, transfers, time, errors. The runtime is linked in and looks for the driver when it is first called, cuBLASLt and NVML are loaded
 * when a device is opened, so that a program with this inside starts where there is none of them. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/log.h"
}

/* bf16 products, cp.async: compute capability 8.0 */
#define LEAST_MAJOR 8

static st_t explain(struct base_err *err, int index, cudaError_t e)
{
    (void)cudaGetLastError(); /* the next caller's is its own */
    switch (e) {
    case cudaErrorInsufficientDriver: {
        int driver = 0, runtime = 0;
        cudaDriverGetVersion(&driver), cudaRuntimeGetVersion(&runtime);
        if (!driver) return base_err_set(err, ST_ENOTSUP, "device", "CUDA needs NVIDIA's driver, and there is none on this machine");
        return base_err_set(err, ST_ENOTSUP, "device", "the NVIDIA driver is for CUDA %d.%d, older than the %d.%d that this was built with: update the driver", driver / 1000,
                            driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    case cudaErrorNoDevice: return base_err_set(err, ST_ENOTSUP, "device", "NVIDIA's driver sees no GPU (CUDA_VISIBLE_DEVICES may hide it)");
    case cudaErrorMemoryAllocation: return base_err_set(err, ST_ENOMEM, "device", "cuda:%d: out of device memory", index);
    default: return base_err_set(err, ST_ENOTSUP, "device", "cuda:%d: %s", index, cudaGetErrorString(e));
    }
}

st_t cuda_status(struct kn_dev *dev, cudaError_t e)
{
    if (e == cudaSuccess) return ST_OK;
    (void)cudaGetLastError();
    if (e == cudaErrorMemoryAllocation) return ST_ENOMEM;
    if (e >= cudaErrorStreamCaptureUnsupported && e <= cudaErrorStreamCaptureWrongThread) return ST_ENOTSUP; /* there will be no graph, and that is all */
    /* What a launch was asked wrongly leaves the context as it was; the rest does not. */
    if (e == cudaErrorInvalidValue || e == cudaErrorInvalidConfiguration || e == cudaErrorLaunchOutOfResources) return ST_EINVAL;
    if (!cuda_of(dev)->lost) log_error("cuda:%d is lost: %s", cuda_of(dev)->index, cudaGetErrorString(e));
    return cuda_of(dev)->lost = ST_ELOST;
}

/* For what it was compiled, so was the rest. */
KN_KERNEL(32) nothing(void) {}

static st_t describe(struct kn_dev *dev, int index, struct base_err *err)
{
    struct cuda *c = cuda_of(dev);
    struct cudaDeviceProp p;
    int driver = 0, runtime = 0;
    size_t there = 0, all = 0;
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (!e) e = cudaMemGetInfo(&there, &all);
    if (e) return explain(err, index, e);
    if (p.major < LEAST_MAJOR)
        return base_err_set(err, ST_ENOTSUP, "device", "cuda:%d (%s) has compute capability %d.%d: it must be %d.0 or later, for products in bf16", index, p.name, p.major, p.minor, LEAST_MAJOR);
    cudaDriverGetVersion(&driver), cudaRuntimeGetVersion(&runtime);
    struct kn_info *i = &dev->info;
    snprintf(i->kind, sizeof i->kind, "cuda");
    snprintf(i->name, sizeof i->name, "%.*s", (int)sizeof i->name - 1, p.name);
    snprintf(i->isa, sizeof i->isa, "sm_%d%d", p.major, p.minor);
    snprintf(i->libraries, sizeof i->libraries, "taut 1, CUDA %d.%d, driver for %d.%d", runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    if (cudaDeviceGetPCIBusId(i->bus, sizeof i->bus, index)) i->bus[0] = 0, (void)cudaGetLastError();
    i->threads = 1;
    i->memory = all - all / 16; /* of all, not of what is free now: the same card is the same device. The rest is the context's, the libraries' and the graphs' */
    i->bf16 = true;
    i->fastest = KN_BF16;
    struct cudaFuncAttributes a;
    e = cudaFuncGetAttributes(&a, nothing);
    if (e) {
        (void)cudaGetLastError();
        return base_err_set(err, ST_ENOTSUP, "device", "cuda:%d (%s): nothing in this build runs on compute capability %d.%d (%s); configure with CUDA_ARCHS=%d%d", index, p.name, p.major, p.minor,
                            cudaGetErrorString(e), p.major, p.minor);
    }
    c->early = p.major >= 9 && a.ptxVersion >= 90; /* compiled for less, kernels would begin early and not wait */
    c->sms = p.multiProcessorCount;
    c->shared_most = p.sharedMemPerBlockOptin;
    return ST_OK;
}

static void close_parts(struct kn_dev *dev)
{
    struct cuda *c = cuda_of(dev);
    cuda_blas_free(c->blas);
    for (int i = 0; i < CUDA_SLOT_COUNT; i++)
        if (c->slot[i].p) cudaFree(c->slot[i].p);
    for (int i = 0; i < 2; i++)
        if (c->mark[i]) cudaEventDestroy(c->mark[i]);
    if (c->stream) cudaStreamDestroy(c->stream);
    (void)cudaGetLastError();
    free(c);
}

static st_t cuda_open(struct kn_dev *dev, int index, int threads, struct base_err *err)
{
    int count = 0;
    if (index < 0) index = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e) return explain(err, index, e);
    if (index >= count) return base_err_set(err, ST_ENOTFOUND, "device", "there is no cuda:%d; CUDA sees %d", index, count);
    struct cuda *c = (struct cuda *)calloc(1, sizeof *c);
    if (!c) return base_err_set(err, ST_ENOMEM, "device", "out of memory");
    dev->self = c;
    c->index = index;
    st_t st = ST_OK;
    e = cudaSetDevice(index);
    if (!e) e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (!e) e = cudaEventCreate(&c->mark[0]);
    if (!e) e = cudaEventCreate(&c->mark[1]);
    st = e ? explain(err, index, e) : describe(dev, index, err);
    if (!st) st = cuda_blas_new(&c->blas, dev, err);
    if (st) {
        close_parts(dev);
        return st;
    }
    dev->op = &kn_cuda_ops;
    return ST_OK;
}

static st_t cuda_alloc(struct kn_dev *dev, size_t bytes, void **out)
{
    struct cuda *c = cuda_of(dev);
    void *p = NULL;
    if (c->lost) return c->lost;
    if (bytes > dev->info.memory || dev->bytes > dev->info.memory - bytes) return ST_ENOMEM;
    st_t st = cuda_status(dev, cudaMalloc(&p, bytes ? bytes : 1));
    if (st) return st;
    st = cuda_status(dev, cudaMemsetAsync(p, 0, bytes, c->stream));
    if (st) {
        cudaFree(p);
        return st;
    }
    dev->bytes += bytes;
    if (dev->bytes > dev->peak) dev->peak = dev->bytes;
    *out = p;
    return ST_OK;
}

static void cuda_free(struct kn_dev *dev, void *p, size_t bytes)
{
    if (!p) return;
    (void)cuda_status(dev, cudaFree(p)); /* waits for what still reads it */
    dev->bytes -= bytes;
}

st_t cuda_scratch(struct kn_dev *dev, enum cuda_slot slot, size_t bytes, void **out)
{
    struct cuda *c = cuda_of(dev);
    auto *s = &c->slot[slot];
    if (bytes > s->bytes) {
        enum cudaStreamCaptureStatus now = cudaStreamCaptureStatusNone;
        st_t st = cuda_status(dev, cudaStreamIsCapturing(c->stream, &now));
        if (st) return st;
        if (now != cudaStreamCaptureStatusNone) return ST_ESTATE;
        size_t n = s->bytes ? bytes + bytes / 2 : bytes;
        void *p = NULL;
        st = cuda_status(dev, cudaFree(s->p)); /* waits for what still reads it */
        dev->bytes -= s->bytes;
        c->moved++;
        s->p = NULL, s->bytes = 0;
        if (!st) st = cuda_alloc(dev, n, &p);
        if (st == ST_ENOMEM && n > bytes) st = cuda_alloc(dev, n = bytes, &p);
        if (st) return st;
        s->p = p, s->bytes = n;
    }
    *out = s->p;
    return ST_OK;
}

static void cuda_trim(struct kn_dev *dev)
{
    struct cuda *c = cuda_of(dev);
    c->moved++;
    for (int i = 0; i < CUDA_SLOT_COUNT; i++) {
        cuda_free(dev, c->slot[i].p, c->slot[i].bytes);
        c->slot[i].p = NULL, c->slot[i].bytes = 0;
    }
}

static void cuda_close(struct kn_dev *dev)
{
    close_parts(dev);
}

static st_t cuda_sync(struct kn_dev *dev)
{
    if (cuda_of(dev)->lost) return cuda_of(dev)->lost;
    return cuda_status(dev, cudaStreamSynchronize(cuda_of(dev)->stream));
}

/* Waits: the caller may change `host` as soon as this returns, and a copy from pageable memory need not have read it by then. */
static st_t cuda_upload(struct kn_dev *dev, void *dst, const void *host, size_t bytes)
{
    if (cuda_of(dev)->lost) return cuda_of(dev)->lost;
    st_t st = bytes ? cuda_status(dev, cudaMemcpyAsync(dst, host, bytes, cudaMemcpyHostToDevice, cuda_of(dev)->stream)) : ST_OK;
    return st || !bytes ? st : cuda_status(dev, cudaStreamSynchronize(cuda_of(dev)->stream));
}

static st_t cuda_download(struct kn_dev *dev, void *host, const void *src, size_t bytes)
{
    if (cuda_of(dev)->lost) return cuda_of(dev)->lost;
    st_t st = bytes ? cuda_status(dev, cudaMemcpyAsync(host, src, bytes, cudaMemcpyDeviceToHost, cuda_of(dev)->stream)) : ST_OK;
    return st ? st : cuda_sync(dev);
}

static st_t cuda_mark(struct kn_dev *dev, int which)
{
    struct cuda *c = cuda_of(dev);
    if (which < 0 || which > 1) return ST_EINVAL;
    if (c->lost) return c->lost;
    c->marked[which] = true;
    if (which == 0) c->marked[1] = false;
    return cuda_status(dev, cudaEventRecord(c->mark[which], c->stream));
}

static st_t cuda_elapsed(struct kn_dev *dev, uint64_t *ns)
{
    struct cuda *c = cuda_of(dev);
    float ms;
    if (!c->marked[0] || !c->marked[1]) return ST_ESTATE;
    st_t st = cuda_status(dev, cudaEventSynchronize(c->mark[1]));
    if (!st) st = cuda_status(dev, cudaEventElapsedTime(&ms, c->mark[0], c->mark[1]));
    if (!st) *ns = (uint64_t)((double)ms * 1e6);
    return st;
}

/* ---- graphs ---- */

struct kn_graph {
    cudaGraphExec_t exec;
    uint64_t scratch; /* c->moved when it was captured */
};

static st_t cuda_capture(struct kn_dev *dev)
{
    struct cuda *c = cuda_of(dev);
    if (c->lost) return c->lost;
    return cuda_status(dev, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
}

static st_t cuda_captured(struct kn_dev *dev, struct kn_graph **out)
{
    struct cuda *c = cuda_of(dev);
    cudaGraph_t graph = NULL;
    st_t st = cuda_status(dev, cudaStreamEndCapture(c->stream, &graph));
    if (st) return st;
    struct kn_graph *g = (struct kn_graph *)calloc(1, sizeof *g);
    st = g ? cuda_status(dev, cudaGraphInstantiate(&g->exec, graph, 0)) : ST_ENOMEM;
    cudaGraphDestroy(graph);
    if (st) {
        free(g);
        return st == ST_ELOST ? st : ST_ENOTSUP;
    }
    g->scratch = c->moved;
    *out = g;
    return ST_OK;
}

static st_t cuda_replay(struct kn_dev *dev, struct kn_graph *g)
{
    struct cuda *c = cuda_of(dev);
    if (c->lost) return c->lost;
    if (g->scratch != c->moved) return ST_ESTALE;
    return cuda_status(dev, cudaGraphLaunch(g->exec, c->stream));
}

static void cuda_forget(struct kn_dev *dev, struct kn_graph *g)
{
    if (!g) return;
    cudaGraphExecDestroy(g->exec);
    free(g);
}

extern "C" {
const struct kn_ops kn_cuda_ops = {
#define KN_OP(name, args) cuda_##name,
#include "kernels/ops.def"
#undef KN_OP
};

const struct kn_dev_vtable kn_cuda_vtable = {
    "cuda", cuda_open, cuda_close, cuda_alloc, cuda_free, cuda_upload, cuda_download, cuda_sync, cuda_trim, cuda_mark, cuda_elapsed,
    cuda_capture, cuda_captured, cuda_replay, cuda_forget,
};
}
