#include "kernels/cost.h"

#include "kernels/device.h"

/* Counts of the arithmetic that the formulas in ops.def name; exp, rsqrt and division count as one. Bytes are the operands, each once. */

struct kn_cost kn_cost_gemm(int64_t m, int64_t n, int64_t p, int esize)
{
    double M = (double)m, N = (double)n, P = (double)p;
    return (struct kn_cost){2 * M * N * P, esize * (M * P + P * N + M * N)};
}

struct kn_cost kn_cost_rmsnorm(int64_t n, int64_t d, int esize)
{
    double N = (double)n, D = (double)d;
    /* x += r, sum of squares, two products: 5 a value; x in and out, r in, y out */
    return (struct kn_cost){5 * N * D, esize * (4 * N * D + D + N)};
}

struct kn_cost kn_cost_rmsnorm_bwd(int64_t n, int64_t d, int esize)
{
    double N = (double)n, D = (double)d;
    /* xhat, g = dy w, sum of g xhat (2), dw += dy xhat (2), dx += rstd (g - xhat c) (4) */
    return (struct kn_cost){10 * N * D, esize * (4 * N * D + 3 * D + N)};
}

struct kn_cost kn_cost_layernorm(int64_t n, int64_t d, int esize)
{
    double N = (double)n, D = (double)d;
    /* x += r, sum, less mean and sum of squares (3), less mean, two products and b (4): 9 a value */
    return (struct kn_cost){9 * N * D, esize * (4 * N * D + 2 * D + 2 * N)};
}

struct kn_cost kn_cost_layernorm_bwd(int64_t n, int64_t d, int esize)
{
    double N = (double)n, D = (double)d;
    /* as rmsnorm_bwd's 10, and xhat's mean, sum of g and its mean (3), db += dy */
    return (struct kn_cost){14 * N * D, esize * (4 * N * D + 5 * D + 2 * N)};
}

struct kn_cost kn_cost_rope(int64_t n, int64_t h, int64_t k, int esize)
{
    double x = (double)n * (double)h * (double)k;
    return (struct kn_cost){3 * x, esize * 2 * x};
}

struct kn_cost kn_cost_headnorm(int64_t n, int64_t h, int64_t k, int esize)
{
    double rows = (double)n * (double)h, K = (double)k;
    return (struct kn_cost){4 * rows * K, esize * (2 * rows * K + K + rows)};
}

struct kn_cost kn_cost_headnorm_bwd(int64_t n, int64_t h, int64_t k, int esize)
{
    double rows = (double)n * (double)h, K = (double)k;
    /* as kn_cost_rmsnorm_bwd, but that dx is not added to */
    return (struct kn_cost){9 * rows * K, esize * (3 * rows * K + 3 * K + rows)};
}

struct kn_cost kn_cost_headgate(int64_t n, int64_t h, int64_t k, int esize)
{
    double x = (double)n * (double)h * (double)k;
    return (struct kn_cost){4 * x, esize * 3 * x};
}

struct kn_cost kn_cost_headgate_bwd(int64_t n, int64_t h, int64_t k, int esize)
{
    double x = (double)n * (double)h * (double)k;
    return (struct kn_cost){8 * x, esize * 5 * x};
}

int64_t kn_attention_pairs(int64_t t, int64_t s, int64_t window)
{
    /* query i sees s - t + i + 1 keys, at most window of them */
    int64_t first = s - t + 1, last = s;
    if (window <= 0 || window >= last) return (first + last) * t / 2;
    if (window <= first) return window * t;
    int64_t growing = window - first; /* queries that see fewer than window */
    return (first + window - 1) * growing / 2 + window * (t - growing);
}

struct kn_cost kn_cost_attention(int64_t b, int64_t t, int64_t s, int64_t h, int64_t g, int64_t k, int64_t window, int esize)
{
    double B = (double)b, pairs = (double)kn_attention_pairs(t, s, window);
    double keys = (double)(window > 0 && window + t - 1 < s ? window + t - 1 : s); /* that any query sees */
    /* a pair: q.k (2K), scale, exp, sum, p v (2K) */
    return (struct kn_cost){B * (double)h * pairs * (4 * (double)k + 3),
                            esize * B * (double)k * (2 * (double)(t * h) + 2 * keys * (double)g)};
}

struct kn_cost kn_cost_attention_bwd(int64_t b, int64_t t, int64_t h, int64_t g, int64_t k, int64_t window, int esize)
{
    double B = (double)b, pairs = (double)kn_attention_pairs(t, t, window);
    /* a pair: q.k, dout.v, dq, dk, dv (2K each), scale, exp, and p (dp - delta) scale */
    return (struct kn_cost){B * (double)h * pairs * (10 * (double)k + 5),
                            esize * B * (double)k * (double)t * (4 * (double)h + 4 * (double)g)};
}

struct kn_cost kn_cost_swiglu(int64_t n, int64_t f, int esize)
{
    double x = (double)n * (double)f;
    return (struct kn_cost){5 * x, esize * 3 * x};
}

struct kn_cost kn_cost_swiglu_bwd(int64_t n, int64_t f, int esize)
{
    double x = (double)n * (double)f;
    return (struct kn_cost){12 * x, esize * 6 * x};
}

struct kn_cost kn_cost_mul(int64_t n, int64_t d, int esize)
{
    double x = (double)n * (double)d;
    return (struct kn_cost){x, esize * 3 * x};
}

struct kn_cost kn_cost_mul_bwd(int64_t n, int64_t d, int esize)
{
    double x = (double)n * (double)d;
    return (struct kn_cost){2 * x, esize * 5 * x};
}

struct kn_cost kn_cost_conv(int64_t n, int64_t c, int64_t k, int silu, int esize)
{
    double x = (double)n * (double)c, K = (double)k, C = (double)c;
    return (struct kn_cost){x * (2 * K + (silu ? 4 : 0)), esize * (2 * x + C * (K + 1))};
}

struct kn_cost kn_cost_conv_bwd(int64_t n, int64_t c, int64_t k, int silu, int esize)
{
    double x = (double)n * (double)c, K = (double)k, C = (double)c;
    /* dx and dw, 2 k each, and the bias; with SiLU the forward's sum again and its derivative (8) */
    return (struct kn_cost){x * (4 * K + 1 + (silu ? 2 * K + 8 : 0)), esize * (3 * x + 3 * C * (K + 1))};
}

struct kn_cost kn_cost_ssd(int64_t n, int64_t h, int64_t p, int64_t g, int64_t state, int esize)
{
    double T = (double)n, H = (double)h, P = (double)p, S = (double)state;
    /* a head and token: a S, + (t x) b^T (2), S c (2) for each of P N; t x, d x and its sum for each of P */
    return (struct kn_cost){T * H * (5 * P * S + 3 * P), esize * T * (2 * H * P + H + 2 * (double)g * S)};
}

struct kn_cost kn_cost_ssd_bwd(int64_t n, int64_t h, int64_t p, int64_t g, int64_t state, int esize)
{
    double T = (double)n, H = (double)h, P = (double)p, S = (double)state;
    /* the states again (3), their gradients (3), dc, dx, db and that of a (2 each); for each of P: dx's and dd's parts */
    return (struct kn_cost){T * H * (14 * P * S + 7 * P), esize * T * (4 * H * P + 2 * H + 4 * (double)g * S)};
}

struct kn_cost kn_cost_act(int64_t n, int64_t f, int kind, int esize)
{
    double x = (double)n * (double)f;
    /* gelu: x^2, the argument (3), exp, sum, division, product */
    return (struct kn_cost){(kind == KN_GELU ? 8 : 2) * x, esize * 2 * x};
}

struct kn_cost kn_cost_act_bwd(int64_t n, int64_t f, int kind, int esize)
{
    double x = (double)n * (double)f;
    /* gelu: the sigmoid (7), the argument's derivative (2), s + x s (1 - s) and its product with that and dy (6) */
    return (struct kn_cost){(kind == KN_GELU ? 15 : 3) * x, esize * 3 * x};
}

struct kn_cost kn_cost_head_ce(int64_t n, int64_t d, int64_t v, int backward, int esize)
{
    double N = (double)n, D = (double)d, V = (double)v;
    struct kn_cost c = {2 * N * D * V + 4 * N * V, esize * (N * D + V * D + N)};
    if (backward) c.flops += 4 * N * D * V + 2 * N * V, c.bytes += esize * (N * D + 2 * V * D);
    return c;
}

struct kn_cost kn_cost_head_distill(int64_t n, int64_t d, int64_t v, int64_t e, int esize)
{
    double N = (double)n, V = (double)v, E = (double)e;
    struct kn_cost c = kn_cost_head_ce(n, d, v, 1, esize);
    c.flops += 2 * N * E * V + 6 * N * V, c.bytes += esize * (N * E + V * E);
    return c;
}

struct kn_cost kn_cost_sum_rows(int64_t n, int64_t d, int esize)
{
    double N = (double)n, D = (double)d;
    return (struct kn_cost){N * D, esize * (N * D + 2 * D)};
}

struct kn_cost kn_cost_route(int64_t n, int64_t e, int64_t k, int esize)
{
    double N = (double)n, E = (double)e, K = (double)k;
    /* exp, sum, division, choice; the chosen ones' sum and division; z, p, w and three whole numbers a pair */
    return (struct kn_cost){N * (4 * E + 2 * K), esize * N * (2 * E + K) + 4 * 3 * N * K};
}

struct kn_cost kn_cost_route_bwd(int64_t n, int64_t e, int64_t k, int esize)
{
    double N = (double)n, E = (double)e, K = (double)k;
    return (struct kn_cost){N * (4 * E + 6 * K), esize * N * (2 * E + 2 * K) + 4 * N * K};
}

struct kn_cost kn_cost_gather(int64_t n, int64_t k, int64_t d, int esize)
{
    double N = (double)n, K = (double)k, D = (double)d;
    return (struct kn_cost){0, esize * N * D * (1 + K) + 4 * N * K};
}

struct kn_cost kn_cost_combine(int64_t n, int64_t k, int64_t d, int esize)
{
    struct kn_cost c = kn_cost_gather(n, k, d, esize);
    c.flops = (double)n * (double)k * (double)d;
    return c;
}

struct kn_cost kn_cost_gemm_grouped(int64_t m, int64_t q, int64_t p, int64_t touched, int esize)
{
    double M = (double)m, Q = (double)q, P = (double)p;
    return (struct kn_cost){2 * M * Q * P, esize * (M * P + (double)touched * P * Q + M * Q)};
}

struct kn_cost kn_cost_expert_act(int64_t n, int64_t f, int gated, int esize)
{
    double x = (double)n * (double)f;
    return (struct kn_cost){(gated ? 6 : 3) * x, esize * (gated ? 3 : 2) * x};
}

struct kn_cost kn_cost_expert_act_bwd(int64_t n, int64_t f, int gated, int esize)
{
    double x = (double)n * (double)f;
    return (struct kn_cost){(gated ? 15 : 8) * x, esize * (gated ? 6 : 4) * x};
}

struct kn_cost kn_cost_adamw(int64_t n)
{
    double N = (double)n;
    return (struct kn_cost){14 * N, 4 * 7 * N};
}

struct kn_cost kn_cost_gatednorm(int64_t n, int64_t d, int64_t group, int esize)
{
    double x = (double)n * (double)d;
    /* silu (4), sum of squares (2), three products; x, z in, y out */
    return (struct kn_cost){9 * x, esize * (3 * x + x / (double)group)};
}

struct kn_cost kn_cost_gatednorm_bwd(int64_t n, int64_t d, int64_t group, int esize)
{
    double x = (double)n * (double)d;
    /* silu and its derivative (8), xhat, g w, sum of g w xhat (2), dw (2), dx (3), dz (2); x, z, dy in, dx, dz out */
    return (struct kn_cost){19 * x, esize * (5 * x + x / (double)group)};
}

struct kn_cost kn_cost_delta_rule(int64_t b, int64_t t, int64_t g, int64_t h, int64_t k, int64_t v, int state, int esize)
{
    double N = (double)b * (double)t, cells = (double)h * (double)k * (double)v;
    /* a token and cell, recurrent: S^T k, k (x) d, S^T q (2 each), e^g S; q, k, v, g, beta in, out out */
    return (struct kn_cost){N * (7 * cells + 5 * (double)g * (double)k + 3 * (double)h * (double)v),
                            esize * (N * (2 * (double)g * (double)k + 2 * (double)h * (double)v + 2 * (double)h) +
                                     (state ? 2 * (double)b * cells : 0))};
}

struct kn_cost kn_cost_delta_rule_bwd(int64_t b, int64_t t, int64_t g, int64_t h, int64_t k, int64_t v, int esize)
{
    double N = (double)b * (double)t, cells = (double)h * (double)k * (double)v;
    /* the states again (5), q (x) dout, S dout, dS d, dS^T k, S dv, k (x) dv, <dS, S> (2 each), e^g dS */
    return (struct kn_cost){N * 20 * cells, esize * N * (4 * (double)g * (double)k + 3 * (double)h * (double)v + 4 * (double)h)};
}

struct kn_cost kn_cost_gla(int64_t b, int64_t t, int64_t h, int64_t k, int64_t v, int state, int esize)
{
    double N = (double)b * (double)t * (double)h, cell = (double)k * (double)v;
    /* a token and cell, recurrent: k (x) v, S^T q (2 each), e^g S; q, k, g, v in, out out */
    return (struct kn_cost){N * (5 * cell + (double)k),
                            esize * (N * (3 * (double)k + 2 * (double)v) + (state ? 2 * (double)b * (double)h * cell : 0))};
}

struct kn_cost kn_cost_gla_bwd(int64_t b, int64_t t, int64_t h, int64_t k, int64_t v, int esize)
{
    double N = (double)b * (double)t * (double)h, cell = (double)k * (double)v;
    /* the states again (3), q (x) dout, S dout, dS v, dS^T k, <dS, S> (2 each), e^g dS */
    return (struct kn_cost){N * 14 * cell, esize * N * (6 * (double)k + 3 * (double)v)};
}

struct kn_cost kn_cost_delta_gates(int64_t n, int64_t h, int esize)
{
    double x = (double)n * (double)h;
    return (struct kn_cost){9 * x, esize * 4 * x};
}

struct kn_cost kn_cost_delta_gates_bwd(int64_t n, int64_t h, int esize)
{
    double x = (double)n * (double)h;
    return (struct kn_cost){18 * x, esize * 6 * x};
}

struct kn_cost kn_cost_logsigmoid(int64_t n, int64_t d, int esize)
{
    double x = (double)n * (double)d;
    return (struct kn_cost){4 * x, esize * 2 * x};
}

struct kn_cost kn_cost_logsigmoid_bwd(int64_t n, int64_t d, int esize)
{
    double x = (double)n * (double)d;
    return (struct kn_cost){5 * x, esize * 3 * x};
}
