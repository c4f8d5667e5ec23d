/* Random draws in custom spaces. */
#include <math.h>

#include "searchspace/space_int.h"

#define STEP_SHARE 0.15 /* standard deviation of a step, as a share of the knob's range */

static double clamp(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

static double draw(const struct custom_knob *k, struct base_rng *r)
{
    double u;
    switch (k->kind) {
    case CUSTOM_CHOICE: return base_rng_below(r, (uint32_t)k->nchoices);
    case CUSTOM_INT: return k->low + base_rng_below(r, (uint32_t)(k->high - k->low + 1));
    case CUSTOM_FLOAT:
        u = base_rng_unit(r);
        return clamp(k->low * (1 - u) + k->high * u, k->low, k->high);
    case CUSTOM_LOG: break;
    }
    u = base_rng_unit(r);
    return clamp(exp(log(k->low) * (1 - u) + log(k->high) * u), k->low, k->high);
}

/* Another value of the knob: any other choice; a number a normal step away, on the logarithm for "log". */
static double other(const struct custom_knob *k, struct base_rng *r, double v)
{
    if (k->kind == CUSTOM_CHOICE) return gene_other(r, k->nchoices, v);
    double fresh = v;
    for (int try = 0; try < 16 && fresh == v; try++) {
        double step = base_rng_normal(r) * STEP_SHARE;
        if (k->kind == CUSTOM_LOG) {
            fresh = clamp(exp(log(v) + step * log(k->high / k->low)), k->low, k->high);
        } else {
            fresh = v + step * (k->high - k->low);
            if (k->kind == CUSTOM_INT && fabs(fresh - v) < 1) fresh = v + (step < 0 ? -1 : 1);
            fresh = clamp(k->kind == CUSTOM_INT ? nearbyint(fresh) : fresh, k->low, k->high);
        }
    }
    return fresh != v ? fresh : v == k->low ? k->high : k->low;
}

st_t space_custom_sample(const struct space *s, struct base_rng *r, struct genome *out)
{
    for (int i = 0; i < s->genes; i++) out->g[i] = draw(s->custom.of[i], r);
    return ST_OK;
}

static bool is_live(const struct custom_knob *k)
{
    return k->kind != CUSTOM_CHOICE || k->nchoices > 1;
}

/* ST_EEXHAUSTED where no knob has two values. */
st_t space_custom_mutate(const struct space *s, struct base_rng *r, double rate, struct genome *g)
{
    int live = 0, changed = 0;
    for (int i = 0; i < s->genes; i++) live += is_live(s->custom.of[i]);
    if (!live) return ST_EEXHAUSTED;
    if (!(rate > 0)) rate = 1.0 / live;
    for (int i = 0; i < s->genes; i++) {
        if (!is_live(s->custom.of[i]) || base_rng_unit(r) >= rate) continue;
        g->g[i] = other(s->custom.of[i], r, g->g[i]);
        changed++;
    }
    int skip = (int)base_rng_below(r, (uint32_t)live);
    for (int i = 0; i < s->genes && !changed; i++) {
        if (!is_live(s->custom.of[i]) || skip-- > 0) continue;
        g->g[i] = other(s->custom.of[i], r, g->g[i]);
        changed++;
    }
    return ST_OK;
}

/* A number on its own scale, 0..1, and back. */
static double place(const struct custom_knob *k, double v)
{
    return k->kind == CUSTOM_LOG ? log(v / k->low) / log(k->high / k->low) : (v - k->low) / (k->high - k->low);
}

static double value_at(const struct custom_knob *k, double u)
{
    u = clamp(u, 0, 1);
    if (k->kind == CUSTOM_LOG) return clamp(k->low * exp(u * log(k->high / k->low)), k->low, k->high);
    double v = k->low * (1 - u) + k->high * u;
    return clamp(k->kind == CUSTOM_INT ? nearbyint(v) : v, k->low, k->high);
}

#define NUDGED_SHARE 0.2 /* of the numbers, and one at least; … */
#define TO_END_SHARE 0.1 /* … of these, so many go to an end of their range */

st_t space_custom_nudge(const struct space *s, struct base_rng *r, double size, struct genome *g)
{
    int one = (int)base_rng_below(r, (uint32_t)s->genes);
    bool all = base_rng_below(r, 2);
    for (int i = 0; i < s->genes; i++) {
        const struct custom_knob *k = s->custom.of[i];
        if (!is_live(k) || (i != one && (!all || base_rng_unit(r) >= NUDGED_SHARE))) continue;
        if (k->kind == CUSTOM_CHOICE || k->kind == CUSTOM_INT) g->g[i] = other(k, r, g->g[i]);
        else if (base_rng_unit(r) < TO_END_SHARE) g->g[i] = base_rng_below(r, 2) ? k->high : k->low;
        else g->g[i] = value_at(k, place(k, g->g[i]) + size * base_rng_normal(r));
    }
    return ST_OK;
}

st_t space_custom_blend(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, const struct genome *c, struct genome *out)
{
    double f = 0.3 + 0.7 * base_rng_unit(r), rate = base_rng_below(r, 2) ? 0.9 : 0.3;
    int one = (int)base_rng_below(r, (uint32_t)s->genes);
    for (int i = 0; i < s->genes; i++) {
        const struct custom_knob *k = s->custom.of[i];
        out->g[i] = a->g[i];
        if (i != one && base_rng_unit(r) >= rate) continue;
        if (k->kind == CUSTOM_CHOICE) out->g[i] = base_rng_below(r, 2) ? b->g[i] : a->g[i];
        else out->g[i] = value_at(k, place(k, a->g[i]) + f * (place(k, b->g[i]) - place(k, c->g[i])));
    }
    return ST_OK;
}

/* Each gene from one parent or the other; of a repeated knob often a run from each, since its genes may be layers of something. */
st_t space_custom_crossover(const struct space *s, struct base_rng *r, const struct genome *a, const struct genome *b, struct genome *out)
{
    for (int i = 0; i < s->custom.nknobs; i++) {
        const struct custom_knob *k = &s->custom.knob[i];
        int n = k->repeat ? k->repeat : 1;
        bool cut = base_rng_below(r, 2);
        int at = (int)base_rng_below(r, (uint32_t)n + 1);
        for (int j = 0; j < n; j++) {
            bool take_a = cut ? j < at : base_rng_below(r, 2);
            out->g[k->gene + j] = (take_a ? a : b)->g[k->gene + j];
        }
    }
    return ST_OK;
}
