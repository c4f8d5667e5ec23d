#include "kernels/device.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/host.h"

/* A name is a kind, or a kind, a colon and what that kind makes of the rest. */
static const struct kn_dev_vtable *const kinds[] = {&kn_ref_vtable, &kn_cpu_vtable, &kn_cuda_vtable};

/* "cpu:avx2" -> index 1: the words that a kind knows; a number stands for itself. -1: absent, -2: unknown. */
static int index_of(const char *s)
{
    static const char *const isa[] = {"generic", "avx2", "avx512"};
    if (!*s) return -1;
    for (int i = 0; i < 3; i++)
        if (!strcmp(s + 1, isa[i])) return i;
    if (isdigit((unsigned char)s[1]) && strlen(s + 1) <= 3 && strspn(s + 1, "0123456789") == strlen(s + 1)) return atoi(s + 1);
    return -2;
}

st_t kn_dev_open(struct kn_dev **out, const char *name, int threads, struct base_err *err)
{
    size_t n = strcspn(name, ":");
    int index = index_of(name + n);
    if (n == 4 && !memcmp(name, "cuda", 4) && !kinds[2]) return base_err_set(err, ST_ENOTSUP, "device", "%s: not built with CUDA", name);
    const struct kn_dev_vtable *vt = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i] && strlen(kinds[i]->kind) == n && !memcmp(kinds[i]->kind, name, n)) vt = kinds[i];
    if (n == 4 && !memcmp(name, "cuda", 4) && name[n] && !isdigit((unsigned char)name[n + 1])) index = -2;
    if (!vt || index == -2) return base_err_set(err, ST_ENOTFOUND, "device", "no device is called '%s'", name);
    struct kn_dev *dev = calloc(1, sizeof *dev);
    if (!dev) return base_err_set(err, ST_ENOMEM, "device", "out of memory");
    dev->vt = vt;
    st_t st = vt->open(dev, index, threads > 0 ? threads : base_cpu_count(), err);
    if (st) {
        free(dev);
        return st;
    }
    *out = dev;
    return ST_OK;
}

void kn_dev_close(struct kn_dev *dev)
{
    if (!dev) return;
    dev->vt->close(dev);
    free(dev);
}

st_t kn_alloc(struct kn_dev *dev, size_t bytes, void **out)
{
    return dev->vt->alloc(dev, bytes, out);
}

void kn_free(struct kn_dev *dev, void *p, size_t bytes)
{
    dev->vt->free(dev, p, bytes);
}

uint64_t kn_dev_bytes(const struct kn_dev *dev)
{
    return dev->bytes;
}

uint64_t kn_dev_peak(const struct kn_dev *dev)
{
    return dev->peak;
}

void kn_peak_reset(struct kn_dev *dev)
{
    dev->peak = dev->bytes;
}

void kn_trim(struct kn_dev *dev)
{
    dev->vt->trim(dev);
}

st_t kn_precision(struct kn_dev *dev, enum kn_dtype precision)
{
    if (precision != KN_F32 && !(precision == KN_BF16 && dev->info.bf16)) return ST_ENOTSUP;
    dev->precision = precision;
    return ST_OK;
}
