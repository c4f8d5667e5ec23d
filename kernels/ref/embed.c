#include "kernels/ref/ref.h"

static st_t check_tokens(const struct kn_tensor *tok, int64_t vocab)
{
    for (int64_t n = 0; n < tok->d[0]; n++) {
        double t = ref_get(tok, n * tok->s[0]);
        if (t < 0 || t >= (double)vocab) return ST_EINVAL;
    }
    return ST_OK;
}

st_t ref_embed(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *w, const struct kn_tensor *out)
{
    st_t st = kn_check_embed(tok, w, out);
    if (st) return st;
    if (!ref_has(out)) return ST_ENOTSUP;
    st = check_tokens(tok, w->d[0]);
    if (st) return st;
    for (int64_t n = 0; n < tok->d[0]; n++) {
        int64_t t = (int64_t)ref_get(tok, n * tok->s[0]);
        for (int64_t d = 0; d < w->d[1]; d++) ref_set(out, at2(out, n, d), ref_weight(w, t, d));
    }
    return ST_OK;
}

st_t ref_embed_bwd(struct kn_dev *dev, const struct kn_tensor *tok, const struct kn_tensor *dout, const struct kn_tensor *dw)
{
    st_t st = kn_check_embed_bwd(tok, dout, dw);
    if (st) return st;
    if (!ref_has(dw)) return ST_ENOTSUP;
    st = check_tokens(tok, dw->d[0]);
    if (st) return st;
    for (int64_t n = 0; n < tok->d[0]; n++) {
        int64_t t = (int64_t)ref_get(tok, n * tok->s[0]);
        for (int64_t d = 0; d < dw->d[1]; d++) ref_add(dw, at2(dw, t, d), ref_get(dout, at2(dout, n, d)));
    }
    return ST_OK;
}
