#include "kernels/cuda/cuda.h"
#define KN_OP(name, args) extern "C" __attribute__((weak)) st_t cuda_##name KN_ARGS args { return ST_ENOTSUP; }
#include "kernels/ops.def"
