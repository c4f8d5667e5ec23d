/* Slots whose file has not landed yet: whoever adds cpu/<op>.c takes its line away here. */
#include "kernels/cpu/cpu.h"

#define PENDING(name, args)                                                                                            \
    st_t cpu_##name KN_ARGS args                                                                                       \
    {                                                                                                                  \
        return ST_ENOTSUP;                                                                                             \
    }
typedef const struct kn_tensor *T;

PENDING(gemm, (double alpha, T a, T b, double beta, T c))
PENDING(attention, (T q, T k, T v, int64_t window, double scale, T out, T lse))
PENDING(attention_bwd, (T q, T k, T v, T out, T lse, T dout, int64_t window, double scale, T dq, T dk, T dv))
PENDING(head_ce, (T x, T w, T target, double gscale, T loss, T dx, T dw))
