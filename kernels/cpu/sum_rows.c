/* Sums over the rows: the gradient of a bias. A task takes a strip of columns and adds its rows in their order. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"

#define STRIP 64 /* columns: four lines of a row at a time */

#define VEC_FILE "kernels/cpu/sum_rows.c"
#include "kernels/cpu/vec_each.h"

static void (*const strip_each[])(float *, const float *, int64_t, int64_t, int64_t) = VEC_EACH(strip);

struct ctx {
    struct kn_dev *dev;
    const struct kn_tensor *dy, *db;
};

static void task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    const struct kn_tensor *dy = c->dy, *db = c->db;
    int64_t from = (int64_t)task * STRIP, n = db->d[0] - from < STRIP ? db->d[0] - from : STRIP;
    float sum[STRIP] = {0}, *out = (float *)db->p + from * db->s[0];
    const float *in = (const float *)dy->p + from * dy->s[1];
    if (dy->s[1] == 1) {
        strip_each[cpu_of(c->dev)->isa](sum, in, dy->d[0], dy->s[0], n);
    } else {
        for (int64_t i = 0; i < dy->d[0]; i++)
            for (int64_t j = 0; j < n; j++) sum[j] += in[i * dy->s[0] + j * dy->s[1]];
    }
    for (int64_t j = 0; j < n; j++) out[j * db->s[0]] += sum[j];
}

st_t cpu_sum_rows(struct kn_dev *dev, const struct kn_tensor *dy, const struct kn_tensor *db)
{
    st_t st = kn_check_sum_rows(dy, db);
    if (st) return st;
    if (dy->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {dev, dy, db};
    cpu_run(dev, task, &c, (int)((db->d[0] + STRIP - 1) / STRIP), (double)kn_count(dy) * 4 / 10);
    return ST_OK;
}

#else

/* sum[n] = the rows' sum, in their order; n <= STRIP; sum has STRIP numbers. */
static void VEC_NAME(strip)(float *sum, const float *in, int64_t rows, int64_t stride, int64_t n)
{
    int64_t j = 0;
    for (; j + 4 * VL <= n; j += 4 * VL) { /* neighbouring lines together: of wide rows each is a page of its own */
        vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero();
        for (int64_t i = 0; i < rows; i++) {
            const float *p = in + i * stride + j;
            s0 = vf_add(s0, vf_load(p));
            s1 = vf_add(s1, vf_load(p + VL));
            s2 = vf_add(s2, vf_load(p + 2 * VL));
            s3 = vf_add(s3, vf_load(p + 3 * VL));
        }
        vf_store(sum + j, s0);
        vf_store(sum + j + VL, s1);
        vf_store(sum + j + 2 * VL, s2);
        vf_store(sum + j + 3 * VL, s3);
    }
    for (; j < n; j += VL) {
        int64_t k = n - j < VL ? n - j : VL;
        vf s = vf_zero();
        if (k == VL)
            for (int64_t i = 0; i < rows; i++) s = vf_add(s, vf_load(in + i * stride + j));
        else
            for (int64_t i = 0; i < rows; i++) s = vf_add(s, vf_loadn(in + i * stride + j, k));
        vf_storen(sum + j, s, k);
    }
}

#endif
