/* What several verbs print alike. */
#ifndef TAUT_CLI_OUT_H
#define TAUT_CLI_OUT_H

#include <jansson.h>

#include "base/buf.h"
#include "cli/table.h"
#include "searchspace/arch.h"

/* One line of JSON on stdout, numbers in shortest form. Returns an exit status. */
int out_json(json_t *v);
void out_json_text(json_t *v, struct base_buf *b); /* the same into b, without the line's end */

/* Has whoever read stdout gone away? For what waits long between two lines. */
bool out_gone(void);

/* Most that this process has held in memory, as the system counts it (VmHWM); 0: it does not say. */
uint64_t out_process_bytes(void);

double out_num(json_t *o, const char *key);         /* NaN where it is missing or null */
int64_t out_int(json_t *o, const char *key);        /* 0 */
const char *out_str(json_t *o, const char *key);    /* "" */
/* metrics.NAME: a number, or {median, …}; NaN. */
double out_metric(json_t *metrics, const char *name);

/* "3L·96  A4/2/32w64 S256 | …": depth, width, then each layer's mixer and ffn: the first letter of the type, parameters that are always written, and the
 * initial and value of those that are not at their default. Like layers are counted: "2× A4/2/32 S256". A custom space's candidate is written
 * "knob=value …", of a long array the first values. */
void out_arch(const struct arch *a, struct base_buf *b);
void out_legend(struct base_buf *b); /* what its letters mean, from the layer types' own words */
void out_arch_json(json_t *arch, struct base_buf *b); /* of a trial: an lm architecture or a flat object */
void out_part(const struct arch_part *p, struct base_buf *b); /* in words: "attention heads 4 kv_heads 2 …" */

/* What each of the first n rows of a front is, in one line (front.c): job.front has been asked for "archs". Freed with front_texts_free. NULL: out of
 * memory. */
char **front_texts(json_t *rows, size_t n);
void front_texts_free(char **text, size_t n);

/* Is the row's value of the metric an estimate of the latency model? */
bool out_estimated(json_t *row, const char *metric);
/* The front as a table: trial, architecture, objectives (array of {metric, goal, unit} or of names), what it is. text[i] may be NULL. */
void out_front(json_t *rows, json_t *objectives, char **text, long limit);

#endif
