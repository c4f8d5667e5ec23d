/* What a profile says, against the clock, the paper and itself. The machine may be busy: nothing here limits a time. */
#include "tests/evaluator/evaltest.h"

#include "base/clock.h"
#include "evaluator/profiler.h"

static struct metric metric(const char *name)
{
    struct metric m;
    struct base_err err = BASE_ERR_INIT;
    if (space_metric_parse(&m, name, false, "metric", &err)) {
        printf("Bail out! %s\n", err.what);
        exit(1);
    }
    return m;
}

static st_t profile(const struct arch *a, struct kn_dev *dev, const char *name, const struct profile_opts *o, struct measured *out, struct base_err *err)
{
    struct metric m = metric(name);
    return profile_run(a, dev, NULL, &m, 1, o, out, err);
}

static void check(const struct measured *m, const char *name)
{
    ok(!strcmp(m->name, name), "%s: its name", name);
    ok(m->low > 0 && m->low <= m->median && m->median <= m->high && isfinite(m->high), "%s: %g <= %g <= %g", name, m->low, m->median, m->high);
    ok(m->n >= 30 || !m->converged, "%s: at least 30 samples, or it says that it has not converged (%d)", name, m->n);
    ok(m->ratio_low > 0 && m->ratio_low <= m->ratio && m->ratio <= m->ratio_high && isfinite(m->ratio_high), "%s: ratio %g <= %g <= %g", name,
       m->ratio_low, m->ratio, m->ratio_high);
    ok(!m->converged || (m->high - m->low) / 2 / m->median <= 0.02, "%s: converged means within two percent", name);
    ok(m->disturbed >= 0 && m->disturbed <= 1 && m->rejected >= 0 && !(m->rejected && m->disturbed > 0), "%s: disturbed %g, rejected %d", name,
       m->disturbed, m->rejected);
    ok(m->sample_ns >= 1000.0 * (double)base_clock_resolution_ns(), "%s: the shortest sample, %.0f ns, is 1000 times the clock's resolution", name, m->sample_ns);
}

static void everything(struct kn_dev *dev)
{
    static const char *const names[] = {"prefill_ms@64", "decode_ms@64", "decode_ms@2048", "throughput@4x64", "infer_bytes@64"};
    struct arch a = small_net(256, 64);
    struct metric m[5];
    struct measured out[5];
    struct base_err err = BASE_ERR_INIT;
    for (int i = 0; i < 5; i++) m[i] = metric(names[i]);
    struct profile_opts o = {.limit_s = 0.5};
    st_t st = profile_run(&a, dev, NULL, m, 5, &o, out, &err);
    ok(!st, "a profile: %s", err.what);
    if (st) return;
    for (int i = 0; i < 4; i++) check(&out[i], names[i]);
    /* by their ratios: what else the machine does goes into the anchor's time as well */
    ok(out[2].ratio_low > out[1].ratio_high, "a token at context 2048 takes longer than one at 64 (%g, %g anchors)", out[2].ratio, out[1].ratio);
    ok(out[0].ratio_low > out[1].ratio_high, "and 64 tokens take longer than one (%g, %g anchors)", out[0].ratio, out[1].ratio);
    ok(out[3].ratio > 1 / out[1].ratio, "four sequences together give more tokens a second than one (%g, %g anchors)", out[3].ratio, 1 / out[1].ratio);
    /* anchor's tokens/s = 1 / (decode ns / ratio): the same from a time and from a rate, up to what the machine does meanwhile */
    double of_time = 1e3 / (out[1].median / out[1].ratio), of_rate = out[3].median / out[3].ratio;
    ok(of_rate / of_time > 0.5 && of_rate / of_time < 2, "both ratios are to the same anchor (%.0f, %.0f tokens/s)", of_time, of_rate);
    ok(out[4].n == 1 && out[4].low == out[4].median && out[4].high == out[4].median && isnan(out[4].ratio) && isnan(out[4].sample_ns), "bytes are a count");
}

/* The anchor against itself. */
static void anchor(struct kn_dev *dev)
{
    struct arch a;
    struct measured m;
    struct base_err err = BASE_ERR_INIT;
    char id[BASE_ID_HEX];
    profile_anchor_arch(&a);
    space_arch_id(&a, id);
    is_str(id, "77d7d15c4aabd267c7f40bcacd589b01", "the anchor never changes");
    struct profile_opts o = {.limit_s = 1};
    ok(!profile(&a, dev, "decode_ms@128", &o, &m, &err), "the anchor's own decoding");
    ok(m.ratio > 0.8 && m.ratio < 1.25, "is one anchor long (%g)", m.ratio);
    st_t st = profile(&a, dev, "throughput@1x128", &o, &m, &err);
    ok(!st && m.ratio > 0.8 && m.ratio < 1.25, "in time and in rate (%g)", m.ratio);
}

/* Is a time of microseconds real? The same call, timed here over many repetitions, and what it must compute at the very least. */
static void tiny(struct kn_dev *dev)
{
    enum { BURSTS = 500, CALLS = 40, CONTEXT = 32 };
    struct arch a = net(256, 256, 32, 1);
    add(&a, attention(1, 1, 32, 0, 1), swiglu(32, 0));
    struct measured p;
    struct base_err err = BASE_ERR_INIT;
    struct profile_opts o = {.limit_s = 1};
    ok(!profile(&a, dev, "decode_ms@32", &o, &p, &err), "one layer of width 32");
    check(&p, "decode_ms@32");

    struct model *m;
    struct model_state *s;
    struct model_opts mo = {.batch = 0};
    int32_t token = 65;
    float logits[256], first[256];
    ok(!model_new(&m, &a, dev, &mo, &err) && !model_init(m, 1) && !model_state_new(&s, m, 1, CONTEXT + 1, &err) && !model_state_fill(s, CONTEXT), "built by hand");
    double best = INFINITY; /* of short bursts: one of them is undisturbed on a busy machine too */
    for (int k = 0; k < BURSTS; k++) {
        uint64_t t0 = base_clock_ns();
        for (int i = 0; i < CALLS; i++) {
            model_state_seek(s, CONTEXT);
            token = (token + 1) % 256;
            model_decode(s, &token, 1, logits);
            if (!i && !k) memcpy(first, logits, sizeof first);
        }
        best = fmin(best, (double)(base_clock_ns() - t0) / CALLS);
    }
    ok(memcmp(first, logits, sizeof first) != 0, "another token, other logits: the call does its work");
    ok(p.median * 1e6 > best * 0.7, "the profile's time is no smaller than a stopwatch's (%.0f ns, %.0f ns)", p.median * 1e6, best);
    /* two a multiply-add: q, k, v, o 4 x 32 x 32; gate, up, down 3 x 32 x 32; head 256 x 32. 400 GFLOP/s is past any core's f32. */
    double flops = 2.0 * (7 * 32 * 32 + 256 * 32);
    ok(p.low * 1e6 > flops / 400, "nor than the arithmetic can take (%.0f FLOP in %.0f ns)", flops, p.low * 1e6);
    model_state_free(s);
    model_free(m);
}

static void memory(struct kn_dev *dev)
{
    struct arch a = small_net(256, 64), big = net(256, 256, 256, 1);
    add(&big, attention(8, 8, 32, 0, 1), swiglu(1024, 0));
    struct model_opts mo = {.batch = 0};
    struct base_err err = BASE_ERR_INIT;
    struct measured m, again;
    static const int64_t L[] = {64, 4096};
    double last = 0;
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "infer_bytes@%d", (int)L[i]);
        st_t st = profile(&a, dev, name, NULL, &m, &err);
        ok(!st, "%s", name);
        double plan = (double)(model_plan_bytes(&a, &mo) + model_state_plan_bytes(&a, 1, L[i] + 1));
        ok(m.median >= plan && m.median <= plan + (4 << 20), "weights, caches and working memory as planned (%.0f), and scratch (%.0f)", plan, m.median);
        ok(m.median > last, "more at a longer context");
        last = m.median;
    }
    struct metric both[2] = {metric("prefill_ms@256"), metric("infer_bytes@4096")};
    struct measured out[2];
    struct profile_opts o = {.limit_s = 0.05};
    ok(!profile_run(&big, dev, NULL, both, 2, &o, out, &err), "a larger network in between");
    st_t st = profile(&a, dev, "infer_bytes@4096", NULL, &again, &err);
    ok(!st && again.median == m.median, "leaves nothing of its own in the count (%.0f, %.0f)",
       again.median, m.median);
    kn_trim(dev);
    is_int(kn_dev_bytes(dev), 0, "all of it is given back");
}

struct patience {
    int asked, ends_at;
};

static bool patient(void *ctx)
{
    struct patience *p = ctx;
    return ++p->asked < p->ends_at;
}

static void stops(struct kn_dev *dev)
{
    struct arch a = small_net(256, 64);
    struct measured m;
    static const int at[] = {1, 5, 40, 120};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct patience p = {0, at[i]};
        struct base_err err = BASE_ERR_INIT;
        struct profile_opts o = {.go = patient, .ctx = &p, .limit_s = 60, .half_width = 1e-9};
        is_int(profile(&a, dev, "decode_ms@64", &o, &m, &err), ST_ECANCELED, "asked for the %dth time, it stops", at[i]);
        is_int(p.asked, at[i], "at once");
    }
    kn_trim(dev);
    is_int(kn_dev_bytes(dev), 0, "and gives its memory back");
}

static void limits(struct kn_dev *dev)
{
    struct arch a = small_net(256, 64);
    struct measured m;
    struct base_err err = BASE_ERR_INIT;
    struct profile_opts o = {.limit_s = 1e-6, .half_width = 1e-9};
    st_t st = profile(&a, dev, "decode_ms@64", &o, &m, &err);
    ok(!st && !m.converged && m.n >= 1 && m.low > 0, "at the time limit it ends, and says unconverged (n %d)", m.n);
    o.limit_s = 0.3;
    st = profile(&a, dev, "decode_ms@64", &o, &m, &err);
    ok(!st && !m.converged && m.n > 1, "so does one that wants the impossible (n %d)", m.n);
    /* All the samples that there is room for, before any time limit. */
    struct arch small = net(256, 256, 32, 1);
    add(&small, attention(1, 1, 32, 0, 1), swiglu(32, 0));
    o = (struct profile_opts){.limit_s = 3, .min_samples = 1 << 20};
    st = profile(&small, dev, "decode_ms@32", &o, &m, &err);
    ok(!st && m.median > 0 && m.n > 0 && !m.converged, "one that gets too few samples has a value still (n %d)", m.n);

    uint64_t memory_there = dev->info.memory;
    dev->info.memory = 3 << 20;
    is_int(profile(&a, dev, "decode_ms@200000", NULL, &m, &err), ST_ENOFIT, "a cache that does not fit");
    ok(strstr(err.what, "needs") != NULL, "says how much it needs: %s", err.what);
    dev->info.memory = memory_there;
    is_int(profile(&a, dev, "joules_per_token@64", NULL, &m, &err), ST_ENOTSUP, "energy where it cannot be measured");
    ok(strstr(err.what, "energy cannot be measured") != NULL, "says so: %s", err.what);
    is_int(profile_run(&a, dev, NULL, NULL, 0, NULL, NULL, &err), ST_OK, "nothing asked, nothing measured");
}

/* Energy on a made-up counter that stands still. */
static void joules(struct kn_dev *dev)
{
    mkdir(in("rapl"), 0777);
    mkdir(in("rapl/intel-rapl:0"), 0777);
    put_file("rapl/intel-rapl:0/name", "package-0\n", 10);
    put_file("rapl/intel-rapl:0/max_energy_range_uj", "1000000000\n", 11);
    put_file("rapl/intel-rapl:0/energy_uj", "5\n", 2);
    struct energy *e;
    struct base_err err = BASE_ERR_INIT;
    ok(!energy_open(&e, in("rapl"), &err), "a counter");
    struct arch a = small_net(256, 64);
    struct metric m = metric("joules_per_token@64");
    struct measured out;
    struct patience p = {0, 2};
    struct profile_opts o = {.go = patient, .ctx = &p};
    is_int(profile_run(&a, dev, e, &m, 1, &o, &out, &err), ST_ECANCELED, "stops between windows");
    unlink(in("rapl/intel-rapl:0/energy_uj"));
    is_int(profile_run(&a, dev, e, &m, 1, NULL, &out, &err), ST_EIO, "a counter that goes away");
    ok(strstr(err.what, "counter") != NULL, "says so: %s", err.what);
    energy_close(e);
}

int main(void)
{
    begin_files();
    struct kn_dev *dev = dev_or_die("cpu", 2);
    everything(dev);
    anchor(dev);
    tiny(dev);
    memory(dev);
    stops(dev);
    limits(dev);
    joules(dev);
    kn_dev_close(dev);
    end_files();
    return tap_done();
}
