/* Proxies against PyTorch on the same weights and batches (tests/golden/make_proxies.py), and what holds of them whatever the numbers. */
#include "proxies/proxy.h"

#include "model/safetensors.h"
#include "proxies/internal.h"
#include "searchspace/metric.h"
#include "tests/model/nets.h"
#include "tests/tap.h"

enum { BATCHES = 4, B = 4, T = 12, V = 19, ALL = 32 };

/* All of them, in the list's order. */
static int everything(int *which)
{
    for (int i = 0; i < proxy_count(); i++) which[i] = i;
    return proxy_count();
}

static void *read_all(const struct safe *f, const char *name)
{
    const struct safe_tensor *t = safe_find(f, name);
    if (!t) return NULL;
    void *p = malloc(t->end - t->begin + 1);
    safe_read(f, t->begin, p, t->end - t->begin);
    return p;
}

static const char *golden(char *out, size_t size, const char *form, const char *name)
{
    const char *src = getenv("TAUT_SRC");
    char file[128];
    snprintf(file, sizeof file, form, name);
    snprintf(out, size, "%s/tests/golden/%s.safetensors", src ? src : ".", file);
    return out;
}

/* f32 here, f64 there. A slope from a difference of two steps is not the slope itself, less so where a unit of relu2, whose second derivative jumps, turns on
 * between the two. */
static double tolerance(const char *proxy, const char *net_name)
{
    return strcmp(proxy, "grasp") ? 2e-6 : strcmp(net_name, "nemotron_mlp") ? 1e-3 : 1e-2;
}

static void check(const struct arch *a, const char *name, const char *device_name)
{
    char path[512];
    struct safe f;
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = device(device_name, 2);
    struct model *m = model_of(a, dev, KN_F32, B, true, 1);
    int which[ALL], n = everything(which);
    struct proxy_result r[ALL];
    if (!ok(!model_load(m, golden(path, sizeof path, "%s_weights", name), false, &err), "%s %s: weights", name, device_name)) return;
    if (!ok(!safe_open(&f, golden(path, sizeof path, "proxies_%s", name), &err), "%s %s: golden numbers", name, device_name)) exit(1);
    int32_t *tokens = read_all(&f, "tokens"), *targets = read_all(&f, "targets");
    struct proxy_input in = {a, dev, m, BATCHES, B, T, tokens, targets};
    is_int(proxy_run(which, n, &in, r, &err), ST_OK, "%s %s: run", name, device_name);
    for (int i = 0; i < n; i++) {
        double *want = read_all(&f, proxy_name(which[i])), tol = tolerance(proxy_name(which[i]), name);
        if (want) {
            if (!ok(!r[i].st && fabs(r[i].value - *want) <= tol * fabs(*want), "%s %s: %s", name, device_name, proxy_name(which[i])))
                printf("#   got %.17g, want %.17g: off by %.2g of it (%s)\n", r[i].value, *want, fabs(r[i].value / *want - 1), r[i].err.what);
        } else {
            ok(!strcmp(proxy_name(which[i]), "flops"), "%s: %s has no golden number", name, proxy_name(which[i]));
        }
        free(want);
    }
    free(tokens), free(targets);
    safe_close(&f);
    model_free(m);
    kn_dev_close(dev);
}

static void test_golden(void)
{
    struct arch llama = net(V, 64, 24, 0), bamba = llama, mixtral = llama, shared = llama, plain = llama;
    for (int i = 0; i < 2; i++) {
        add(&llama, attention(4, 2, 6, 0, 1), swiglu(36, 0));
        add(&bamba, mamba2(2, 12, 10, 4, 2), swiglu(36, 0));
        add(&mixtral, attention(4, 2, 6, 0, 1), moe(4, 2, 10, 0));
        add(&plain, attention(4, 2, 8, 0, 0), mlp(36, KN_RELU2));
    }
    plain.bias = true;
    add(&shared, attention(4, 2, 6, 0, 1), moe_as(moe(5, 2, 10, 1), 0, 0, 1));
    static const char *const names[] = {"llama", "bamba", "moe_mixtral", "moe_qwen3next", "nemotron_mlp"};
    const struct arch *archs[] = {&llama, &bamba, &mixtral, &shared, &plain};
    for (int i = 0; i < 5; i++) check(archs[i], names[i], "ref"), check(archs[i], names[i], "cpu");
}

/* The metrics' list and the proxies' are of two rooms. */
static void test_names(void)
{
    char known[512] = "unknown proxy 'qqqqqqqq'; known: ";
    struct base_err err = BASE_ERR_INIT;
    struct metric m;
    struct arch a = zoo(9, 1);
    int which[ALL], n = everything(which);
    struct proxy_result r[ALL];
    proxy_run(which, 3, &(struct proxy_input){.arch = &a}, r, NULL);
    for (int i = 0; i < n; i++) {
        if (!ok(!space_proxy_parse(&m, proxy_name(i), "", &err), "%s is a proxy in a job", proxy_name(i))) continue;
        ok(m.goal == METRIC_MAX && (m.source == METRIC_PAPER) == proxy_on_paper(i), "proxy.%s: more is better; known on paper or not, as here", proxy_name(i));
        is_int(proxy_find(proxy_name(i)), i, "found by its name");
        if (proxy_on_paper(i)) is_near(r[i].value, space_metric_paper(&m, &a, ARCH_WEIGHTS_F32), 0, "one number for both");
        strcat(strcat(known, i ? ", " : ""), proxy_name(i));
    }
    space_proxy_parse(&m, "qqqqqqqq", "proxies[0]", &err);
    is_str(err.what, known, "the same list, in the same order");
    is_int(proxy_find("snop"), -1, "not found");
}

/* Every layer type with every proxy: finite or refused, to the same bits whatever the number of threads and the company, and the network as it was. */
static void test_bits(const struct arch *a, const char *what)
{
    enum { N = BATCHES * PROXY_BATCH * 9 };
    int32_t tokens[N], targets[N];
    int which[ALL], n = everything(which), same = 0, fine = 0, alone = 0, whole = 0, params = 0;
    struct proxy_result one[ALL], three[ALL], r;
    random_tokens(3, 13, N, tokens, targets);
    for (int threads = 1; threads <= 3; threads += 2) {
        struct kn_dev *dev = device("cpu", threads);
        struct model *m = NULL;
        is_int(proxy_model_new(&m, a, dev, 5, NULL), ST_OK, "%s: %d thread(s)", what, threads);
        struct proxy_input in = {a, dev, m, BATCHES, PROXY_BATCH, 9, tokens, targets};
        params = model_params(m);
        double *before[512];
        for (int i = 0; i < params; i++) before[i] = numbers(dev, &model_param(m, i)->w);
        is_int(proxy_run(which, n, &in, threads == 1 ? one : three, NULL), ST_OK, "%s: run", what);
        for (int i = 0; i < params; i++) {
            double *after = numbers(dev, &model_param(m, i)->w);
            whole += !memcmp(before[i], after, (size_t)kn_count(&model_param(m, i)->w) * sizeof *after);
            free(before[i]), free(after);
        }
        for (int i = n - 1; threads == 3 && i >= 0; i--) {
            proxy_run(&i, 1, &in, &r, NULL);
            alone += r.st == one[i].st && (r.st || !memcmp(&r.value, &one[i].value, sizeof r.value));
        }
        model_free(m);
        kn_dev_close(dev);
    }
    for (int i = 0; i < n; i++) {
        same += one[i].st == three[i].st && (one[i].st || !memcmp(&one[i].value, &three[i].value, sizeof one[i].value));
        fine += one[i].st ? isnan(one[i].value) && *one[i].err.what && !strcmp(one[i].err.where, proxy_name(i)) : isfinite(one[i].value);
        if (one[i].st) printf("# %s: no %s: %s\n", what, proxy_name(i), one[i].err.what);
    }
    is_int(fine, n, "%s: finite, or refused by name", what);
    is_int(same, n, "%s: the same bits on one thread and on three", what);
    is_int(alone, n, "%s: the same bits alone and in another order", what);
    is_int(whole, 2 * params, "%s: the weights are as they were", what);
}

/* st of one proxy, and its words. */
static void refused(const char *proxy, const struct arch *a, int batches, int samples, const int32_t *tokens, st_t st, const char *what)
{
    struct kn_dev *dev = device("cpu", 1);
    struct model *m = model_of(a, dev, KN_F32, samples, true, 1);
    struct proxy_result r;
    int i = proxy_find(proxy);
    is_int(proxy_run(&i, 1, &(struct proxy_input){a, dev, m, batches, samples, 6, tokens, tokens}, &r, NULL), ST_OK, "%s is asked for", proxy);
    is_int(r.st, st, "it does not apply");
    is_str(r.err.what, what, "and says why");
    ok(isnan(r.value), "there is no number");
    model_free(m);
    kn_dev_close(dev);
}

static void test_refused(void)
{
    int32_t tokens[4 * 6], other[4 * 6], same[4 * 6] = {0};
    struct arch normed = biased(6, 1), bare = net(13, 6, 12, 1), wide = net(13, 6, 1040, 1), fine = zoo(6, 1);
    random_tokens(1, 13, 24, tokens, other);
    add(&bare, attention(3, 3, 4, 0, 1), NO_FFN);
    add(&wide, attention(33, 1, 32, 0, 1), NO_FFN);
    refused("synflow", &normed, 2, 2, tokens, ST_ENOTSUP, "means nothing with layer norm, of which a row of ones leaves zeros");
    refused("naswot", &bare, 2, 2, tokens, ST_ENOTSUP, "counts hidden units of feed-forwards, and there is none");
    refused("naswot", &fine, 2, 2, same, ST_ENONFINITE, "two samples have the same code");
    refused("zico", &fine, 1, 4, tokens, ST_ENOTSUP, "needs two batches");
    refused("jacov", &fine, 1, 1, tokens, ST_ENOTSUP, "needs two samples");
    refused("dss", &wide, 1, 2, tokens, ST_ENOTSUP, "singular values of matrices larger than 1024 both ways are not worked out");

    struct kn_dev *dev = device("cpu", 1), *ref = device("ref", 1);
    struct model *m = model_of(&fine, dev, KN_F32, 2, true, 1), *f64 = model_of(&fine, ref, KN_F64, 2, true, 1);
    struct proxy_input in = {&fine, dev, m, 2, 2, 6, other, other}, none = in, many = in, twice = in;
    struct proxy_result r, two[2];
    struct base_err err = BASE_ERR_INIT;
    int i = proxy_find("snip");
    other[20] = 13;
    is_int(proxy_run(&i, 1, &in, &r, &err), ST_OK, "what is not looked at may be wrong");
    i = proxy_find("zico");
    is_int(proxy_run(&i, 1, &in, &r, &err), ST_EINVAL, "a token outside the vocabulary");
    is_str(err.where, "zico", "is named by who met it");
    none.m = NULL, many.batches = PROXY_BATCHES + 1, twice.m = f64, twice.dev = ref;
    is_int(proxy_run(&i, 1, &none, &r, &err), ST_EINVAL, "no network");
    is_int(proxy_run(&i, 1, &many, &r, &err), ST_EINVAL, "too many batches");
    is_int(proxy_run(&i, 1, &twice, &r, &err), ST_ENOTSUP, "a network of doubles");
    dev->info.memory = kn_dev_bytes(dev) + 1000;
    is_int(proxy_run(&i, 1, &in, &r, &err), ST_ENOFIT, "no room for what is kept beside the network");
    other[20] = 0;
    dev->info.memory = kn_dev_bytes(dev) + 4 * (uint64_t)model_param_count(m) * 2;
    is_int(proxy_run((int[]){proxy_find("snip"), i}, 2, &in, two, &err), ST_OK, "room for the gradient of one batch");
    ok(!two[0].st && two[1].st == ST_ENOFIT && strstr(two[1].err.what, "MiB"), "is room for one proxy and not for the other: %s", two[1].err.what);
    dev->info.memory = kn_dev_bytes(dev) + 4 * (uint64_t)model_param_count(m) + 50;
    for (const char *const *p = (const char *const[]){"gradnorm", "dss", "jacov", "naswot", NULL}; *p; p++) {
        i = proxy_find(*p);
        ok(!proxy_run(&i, 1, &in, &r, &err) && r.st == ST_ENOFIT, "no room for what %s keeps", *p);
    }
    model_free(m), model_free(f64);
    kn_dev_close(dev), kn_dev_close(ref);
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest error of the eigenvalues of a [n,n], against want [n], both in order; a is overwritten. */
static double spectrum_off(double *a, int n, double *want)
{
    double *w = malloc((size_t)n * sizeof *w), worst = 0;
    if (proxy_eigenvalues(a, n, w)) return INFINITY;
    qsort(w, (size_t)n, sizeof *w, rising), qsort(want, (size_t)n, sizeof *want, rising);
    for (int i = 0; i < n; i++) worst = tap_worse(worst, fabs(w[i] - want[i]));
    free(w);
    return worst;
}

/* u u^T of u [n,rank], far from 1: what is not of the rank is 0 to rounding of the largest. */
static void check_low_rank(int n, int rank)
{
    double *a = malloc((size_t)(n * n) * sizeof *a), *u = malloc((size_t)(n * rank) * sizeof *u), *w = malloc((size_t)n * sizeof *w);
    double trace = 0, squares = 0, sum = 0, sum2 = 0;
    struct base_rng r = base_rng_at(2, RNG_TEST, (uint64_t)rank);
    for (int i = 0; i < n * rank; i++) u[i] = 1e6 * base_rng_normal(&r);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double v = 0;
            for (int k = 0; k < rank; k++) v += u[i * rank + k] * u[j * rank + k];
            a[i * n + j] = v;
            squares += v * v, trace += i == j ? v : 0;
        }
    is_int(proxy_eigenvalues(a, n, w), ST_OK, "rank %d of %d", rank, n);
    for (int i = 0; i < n; i++) sum += w[i], sum2 += w[i] * w[i];
    ok(fabs(sum / trace - 1) < 1e-13 && fabs(sum2 / squares - 1) < 1e-13, "sum and sum of squares");
    qsort(w, (size_t)n, sizeof *w, rising);
    ok(fabs(w[n - rank - 1]) < 1e-13 * trace && w[n - rank] > 1e-4 * trace, "%d of them", rank);
    free(a), free(u), free(w);
}

static void test_spectrum(void)
{
    enum { N = 60 };
    static double a[N * N], u[N], want[N];
    double w[N];
    static const int sizes[] = {1, 2, 3, 17, N};
    struct base_rng r = base_rng_at(2, RNG_TEST, 0);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int n = sizes[k];
        memset(a, 0, sizeof a);
        for (int i = 0; i < n; i++) {
            a[i * n + i] = 2;
            if (i) a[i * n + i - 1] = a[(i - 1) * n + i] = -1;
            want[i] = 2 - 2 * cos((i + 1) * M_PI / (n + 1));
        }
        ok(spectrum_off(a, n, want) < 1e-14, "the second difference of %d", n);
        /* I + 3 of rank one, far from tridiagonal: a dense matrix of known eigenvalues */
        double length = 0;
        for (int i = 0; i < n; i++) u[i] = base_rng_normal(&r), length += u[i] * u[i];
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) a[i * n + j] = (i == j) + 3 * u[i] * u[j] / length;
        for (int i = 0; i < n; i++) want[i] = i ? 1 : 4;
        double det[N * N], log_det = NAN;
        memcpy(det, a, (size_t)n * (size_t)n * sizeof *a);
        ok(spectrum_off(a, n, want) < 1e-13, "one direction of %d stands out", n);
        ok(!proxy_logdet(det, n, &log_det) && fabs(log_det - log(4)) < 1e-13, "its determinant");
    }
    check_low_rank(N, 3);
    check_low_rank(80, 23);
    check_low_rank(140, 38);
    check_low_rank(140, 73);
    memset(a, 0, sizeof a), memset(want, 0, sizeof want);
    ok(spectrum_off(a, N, want) == 0, "all zeros");
    a[5] = NAN, a[5 * N] = NAN;
    is_int(proxy_eigenvalues(a, N, w), ST_ENONFINITE, "not a number");
    double singular[4] = {1, 1, 1, 1}, v;
    is_int(proxy_logdet(singular, 2, &v), ST_ENONFINITE, "a singular matrix has no logarithm");
}

int main(void)
{
    test_spectrum();
    test_names();
    struct arch all[] = {zoo(9, 1), conv_zoo(9, 0), scans(9, 1), attentions(9, 0), latents(9, 0), experts(9), deltas(9, 1), biased(9, 1)};
    static const char *const words[] = {"zoo", "convolutions", "scans", "attentions", "latents", "experts", "deltas", "biased"};
    for (int i = 0; i < 8; i++) test_bits(&all[i], words[i]);
    test_refused();
    test_golden();
    return tap_done();
}
