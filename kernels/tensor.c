#include "kernels/tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [KN_F32] = {"f32", 4}, [KN_F64] = {"f64", 8}, [KN_BF16] = {"bf16", 2}, [KN_I32] = {"i32", 4}, [KN_U8] = {"u8", 1}, [KN_I8] = {"int8", 1},
};
_Static_assert(sizeof dtypes / sizeof dtypes[0] == KN_DTYPE_COUNT, "a line for every dtype");

size_t kn_dtype_size(enum kn_dtype t)
{
    return dtypes[t].size;
}

const char *kn_dtype_name(enum kn_dtype t)
{
    return dtypes[t].name;
}

struct kn_tensor kn_t4(void *p, enum kn_dtype t, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return (struct kn_tensor){p, t, 4, {d0, d1, d2, d3}, {d1 * d2 * d3, d2 * d3, d3, 1}};
}

struct kn_tensor kn_t3(void *p, enum kn_dtype t, int64_t d0, int64_t d1, int64_t d2)
{
    int64_t row = d2 + (t == KN_I8 ? KN_I8_TAIL : 0);
    return (struct kn_tensor){p, t, 3, {d0, d1, d2}, {d1 * row, row, 1}};
}

struct kn_tensor kn_t2(void *p, enum kn_dtype t, int64_t d0, int64_t d1)
{
    return (struct kn_tensor){p, t, 2, {d0, d1}, {d1 + (t == KN_I8 ? KN_I8_TAIL : 0), 1}};
}

struct kn_tensor kn_t1(void *p, enum kn_dtype t, int64_t d0)
{
    return (struct kn_tensor){p, t, 1, {d0}, {1}};
}

struct kn_tensor kn_transpose(const struct kn_tensor *t)
{
    struct kn_tensor r = *t;
    int i = t->rank - 1;
    r.d[i] = t->d[i - 1], r.d[i - 1] = t->d[i];
    r.s[i] = t->s[i - 1], r.s[i - 1] = t->s[i];
    return r;
}

struct kn_tensor kn_slice(const struct kn_tensor *t, int dim, int64_t from, int64_t n)
{
    struct kn_tensor r = *t;
    r.d[dim] = n;
    r.p = (char *)t->p + from * t->s[dim] * (int64_t)dtypes[t->dtype].size;
    return r;
}

struct kn_tensor kn_split(const struct kn_tensor *t, int dim, int64_t a, int64_t b)
{
    struct kn_tensor r = *t;
    r.rank = t->rank + 1;
    for (int i = t->rank; i > dim + 1; i--) r.d[i] = t->d[i - 1], r.s[i] = t->s[i - 1];
    r.d[dim] = a, r.s[dim] = t->s[dim] * b;
    r.d[dim + 1] = b, r.s[dim + 1] = t->s[dim];
    return r;
}

int64_t kn_count(const struct kn_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->d[i];
    return n;
}
