/* copy (and cast), axpy, fill: any strides. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Operands with the dims that both walk alike merged: y and x have equal dims, so one set of dims and two of strides.
 */
struct ctx {
    char *x, *y;
    int rank;
    int64_t d[KN_RANK], sx[KN_RANK], sy[KN_RANK];
    int64_t chunk, chunks; /* of the innermost dim */
    int64_t units, step;   /* unit: a chunk of one row */
    int ex, ey;            /* bytes an element */
    float alpha;
    uint32_t bits; /* fill: the element's bits */
    void (*row)(const struct ctx *c, char *x, char *y, int64_t n);
    void (*unit)(const struct ctx *c, char *x, char *y,
                 int64_t n); /* for rows of unit strides, or NULL: row does them too */
};

#define CHUNK 8192

static float bf16_get(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest, ties to even; a NaN stays one. */
static uint16_t bf16_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#define ROW(name, TX, TY, EXPR)                                                    \
    static void name(const struct ctx *c, char *px, char *py, int64_t n)           \
    {                                                                              \
        TX *x = (TX *)px;                                                          \
        __attribute__((unused)) TY *y = (TY *)py; /* fill has no second operand */ \
        int64_t sx = c->sx[c->rank - 1], sy = c->sy[c->rank - 1];                  \
        if (sx == 1 && sy == 1) {                                                  \
            for (int64_t i = 0; i < n; i++) EXPR(x[i], y[i]);                      \
            return;                                                                \
        }                                                                          \
        for (int64_t i = 0; i < n; i++) EXPR(x[i * sx], y[i * sy]);                \
    }
#define SAME(a, b)      b = a
#define TO_BF16(a, b)   b = bf16_of(a)
#define FROM_BF16(a, b) b = bf16_get(a)
#define AXPY(a, b)      a = a + c->alpha * b
#define FILL(a, b)      a = (__typeof__(a))c->bits
ROW(copy32, uint32_t, uint32_t, SAME)
ROW(copy16, uint16_t, uint16_t, SAME)
ROW(copy8, uint8_t, uint8_t, SAME)
ROW(copy_to_bf16, float, uint16_t, TO_BF16)
ROW(copy_from_bf16, uint16_t, float, FROM_BF16)
ROW(axpy32, float, float, AXPY)
ROW(fill32, uint32_t, uint32_t, FILL)
ROW(fill16, uint16_t, uint16_t, FILL)
ROW(fill8, uint8_t, uint8_t, FILL)

static void copy_bytes(const struct ctx *c, char *x, char *y, int64_t n)
{
    memcpy(y, x, (size_t)(n * c->ex));
}

static void fill_bytes(const struct ctx *c, char *x, char *y, int64_t n)
{
    memset(x, (int)(c->bits & 0xff), (size_t)(n * c->ex));
}

static void task(void *arg, int task_no, int worker)
{
    struct ctx *c = arg;
    int64_t end = (task_no + 1) * c->step < c->units ? (task_no + 1) * c->step : c->units;
    for (int64_t u = task_no * c->step; u < end; u++) {
        int64_t row = u / c->chunks, at = u % c->chunks * c->chunk, n = c->d[c->rank - 1] - at;
        int64_t ox = at * c->sx[c->rank - 1], oy = at * c->sy[c->rank - 1];
        for (int i = c->rank - 2; i >= 0; i--) {
            ox += row % c->d[i] * c->sx[i];
            oy += row % c->d[i] * c->sy[i];
            row /= c->d[i];
        }
        c->row(c, c->x + ox * c->ex, c->y + oy * c->ey, n < c->chunk ? n : c->chunk);
    }
}

static void run(struct kn_dev *dev, struct ctx *c, const struct kn_tensor *x, const struct kn_tensor *y, double bytes)
{
    int64_t n = kn_count(x);
    if (n == 0) return;
    c->x = x->p;
    c->y = y->p;
    c->ex = (int)kn_dtype_size(x->dtype);
    c->ey = (int)kn_dtype_size(y->dtype);
    c->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (x->d[i] == 1 && (c->rank > 0 || i + 1 < x->rank)) continue;
        int k = c->rank - 1;
        if (k >= 0 && c->sx[k] == x->d[i] * x->s[i] && c->sy[k] == y->d[i] * y->s[i]) {
            c->d[k] *= x->d[i];
            c->sx[k] = x->s[i];
            c->sy[k] = y->s[i];
            continue;
        }
        c->d[c->rank] = x->d[i];
        c->sx[c->rank] = x->s[i];
        c->sy[c->rank++] = y->s[i];
    }
    int64_t inner = c->d[c->rank - 1];
    if (c->unit && c->sx[c->rank - 1] == 1 && c->sy[c->rank - 1] == 1) c->row = c->unit;
    c->chunk = inner < CHUNK ? inner : CHUNK;
    c->chunks = (inner + c->chunk - 1) / c->chunk;
    c->units = n / inner * c->chunks;
    c->step = CHUNK / c->chunk;
    cpu_run(dev, task, c, (int)((c->units + c->step - 1) / c->step), (double)n * bytes / 10);
}

st_t cpu_copy(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *y)
{
    st_t st = kn_check_copy(x, y);
    if (st) return st;
    if (x->dtype == KN_I8 || y->dtype == KN_I8) return cpu_copy_i8(dev, x, y);
    struct ctx c = {0};
    if (x->dtype == y->dtype) {
        c.unit = copy_bytes;
        switch (kn_dtype_size(x->dtype)) {
        case 4:
            c.row = copy32;
            break;
        case 2:
            c.row = copy16;
            break;
        case 1:
            c.row = copy8;
            break;
        default:
            return ST_ENOTSUP;
        }
    } else if (x->dtype == KN_F32 && y->dtype == KN_BF16) {
        c.row = copy_to_bf16;
    } else if (x->dtype == KN_BF16 && y->dtype == KN_F32) {
        c.row = copy_from_bf16;
    } else {
        return ST_ENOTSUP;
    }
    run(dev, &c, x, y, (double)(kn_dtype_size(x->dtype) + kn_dtype_size(y->dtype)));
    return ST_OK;
}

st_t cpu_axpy(struct kn_dev *dev, double alpha, const struct kn_tensor *y, const struct kn_tensor *x)
{
    st_t st = kn_check_axpy(alpha, y, x);
    if (st) return st;
    if (x->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {.alpha = (float)alpha, .row = axpy32};
    run(dev, &c, x, y, 12);
    return ST_OK;
}

st_t cpu_fill(struct kn_dev *dev, const struct kn_tensor *x, double value)
{
    st_t st = kn_check_fill(x, value);
    if (st) return st;
    struct ctx c = {0};
    float f = (float)value;
    switch (x->dtype) {
    case KN_F32:
        memcpy(&c.bits, &f, sizeof f);
        c.row = fill32;
        break;
    case KN_I32:
        c.bits = (uint32_t)(int32_t)value;
        c.row = fill32;
        break;
    case KN_BF16:
        c.bits = bf16_of(f);
        c.row = fill16;
        break;
    case KN_U8:
        c.bits = (uint8_t)value;
        c.row = fill8;
        break;
    default:
        return ST_ENOTSUP;
    }
    if (c.bits == 0) c.unit = fill_bytes;
    run(dev, &c, x, x, (double)kn_dtype_size(x->dtype));
    return ST_OK;
}
