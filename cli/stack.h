/* An architecture row by row: embedding, each layer's mixer and ffn, last norm, head; what each is and what it costs on paper.
 *
 *   struct stack s;
 *   stack_make(&s, &arch);
 *   stack_print(&s, (int64_t[]){128, 1024}, 2, 2);   // a table on stdout, indented by two, with a column of state bytes a context
 *
 * A part's own norm (before it) counts with the part; parts of type none have no row. The rows' sums are space_arch_cost's totals: exactly for counts
 * and bytes, up to rounding for FLOPs. */
#ifndef TAUT_CLI_STACK_H
#define TAUT_CLI_STACK_H

#include <jansson.h>

#include "searchspace/arch.h"

struct stack_row {
    const char *part;            /* "embedding", "mixer", "ffn", "norm", "head" */
    int layer;                   /* from 0; -1: the network's own */
    const struct arch_part *is;  /* NULL: the network's own */
    double params, active_params, flops_per_token, weight_bytes; /* as in struct arch_cost */
};

#define STACK_ROWS_MAX (2 * ARCH_LAYERS_MAX + 3)
struct stack {
    struct arch arch; /* a checked one */
    int n;
    struct stack_row row[STACK_ROWS_MAX]; /* row[i].is points into arch: a struct stack must not be copied */
};

void stack_make(struct stack *s, const struct arch *a);
/* Of one row: bytes of state after `context` tokens; FLOPs of one more token there; of a prefill of `context` tokens (the head runs once). */
double stack_state_bytes(const struct stack *s, int row, int64_t context);
double stack_decode_flops(const struct stack *s, int row, int64_t context);
double stack_prefill_flops(const struct stack *s, int row, int64_t context);

/* Rows and a line of totals; a state column for each of context[n]. */
void stack_print(const struct stack *s, const int64_t *context, int n, int indent);
/* [{"layer", "part", "type", "knobs": {…}, "params", "active_params", "flops_per_token", "weight_bytes",
 *   "state_bytes": {"128": …}, "decode_flops": {…}, "prefill_flops": {…}} …]; the network's own rows have no layer, type and knobs.
 * New reference; NULL: out of memory. */
json_t *stack_json(const struct stack *s, const int64_t *context, int n);

#endif
