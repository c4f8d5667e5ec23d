/* Memory and time of devices that compute on the host (ref, cpu): the part of their vtables that does not differ. Their dev->self
 * begins with a struct kn_host.
 *
 * kn_host_alloc refuses what would lift dev->bytes over dev->info.memory, so that a candidate that does not fit is refused instead of
 * meeting the kernel's out-of-memory killer. */
#ifndef TAUT_KERNELS_HOST_H
#define TAUT_KERNELS_HOST_H

#include "kernels/device.h"

struct kn_host {
    uint64_t mark[2]; /* base_clock_ns at each mark */
};

/* Name, memory limit and threads of this machine into dev->info. */
void kn_host_info(struct kn_dev *dev, const char *kind, const char *isa, int threads);

/* 64-byte aligned and zeroed; from 2 MiB up on huge pages where the system gives them. Counts into dev->bytes and dev->peak. ST_ENOMEM */
st_t kn_host_alloc(struct kn_dev *dev, size_t bytes, void **out);
void kn_host_free(struct kn_dev *dev, void *p, size_t bytes);
st_t kn_host_upload(struct kn_dev *dev, void *dst, const void *host, size_t bytes);
st_t kn_host_download(struct kn_dev *dev, void *host, const void *src, size_t bytes);
st_t kn_host_sync(struct kn_dev *dev);
st_t kn_host_mark(struct kn_dev *dev, int which);
st_t kn_host_elapsed(struct kn_dev *dev, uint64_t *ns);
/* Op clip's numbers from the sum of squares. */
void kn_host_clip(double sum, double most, double out[2]);
/* Work that has finished when an op returns cannot be kept for later: ST_ENOTSUP. */
st_t kn_host_capture(struct kn_dev *dev);
st_t kn_host_captured(struct kn_dev *dev, struct kn_graph **out);
st_t kn_host_replay(struct kn_dev *dev, struct kn_graph *g);
void kn_host_forget(struct kn_dev *dev, struct kn_graph *g);

extern const struct kn_dev_vtable kn_ref_vtable, kn_cpu_vtable;
/* Built without CUDA, it is NULL where a program is linked without it. */
#ifdef TAUT_CUDA
extern const struct kn_dev_vtable kn_cuda_vtable;
#else
extern const struct kn_dev_vtable kn_cuda_vtable __attribute__((weak));
#endif
extern const struct kn_ops kn_ref_ops, kn_cpu_ops;

#endif
