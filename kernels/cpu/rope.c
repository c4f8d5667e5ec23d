/* Rotary position embedding, halves convention, in place. Cosines and sines come from tables that the device keeps,
 * computed in f64 and rounded once. A table holds positions [base, base + n): from 0 and growing by doubling up to
 * TABLE_MAX; far positions (decoding at 1M) get a short one of their own, so that memory does not grow with the
 * position. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define VEC_FILE "kernels/cpu/rope.c"
#include "kernels/cpu/vec_each.h"
#ifdef __x86_64__
#include "kernels/cpu/vec_bf16.h"
#else
#define rotate_bf16 NULL /* never: no such device has the precision */
#endif

#define TABLE_MAX 32768 /* positions */
#define TABLE_MIN 128

static void (*const rotate_each[])(float *x, int64_t heads, int64_t stride, const float *cs, int64_t half,
                                   float sign) = VEC_EACH(rotate);

struct ctx {
    void (*rotate)(float *x, int64_t heads, int64_t stride, const float *cs, int64_t half, float sign);
    float *x;
    int half_x; /* it is bf16 */
    int64_t sb, st, sh, b, t, h, half, step;
    const float *cs; /* [t][2][half] cos, sin */
    float sign;
};

static void task(void *arg, int i, int worker)
{
    struct ctx *c = arg;
    int64_t rows = c->b * c->t, end = (i + 1) * c->step < rows ? (i + 1) * c->step : rows;
    for (int64_t n = i * c->step; n < end; n++) {
        int64_t b = n / c->t, t = n % c->t;
        int64_t at = b * c->sb + t * c->st;
        c->rotate(c->half_x ? (float *)((uint16_t *)c->x + at) : c->x + at, c->h, c->sh, c->cs + t * 2 * c->half, c->half, c->sign);
    }
}

#define FILL 64 /* positions a task computes */

struct fill {
    float *p;
    int64_t base, n, half;
    double theta;
};

static void fill_task(void *arg, int task_no, int worker)
{
    struct fill *f = arg;
    int64_t from = (int64_t)task_no * FILL, end = from + FILL < f->n ? from + FILL : f->n;
    for (int64_t j = 0; j < f->half; j++) {
        double freq = pow(f->theta, -(double)j / (double)f->half);
        for (int64_t i = from; i < end; i++) {
            double a = (double)(f->base + i) * freq;
            f->p[i * 2 * f->half + j] = (float)cos(a);
            f->p[(i * 2 + 1) * f->half + j] = (float)sin(a);
        }
    }
}

st_t cpu_rope_table(struct kn_dev *dev, int64_t pos0, int64_t t, double theta, int64_t half, const float **out)
{
    struct cpu *cpu = cpu_of(dev);
    struct cpu_rope *e = NULL;
    for (int i = 0; i < CPU_ROPE_TABLES; i++) {
        struct cpu_rope *r = &cpu->rope[i];
        if (r->n == 0 || r->theta != theta || r->half != half) continue;
        if (pos0 >= r->base && pos0 + t <= r->base + r->n) {
            *out = (const float *)cpu->slot[CPU_SLOT_ROPE + i].p + (pos0 - r->base) * 2 * half;
            return ST_OK;
        }
        /* a far table is replaced by a far one, a near one by its longer self */
        if ((r->base == 0) == (pos0 + t <= TABLE_MAX)) e = r;
    }
    if (!e) {
        e = &cpu->rope[cpu->rope_next];
        cpu->rope_next = (cpu->rope_next + 1) % CPU_ROPE_TABLES;
    }
    int64_t base = 0, n = TABLE_MIN;
    if (pos0 + t <= TABLE_MAX) {
        while (n < pos0 + t) n *= 2;
    } else {
        base = pos0;
        n = t > TABLE_MIN ? t : TABLE_MIN;
    }
    e->n = 0;
    void *p;
    st_t st =
        cpu_shared(dev, (enum cpu_slot)(CPU_SLOT_ROPE + (e - cpu->rope)), (size_t)(n * 2 * half) * sizeof(float), &p);
    if (st) return st;
    struct fill f = {p, base, n, half, theta};
    cpu_run(dev, fill_task, &f, (int)((n + FILL - 1) / FILL), (double)(n * half) * 40);
    *e = (struct cpu_rope){theta, half, base, n};
    *out = (const float *)p + (pos0 - base) * 2 * half;
    return ST_OK;
}

void cpu_rope_heads(const struct kn_dev *dev, float *x, int64_t heads, int64_t stride, const float *cs, int64_t half)
{
    rotate_each[cpu_of(dev)->isa](x, heads, stride, cs, half, 1);
}

st_t cpu_rope(struct kn_dev *dev, const struct kn_tensor *x, int64_t pos0, double theta, int inverse)
{
    st_t st = kn_check_rope(x, pos0, theta, inverse);
    if (st) return st;
    int half = x->dtype == KN_BF16;
    if (x->dtype == KN_F64 || (half && dev->precision != KN_BF16)) return ST_ENOTSUP;
    if (kn_count(x) == 0) return ST_OK;
    struct ctx c = {.rotate = half ? rotate_bf16 : rotate_each[cpu_of(dev)->isa],
                    .x = x->p,
                    .half_x = half,
                    .sb = x->s[0],
                    .st = x->s[1],
                    .sh = x->s[2],
                    .b = x->d[0],
                    .t = x->d[1],
                    .h = x->d[2],
                    .half = x->d[3] / 2,
                    .sign = inverse ? -1.0f : 1.0f};
    if ((st = cpu_rope_table(dev, pos0, c.t, theta, c.half, &c.cs))) return st;
    int64_t width = c.h * c.half * 2;
    c.step = (8192 + width - 1) / width;
    cpu_run(dev, task, &c, (int)((c.b * c.t + c.step - 1) / c.step), (double)kn_count(x) * 8 / 10);
    return ST_OK;
}

#elif defined(VEC_BF16)

/* Every head of one position, numbers that are bf16. */
static void rotate_bf16(float *x, int64_t heads, int64_t stride, const float *cs, int64_t half, float sign)
{
    vf sg = vf_set1(sign);
    for (int64_t i = 0; i < half; i += VL) {
        __mmask16 m = (__mmask16)(half - i < VL ? (1u << (half - i)) - 1 : 0xffffu);
        vf c = _mm512_maskz_loadu_ps(m, cs + i), s = vf_mul(_mm512_maskz_loadu_ps(m, cs + half + i), sg);
        for (int64_t h = 0; h < heads; h++) {
            uint16_t *p = (uint16_t *)x + h * stride + i, *q = p + half;
            vf a = vf_widen_bf16(p, m), b = vf_widen_bf16(q, m);
            vf_narrow_bf16(p, m, vf_fnma(b, s, vf_mul(a, c)));
            vf_narrow_bf16(q, m, vf_fma(a, s, vf_mul(b, c)));
        }
    }
}

#else

VEC_FN void VEC_NAME(rotate1)(float *p, float *q, vf c, vf s, int64_t k)
{
    vf a = k == VL ? vf_load(p) : vf_loadn(p, k), b = k == VL ? vf_load(q) : vf_loadn(q, k);
    vf x = vf_fnma(b, s, vf_mul(a, c)), y = vf_fma(a, s, vf_mul(b, c));
    if (k == VL) {
        vf_store(p, x);
        vf_store(q, y);
    } else {
        vf_storen(p, x, k);
        vf_storen(q, y, k);
    }
}

/* Every head of one position. */
static void VEC_NAME(rotate)(float *x, int64_t heads, int64_t stride, const float *cs, int64_t half, float sign)
{
    vf sg = vf_set1(sign);
    int64_t i = 0;
    for (; i + VL <= half; i += VL) {
        vf c = vf_load(cs + i), s = vf_mul(vf_load(cs + half + i), sg);
        for (int64_t h = 0; h < heads; h++) VEC_NAME(rotate1)(x + h * stride + i, x + h * stride + half + i, c, s, VL);
    }
    if (i < half) {
        vf c = vf_loadn(cs + i, half - i), s = vf_mul(vf_loadn(cs + half + i, half - i), sg);
        for (int64_t h = 0; h < heads; h++)
            VEC_NAME(rotate1)(x + h * stride + i, x + h * stride + half + i, c, s, half - i);
    }
}

#endif
