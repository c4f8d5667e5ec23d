/* Slots whose file has not landed yet: whoever adds cpu/<op>.c takes its line away here. */
#include "kernels/cpu/cpu.h"

#define PENDING(name, args)                                                                                            \
    st_t cpu_##name KN_ARGS args                                                                                       \
    {                                                                                                                  \
        return ST_ENOTSUP;                                                                                             \
    }
typedef const struct kn_tensor *T;

PENDING(gemm, (double alpha, T a, T b, double beta, T c))
PENDING(embed, (T tok, T w, T out))
PENDING(embed_bwd, (T tok, T dout, T dw))
PENDING(rmsnorm, (T x, T r, T w, double eps, T y, T rstd))
PENDING(rmsnorm_bwd, (T x, T w, T rstd, T dy, T dx, T dw))
PENDING(rope, (T x, int64_t pos0, double theta, int inverse))
PENDING(attention, (T q, T k, T v, int64_t window, double scale, T out, T lse))
PENDING(attention_bwd, (T q, T k, T v, T out, T lse, T dout, int64_t window, double scale, T dq, T dk, T dv))
PENDING(swiglu, (T g, T u, T h))
PENDING(swiglu_bwd, (T g, T u, T dh, T dg, T du))
PENDING(head_ce, (T x, T w, T target, double gscale, T loss, T dx, T dw))
PENDING(copy, (T x, T y))
PENDING(axpy, (double alpha, T y, T x))
PENDING(fill, (T x, double value))
PENDING(sumsq, (T x, double *out))
PENDING(adamw, (T p, T g, T m, T v, const struct kn_adamw *h))
