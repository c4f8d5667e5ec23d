/* What the backward of Mamba-2's scan shares with its kind in bf16 (names as in ssd_bwd.c). Included after vec_ssd.h; no guard. */
#include "kernels/cpu/vec_put.h"

/* From dx' and the flow: dx, and what the head's own numbers and steps get. */
static void VEC_NAME(ssd_finish)(const struct ssd_bwd *f, const struct ssd_task *k, int64_t h, int64_t t0, int n,
                                 const struct ssd_decay *d, const float *dxd, const struct ssd_flow *flow)
{
    const struct ssd *w = &f->w;
    float D = ssd_of(&w->d, h), A = -expf(ssd_of(&w->a_log, h)), own[SSD_CHUNK], dA = 0, dbias = 0;
    vf skip = vf_set1(D), sd = vf_zero();
    for (int l = 0; l < n; l++) {
        const float *x = ssd_at(&w->x, k->b, t0 + l, h), *dy = ssd_at(&f->dy, k->b, t0 + l, h), *g = dxd + l * w->Pp;
        float *dx = ssd_at(&f->dx, k->b, t0 + l, h);
        vf t = vf_set1(d->dt[l]), sx = vf_zero();
        for (int64_t p = 0; p < w->P; p += VL) {
            int64_t left = w->P - p;
            vf a, b, e = vf_load(g + p);
            if (left >= VL) a = vf_load(dy + p), b = vf_load(x + p);
            else a = vf_loadn(dy + p, left), b = vf_loadn(x + p, left);
            vf r = vf_fma(skip, a, vf_mul(t, e));
            sx = vf_fma(b, e, sx), sd = vf_fma(a, b, sd);
            if (left >= VL) vf_store(dx + p, r);
            else vf_storen(dx + p, r, left);
        }
        own[l] = vf_hsum(sx);
    }
    float left = 0, cross = 0, into = 0;
    for (int l = 0; l < n; l++) left += flow->out[l];
    for (int l = n - 1; l >= 0; l--) {
        cross += flow->row[l] - flow->column[l];
        into += flow->in[l];
        left -= flow->out[l];
        float g = cross + into + left + flow->through, raw = (own[l] + A * g) * d->slope[l];
        dA += d->dt[l] * g;
        int64_t at = k->b * f->ddt.sb + (t0 + l) * f->ddt.st + h * f->ddt.sh;
        VEC_NAME(put)(f->ddt.p, f->half, at, vf_set1(raw), 1);
        dbias += raw;
    }
    float *sum = f->heads + (k->b * w->H + h) * 3;
    sum[0] += dbias;
    sum[1] += dA * A;
    sum[2] += vf_hsum(sd);
}
