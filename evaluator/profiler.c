#include "evaluator/profiler.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"
#include "evaluator/nvml.h"
#include "model/model.h"

#define WINDOW 8              /* samples of a warm-up window */
#define WINDOWS_MAX 12
#define SAMPLES_MAX 4096
#define CALLS_MAX (1 << 20)     /* in one sample */
#define ANCHOR_CONTEXT 128
#define ENERGY_WINDOWS 7
#define CLOCK_LEAST 0.75 /* of a GPU's default: below it a sample does not count */

void profile_anchor_arch(struct arch *out)
{
    struct arch a = {.vocab = 256, .context = 256, .width = 128, .depth = 4, .tie = false, .rope_theta = 10000};
    int attention = space_layer_find("attention", LAYER_MIXER), swiglu = space_layer_find("swiglu", LAYER_FFN);
    const struct layer_spec *s = space_layer(attention), *f = space_layer(swiglu);
    for (int l = 0; l < a.depth; l++) {
        struct arch_part *m = &a.layer[l].mixer, *n = &a.layer[l].ffn;
        m->type = attention;
        m->v[space_layer_param(s, "heads")] = m->v[space_layer_param(s, "kv_heads")] = 4;
        m->v[space_layer_param(s, "head_dim")] = 32;
        m->v[space_layer_param(s, "rope")] = 1;
        n->type = swiglu;
        n->v[space_layer_param(f, "hidden")] = 384;
    }
    *out = a;
}

/* Something that is timed: a network at work. */
struct load {
    struct model *model;
    struct model_state *state;
    int batch, n;              /* sequences; tokens a call (1: decoding) */
    int64_t pos;               /* where each call starts */
    int32_t *tokens;           /* [batch, n] */
    float *logits;             /* [batch, vocab] */
};

static st_t load_open(struct load *w, const struct arch *a, enum arch_weights weights, struct kn_dev *dev, int batch, int64_t pos, int n, struct base_err *err)
{
    memset(w, 0, sizeof *w);
    w->batch = batch;
    w->n = n;
    w->pos = pos;
    struct model_opts mo = {.batch = 0, .weights = weights}; /* decoding alone: no activations of whole windows */
    st_t st = model_new(&w->model, a, dev, &mo, err);
    if (!st) st = model_init(w->model, 1);
    if (!st) st = model_state_new(&w->state, w->model, batch, pos + n, err);
    if (!st) {
        w->tokens = calloc((size_t)batch * (size_t)n, sizeof *w->tokens);
        w->logits = malloc((size_t)batch * (size_t)a->vocab * sizeof *w->logits);
        if (!w->tokens || !w->logits) st = ST_ENOMEM;
        else
            for (int i = 0; i < batch * n; i++) w->tokens[i] = i * 31 % a->vocab;
    }
    if (!st && pos) st = model_state_fill(w->state, pos);
    return st;
}

static void load_close(struct load *w)
{
    free(w->tokens);
    free(w->logits);
    model_state_free(w->state);
    model_free(w->model);
    memset(w, 0, sizeof *w);
}

static st_t load_run(struct load *w, int times)
{
    for (int i = 0; i < times; i++) {
        model_state_seek(w->state, w->pos);
        st_t st = model_decode(w->state, w->tokens, w->n, w->logits);
        if (st) return st;
    }
    return ST_OK;
}

/* ---- outside causes ---- */

struct outside {
    int fd;           /* /proc/stat; -1: no steal counter here */
    struct nvml *gpu; /* NULL: none, or it says nothing */
};

static uint64_t steal_ticks(const struct outside *o)
{
    char text[256];
    ssize_t n = o->fd < 0 ? -1 : pread(o->fd, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = 0;
    unsigned long long v[8] = {0};
    sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
    return v[7];
}

static uint64_t switches(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (uint64_t)u.ru_nivcsw;
}

/* The card was slowed down (heat, power), or somebody else computes on it. */
static bool gpu_disturbed(const struct outside *o)
{
    struct nvml_state now;
    if (!o->gpu || nvml_read(o->gpu, &now)) return false;
    return now.clock_mhz < CLOCK_LEAST * now.default_mhz || now.others > 0;
}

/* One sample: ns of one call, and whether something outside disturbed it. */
static st_t sample(struct load *w, int times, bool warm, const struct outside *o, double *ns, bool *disturbed)
{
    st_t st = warm ? ST_OK : load_run(w, 1); /* untimed: brings the weights back into the caches */
    if (st) return st;
    uint64_t steal = steal_ticks(o), sw = switches(), t0 = base_clock_ns();
    st = load_run(w, times);
    uint64_t t1 = base_clock_ns();
    *disturbed = switches() != sw || steal_ticks(o) != steal || gpu_disturbed(o);
    *ns = (double)(t1 - t0) / times;
    return st;
}

static double sample_least_ns(void)
{
    return PROFILE_RESOLUTIONS * (double)base_clock_resolution_ns();
}

static bool late(uint64_t start, double limit)
{
    return (double)(base_clock_ns() - start) * 1e-9 >= limit;
}

static st_t may_go(const struct profile_opts *o, struct base_err *err)
{
    return o->go && !o->go(o->ctx) ? base_err_set(err, ST_ECANCELED, "", "profiling was stopped") : ST_OK;
}

/* Calls a sample needs to last twice as long as it must, warm: the first calls find nothing in the caches and last longer. One call alone, and *hurry,
 * where that took all of `limit` seconds. */
static st_t calls_needed(struct load *w, const struct profile_opts *o, double limit, int *times, bool *hurry, struct base_err *err)
{
    double least = 2 * sample_least_ns();
    uint64_t start = base_clock_ns();
    st_t st = load_run(w, 1);
    *times = 1;
    *hurry = late(start, limit);
    if (!st) st = may_go(o, err);
    if (!st && !*hurry) st = load_run(w, 1);
    for (; !st && !late(start, limit) && *times < CALLS_MAX; *times *= 2) {
        double best = INFINITY;
        for (int i = 0; !st && i < 3 && best >= least; i++) {
            uint64_t t0 = base_clock_ns();
            st = load_run(w, *times);
            best = fmin(best, (double)(base_clock_ns() - t0));
        }
        if (best >= least) break;
    }
    return st;
}

struct series {
    double *own, *anchor;    /* ns [SAMPLES_MAX] */
    bool *bad;               /* an outside cause in either */
    int n, nbad;
};

/* Interval of x over the samples that count: the undisturbed ones where there are enough of them, else all. */
static st_t summarise(const struct series *s, int least, double *buf, struct measured *m, double *half)
{
    bool all = s->n - s->nbad < least;
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (all || !s->bad[i]) buf[n++] = s->own[i] / s->anchor[i];
    st_t st = base_stats_median_ci(buf, n, &m->ratio, &m->ratio_low, &m->ratio_high);
    if (st) return st;
    n = 0;
    for (int i = 0; i < s->n; i++)
        if (all || !s->bad[i]) buf[n++] = s->own[i];
    st = base_stats_median_ci(buf, n, &m->median, &m->low, &m->high);
    m->n = n;
    m->rejected = all ? 0 : s->nbad;
    m->disturbed = all ? (double)s->nbad / s->n : 0;
    *half = (m->high - m->low) / 2 / m->median;
    return st;
}

static st_t warm_up(struct load *w, int times, const struct outside *outside, const struct profile_opts *o, uint64_t start, double limit, struct base_err *err)
{
    double last = 0, x[WINDOW], low, high, med = 0;
    for (int k = 0; k < WINDOWS_MAX && !late(start, limit); k++) {
        bool bad;
        st_t st = ST_OK;
        for (int i = 0; !st && i < WINDOW; i++) {
            st = sample(w, times, false, outside, &x[i], &bad);
            if (!st) st = may_go(o, err);
            if (!st && late(start, limit)) return ST_OK;
        }
        if (!st) st = base_stats_median_ci(x, WINDOW, &med, &low, &high);
        if (st) return st;
        if (k && fabs(med - last) <= 0.01 * last) return ST_OK;
        last = med;
    }
    return ST_OK;
}

/* Times w against the anchor; out in ns. */
static st_t measure_ns(struct load *w, struct load *anchor, struct nvml *gpu, const struct profile_opts *o, struct measured *out, struct base_err *err)
{
    int least = o->min_samples > 0 ? o->min_samples : 30, times = 1, anchor_times = 1;
    double width = o->half_width > 0 ? o->half_width : 0.02, limit = o->limit_s > 0 ? o->limit_s : PROFILE_LIMIT_S;
    double shortest = sample_least_ns(), half;
    struct outside outside = {open("/proc/stat", O_RDONLY | O_CLOEXEC), gpu};
    struct series s = {malloc(SAMPLES_MAX * sizeof(double)), malloc(SAMPLES_MAX * sizeof(double)), malloc(SAMPLES_MAX * sizeof(bool)), 0, 0};
    double *buf = malloc(SAMPLES_MAX * sizeof *buf);
    st_t st = s.own && s.anchor && s.bad && buf ? ST_OK : ST_ENOMEM;
    bool hurry;
    if (!st) st = calls_needed(anchor, o, limit, &anchor_times, &hurry, err);
    uint64_t start = base_clock_ns();
    if (!st) st = calls_needed(w, o, limit, &times, &hurry, err);
    if (!st) st = warm_up(w, times, &outside, o, start, limit, err);
    start = base_clock_ns();
    out->converged = false;
    out->sample_ns = INFINITY;
    for (bool end = false; !st && !end;) {
        bool a, b;
        double *own = &s.own[s.n], *other = &s.anchor[s.n];
        st = sample(w, times, hurry, &outside, own, &a);
        if (!st) st = sample(anchor, anchor_times, false, &outside, other, &b);
        hurry = false;
        if (!st) st = may_go(o, err);
        if (st) break;
        bool short_own = *own * times < shortest && times < CALLS_MAX;
        if (short_own || (*other * anchor_times < shortest && anchor_times < CALLS_MAX)) {
            *(short_own ? &times : &anchor_times) *= 2;
            s.n = s.nbad = 0;
            out->sample_ns = INFINITY;
            continue;
        }
        out->sample_ns = fmin(out->sample_ns, *own * times);
        s.bad[s.n++] = a || b;
        s.nbad += a || b;
        end = late(start, limit) || s.n == SAMPLES_MAX;
        out->overlong = s.n == 1 && *own >= limit * 1e9;
        /* Looked at every tenth sample: an interval peeked at after each would stop on luck. */
        if (!end && (s.n - s.nbad < least || s.n % 10)) continue;
        st = summarise(&s, least, buf, out, &half);
        out->converged = !st && out->n >= least && out->disturbed == 0 && half <= width;
        end = end || out->converged;
    }
    if (outside.fd >= 0) close(outside.fd);
    free(s.own);
    free(s.anchor);
    free(s.bad);
    free(buf);
    return st;
}

static void scale(struct measured *m, double f)
{
    m->median *= f;
    m->low *= f;
    m->high *= f;
}

/* tokens/s of B sequences from ns a call: the interval turns round. */
static void to_rate(struct measured *m, double tokens)
{
    double low = m->low;
    m->median = tokens / (m->median * 1e-9);
    m->low = tokens / (m->high * 1e-9);
    m->high = tokens / (low * 1e-9);
    double ratio_low = m->ratio_low;
    m->ratio = tokens / m->ratio; /* the anchor makes one token a call */
    m->ratio_low = tokens / m->ratio_high;
    m->ratio_high = tokens / ratio_low;
}

static st_t measure_joules(struct load *w, struct energy *energy, const struct profile_opts *o, struct measured *out, struct base_err *err)
{
    double x[ENERGY_WINDOWS];
    st_t st = load_run(w, 3);
    for (int i = 0; !st && i < ENERGY_WINDOWS; i++) {
        double before, after;
        int64_t calls = 0;
        uint64_t t0 = base_clock_ns();
        st = energy_read(energy, &before);
        while (!st && (double)(base_clock_ns() - t0) * 1e-9 < energy_window(energy)) {
            st = load_run(w, 1);
            calls++;
        }
        if (!st) st = energy_read(energy, &after);
        if (st == ST_EIO) base_err_set(err, st, "energy", "a counter cannot be read, or was set back");
        if (!st) st = may_go(o, err);
        if (!st) x[i] = (after - before) / (double)calls;
    }
    if (!st) st = base_stats_median_ci(x, ENERGY_WINDOWS, &out->median, &out->low, &out->high);
    out->n = ENERGY_WINDOWS;
    out->converged = !st && out->high - out->low <= 2 * (o->half_width > 0 ? o->half_width : 0.02) * out->median;
    return st;
}

static st_t profile_one(const struct arch *a, struct kn_dev *dev, struct energy *energy, struct nvml *gpu, struct load *anchor, const struct metric *m,
                        const struct profile_opts *o, struct measured *out, struct base_err *err)
{
    bool prefill = !strncmp(m->name, "prefill_ms@", 11), bytes = !strncmp(m->name, "infer_bytes@", 12);
    bool joules = !strncmp(m->name, "joules_per_token@", 17), rate = !strncmp(m->name, "throughput@", 11);
    int batch = m->batch > 0 ? (int)m->batch : 1;
    if (joules && !energy) return base_err_set(err, ST_ENOTSUP, m->name, "energy cannot be measured on this machine");
    if (m->context > ARCH_CONTEXT_MAX) return base_err_set(err, ST_ETOOBIG, m->name, "context is over %d", ARCH_CONTEXT_MAX);
    struct load w = {0};
    kn_trim(dev);
    uint64_t before = kn_dev_bytes(dev);
    kn_peak_reset(dev);
    st_t st = load_open(&w, a, o->weights, dev, batch, prefill ? 0 : m->context, prefill ? (int)m->context : 1, err);
    if (!st && bytes) {
        st = load_run(&w, 1);
        out->median = out->low = out->high = (double)(kn_dev_peak(dev) - before);
        out->n = 1;
        out->converged = true;
    } else if (!st && joules) {
        st = measure_joules(&w, energy, o, out, err);
    } else if (!st) {
        st = measure_ns(&w, anchor, gpu, o, out, err);
        if (!st && rate) to_rate(out, batch);
        else if (!st) scale(out, 1e-6);
    }
    load_close(&w);
    return st;
}

/* How the card was while that was measured. */
static void tell_gpu(struct nvml *gpu, const char *name)
{
    struct nvml_state now;
    if (!gpu || nvml_read(gpu, &now)) return;
    log_info("%s: GPU at %d of %d MHz, %d C, %.0f W, driver %s", name, now.clock_mhz, now.default_mhz, now.celsius, now.watts, nvml_driver(gpu));
    if (now.others > 0) log_warn("%s: %d other process%s on the GPU: times are not this candidate's alone", name, now.others, now.others == 1 ? "" : "es");
}

st_t profile_run(const struct arch *a, struct kn_dev *dev, struct energy *energy, const struct metric *metrics, int n, const struct profile_opts *o,
                 struct measured *out, struct base_err *err)
{
    static const struct profile_opts none;
    if (!o) o = &none;
    struct arch anchor_arch;
    profile_anchor_arch(&anchor_arch);
    struct load anchor = {0};
    struct nvml *gpu = NULL;
    struct base_err why = BASE_ERR_INIT;
    if (!strcmp(dev->info.kind, "cuda") && nvml_open(&gpu, dev->info.bus, &why)) log_info("clocks and other users of the GPU are not watched: %s", why.what);
    base_pool_pin(dev->pool, 1);
    st_t st = load_open(&anchor, &anchor_arch, ARCH_WEIGHTS_F32, dev, 1, ANCHOR_CONTEXT, 1, err);
    for (int i = 0; !st && i < n; i++) {
        struct measured *m = &out[i];
        *m = (struct measured){.ratio = NAN, .ratio_low = NAN, .ratio_high = NAN, .sample_ns = NAN};
        snprintf(m->name, sizeof m->name, "%s", metrics[i].name);
        st = profile_one(a, dev, energy, gpu, &anchor, &metrics[i], o, m, err);
        tell_gpu(gpu, m->name);
    }
    load_close(&anchor);
    base_pool_pin(dev->pool, 0);
    nvml_close(gpu);
    return st;
}
