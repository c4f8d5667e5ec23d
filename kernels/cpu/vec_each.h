/* Includes VEC_FILE once for each instruction set, with VEC_PASS (generic, avx2, avx512), VEC_ISA (0, 1, 2) and the vectors of vec.h defined.
 * VEC_EACH(f) is then {f_generic, f_avx2, f_avx512}, to be indexed by enum cpu_isa; on other machines than x86-64 only the first is there
 * (a device never has an ISA that the machine lacks). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#define VEC_EACH(f) {f##_generic, f##_avx2, f##_avx512}
#else
#define VEC_EACH(f) {f##_generic}
#endif

#define VEC_PASS generic
#define VEC_ISA 0
#include "kernels/cpu/vec.h"
#include VEC_FILE
#undef VL
#undef VEC_PASS
#undef VEC_ISA

#ifdef __x86_64__
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#define VEC_PASS avx2
#define VEC_ISA 1
#include "kernels/cpu/vec.h"
#include VEC_FILE
#undef VL
#undef VEC_PASS
#undef VEC_ISA
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-512bit"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#define VEC_PASS avx512
#define VEC_ISA 2
#include "kernels/cpu/vec.h"
#include VEC_FILE
#undef VL
#undef VEC_PASS
#undef VEC_ISA
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
