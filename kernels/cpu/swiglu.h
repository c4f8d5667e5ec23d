/* Rows of SwiGLU in bf16 (swiglu_bf16.c), n numbers each; for devices with dev->info.bf16. row: numbers from a row of g, u, dh to the next one.
 * In the backward dg, du, h may be the memory of g, u, dh; h NULL: not wanted. */
#ifndef TAUT_KERNELS_CPU_SWIGLU_H
#define TAUT_KERNELS_CPU_SWIGLU_H

#include <stdint.h>

void swiglu_fwd_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, int64_t n, const int64_t *row);
void swiglu_bwd_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, int64_t n,
                     const int64_t *row);

#endif
