#include "evaluator/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX 64
#define PREFIX "proxy."

int score_proxy(const struct metric *m)
{
    return m->def >= 0 && !strncmp(m->name, PREFIX, strlen(PREFIX)) ? proxy_find(m->name + strlen(PREFIX)) : -1;
}

/* tokens, targets [PROXY_BATCHES, PROXY_BATCH, T] */
static st_t read_batches(struct data *d, int T, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    for (int b = 0; b < PROXY_BATCHES; b++) {
        size_t at = (size_t)b * PROXY_BATCH * (size_t)T;
        st_t st = data_batch(d, 0, (uint64_t)b, PROXY_BATCH, T, tokens + at, targets + at, err);
        if (st) return st;
    }
    return ST_OK;
}

st_t score_run(const struct arch *a, struct data *d, struct kn_dev *dev, uint64_t seed, const struct metric *m, int n, struct proxy_result *out,
               struct base_err *err)
{
    int which[METRICS_MAX], place[METRICS_MAX], k = 0, T = proxy_length(a);
    struct proxy_result got[METRICS_MAX];
    bool text = false;
    if (n > METRICS_MAX) return base_err_set(err, ST_ETOOBIG, "proxies", "more than %d metrics", METRICS_MAX);
    for (int i = 0; i < n; i++) {
        int p = score_proxy(&m[i]);
        out[i] = (struct proxy_result){.st = ST_EINVAL, .value = NAN};
        if (p < 0) continue;
        text |= !proxy_on_paper(p);
        which[k] = p, place[k++] = i;
    }
    if (!k) return ST_OK;
    size_t tokens = (size_t)PROXY_BATCHES * PROXY_BATCH * (size_t)T;
    struct proxy_input in = {.arch = a, .dev = dev};
    int32_t *x = NULL;
    st_t st = ST_OK;
    if (text) {
        x = malloc(2 * tokens * sizeof *x);
        in = (struct proxy_input){a, dev, NULL, PROXY_BATCHES, PROXY_BATCH, T, x, x + tokens};
        st = x ? proxy_model_new(&in.m, a, dev, seed, err) : ST_ENOMEM;
        if (!st) st = read_batches(d, T, x, x + tokens, err);
    }
    if (!st) st = proxy_run(which, k, &in, got, err);
    for (int i = 0; !st && i < k; i++) out[place[i]] = got[i];
    model_free(in.m);
    free(x);
    return st;
}
