/* Proxies against PyTorch on the same weights and batches (tests/golden/make_proxies.py), and what holds of them whatever the numbers. */
#include "proxies/proxy.h"

#include "model/safetensors.h"
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

/* f32 here, f64 there. A slope from a difference of two steps is not the slope itself. */
static double tolerance(const char *proxy)
{
    return strcmp(proxy, "grasp") ? 2e-6 : 1e-3;
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
        double *want = read_all(&f, proxy_name(which[i])), tol = tolerance(proxy_name(which[i]));
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
    struct arch llama = net(V, 64, 24, 0), bamba = llama, mixtral = llama, shared = llama;
    for (int i = 0; i < 2; i++) {
        add(&llama, attention(4, 2, 6, 0, 1), swiglu(36, 0));
        add(&bamba, mamba2(2, 12, 10, 4, 2), swiglu(36, 0));
        add(&mixtral, attention(4, 2, 6, 0, 1), moe(4, 2, 10, 0));
    }
    add(&shared, attention(4, 2, 6, 0, 1), moe_as(moe(5, 2, 10, 1), 0, 0, 1));
    static const char *const names[] = {"llama", "bamba", "moe_mixtral", "moe_qwen3next"};
    const struct arch *archs[] = {&llama, &bamba, &mixtral, &shared};
    for (int i = 0; i < 4; i++) check(archs[i], names[i], "ref"), check(archs[i], names[i], "cpu");
}

int main(void)
{
    test_golden();
    return tap_done();
}
