/* cuda_runtime.h's other half: fibers and blocks, memory with a fence, streams that are captured, faults on demand. */
#include <cuda_runtime.h>

#include <deque>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <string>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

static const size_t PAGE = 4096, STACK = 256 << 10, SHARED_MOST = 227 << 10, MEMORY = (size_t)4 << 30;
static const unsigned THREADS_MOST = 1024;

/* ---- chance ---- */

static uint64_t chance = 0x9e3779b97f4a7c15u;

static uint32_t draw(uint32_t below)
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return (uint32_t)((chance >> 11) % below);
}

extern "C" void cudahost_seed(unsigned long long seed)
{
    chance = seed * 0x9e3779b97f4a7c15u | 1;
}

/* ---- memory: what is asked for ends at a page without access ---- */

static void *fence(size_t n)
{
    size_t whole = (n + PAGE - 1) / PAGE * PAGE;
    char *p = (char *)mmap(NULL, whole + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    mprotect(p + whole, PAGE, PROT_NONE);
    return p + whole - (n + 15) / 16 * 16;
}

static void unfence(void *at, size_t n)
{
    size_t whole = (n + PAGE - 1) / PAGE * PAGE;
    munmap((char *)at + (n + 15) / 16 * 16 - whole, whole + PAGE);
}

static std::map<void *, size_t> allocated;

/* Device memory out of everyone's reach, or back. */
static void hide(bool hidden)
{
    for (auto &a : allocated) {
        size_t whole = (a.second + PAGE - 1) / PAGE * PAGE;
        mprotect((char *)a.first + (a.second + 15) / 16 * 16 - whole, whole, hidden ? PROT_NONE : PROT_READ | PROT_WRITE);
    }
}

/* ---- fibers ---- */

#ifdef __x86_64__
struct place {
    void *sp;
};
extern "C" void cudahost_switch(void **save, void *to);
__asm__(".text\n.type cudahost_switch,@function\ncudahost_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size cudahost_switch,.-cudahost_switch\n");
static void go(place *from, place *to)
{
    cudahost_switch(&from->sp, to->sp);
}
static void begin(place *p, unsigned char *stack, void (*fn)(void))
{
    void **top = (void **)(stack + STACK) - 1; /* as a call would find it: the return address at 16 n + 8 */
    top[0] = NULL;
    *--top = (void *)fn;
    for (int i = 0; i < 6; i++) *--top = NULL;
    p->sp = top;
}
#else
struct place {
    ucontext_t c;
};
static void go(place *from, place *to)
{
    swapcontext(&from->c, &to->c);
}
static void begin(place *p, unsigned char *stack, void (*fn)(void))
{
    getcontext(&p->c);
    p->c.uc_stack.ss_sp = stack, p->c.uc_stack.ss_size = STACK;
    makecontext(&p->c, fn, 0);
}
#endif

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    int group;
};
enum waits { READY, BARRIER, WARP, DONE };
struct fiber {
    place at;
    unsigned char *stack;
    dim3 id;
    unsigned index;
    enum waits waits;
    const char *file;
    int line;
    std::deque<copy> copies;
    int group;
    const unsigned char *got;
};
struct warp {
    unsigned char lane[2][32][cudahost::LANE];
    int turn;
    unsigned arrived, mask;
    const char *file;
    int line;
};

namespace cudahost {
dim3 thread, block, grid_size, block_size;
}
static std::vector<fiber> fibers;
static std::vector<unsigned> ready;
static std::vector<warp> warps;
static fiber *self;
static place scheduler;
static const std::function<void()> *body;
static bool hidden, early; /* memory, up to kn_wait_prior; the next launch */
static const char *kernel_name = "";
static unsigned char *shared_memory;
static size_t shared_size;
#ifdef __SANITIZE_ADDRESS__
static void *fake; /* the sanitizer's, of the scheduler */
static const void *scheduler_stack;
static size_t scheduler_size;
#endif

__attribute__((noreturn, format(printf, 3, 4))) static void stop(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "cudahost: %s, block (%u, %u, %u)", kernel_name, cudahost::block.x, cudahost::block.y, cudahost::block.z);
    if (self) fprintf(stderr, ", thread %u", self->index);
    if (file) fprintf(stderr, ", %s:%d", file, line);
    fprintf(stderr, ": ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    abort();
}

/* Back to the scheduler. */
static void give_way(void)
{
#ifdef __SANITIZE_ADDRESS__
    void *mine = NULL;
    __sanitizer_start_switch_fiber(self->waits == DONE ? NULL : &mine, scheduler_stack, scheduler_size);
    go(&self->at, &scheduler);
    __sanitizer_finish_switch_fiber(mine, NULL, NULL);
#else
    go(&self->at, &scheduler);
#endif
}

static void first(void)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_size);
#endif
    (*body)();
    self->waits = DONE;
    give_way();
    abort();
}

static void resume(fiber *f)
{
    self = f;
    cudahost::thread = f->id;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
    go(&scheduler, &f->at);
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#else
    go(&scheduler, &f->at);
#endif
    self = NULL;
}

/* Nobody can go on: a barrier that all have reached, or a mistake. */
static void release(unsigned n, unsigned live)
{
    const fiber *a = NULL;
    for (unsigned i = 0; i < n; i++) {
        fiber *f = &fibers[i];
        if (f->waits == DONE) continue;
        if (!a) a = f;
        if (f->waits == WARP)
            stop(f->file, f->line, "thread %u waits for lanes of its warp that have gone elsewhere", i);
        if (f->line != a->line || strcmp(f->file, a->file))
            stop(f->file, f->line, "divergent barrier: thread %u waits here, thread %u at %s:%d", i, a->index, a->file, a->line);
    }
    if (live < n) stop(a->file, a->line, "divergent barrier: %u of %u threads have left the kernel", n - live, n);
    if (hidden) hide(hidden = false);
    for (unsigned i = 0; i < n; i++) {
        fibers[i].waits = READY;
        ready.push_back(i);
    }
}

static void run_block(unsigned n)
{
    unsigned live = n;
    ready.clear();
    for (unsigned i = 0; i < n; i++) {
        fiber *f = &fibers[i];
        f->index = i;
        f->id = dim3(i % cudahost::block_size.x, i / cudahost::block_size.x % cudahost::block_size.y, i / (cudahost::block_size.x * cudahost::block_size.y));
        f->waits = READY, f->group = 0;
        f->copies.clear();
        begin(&f->at, f->stack, first);
        ready.push_back(i);
    }
    for (unsigned w = 0; w < (n + 31) / 32; w++) warps[w].arrived = 0, warps[w].turn = 0;
    /* One warp of the block runs ahead of the others, or lags behind, or none does: what is used again one barrier too early is found by the first two. */
    unsigned odd = draw((n + 31) / 32), how = draw(3);
    while (live) {
        if (ready.empty()) release(n, live);
        unsigned k = draw((uint32_t)ready.size());
        for (int again = 0; how && again < 8 && (ready[k] / 32 == odd) == (how == 1); again++) k = draw((uint32_t)ready.size());
        unsigned i = ready[k];
        ready[k] = ready.back();
        ready.pop_back();
        resume(&fibers[i]);
        live -= fibers[i].waits == DONE;
    }
}

static void run(const char *name, dim3 grid, dim3 size, size_t shared, bool early, const std::function<void()> &fn)
{
    unsigned n = size.x * size.y * size.z;
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    while (fibers.size() < n) {
        fibers.emplace_back();
        fibers.back().stack = (unsigned char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fibers.back().stack == MAP_FAILED) abort();
    }
    if (warps.size() < (n + 31) / 32) warps.resize((n + 31) / 32);
    static std::map<std::string, unsigned> seen; /* early launches of a kernel */
    kernel_name = name, body = &fn;
    cudahost::grid_size = grid, cudahost::block_size = size;
    shared_memory = (unsigned char *)fence(shared ? shared : 16);
    shared_size = shared;
    /* Blocks in an order without pattern: a walk whose step has no divisor in common with their number. */
    uint64_t step = blocks > 2 ? draw((uint32_t)(blocks < UINT32_MAX ? blocks : UINT32_MAX)) : 1, at = 0;
    auto divisor = [](uint64_t a, uint64_t b) {
        while (b) {
            uint64_t t = a % b;
            a = b, b = t;
        }
        return a;
    };
    while (divisor(blocks, step) != 1) step++;
    for (uint64_t i = 0; i < blocks; i++, at = (at + step) % blocks) {
        cudahost::block = dim3((unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y));
        if (shared) memset(shared_memory, 0xff, (shared + 15) / 16 * 16);
        if (early && i == 0 && seen[name]++ % 16 == 0) hide(hidden = true); /* now and then: it takes its time */
        run_block(n);
        if (hidden) stop(NULL, 0, "launched early, and no kn_wait_prior");
    }
    unfence(shared_memory, shared ? shared : 16);
    shared_memory = NULL;
    kernel_name = "";
}

/* ---- what kernels call ---- */

void cudahost::sync(const char *file, int line)
{
    self->waits = BARRIER, self->file = file, self->line = line;
    give_way();
}

void cudahost::next_early(bool next)
{
    early = next;
}

void cudahost::wait_prior(const char *file, int line)
{
    if (hidden) sync(file, line);
}

int cudahost::lane(void)
{
    return (int)(self->index % 32);
}

const unsigned char *cudahost::exchange(const void *in, size_t n, unsigned mask, const char *file, int line)
{
    warp *w = &warps[self->index / 32];
    unsigned l = self->index % 32;
    if (n > LANE) stop(file, line, "a lane gives %zu bytes, more than %zu", n, LANE);
    if (!(mask >> l & 1)) stop(file, line, "the mask %08x leaves out the lane that calls", mask);
    if (!w->arrived) w->mask = mask, w->file = file, w->line = line;
    else if (w->mask != mask || w->line != line || strcmp(w->file, file))
        stop(file, line, "divergent warp: other lanes are at %s:%d (masks %08x, %08x)", w->file, w->line, w->mask, mask);
    memcpy(w->lane[w->turn][l], in, n);
    w->arrived |= 1u << l;
    const unsigned char *got = w->lane[w->turn][0];
    if (w->arrived != mask) {
        self->waits = WARP, self->file = file, self->line = line;
        give_way();
        return got;
    }
    w->turn ^= 1, w->arrived = 0;
    for (unsigned i = self->index - l; i < self->index - l + 32 && i < fibers.size(); i++)
        if (fibers[i].waits == WARP) fibers[i].waits = READY, ready.push_back(i);
    return got;
}

void *cudahost::shared(void)
{
    return shared_memory;
}

void cudahost::check_aligned(const void *p, size_t to, const char *what)
{
    if ((uintptr_t)p % to) stop(NULL, 0, "misaligned %s at %p", what, p);
}

void cudahost::check_global(const void *p)
{
    if ((const unsigned char *)p >= shared_memory && (const unsigned char *)p < shared_memory + shared_size) stop(NULL, 0, "a store to global memory at %p, which is shared", p);
}

void cudahost::cp16(void *to, const void *from, bool wanted)
{
    check_aligned(to, 16, "asynchronous copy to");
    if (wanted) check_aligned(from, 16, "asynchronous copy from");
    memset(to, 0xff, 16);
    self->copies.push_back({to, wanted ? from : NULL, self->group});
}

void cudahost::cp_commit(void)
{
    self->group++;
}

void cudahost::cp_wait(int left)
{
    while (!self->copies.empty() && self->copies.front().group < self->group - left) {
        copy c = self->copies.front();
        self->copies.pop_front();
        if (c.from) memcpy(c.to, c.from, 16);
        else memset(c.to, 0, 16);
    }
}

/* ---- faults on demand ---- */

static std::map<std::string, std::pair<int, cudaError_t>> faults;
static int card_count = 1, card_major = 9, card_driver = 13000;
static size_t card_memory = MEMORY, card_used;
static cudaError_t last, gone; /* gone: no later call works */

extern "C" void cudahost_fail(const char *call, int n, int error)
{
    faults[call] = {n, (cudaError_t)error};
}

extern "C" void cudahost_card(int count, int major, int driver, size_t memory)
{
    card_count = count, card_major = major, card_driver = driver, card_memory = memory;
    gone = last = cudaSuccess;
    faults.clear();
}

static cudaError_t said(cudaError_t e)
{
    if (e) last = e;
    if (e == cudaErrorIllegalAddress || e == cudaErrorLaunchFailure || e == cudaErrorECCUncorrectable) gone = e;
    return e;
}

/* CUDAHOST_FAIL=call:n:error and CUDAHOST_CARD=count:major:driver, for programs whose tests cannot call the functions above. */
static void read_environment(void)
{
    static bool done;
    const char *f = getenv("CUDAHOST_FAIL"), *c = getenv("CUDAHOST_CARD");
    char call[64];
    int n, error;
    if (done) return;
    done = true;
    if (c) sscanf(c, "%d:%d:%d", &card_count, &card_major, &card_driver);
    if (f && sscanf(f, "%63[^:]:%d:%d", call, &n, &error) == 3) cudahost_fail(call, n, error);
}

static cudaError_t fault(const char *call)
{
    read_environment();
    if (gone) return said(gone);
    auto f = faults.find(call);
    if (f == faults.end() || --f->second.first > 0) return cudaSuccess;
    cudaError_t e = f->second.second;
    faults.erase(f);
    return said(e);
}
#define FAULT(call)                           \
    do {                                      \
        cudaError_t e_ = fault(call);         \
        if (e_) return e_;                    \
    } while (0)

/* ---- the runtime ---- */

struct launched {
    std::string name;
    dim3 grid, block;
    size_t shared;
    bool early;
    std::function<void()> body;
};
struct cudahost_graph {
    std::vector<launched> nodes;
};
struct cudahost_stream {
    cudahost_graph *captured; /* NULL: not */
};
struct cudahost_event {
    struct timespec at;
};

static void enqueue(cudahost_stream *s, launched l)
{
    if (s && s->captured) s->captured->nodes.push_back(l);
    else if (l.grid.x) run(l.name.c_str(), l.grid, l.block, l.shared, l.early, l.body);
    else l.body();
}

void cudahost::launch(const char *name, dim3 grid, dim3 size, size_t shared, cudahost_stream *s, std::function<void()> fn)
{
    bool now = early;
    early = false;
    if (fault("launch")) return;
    if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || !size.x || !size.y || !size.z || (uint64_t)size.x * size.y * size.z > THREADS_MOST)
        said(cudaErrorInvalidConfiguration);
    else if (shared > SHARED_MOST) said(cudaErrorInvalidValue);
    else enqueue(s, {name, grid, size, shared, now, fn});
}

/* Work of the host's in the stream's order. */
static void then(cudahost_stream *s, std::function<void()> fn)
{
    enqueue(s, {"", dim3(0), dim3(1), 0, false, fn});
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    default: return "an error";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;
    last = gone;
    return e;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    FAULT("cudaGetDeviceCount");
    if (card_driver < 13000) return said(cudaErrorInsufficientDriver);
    if (!card_count) return said(cudaErrorNoDevice);
    *n = card_count;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int i)
{
    FAULT("cudaSetDevice");
    return i < card_count ? cudaSuccess : said(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    FAULT("cudaGetDeviceProperties");
    *p = {};
    snprintf(p->name, sizeof p->name, "cudahost");
    p->major = card_major, p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = SHARED_MOST, p->totalGlobalMem = card_memory, p->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int i)
{
    snprintf(out, (size_t)size, "0000:%02x:00.0", 0x65 + i);
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = card_driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = 13000;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *there, size_t *all)
{
    FAULT("cudaMemGetInfo");
    *there = card_memory - card_used, *all = card_memory;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    FAULT("cudaMalloc");
    if (n > card_memory - card_used) return said(cudaErrorMemoryAllocation);
    *p = fence(n ? n : 1);
    if (!*p) return said(cudaErrorMemoryAllocation);
    allocated[*p] = n ? n : 1;
    card_used += n ? n : 1;
    memset(*p, 0xff, (n + 15) / 16 * 16);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    auto a = allocated.find(p);
    if (a == allocated.end()) return said(cudaErrorInvalidValue);
    unfence(p, a->second);
    card_used -= a->second;
    allocated.erase(a);
    return gone ? said(gone) : cudaSuccess;
}

cudaError_t cudaMallocManaged(void **p, size_t n)
{
    if (!n) return said(cudaErrorInvalidValue);
    return cudaMalloc(p, n);
}

cudaError_t cudaMallocHost(void **p, size_t n)
{
    return cudaMalloc(p, n);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s)
{
    FAULT("cudaMemsetAsync");
    if (n) then(s, [=] { memset(p, v, n); });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind, cudaStream_t s)
{
    FAULT("cudaMemcpyAsync");
    then(s, [=] { memcpy(to, from, n); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    FAULT("cudaStreamCreateWithFlags");
    *s = new cudahost_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    FAULT("cudaStreamSynchronize");
    return s && s->captured ? said(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *out)
{
    *out = s->captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    FAULT("cudaStreamBeginCapture");
    if (s->captured) return said(cudaErrorInvalidValue);
    s->captured = new cudahost_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    FAULT("cudaStreamEndCapture");
    if (!s->captured) return said(cudaErrorInvalidValue);
    *g = s->captured, s->captured = NULL;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    FAULT("cudaGraphInstantiate");
    *e = new cudahost_graph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    FAULT("cudaGraphLaunch");
    for (const launched &l : e->nodes) enqueue(s, l);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    FAULT("cudaEventCreate");
    *e = new cudahost_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    FAULT("cudaEventRecord");
    clock_gettime(CLOCK_MONOTONIC, &e->at);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    FAULT("cudaEventSynchronize");
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    FAULT("cudaEventElapsedTime");
    *ms = (float)((double)(b->at.tv_sec - a->at.tv_sec) * 1e3 + (double)(b->at.tv_nsec - a->at.tv_nsec) * 1e-6);
    return cudaSuccess;
}

cudaError_t cudahost_func_attribute(int value)
{
    FAULT("cudaFuncSetAttribute");
    return value > (int)SHARED_MOST ? said(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudahost_func_attributes(struct cudaFuncAttributes *a)
{
    FAULT("cudaFuncGetAttributes");
    *a = {90, 90};
    return cudaSuccess;
}
