/* The logarithm in softplus, in the vectors of vec.h. Included by a pass of vec_each.h or vec_bf16.h; like vec.h it has no guard. */

/* up + log(1 + t), t in [0, 1]: log(1 + t) = 2 artanh(s), s = t / (2 + t) <= 1/3, by its series up to s^15 (the next
 * term is below 2^-26 of the sum). softplus(x) is that of t = e^-|x|, up = max(x, 0). */
VEC_FN vf VEC_NAME(add_log1p)(vf up, vf t)
{
    vf s = vf_div(t, vf_add(t, vf_set1(2.0f))), z = vf_mul(s, s), p = vf_set1(2.0f / 15);
    p = vf_fma(p, z, vf_set1(2.0f / 13));
    p = vf_fma(p, z, vf_set1(2.0f / 11));
    p = vf_fma(p, z, vf_set1(2.0f / 9));
    p = vf_fma(p, z, vf_set1(2.0f / 7));
    p = vf_fma(p, z, vf_set1(2.0f / 5));
    p = vf_fma(p, z, vf_set1(2.0f / 3));
    p = vf_fma(p, z, vf_set1(2.0f));
    return vf_fma(p, s, up);
}
