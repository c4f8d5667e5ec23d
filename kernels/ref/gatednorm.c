#include "kernels/ref/ref.h"

static double sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

/* What is normed: x, or x silu(z). */
static double normed(const struct kn_tensor *x, const struct kn_tensor *z, int64_t n, int64_t d, int gate_first)
{
    double zv = ref_get(z, at2(z, n, d));
    return ref_get(x, at2(x, n, d)) * (gate_first ? zv * sigmoid(zv) : 1);
}

st_t ref_gatednorm(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z, const struct kn_tensor *w,
                   int64_t group, double eps, int gate_first, const struct kn_tensor *y, const struct kn_tensor *rstd)
{
    st_t st = kn_check_gatednorm(x, z, w, group, eps, gate_first, y, rstd);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++) {
        for (int64_t d0 = 0; d0 < x->d[1]; d0 += group) {
            double ss = 0;
            for (int64_t d = d0; d < d0 + group; d++) {
                double u = normed(x, z, n, d, gate_first);
                ss += u * u;
            }
            double s = 1 / sqrt(ss / (double)group + eps);
            ref_set(rstd, at2(rstd, n, d0 / group), s);
            for (int64_t d = d0; d < d0 + group; d++) {
                double zv = ref_get(z, at2(z, n, d)), gate = gate_first ? 1 : zv * sigmoid(zv);
                ref_set(y, at2(y, n, d),
                        ref_get(w, d % w->d[0] * w->s[0]) * normed(x, z, n, d, gate_first) * s * gate);
            }
        }
    }
    return ST_OK;
}

/* With a = silu(z), u what is normed, s = (mean(u^2) + eps)^(-1/2), e the gradient of w u s (dy, or dy a where the gate
 * comes last):
 *   du_d = s w_d e_d - s^3 u_d / group * sum_i w_i e_i u_i      dw_d = e_d u_d s
 * gate first: dx = du a, da = du x;  else: dx = du, da = dy w u s.   dz = da a'(z), a' = sigma + a (1 - sigma). */
st_t ref_gatednorm_bwd(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *z,
                       const struct kn_tensor *w, int64_t group, int gate_first, const struct kn_tensor *rstd,
                       const struct kn_tensor *dy, const struct kn_tensor *dx, const struct kn_tensor *dz,
                       const struct kn_tensor *dw)
{
    st_t st = kn_check_gatednorm_bwd(x, z, w, group, gate_first, rstd, dy, dx, dz, dw);
    if (st) return st;
    if (!ref_has(x)) return ST_ENOTSUP;
    for (int64_t n = 0; n < x->d[0]; n++) {
        for (int64_t d0 = 0; d0 < x->d[1]; d0 += group) {
            double s = ref_get(rstd, at2(rstd, n, d0 / group)), dot = 0;
            for (int64_t d = d0; d < d0 + group; d++) {
                double zv = ref_get(z, at2(z, n, d)), gate = gate_first ? 1 : zv * sigmoid(zv);
                dot += ref_get(w, d % w->d[0] * w->s[0]) * ref_get(dy, at2(dy, n, d)) * gate *
                       normed(x, z, n, d, gate_first);
            }
            for (int64_t d = d0; d < d0 + group; d++) {
                double xv = ref_get(x, at2(x, n, d)), zv = ref_get(z, at2(z, n, d)), sig = sigmoid(zv), a = zv * sig;
                double wv = ref_get(w, d % w->d[0] * w->s[0]), g = ref_get(dy, at2(dy, n, d));
                double u = gate_first ? xv * a : xv, e = gate_first ? g : g * a;
                double du = s * wv * e - s * s * s * u * dot / (double)group;
                double da = gate_first ? du * xv : g * wv * u * s;
                ref_set(dx, at2(dx, n, d), gate_first ? du * a : du);
                ref_set(dz, at2(dz, n, d), da * (sig + a * (1 - sig)));
                ref_add(dw, d % w->d[0] * dw->s[0], e * u * s);
            }
        }
    }
    return ST_OK;
}
