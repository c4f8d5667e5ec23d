/* Rows of a [N,D] tensor of any strides, for inner loops that want unit stride: the row itself, or its copy in a
 * buffer. */
#ifndef TAUT_KERNELS_CPU_ROWS_H
#define TAUT_KERNELS_CPU_ROWS_H

#include <stdint.h>

struct rows {
    float *p;
    int64_t s0, s1;
};

static inline struct rows rows_of(const struct kn_tensor *t)
{
    return (struct rows){t->p, t->s[0], t->s[1]};
}

/* Asks for row i, n numbers of `size` bytes side by side, a row before it is read: where rows begin and end the machine loses track of them. No row i: asks in
 * vain. */
static inline void rows_ahead(const struct rows *r, int64_t i, int64_t size, int64_t n)
{
    const char *p = (const char *)r->p + i * r->s0 * size;
    for (int64_t at = 0; at < n * size; at += 64) __builtin_prefetch(p + at);
}

/* For reading. */
static inline float *row_in(const struct rows *r, int64_t i, int64_t n, float *buf)
{
    float *p = r->p + i * r->s0;
    if (r->s1 == 1) return p;
    for (int64_t j = 0; j < n; j++) buf[j] = p[j * r->s1];
    return buf;
}

/* Row i of numbers that are bf16 in memory; s1 is 1. */
static inline uint16_t *half_row(const struct rows *r, int64_t i)
{
    return (uint16_t *)(void *)r->p + i * r->s0;
}

/* For writing: fill what this returns, then row_done. */
static inline float *row_out(const struct rows *r, int64_t i, float *buf)
{
    return r->s1 == 1 ? r->p + i * r->s0 : buf;
}

static inline void row_done(const struct rows *r, int64_t i, int64_t n, const float *buf)
{
    if (r->s1 == 1) return;
    float *p = r->p + i * r->s0;
    for (int64_t j = 0; j < n; j++) p[j * r->s1] = buf[j];
}

/* Asks the second cache for n rows of k floats that are read soon: rows that are far apart come one by one where nothing else knows of them. */
/* Inlined always: GCC takes a call of a function that does nothing else for one without effect, and drops it. */
__attribute__((always_inline)) static inline void rows_fetch(const float *p, int64_t stride, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++, p += stride)
        for (int64_t j = 0; j < k; j += 16) __builtin_prefetch(p + j, 0, 2);
}

/* Rows a task takes, so that it touches at least `least` elements: by shape alone. */
static inline int64_t rows_a_task(int64_t n, int64_t d, int64_t least)
{
    int64_t r = d > 0 ? (least + d - 1) / d : n;
    return r < 1 ? 1 : r > n ? (n > 0 ? n : 1) : r;
}

#endif
