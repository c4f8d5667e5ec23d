#define _GNU_SOURCE
#include "kernels/host.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

#define HUGE_PAGE ((size_t)2 << 20)

static void cpu_name(char *out, size_t size)
{
    char line[256];
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char *v = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !v) continue;
        v += 1 + strspn(v + 1, " \t");
        v[strcspn(v, "\n")] = 0;
        snprintf(out, size, "%.*s", (int)size - 1, v);
        break;
    }
    fclose(f);
}

/* Physical memory, or the cgroup's limit where that is lower (version 2, then version 1; no file or "max": no limit). */
static uint64_t memory_limit(void)
{
    static const char *const paths[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t m = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 2; i++) {
        unsigned long long v;
        FILE *f = fopen(paths[i], "re");
        if (!f) continue;
        if (fscanf(f, "%llu", &v) == 1 && v && v < m) m = v;
        fclose(f);
    }
    return m;
}

void kn_host_info(struct kn_dev *dev, const char *kind, const char *isa, int threads)
{
    struct kn_info *i = &dev->info;
    snprintf(i->kind, sizeof i->kind, "%s", kind);
    snprintf(i->isa, sizeof i->isa, "%s", isa);
    cpu_name(i->name, sizeof i->name);
    i->threads = threads;
    i->memory = memory_limit();
}

st_t kn_host_alloc(struct kn_dev *dev, size_t bytes, void **out)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    if (bytes > SIZE_MAX - align || bytes > dev->info.memory || dev->bytes > dev->info.memory - bytes) return ST_ENOMEM;
    size_t n = bytes ? (bytes + align - 1) & ~(align - 1) : align;
    void *p = aligned_alloc(align, n);
    if (!p) return ST_ENOMEM;
    /* Packed panels and weights are walked with long strides: 4 KiB pages would miss the TLB. Only advice: a refusal costs nothing but time. */
    if (align == HUGE_PAGE) madvise(p, n, MADV_HUGEPAGE);
    memset(p, 0, n);
    dev->bytes += bytes;
    if (dev->bytes > dev->peak) dev->peak = dev->bytes;
    *out = p;
    return ST_OK;
}

void kn_host_free(struct kn_dev *dev, void *p, size_t bytes)
{
    if (!p) return;
    free(p);
    dev->bytes -= bytes;
}

st_t kn_host_upload(struct kn_dev *dev, void *dst, const void *host, size_t bytes)
{
    if (bytes) memcpy(dst, host, bytes);
    return ST_OK;
}

st_t kn_host_download(struct kn_dev *dev, void *host, const void *src, size_t bytes)
{
    if (bytes) memcpy(host, src, bytes);
    return ST_OK;
}

st_t kn_host_sync(struct kn_dev *dev)
{
    return ST_OK;
}

st_t kn_host_mark(struct kn_dev *dev, int which)
{
    struct kn_host *h = dev->self;
    if (which < 0 || which > 1) return ST_EINVAL;
    h->mark[which] = base_clock_ns();
    return ST_OK;
}

st_t kn_host_elapsed(struct kn_dev *dev, uint64_t *ns)
{
    const struct kn_host *h = dev->self;
    if (!h->mark[0] || h->mark[1] < h->mark[0]) return ST_ESTATE;
    *ns = h->mark[1] - h->mark[0];
    return ST_OK;
}

void kn_host_clip(double sum, double most, double out[2])
{
    out[0] = sqrt(sum);
    out[1] = !isfinite(out[0]) ? NAN : most > 0 ? fmin(1, most / (out[0] + 1e-6)) : 1;
}

st_t kn_host_capture(struct kn_dev *dev)
{
    return ST_ENOTSUP;
}

st_t kn_host_captured(struct kn_dev *dev, struct kn_graph **out)
{
    return ST_ENOTSUP;
}

st_t kn_host_replay(struct kn_dev *dev, struct kn_graph *g)
{
    return ST_ENOTSUP;
}

void kn_host_forget(struct kn_dev *dev, struct kn_graph *g)
{
}
