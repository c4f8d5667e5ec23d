#include "kernels/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>

struct ref {
    struct kn_host host; /* first: the host functions find it in dev->self */
    void *scratch;
    size_t bytes;
};

static st_t ref_open(struct kn_dev *dev, int index, int threads, struct base_err *err)
{
    if (index >= 0) return base_err_set(err, ST_ENOTFOUND, "device", "there is one ref device, called 'ref'");
    dev->self = calloc(1, sizeof(struct ref));
    if (!dev->self) return base_err_set(err, ST_ENOMEM, "device", "out of memory");
    dev->op = &kn_ref_ops;
    kn_host_info(dev, "ref", "generic", 1);
    dev->info.bf16 = true;
    snprintf(dev->info.libraries, sizeof dev->info.libraries, "taut 1");
    return ST_OK;
}

static void ref_trim(struct kn_dev *dev)
{
    struct ref *r = dev->self;
    kn_host_free(dev, r->scratch, r->bytes);
    r->scratch = NULL, r->bytes = 0;
}

static void ref_close(struct kn_dev *dev)
{
    ref_trim(dev);
    free(dev->self);
}

st_t ref_scratch(struct kn_dev *dev, int64_t n, double **out)
{
    struct ref *r = dev->self;
    size_t bytes = (size_t)n * sizeof **out;
    if (bytes > r->bytes) {
        void *p;
        st_t st = kn_host_alloc(dev, bytes, &p);
        if (st) return st;
        kn_host_free(dev, r->scratch, r->bytes);
        r->scratch = p, r->bytes = bytes;
    }
    *out = r->scratch;
    return ST_OK;
}

const struct kn_ops kn_ref_ops = {
#define KN_OP(name, args) .name = ref_##name,
#include "kernels/ops.def"
#undef KN_OP
};

const struct kn_dev_vtable kn_ref_vtable = {
    .kind = "ref",
    .open = ref_open,
    .close = ref_close,
    .alloc = kn_host_alloc,
    .free = kn_host_free,
    .upload = kn_host_upload,
    .download = kn_host_download,
    .sync = kn_host_sync,
    .trim = ref_trim,
    .mark = kn_host_mark,
    .elapsed = kn_host_elapsed,
    .capture = kn_host_capture,
    .captured = kn_host_captured,
    .replay = kn_host_replay,
    .forget = kn_host_forget,
};
