/* Slots whose file has not landed yet: whoever adds cpu/<op>.c takes its line away here. */
#include "kernels/cpu/cpu.h"

#define PENDING(name, args)                                                                                            \
    st_t cpu_##name KN_ARGS args                                                                                       \
    {                                                                                                                  \
        return ST_ENOTSUP;                                                                                             \
    }
typedef const struct kn_tensor *T;

PENDING(head_ce, (T x, T w, T target, double gscale, T loss, T dx, T dw))
