/* taut train: one architecture, by hand; the recipe, data and arithmetic are those of a search. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "base/log.h"
#include "cli/archarg.h"
#include "cli/cli.h"
#include "cli/dataarg.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/term.h"
#include "evaluator/fingerprint.h"
#include "evaluator/hostlock.h"
#include "evaluator/trainer.h"
#include "model/checkpoint.h"

#define STEP_TOKENS_MAX (1 << 26) /* batch x context, as in a job */
#define CHECKPOINT_S 60.0
#define PLAIN_LINES 20

static const struct cli_opt options[] = {
    DATAARG_DATA,
    {"tokens", 0, "N", "tokens to train on, such as 2e6; rounded up to whole steps", false},
    DATAARG_VALID,
    DATAARG_VOCAB,
    {"order", 0, "random|sequential", "windows drawn at random (default), or the text from its start", false},
    {"init", 0, "FILE", "start from these weights (.safetensors) instead of random ones", false},
    {"save", 0, "FILE", "write the weights there at the end (.safetensors)", false},
    {"checkpoint", 0, "FILE", "keep the state there (each minute, on Ctrl-C, at the end); where it is there already, go on from it", false},
    {"batch", 0, "N", "sequences a step (default: 16)", false},
    {"lr", 0, "X", "learning rate (default: 3e-3)", false},
    {"lr-width-rule", 0, "mup|none", "hidden matrices at lr x 128 / width (default), or all at lr", false},
    {"weight-decay", 0, "X", "of AdamW (default: 0.1)", false},
    {"warmup", 0, "SHARE", "share of the steps (default: 0.02)", false},
    {"schedule", 0, "wsd|constant", "the last fifth of the steps decays linearly to 0 (default), or not", false},
    {"seed", 0, "N", "of first weights and of the order of windows (default: 1)", false},
    {"precision", 0, "auto|f32|bf16", "of products: the device's fastest (default), or this; sums, weights and optimiser stay f32", false},
    {"threads", 't', "N", "to compute with (default: all CPUs of this process); the losses are the same", false},
    {"device", 0, "NAME", "cpu (default), cuda:N", false},
    {0},
};

struct train {
    struct cli *c;
    struct arch arch;
    struct trainer_opts o;
    struct data *data;
    struct kn_dev *dev;
    struct hostlock *lock; /* NULL: none to be had */
    struct trainer *t;
    const char *save, *checkpoint;
    int64_t from;          /* step of the checkpoint; 0: from the start */
    double valid_loss, valid_bpb;
};

static int failed(st_t st, const char *what, const char *todo, struct base_err *err)
{
    if (!*err->what) base_err_set(err, st, err->where, "%s", base_status_text(st));
    return cli_fail_err(dataarg_exit(st), what, todo, err);
}

/* ---- the call ---- */

static int read_options(struct train *t)
{
    struct cli *c = t->c;
    const char *rule = cli_str(c, "lr-width-rule", "mup"), *schedule = cli_str(c, "schedule", "wsd");
    if (!cli_has(c, "data")) return cli_fail(CLI_CALL, "train", "see taut train --help", "needs --data PATH");
    if (!cli_has(c, "tokens")) return cli_fail(CLI_CALL, "train", "see taut train --help", "needs --tokens N");
    struct job_train *r = &t->o.train;
    *r = (struct job_train){.mup = !strcmp(rule, "mup"), .decay = strcmp(schedule, "wsd") ? 0 : 0.2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1};
    r->batch = (int)cli_int(c, "batch", 16, 1, 65536);
    r->lr = cli_num(c, "lr", 3e-3, 1e-12, 10);
    r->weight_decay = cli_num(c, "weight-decay", 0.1, 0, 10);
    r->warmup = cli_num(c, "warmup", 0.02, 0, 1 - r->decay);
    t->o.tokens = (double)cli_int(c, "tokens", 0, 1, 1000000000000000);
    t->o.seed = (uint64_t)cli_int(c, "seed", 1, 0, INT64_C(1) << 53);
    t->o.sequential = !strcmp(cli_str(c, "order", "random"), "sequential");
    t->o.init = cli_str(c, "init", NULL);
    t->save = cli_str(c, "save", NULL);
    t->checkpoint = cli_str(c, "checkpoint", NULL);
    cli_int(c, "vocab", 0, 2, 65536);
    cli_int(c, "threads", 0, 1, 1024);
    return c->bad;
}

static int check_step(const struct train *t)
{
    double step = (double)t->o.train.batch * t->arch.context;
    if (step > STEP_TOKENS_MAX)
        return cli_fail(CLI_CALL, "train", "give a smaller one", "--batch: %d x context %d is more than %d tokens a step", t->o.train.batch, t->arch.context,
                        STEP_TOKENS_MAX);
    if (t->o.tokens < step)
        return cli_fail(CLI_CALL, "train", "give more tokens or a smaller --batch", "--tokens: %.0f is less than one step (batch %d x context %d = %.0f)",
                        t->o.tokens, t->o.train.batch, t->arch.context, step);
    return CLI_OK;
}

/* Hours of training must not end at a name that cannot be written. */
static int check_writable(const char *option, const char *path)
{
    char probe[PATH_MAX];
    struct stat s;
    if (!path) return CLI_OK;
    if (!*path) return cli_fail(CLI_CALL, option, "give a file", "is empty");
    if (!stat(path, &s) && !S_ISREG(s.st_mode)) return cli_fail(CLI_CALL, option, "give another file", "%s is not a regular file", path);
    if (snprintf(probe, sizeof probe, "%s.tmp%ld", path, (long)getpid()) >= (int)sizeof probe)
        return cli_fail(CLI_CALL, option, "give another file", "its path is too long");
    int fd = open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return cli_fail(CLI_CALL, option, "give another file", "%s cannot be written: %s", path, strerror(errno));
    close(fd);
    unlink(probe);
    return CLI_OK;
}

static int check_files(const struct train *t)
{
    if (t->save && t->checkpoint && !strcmp(t->save, t->checkpoint))
        return cli_fail(CLI_CALL, "train", "give two files", "--save and --checkpoint name the same file");
    if (t->o.init && t->checkpoint && !strcmp(t->o.init, t->checkpoint))
        return cli_fail(CLI_CALL, "train", "leave out --init: training goes on from its checkpoint by itself", "--init and --checkpoint name the same file");
    int rc = check_writable("--save", t->save);
    return rc ? rc : check_writable("--checkpoint", t->checkpoint);
}

static int open_trainer(struct train *t)
{
    struct base_err err = BASE_ERR_INIT;
    const char *device = cli_str(t->c, "device", "cpu");
    interrupt_hold_stop(true);
    st_t st = kn_dev_open(&t->dev, device, (int)cli_int(t->c, "threads", 0, 1, 1024), &err);
    interrupt_hold_stop(false);
    if (st) return cli_fail_err(st == ST_ENOMEM ? CLI_FAILED : CLI_CALL, "train", "give --device cpu", &err);
    if (hostlock_open_for(&t->lock, t->dev, &err)) log_warn("measurements on this machine may be disturbed: %s: %s", err.where, err.what);
    const char *precision = cli_str(t->c, "precision", "auto");
    t->o.arch = &t->arch, t->o.data = t->data, t->o.dev = t->dev;
    t->o.precision = !strcmp(precision, "auto") ? t->dev->info.fastest : !strcmp(precision, "bf16") ? KN_BF16 : KN_F32;
    if (t->o.precision == KN_BF16 && !t->dev->info.bf16)
        return cli_fail(CLI_CALL, "--precision", "give f32", "this device (%s, %s) has no products in bf16", t->dev->info.kind, t->dev->info.isa);
    err = (struct base_err)BASE_ERR_INIT;
    st = trainer_new(&t->t, &t->o, &err);
    if (st) return failed(st, "train", st == ST_ENOFIT ? "give a smaller --batch" : NULL, &err);
    if (!t->checkpoint || access(t->checkpoint, F_OK)) return CLI_OK;
    st = trainer_load(t->t, t->checkpoint, &err);
    if (st == ST_ESTALE) return failed(st, "--checkpoint", "give the options it was made with, or another file", &err);
    if (st) return failed(st, "--checkpoint", "give another file", &err);
    t->from = trainer_at(t->t);
    return CLI_OK;
}

/* ---- the work ---- */

static int keep(struct train *t)
{
    struct base_err err = BASE_ERR_INIT;
    st_t st = t->checkpoint ? trainer_save(t->t, t->checkpoint, NULL, NULL, &err) : ST_OK;
    if (!st) return CLI_OK;
    progress_clear(t->c);
    return cli_fail_err(CLI_FAILED, "--checkpoint", NULL, &err);
}

/* Now and then. A disk that is full for a while need not end hours of work. */
static void keep_on_the_way(struct train *t)
{
    struct base_err err = BASE_ERR_INIT;
    if (!t->checkpoint || !trainer_save(t->t, t->checkpoint, NULL, NULL, &err)) return;
    progress_clear(t->c);
    cli_note(t->c, "no checkpoint this time: %s: %s", err.where, err.what);
}

static void print_step(const struct train *t, double ms)
{
    struct trainer *r = t->t;
    char rate[FMT_MAX], left[FMT_MAX];
    int64_t at = trainer_at(r), all = trainer_steps(r), each = all / PLAIN_LINES;
    double todo = (double)(all - at) * trainer_seconds(r) / (double)(at - t->from);
    if (t->c->json) {
        struct base_buf b = BASE_BUF_INIT;
        struct base_jw w;
        base_jw_init(&w, &b);
        base_jw_obj(&w);
        base_jw_kint(&w, "step", at);
        base_jw_knum(&w, "tokens", trainer_tokens(r));
        base_jw_knum(&w, "loss", trainer_loss(r));
        base_jw_knum(&w, "ms", ms);
        base_jw_end(&w);
        if (!b.st) puts(b.p);
        fflush(stdout);
        base_buf_fini(&b);
        return;
    }
    fmt_short(rate, trainer_rate(r));
    fmt_duration(left, todo);
    progress_draw(t->c, (double)at / (double)all, "step %lld/%lld   loss %.4f   %s tokens/s   %s left", (long long)at, (long long)all, trainer_loss(r), rate, left);
    if (progress_live(t->c) || t->c->quiet) return;
    if (at == all || at == t->from + 1 || each < 2 || at % each == 0) {
        printf("step %lld/%lld  loss %.4f  %s tokens/s  %s left\n", (long long)at, (long long)all, trainer_loss(r), rate, left);
        fflush(stdout);
    }
}

static int stopped(struct train *t)
{
    int rc = keep(t);
    if (rc) return rc;
    progress_clear(t->c);
    if (t->checkpoint)
        cli_note(t->c, "stopped after step %lld of %lld, kept in %s; the same command goes on", (long long)trainer_at(t->t), (long long)trainer_steps(t->t), t->checkpoint);
    else
        cli_note(t->c, "stopped after step %lld of %lld; nothing was kept (--checkpoint FILE keeps it)", (long long)trainer_at(t->t), (long long)trainer_steps(t->t));
    return interrupt_status();
}

static bool go_on(void *ctx)
{
    (void)ctx;
    return !interrupted;
}

static st_t take_machine(struct train *t)
{
    interrupt_hold_stop(true);
    return t->lock ? hostlock_shared(t->lock) : ST_OK;
}

static void leave_machine(struct train *t)
{
    if (t->lock) hostlock_unlock(t->lock);
    interrupt_hold_stop(false);
}

static int steps(struct train *t)
{
    struct base_err err = BASE_ERR_INIT;
    uint64_t kept = base_clock_ns();
    while (!trainer_done(t->t)) {
        if (interrupted) return stopped(t);
        double before = trainer_seconds(t->t);
        /* Not held while printing: a reader that pauses would keep others on this machine from timing. */
        st_t st = take_machine(t);
        if (!st) st = trainer_step(t->t, &err);
        leave_machine(t);
        if (st == ST_ECANCELED) continue; /* interrupted while it waited */
        if (st) {
            progress_clear(t->c);
            return failed(st, "train", st == ST_ENONFINITE ? "try a smaller --lr" : NULL, &err);
        }
        print_step(t, (trainer_seconds(t->t) - before) * 1e3);
        if (ferror(stdout)) return CLI_FAILED; /* nobody reads any more; main says why */
        if ((double)(base_clock_ns() - kept) * 1e-9 < CHECKPOINT_S) continue;
        keep_on_the_way(t);
        kept = base_clock_ns();
    }
    progress_clear(t->c);
    return trainer_at(t->t) > t->from ? keep(t) : CLI_OK;
}

static int work(struct train *t)
{
    struct base_err err = BASE_ERR_INIT;
    interrupt_catch();
    if (t->lock) hostlock_on_wait(t->lock, go_on, NULL);
    int rc = steps(t);
    progress_draw(t->c, NAN, "looking at the held-out text");
    if (!rc && take_machine(t)) rc = stopped(t);
    st_t st = rc ? ST_OK : trainer_validate(t->t, &t->valid_loss, &t->valid_bpb, &err);
    leave_machine(t);
    progress_clear(t->c);
    if (st) return failed(st, "train", NULL, &err);
    if (!rc && t->save && (st = model_save(trainer_model(t->t), t->save, false, NULL, 0, NULL, NULL, &err))) return cli_fail_err(CLI_FAILED, "--save", NULL, &err);
    return rc;
}

/* ---- the result ---- */

static int print_json(const struct train *t)
{
    char id[BASE_ID_HEX];
    space_arch_id(&t->arch, id);
    json_t *o = json_pack("{s:s, s:I, s:I, s:f}", "arch_id", id, "steps", (json_int_t)trainer_steps(t->t), "from_step", (json_int_t)t->from, "tokens",
                          trainer_tokens(t->t));
    if (trainer_seconds(t->t) > 0) json_object_set_new(o, "train_tokens_per_s", json_real(trainer_rate(t->t)));
    json_object_set_new(o, "train_seconds", json_real(trainer_seconds(t->t)));
    json_object_set_new(o, "valid_loss", json_real(t->valid_loss));
    if (!isnan(t->valid_bpb)) json_object_set_new(o, "valid_bpb", json_real(t->valid_bpb));
    json_object_set_new(o, "train_bytes", json_integer((json_int_t)trainer_bytes(t->t)));
    uint64_t process = out_process_bytes();
    if (process) json_object_set_new(o, "process_bytes", json_integer((json_int_t)process));
    json_object_set_new(o, "params", json_integer((json_int_t)model_param_count(trainer_model(t->t))));
    json_object_set_new(o, "device", fingerprint_json(t->dev));
    if (t->save) json_object_set_new(o, "saved", json_string(t->save));
    int rc = out_json(o);
    json_decref(o);
    return rc;
}

static void line(const char *name, const char *text)
{
    printf("  %-12s %s%s%s\n", name, term_style(TERM_BOLD), text, term_style(TERM_PLAIN));
}

static int print(const struct train *t)
{
    char a[FMT_MAX], b[FMT_MAX], text[160];
    if (!isnan(t->valid_bpb)) {
        snprintf(text, sizeof text, "%.4f bits/byte", t->valid_bpb);
        line("valid_bpb", text);
    }
    snprintf(text, sizeof text, "%.4f nats/token", t->valid_loss);
    line("valid_loss", text);
    if (trainer_seconds(t->t) > 0) {
        snprintf(text, sizeof text, "%s tokens/s over %s", fmt_short(a, trainer_rate(t->t)), fmt_duration(b, trainer_seconds(t->t)));
        line("rate", text);
    }
    snprintf(text, sizeof text, "%s at most", fmt_bytes(a, (double)trainer_bytes(t->t)));
    line("memory", text);
    if (t->save) line("weights", t->save);
    if (t->checkpoint) line("checkpoint", t->checkpoint);
    return CLI_OK;
}

static void say_start(const struct train *t)
{
    struct base_buf b = BASE_BUF_INIT;
    char params[FMT_MAX], tokens[FMT_MAX], text[FMT_MAX];
    if (t->c->json || t->c->quiet) return;
    out_arch(&t->arch, &b);
    fmt_count(params, (double)model_param_count(trainer_model(t->t)));
    fmt_short(tokens, (double)trainer_steps(t->t) * t->o.train.batch * t->arch.context);
    fmt_short(text, (double)data_train_tokens(t->data));
    printf("%s  %s parameters\n%lld steps of %d x %d tokens: %s, from %s of text; %s, %d threads\n", b.p ? b.p : "", params, (long long)trainer_steps(t->t),
           t->o.train.batch, t->arch.context, tokens, text, t->dev->info.name, t->dev->info.threads);
    if (t->from) printf("going on after step %lld, from %s\n", (long long)t->from, t->checkpoint);
    fflush(stdout);
    base_buf_fini(&b);
}

static int run(struct cli *c)
{
    struct train t = {.c = c};
    int rc = read_options(&t);
    if (!rc) rc = archarg_read(c, c->arg[0], &t.arch, NULL);
    if (!rc) rc = check_step(&t);
    if (!rc) rc = check_files(&t);
    if (!rc) rc = dataarg_open(c, &t.arch, &t.data);
    if (!rc) rc = open_trainer(&t);
    if (!rc) say_start(&t);
    if (!rc) rc = work(&t);
    if (!rc) rc = c->json ? print_json(&t) : print(&t);
    trainer_free(t.t);
    hostlock_close(t.lock);
    kn_dev_close(t.dev);
    data_close(t.data);
    return rc;
}

const struct cli_cmd cmd_train = {.name = "train",
                                  .args = "ARCH --data PATH --tokens N",
                                  .summary = "train one architecture by hand, as a search would",
                                  .help = "  taut train arch.json --data corpus.txt --tokens 2e6\n"
                                          "  taut train arch.json --data 'books/*.txt' --tokens 20M --checkpoint run.ckpt --save weights.safetensors\n"
                                          "  taut train arch.json --data corpus.txt --tokens 1e6 --init weights.safetensors --order sequential --json\n"
                                          "  taut train arch.json --data train.bin --valid val.bin --vocab 50257 --tokens 1e8\n"
                                          "Windows are as long as the architecture's context. The same call gives the same losses to the bit, whatever the number of threads and\n"
                                          "however often it was stopped and went on from its checkpoint. --json prints a line a step (step, tokens, loss, ms), then one with\n"
                                          "train_tokens_per_s, valid_loss, valid_bpb (text alone), train_bytes.\n",
                                  .options = options,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .run = run};
