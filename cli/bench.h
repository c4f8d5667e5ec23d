/* taut bench: what this machine gives, what each op and whole models take of it. bench.c has the verb, each section a file of its own.
 *
 * A section is measured with the machine's lock held (evaluator/hostlock.h) and, but for the comparison, whose processes are not, the threads bound to
 * CPUs, as profiles are; it is printed after the lock was given back. Beside each figure stands what others
 * took of the CPUs meanwhile: a share over BENCH_BUSY makes it worthless, and the verb says so at its end. */
#ifndef TAUT_CLI_BENCH_H
#define TAUT_CLI_BENCH_H

#include <jansson.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "evaluator/hostlock.h"
#include "kernels/cost.h"
#include "kernels/device.h"
#include "kernels/limits.h"
#include "searchspace/arch.h"

#define BENCH_BUSY 0.05
#define BENCH_MODELS 5
#define BENCH_OTHERS 2
#define BENCH_VOCAB 256
#define BENCH_COMPARE_ROUNDS 64

struct bench {
    struct cli *c;
    struct kn_dev *dev;
    enum kn_dtype precision;      /* of products: KN_F32, KN_BF16 */
    struct hostlock *lock;
    bool quick;                   /* tiny sizes and few rounds: is everything there? The times mean nothing. */
    int batch, context;           /* of a training step */
    int rounds, wall_steps;       /* of the comparison */
    const char *skip;             /* "wall,llama": parts of it that are not wanted */
    bool model[BENCH_MODELS];     /* wanted */
    const char *op;               /* ops whose name, pass or shape has this word; "": all */
    struct kn_limits limits;
    json_t *json;                 /* what --json prints at the end */
    double others;                /* the largest share that others took of a section */
    bool failed;                  /* a program to compare with: what else was measured is printed, and the exit status tells */
};

/* ---- models ---- */

struct bench_preset {
    const char *name, *what;      /* "b", "6 x 256, 8 heads, 2 of keys and values, ffn 704" */
    int depth, width;
    const char *mixer[2], *ffn;   /* JSON; */
    const char *pattern;          /* a letter a layer: '0' the first mixer, '1' the second */
    const char *other[BENCH_OTHERS]; /* mixers that might stand in a mixer's place (NULL: no more): their ops are measured with the model's */
};
extern const struct bench_preset bench_presets[BENCH_MODELS];
/* ST_ENOTSUP: a layer type that this build lacks; err->what names it. */
st_t bench_arch(int model, int context, struct arch *out, struct base_err *err);
/* One layer of that model with other[i] as its mixer. */
st_t bench_arch_other(int model, int i, int context, struct arch *out, struct base_err *err);

/* ---- measuring ---- */

/* A loop over what is timed:
 *   struct bench_timer t = bench_timer_of(b);
 *   while (bench_more(&t)) t.st = dev->op->fill(dev, &x, 0);
 * First a call that does not count, then rounds of so many calls that the clock does not matter, until time or rounds are up. */
#define BENCH_ROUNDS_MAX 32
struct bench_timer {
    st_t st;                      /* set by the body; an error ends the loop */
    double ns[BENCH_ROUNDS_MAX];  /* of one call, a round each; sorted at the end */
    int n;                        /* rounds; -2: nothing done yet, -1: calls of a round are being found */
    int least, most;              /* rounds */
    int64_t calls, left;          /* of a round */
    double round_ns, all_ns;      /* how long a round lasts at least, all of them about */
    uint64_t begin, from;
};
struct bench_timer bench_timer_of(const struct bench *b);
bool bench_more(struct bench_timer *t);
struct kn_rate bench_timer_ns(const struct bench_timer *t); /* after the loop */

/* CPU time that others took: all that was not idle, less this process, its ended children and those that live: `pids` (NULL: none; ends with 0;
 * borrowed until the share is asked for). */
struct bench_busy {
    double busy, own, at;         /* seconds */
    const pid_t *pids;
};
void bench_busy_start(struct bench_busy *y, const pid_t *pids);
double bench_busy_share(const struct bench_busy *y); /* of the CPUs that this process may use, 0..1 */

/* Takes the machine's lock and starts the clock of others; false: Ctrl-C. end gives back and returns the share of others. */
bool bench_begin(struct bench *b, struct bench_busy *y, const pid_t *pids);
double bench_end(struct bench *b, const struct bench_busy *y);

/* flop/s of the product that whole models are held against, 4096 x 512 x 1408; 0: it failed. */
struct kn_rate bench_product(struct bench *b, struct kn_dev *dev, enum kn_dtype precision);
#define BENCH_PRODUCT "4096 x 512 x 1408"

/* ---- printing ---- */

void bench_section(const struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* heading; nothing with --json */
json_t *bench_rate_json(const struct kn_rate *r, double scale); /* {"median", "low", "high"} */
/* "2.31 (2.02 to 2.40)" with three digits. */
char *bench_spread(char *buf, size_t size, const struct kn_rate *r, double scale);
/* Bytes of weights and state that decoding one token at that context reads. */
double bench_decode_bytes(const struct arch *a, int64_t context);
/* Operations of one trained token: three times the forward's products, causal pairs alone, scans as their recurrence. */
double bench_train_flops(const struct arch *a);
#define BENCH_FORMULA                                                                                                                       \
    "operations a token = 3 x those of its forward products: 2 a weight of each product it goes through (head, chosen experts), 4 x heads x head_dim a causal "                \
    "(query, key) pair of attention, averaged over the window, scans as their recurrence; not norms, RoPE, softmax, activations"

/* ---- sections: exit statuses ---- */

int bench_ops(struct bench *b);
int bench_whole(struct bench *b);
int bench_compare(struct bench *b); /* needs the limits */
int bench_compare_check(const struct bench *b); /* CLI_CALL, said: --skip and --model leave nothing to compare */
extern const char bench_torch_script[]; /* bench_torch.py */

#endif
