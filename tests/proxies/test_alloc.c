/* Allocation 1 of a run fails, then 2, then 3 … until nothing fails: each time an error, no leak, and the network as it was.
 * The linker routes malloc and its kin here. */
#include "proxies/proxy.h"

#include "tests/model/nets.h"
#include "tests/tap.h"

static int fail_at, calls; /* fail_at: which call fails; 0: none */

static int fails(void)
{
    return fail_at && ++calls == fail_at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

static int as_it_was(struct kn_dev *dev, struct model *m, double **before)
{
    int same = 0;
    for (int i = 0; i < model_params(m); i++) {
        double *now = numbers(dev, &model_param(m, i)->w);
        same += !memcmp(now, before[i], (size_t)kn_count(&model_param(m, i)->w) * sizeof *now);
        free(now);
    }
    return same == model_params(m);
}

int main(void)
{
    enum { BATCHES = 2, B = 2, T = 9, N = BATCHES * B * T, ALL = 32 };
    int32_t tokens[N], targets[N];
    int which[ALL], n = proxy_count(), other = 0, changed = 0, failed;
    struct arch a = experts(T);
    struct kn_dev *dev = device("ref", 1);
    struct model *m = model_of(&a, dev, KN_F32, B, true, 1);
    struct proxy_input in = {&a, dev, m, BATCHES, B, T, tokens, targets};
    struct proxy_result r[ALL], first[ALL];
    double *before[512];
    st_t st = ST_ENOMEM;
    random_tokens(1, 13, N, tokens, targets);
    for (int i = 0; i < n; i++) which[i] = i;
    for (int i = 0; i < model_params(m); i++) before[i] = numbers(dev, &model_param(m, i)->w);
    is_int(proxy_run(which, n, &in, first, NULL), ST_OK, "once without failures");
    for (failed = 1; failed < 10000 && st; failed++) {
        calls = 0, fail_at = failed;
        st = proxy_run(which, n, &in, r, NULL);
        fail_at = 0;
        other += st != ST_OK && st != ST_ENOMEM;
        changed += !as_it_was(dev, m, before);
    }
    is_int(st, ST_OK, "all goes well once nothing fails");
    ok(failed > 50, "%d allocations failed, one after the other", failed - 2);
    is_int(other, 0, "each is ST_ENOMEM");
    is_int(changed, 0, "the network is as it was, each time");
    ok(!memcmp(&r[9].value, &first[9].value, sizeof r[9].value) && r[4].value == first[4].value, "and the last scores are the first ones");
    for (int i = 0; i < model_params(m); i++) free(before[i]);
    model_free(m);
    kn_dev_close(dev);
    return tap_done();
}
