/* What every device asks of an op's operands before it touches them: kn_check_<op>, same parameters as the op without the device.
 * ST_EINVAL: a rank, dim, stride or dtype that does not fit the others (ops.def says which). Which float dtypes a device has is its own matter:
 * after the check all float operands have one dtype, so one comparison and ST_ENOTSUP are left to it.
 * Dims of 0 pass: such an op has nothing to do. */
#ifndef TAUT_KERNELS_CHECK_H
#define TAUT_KERNELS_CHECK_H

#include "kernels/device.h"

#define KN_EXPERTS_MAX 4096

#define KN_CHECK_ARGS(...) (__VA_ARGS__)
#define KN_OP(name, args) st_t kn_check_##name KN_CHECK_ARGS args;
#include "kernels/ops.def"
#undef KN_OP

/* What kn_check_gemm_grouped and kn_check_gemm_grouped_sum leave to devices whose memory is the host's: that offset's numbers begin with 0, do not fall and end with M. */
st_t kn_check_runs(const struct kn_tensor *offset, int64_t M);

/* 1: an optional operand that is not there (no descriptor, or one without memory). */
static inline int kn_absent(const struct kn_tensor *t)
{
    return !t || !t->p;
}

#endif
