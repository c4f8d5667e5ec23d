/* taut bench --compare-torch, what its files share: bench_compare.c has lines, their table and the order of the work, bench_torch.c the process that
 * PyTorch runs in, bench_rounds.c what is measured against it, bench_llama.c what is measured against llama.cpp. */
#ifndef TAUT_CLI_BENCH_COMPARE_H
#define TAUT_CLI_BENCH_COMPARE_H

#include <limits.h>

#include "cli/bench.h"
#include "cli/bench_child.h"
#include "model/model.h"

#define COMPARE_MODES 4
#define COMPARE_CHECK_STEPS 3

enum compare_peer { COMPARE_TORCH, COMPARE_LLAMA };

struct compare_series {
    double v[BENCH_COMPARE_ROUNDS];
    int n;
};

struct compare_line {
    const char *what;
    int model;
    enum compare_peer peer;
    char missing[160];          /* why there is no figure; the rest means nothing then */
    char ours[64], theirs[64];
    struct kn_rate ratio;       /* the figure that has a target */
    double target;              /* NAN: none */
    bool at_most;
    double others;              /* NAN: not a time */
};

struct compare_side { /* a mode of PyTorch */
    const char *mode;
    struct bench_child child;
    double start_s;             /* from process start to the end of its first step */
    double loss[COMPARE_CHECK_STEPS];
    struct compare_series rate, product;
    double bytes;
};

struct compare_own { /* ours at one precision and number of threads */
    struct kn_dev *dev;
    struct model *m;
    enum kn_dtype precision;
    int64_t at;
    double loss[COMPARE_CHECK_STEPS];
    struct compare_series rate, product;
};

#define COMPARE_LINES_MAX 64
struct compare {
    struct bench *b;
    const char *python, *llama; /* NULL: left out, or not there */
    char folder[PATH_MAX], script[PATH_MAX + 32], arch_path[PATH_MAX + 32], weights[PATH_MAX + 32], text_path[PATH_MAX + 32], gguf[PATH_MAX + 32], log[PATH_MAX + 32];
    struct base_buf text;
    int model;
    struct arch a;
    struct compare_side side[COMPARE_MODES];
    struct compare_own own[3];  /* f32, bf16, the better of them on one thread */
    struct kn_dev *one;
    int best_side, best_own;    /* -1: none */
    struct compare_line line[COMPARE_LINES_MAX];
    int nlines;
};

/* ---- lines (bench_compare.c) ---- */

/* A new one, of c->model; target NAN: none. */
struct compare_line *compare_add(struct compare *c, enum compare_peer peer, const char *what, double target);
void compare_add_missing(struct compare *c, enum compare_peer peer, const char *what, const char *why);
void compare_push(struct compare_series *s, double v);
double compare_median(const struct compare_series *s); /* NAN: of none */
/* x / y, round by round: its median, least and most. */
struct kn_rate compare_ratio(const struct compare_series *x, const struct compare_series *y);
int compare_decode_at(const struct bench *b); /* tokens */
bool compare_skipped(const struct bench *b, const char *part); /* by --skip */

/* ---- PyTorch (bench_torch.c) ---- */

extern const char *const torch_modes[COMPARE_MODES], *const torch_decode_modes[2];
int torch_find(struct compare *c); /* sets python; an exit status, what is wrong is said */
/* steps > 0: it does so many, prints one answer and ends; 0: it waits to be asked. */
st_t torch_start(struct compare *c, struct bench_child *child, const char *mode, int steps, struct base_err *err);
/* Its next answer, a new reference; NULL: it has ended (err says how), or Ctrl-C. */
json_t *torch_answer(struct compare *c, struct bench_child *child, struct base_err *err);
json_t *torch_ask(struct compare *c, struct bench_child *child, struct base_err *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
double torch_median_ms(json_t *answer);
/* All modes, each up to its first steps. */
st_t torch_sides_start(struct compare *c, struct base_err *err);
void torch_sides_end(struct compare *c);

/* Training, memory, wall clock and decoding of c->a against it (bench_rounds.c). */
st_t torch_compare(struct compare *c, struct base_err *err);

/* ---- llama.cpp (bench_llama.c) ---- */

/* $TAUT_LLAMA_BENCH, else llama-bench on the path. Sets llama, NULL where neither is; an exit status, what is wrong is said. */
int llama_find(struct compare *c);
/* Decoding and prefill of c->model, where it is one that GGUF's llama holds. Where the program fails a line says so, and b->failed is set. */
st_t llama_compare(struct compare *c, struct base_err *err);

#endif
