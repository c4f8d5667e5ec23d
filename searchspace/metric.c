#include "searchspace/metric.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "searchspace/words.h"

enum form { FORM_NONE, FORM_L, FORM_NEXT, FORM_BL };

static const struct def {
    const char *name;
    enum form form;
    const char *unit;
    enum metric_goal goal;
    enum metric_source source;
} defs[] = {
#define METRIC(name, form, unit, goal, source, help) {#name, FORM_##form, unit, METRIC_##goal, METRIC_##source},
#include "searchspace/metrics.def"
#undef METRIC
};
#define NDEFS ((int)(sizeof defs / sizeof defs[0]))

#define BATCH_MAX 65536
#define PROXY_PREFIX "proxy."

static const char *const form_example[] = {[FORM_NONE] = "", [FORM_L] = "@1024", [FORM_NEXT] = "@1024", [FORM_BL] = "@8x1024"};

static int find(const char *base)
{
    for (int i = 0; i < NDEFS; i++)
        if (!strcmp(defs[i].name, base)) return i;
    return -1;
}

static st_t unknown(const char *name, const char *base, const char *where, struct base_err *err)
{
    const char *words[sizeof defs / sizeof defs[0]];
    for (int i = 0; i < NDEFS; i++) words[i] = defs[i].name;
    const char *near = base_nearest(base, words, NDEFS);
    if (!near) return base_err_set(err, ST_EINVAL, where, "unknown metric '%.64s'", name);
    return base_err_set(err, ST_EINVAL, where, "unknown metric '%.64s'; did you mean '%s%s'?", name, near,
                        form_example[defs[find(near)].form]);
}

/* A positive decimal without sign or leading zero, so that a metric has one spelling; NULL if there is none or it passes max. */
static const char *number(const char *s, int64_t max, int64_t *out)
{
    if (*s < '1' || *s > '9') return NULL;
    int64_t v = 0;
    for (; isdigit((unsigned char)*s); s++)
        if ((v = v * 10 + (*s - '0')) > max) return NULL;
    *out = v;
    return s;
}

static st_t parse_custom(struct metric *out, const char *name, const char *where, struct base_err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n >= METRIC_NAME_MAX)
        return base_err_set(err, ST_EINVAL, where, "a metric's name has 1 to %d characters", METRIC_NAME_MAX - 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (!isalpha(c) && c != '_' && (i == 0 || (!isdigit(c) && !strchr(".@-", c))))
            return base_err_set(err, ST_EINVAL, where, "'%s' is no metric's name: letters, digits and _ . @ - only, a letter or _ first", name);
    }
    *out = (struct metric){.def = -1, .goal = METRIC_MIN, .source = METRIC_CUSTOM, .unit = ""};
    memcpy(out->name, name, n + 1);
    return ST_OK;
}

static bool is_estimate(const char *base)
{
    char stem[METRIC_NAME_MAX];
    size_t n = strlen(base);
    if (n < 4 || strcmp(base + n - 4, "_est")) return false;
    snprintf(stem, sizeof stem, "%.*s", (int)(n - 4), base);
    int i = find(stem);
    return i >= 0 && defs[i].source == METRIC_ENERGY;
}

bool space_metric_once(const struct metric *m)
{
    return m->source == METRIC_PROFILE || m->source == METRIC_PROXY || (m->source == METRIC_ENERGY && m->context);
}

st_t space_metric_parse(struct metric *out, const char *name, bool custom, const char *where, struct base_err *err)
{
    if (custom) return parse_custom(out, name, where, err);
    size_t n = strcspn(name, "@");
    const char *arg = name[n] ? name + n + 1 : NULL;
    if (strlen(name) >= METRIC_NAME_MAX) return base_err_set(err, ST_EINVAL, where, "unknown metric '%.32s...'", name);
    char base[METRIC_NAME_MAX];
    snprintf(base, sizeof base, "%.*s", (int)n, name);
    if (is_estimate(base)) return base_err_set(err, ST_ENOTSUP, where, "metric '%s' is not built yet", name);
    int i = find(base);
    if (i < 0) return unknown(name, base, where, err);

    const struct def *d = &defs[i];
    struct metric m = {.def = i, .goal = d->goal, .source = d->source, .unit = d->unit};
    snprintf(m.name, sizeof m.name, "%s", name);
    if (d->form == FORM_NONE && arg) return base_err_set(err, ST_EINVAL, where, "metric '%s' stands alone: without '@%s'", base, arg);
    if (d->form != FORM_NONE && !arg) {
        return base_err_set(err, ST_EINVAL, where, "metric '%s' needs a context, as in '%s%s'", base, base, form_example[d->form]);
    }
    if (arg) {
        const char *s = arg;
        int context_max = d->form == FORM_L ? ARCH_CONTEXT_MAX : ARCH_CONTEXT_MAX - 1;
        m.batch = 1;
        if (d->form == FORM_BL) {
            s = number(s, BATCH_MAX, &m.batch);
            s = s && *s == 'x' ? s + 1 : NULL;
        }
        if (s) s = number(s, context_max, &m.context);
        if (!s || *s) {
            return base_err_set(err, ST_EINVAL, where, "'@%s' is not of the form '%s' (context from 1 to %d%s)", arg,
                                form_example[d->form], context_max, d->form == FORM_BL ? ", batch from 1 to 65536" : "");
        }
    }
    *out = m;
    return ST_OK;
}

int space_proxies(struct metric *out, int max)
{
    int n = 0;
    for (int i = 0; i < NDEFS && n < max; i++)
        if (!strncmp(defs[i].name, PROXY_PREFIX, strlen(PROXY_PREFIX)) && !space_metric_parse(&out[n], defs[i].name, false, "", NULL)) n++;
    return n;
}

st_t space_proxy_parse(struct metric *out, const char *name, const char *where, struct base_err *err)
{
    const char *list[NDEFS + 1];
    char full[METRIC_NAME_MAX];
    int n = 0;
    for (int i = 0; i < NDEFS; i++)
        if (!strncmp(defs[i].name, PROXY_PREFIX, strlen(PROXY_PREFIX))) list[n++] = defs[i].name + strlen(PROXY_PREFIX);
    list[n] = NULL;
    int i = words_find(name, list, WORDS_PROXY, "proxy", where, err);
    if (i < 0) return (st_t)i;
    snprintf(full, sizeof full, PROXY_PREFIX "%s", list[i]);
    return space_metric_parse(out, full, false, where, err);
}

double space_metric_paper(const struct metric *m, const struct arch *a, enum arch_weights w)
{
    if (m->def < 0 || m->source != METRIC_PAPER) return NAN;
    const char *name = defs[m->def].name;
    if (!strcmp(name, "state_bytes")) return space_arch_state_bytes(a, m->context);
    if (!strcmp(name, "weight_bytes")) return space_arch_weight_bytes(a, w);
    struct arch_cost c;
    space_arch_cost(a, &c);
    if (!strcmp(name, "proxy.decoder_params")) return space_arch_decoder_params(a);
    if (!strcmp(name, "params") || !strcmp(name, "proxy.params")) return c.params;
    if (!strcmp(name, "active_params")) return c.active_params;
    if (!strcmp(name, "flops_per_token") || !strcmp(name, "proxy.flops")) return c.flops_per_token;
    return NAN;
}
