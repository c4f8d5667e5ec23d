/* Rows of experts in bf16 (expert_bf16.c), n numbers each; for devices with dev->info.bf16. */
#ifndef TAUT_KERNELS_CPU_EXPERT_H
#define TAUT_KERNELS_CPU_EXPERT_H

#include <stdint.h>

/* y = x + beta y; beta = 0 does not read y. */
void expert_add_bf16(float *y, const uint16_t *x, float beta, int64_t n);
/* h = w act;  act = silu(g) u, or max(g, 0)^2 where u is NULL */
void expert_act_bf16(uint16_t *h, const uint16_t *g, const uint16_t *u, float w, int64_t n);
/* Returns the sum of act dh. h again, NULL: not wanted. dg, du, h may be the memory of g, u, dh. */
float expert_back_bf16(uint16_t *dg, uint16_t *du, uint16_t *h, const uint16_t *g, const uint16_t *u, const uint16_t *dh, float w, int64_t n);

#endif
