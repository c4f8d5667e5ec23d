/* What each op costs at least: floating-point operations (a multiply-add is two) and bytes (each operand once, f32 unless dtype size is given). */
#ifndef TAUT_KERNELS_COST_H
#define TAUT_KERNELS_COST_H

#include <stdint.h>

struct kn_cost {
    double flops, bytes;
};

struct kn_cost kn_cost_gemm(int64_t m, int64_t n, int64_t p, int esize);
struct kn_cost kn_cost_rmsnorm(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_rmsnorm_bwd(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_layernorm(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_layernorm_bwd(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_rope(int64_t n, int64_t h, int64_t k, int esize);
struct kn_cost kn_cost_headnorm(int64_t n, int64_t h, int64_t k, int esize);
struct kn_cost kn_cost_headnorm_bwd(int64_t n, int64_t h, int64_t k, int esize);
struct kn_cost kn_cost_headgate(int64_t n, int64_t h, int64_t k, int esize);
struct kn_cost kn_cost_headgate_bwd(int64_t n, int64_t h, int64_t k, int esize);
/* Values as wide as keys. Pairs (i, j) that the mask lets through are counted exactly. */
struct kn_cost kn_cost_attention(int64_t b, int64_t t, int64_t s, int64_t h, int64_t g, int64_t k, int64_t window, int esize);
struct kn_cost kn_cost_attention_bwd(int64_t b, int64_t t, int64_t h, int64_t g, int64_t k, int64_t window, int esize);
struct kn_cost kn_cost_swiglu(int64_t n, int64_t f, int esize);
struct kn_cost kn_cost_swiglu_bwd(int64_t n, int64_t f, int esize); /* with h */
struct kn_cost kn_cost_mul(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_mul_bwd(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_conv(int64_t n, int64_t c, int64_t k, int silu, int esize);
struct kn_cost kn_cost_conv_bwd(int64_t n, int64_t c, int64_t k, int silu, int esize);
/* In its recurrent form, n = B T tokens: what a chunked one does beyond that does not count. */
struct kn_cost kn_cost_ssd(int64_t n, int64_t h, int64_t p, int64_t g, int64_t state, int esize);
struct kn_cost kn_cost_ssd_bwd(int64_t n, int64_t h, int64_t p, int64_t g, int64_t state, int esize);
struct kn_cost kn_cost_act(int64_t n, int64_t f, int kind, int esize); /* kind: enum kn_act */
struct kn_cost kn_cost_act_bwd(int64_t n, int64_t f, int kind, int esize);
struct kn_cost kn_cost_head_ce(int64_t n, int64_t d, int64_t v, int backward, int esize);
struct kn_cost kn_cost_head_distill(int64_t n, int64_t d, int64_t v, int64_t e, int esize); /* with both gradients */
struct kn_cost kn_cost_sum_rows(int64_t n, int64_t d, int esize);
/* n tokens, e experts, k of them a token. */
struct kn_cost kn_cost_route(int64_t n, int64_t e, int64_t k, int esize);
struct kn_cost kn_cost_route_bwd(int64_t n, int64_t e, int64_t k, int esize);
struct kn_cost kn_cost_gather(int64_t n, int64_t k, int64_t d, int esize);
struct kn_cost kn_cost_combine(int64_t n, int64_t k, int64_t d, int esize);
/* touched: matrices whose run has rows. gemm_grouped_sum: m rows of the sum, c [q, p], which is read too. */
struct kn_cost kn_cost_gemm_grouped(int64_t m, int64_t q, int64_t p, int64_t touched, int esize);
struct kn_cost kn_cost_expert_act(int64_t n, int64_t f, int gated, int esize);
struct kn_cost kn_cost_expert_act_bwd(int64_t n, int64_t f, int gated, int esize);
struct kn_cost kn_cost_adamw(int64_t n);
struct kn_cost kn_cost_gatednorm(int64_t n, int64_t d, int64_t group, int esize);
struct kn_cost kn_cost_gatednorm_bwd(int64_t n, int64_t d, int64_t group, int esize);
/* Scans in their recurrent form; state: it is read and written. */
struct kn_cost kn_cost_delta_rule(int64_t b, int64_t t, int64_t g, int64_t h, int64_t k, int64_t v, int state, int esize);
struct kn_cost kn_cost_delta_rule_bwd(int64_t b, int64_t t, int64_t g, int64_t h, int64_t k, int64_t v, int esize);
struct kn_cost kn_cost_gla(int64_t b, int64_t t, int64_t h, int64_t k, int64_t v, int state, int esize);
struct kn_cost kn_cost_gla_bwd(int64_t b, int64_t t, int64_t h, int64_t k, int64_t v, int esize);
struct kn_cost kn_cost_delta_gates(int64_t n, int64_t h, int esize);
struct kn_cost kn_cost_delta_gates_bwd(int64_t n, int64_t h, int esize);
struct kn_cost kn_cost_logsigmoid(int64_t n, int64_t d, int esize);
struct kn_cost kn_cost_logsigmoid_bwd(int64_t n, int64_t d, int esize);

/* Number of (query, key) pairs that causal attention with this window touches: sum over t of min(S-T+t+1, W or all). */
int64_t kn_attention_pairs(int64_t t, int64_t s, int64_t window);

#endif
