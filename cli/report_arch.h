/* For report_data.c: what one candidate is, for people and for drawing. */
#ifndef TAUT_CLI_REPORT_ARCH_H
#define TAUT_CLI_REPORT_ARCH_H

#include <jansson.h>

#include "searchspace/job.h"

/* s, cut between characters to at most max bytes (>= 4). New reference. */
json_t *report_cut(const char *s, size_t max);
/* One line, at most max bytes. New reference. */
json_t *report_text(json_t *arch, size_t max);
/* The stack of a language model from the input up: {"width", "vocab", "context", "tied", "parts": [{"kind": "embedding"|"mixer"|"ffn"|"norm"|"head", "layer"
 * (from 0; -1: the network's own), "type", "text", "params", "flops", "state"}]}, as in stack.h: parts of type none are left out. flops: forward per token over a
 * window of context tokens; state: bytes in f32 after context tokens. NULL: not a language model. */
json_t *report_stack(json_t *arch);
/* Knob name to value, flat; at most max of them, long words cut. job may be NULL. NULL: the architecture does not fit the job's space. */
json_t *report_features(const struct job *job, json_t *arch, int max);

#endif
