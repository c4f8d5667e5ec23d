/* The archive's memory, and what is asked of it row by row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/archive_impl.h"

struct archive *archive_new(const struct job *job)
{
    struct archive *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->job = job;
    a->genes = space_genes(job->space);
    return a;
}

void archive_free(struct archive *a)
{
    if (!a) return;
    for (int c = 0; c < a->ncol; c++) {
        free(a->col[c].name);
        free(a->col[c].median);
        free(a->col[c].low);
        free(a->col[c].high);
        free(a->col[c].estimated);
        for (int r = 0; a->col[c].lower && r < a->job->rungs - 1; r++) free(a->col[c].lower[r]);
        free(a->col[c].lower);
    }
    free(a->col);
    free(a->trial);
    free(a->epoch);
    free(a->proposal);
    free(a->damage);
    free(a->state);
    free(a->rung);
    free(a->audit);
    free(a->of);
    free(a->repeat);
    free(a->repeat_kind);
    free(a->draw);
    free(a->verdict);
    free(a->estimate);
    free(a->arch);
    free(a->genome);
    free(a->wide);
    free(a->by_trial);
    free(a->by_arch);
    free(a->rep_row);
    free(a->rep_at);
    free(a->rep_busy);
    free(a->rep_rung);
    free(a->rep_first);
    free(a);
}

static st_t grow(void *pp, size_t n)
{
    void *old, *p;
    memcpy(&old, pp, sizeof old);
    p = realloc(old, n ? n : 1);
    if (!p) return ST_ENOMEM;
    memcpy(pp, &p, sizeof p);
    return ST_OK;
}

static st_t grow_nan(double **pp, long from, long to)
{
    st_t st = grow(pp, (size_t)to * sizeof **pp);
    for (long i = from; i < to && !st; i++) (*pp)[i] = NAN;
    return st;
}

/* ---- finding rows ---- */

static uint32_t hash_trial(int64_t id)
{
    return (uint32_t)(((uint64_t)id * 0x9E3779B97F4A7C15ULL) >> 32);
}

static uint32_t hash_arch(const uint8_t *id)
{
    uint32_t h;
    memcpy(&h, id, sizeof h); /* the id is a hash already */
    return h;
}

static void enter(struct archive *a, long row)
{
    uint32_t i = hash_trial(a->trial[row]) & a->mask, k = hash_arch(a->arch[row]) & a->mask;
    while (a->by_trial[i]) i = (i + 1) & a->mask;
    a->by_trial[i] = (uint32_t)row + 1;
    if (a->of[row]) return; /* of its architecture the first is found */
    while (a->by_arch[k] && memcmp(a->arch[a->by_arch[k] - 1], a->arch[row], ARCH_BYTES)) k = (k + 1) & a->mask;
    a->by_arch[k] = (uint32_t)row + 1;
}

long archive_row(const struct archive *a, int64_t trial)
{
    if (!a->n) return -1;
    for (uint32_t i = hash_trial(trial) & a->mask; a->by_trial[i]; i = (i + 1) & a->mask)
        if (a->trial[a->by_trial[i] - 1] == trial) return (long)a->by_trial[i] - 1;
    return -1;
}

long archive_find_arch(const struct archive *a, const char *id)
{
    uint8_t key[ARCH_BYTES];
    if (!a->n || !archive_arch_parse(id, key)) return -1;
    for (uint32_t i = hash_arch(key) & a->mask; a->by_arch[i]; i = (i + 1) & a->mask)
        if (!memcmp(a->arch[a->by_arch[i] - 1], key, ARCH_BYTES)) return (long)a->by_arch[i] - 1;
    return -1;
}

/* ---- growing ---- */

st_t archive_reserve(struct archive *a, long rows)
{
    if (rows <= a->cap) return ST_OK;
    if (rows > INT32_MAX / 2) return ST_ETOOBIG;
    long cap = a->cap + a->cap / 2;
    if (cap < rows) cap = rows;
    if (cap < 64) cap = 64;
    size_t c = (size_t)cap, g = (size_t)a->genes;
    uint32_t size = 128;
    while (size < 2 * c) size *= 2;
    if (grow(&a->trial, c * sizeof *a->trial) || grow(&a->epoch, c * sizeof *a->epoch) ||
        grow(&a->proposal, c * sizeof *a->proposal) || grow(&a->state, c) ||
        grow(&a->rung, c) || grow(&a->audit, c) || grow(&a->of, c * sizeof *a->of) || grow(&a->arch, c * sizeof *a->arch) ||
        (a->wide ? grow(&a->wide, c * g * sizeof *a->wide) : grow(&a->genome, c * g)))
        return ST_ENOMEM;
    for (int i = 0; i < a->ncol; i++) {
        struct archive_col *k = &a->col[i];
        if (grow_nan(&k->median, a->n, cap) ||
            (k->low && (grow_nan(&k->low, a->n, cap) || grow_nan(&k->high, a->n, cap))))
            return ST_ENOMEM;
        if (k->estimated) {
            if (grow(&k->estimated, c)) return ST_ENOMEM;
            memset(k->estimated + a->n, 0, c - (size_t)a->n);
        }
        for (int r = 0; k->lower && r < a->job->rungs - 1; r++)
            if (k->lower[r] && grow_nan(&k->lower[r], a->n, cap)) return ST_ENOMEM;
    }
    if (!a->by_trial || size > a->mask + 1) {
        uint32_t *t = calloc(size, sizeof *t), *h = calloc(size, sizeof *h);
        if (!t || !h) {
            free(t);
            free(h);
            return ST_ENOMEM;
        }
        free(a->by_trial);
        free(a->by_arch);
        a->by_trial = t;
        a->by_arch = h;
        a->mask = size - 1;
        for (long row = 0; row < a->n; row++) enter(a, row);
    }
    a->cap = cap;
    return ST_OK;
}

static void add(struct archive *a, int64_t trial, const uint8_t arch[ARCH_BYTES], long of)
{
    long row = a->n++;
    a->of[row] = (uint32_t)(of + 1);
    a->trial[row] = trial;
    a->epoch[row] = 0;
    a->proposal[row] = row;
    a->state[row] = TRIAL_READY;
    a->count[TRIAL_READY]++;
    a->rung[row] = a->audit[row] = 0;
    a->reached[0] += of < 0;
    memcpy(a->arch[row], arch, ARCH_BYTES);
    enter(a, row);
}

void archive_add(struct archive *a, int64_t trial, const uint8_t arch[ARCH_BYTES])
{
    add(a, trial, arch, -1);
}

const char *const archive_repeat_words[] = {"", "train", "profile", NULL};

st_t archive_add_repeat(struct archive *a, int64_t trial, const uint8_t arch[ARCH_BYTES], long of, const char *kind)
{
    int k = 1;
    while (archive_repeat_words[k] && strcmp(archive_repeat_words[k], kind)) k++;
    if (!archive_repeat_words[k] || of < 0 || of >= a->n || a->of[of]) return ST_EINVAL;
    if (a->nrepeats == a->cap_repeats) {
        long cap = a->cap_repeats ? 2 * a->cap_repeats : 16;
        if (grow(&a->repeat, (size_t)cap * sizeof *a->repeat) || grow(&a->repeat_kind, (size_t)cap)) return ST_ENOMEM;
        a->cap_repeats = cap;
    }
    a->repeat[a->nrepeats] = (uint32_t)a->n;
    a->repeat_kind[a->nrepeats++] = (uint8_t)k;
    add(a, trial, arch, of);
    return ST_OK;
}

int archive_column(struct archive *a, const char *name)
{
    int c = archive_metric(a, name);
    if (c >= 0) return c;
    if (a->ncol == a->cap_col) {
        int cap = a->cap_col ? 2 * a->cap_col : 16;
        if (grow(&a->col, (size_t)cap * sizeof *a->col)) return -1;
        a->cap_col = cap;
    }
    struct archive_col k = {.name = strdup(name)};
    if (!k.name || grow_nan(&k.median, 0, a->cap)) {
        free(k.name);
        free(k.median);
        return -1;
    }
    a->col[a->ncol] = k;
    return a->ncol++;
}

st_t archive_set(struct archive *a, int col, long row, double median, double low, double high)
{
    struct archive_col *k = &a->col[col];
    if (!k->low && !isnan(low)) {
        double *l = NULL, *h = NULL;
        if (grow_nan(&l, 0, a->cap) || grow_nan(&h, 0, a->cap)) {
            free(l);
            free(h);
            return ST_ENOMEM;
        }
        k->low = l;
        k->high = h;
    }
    k->median[row] = median;
    if (k->low) {
        k->low[row] = low;
        k->high[row] = high;
    }
    return ST_OK;
}

st_t archive_gene_set(struct archive *a, long row, int i, double g)
{
    size_t at = (size_t)row * (size_t)a->genes + (size_t)i;
    bool byte = g >= 0 && g <= 255 && g == floor(g);
    if (!a->wide && !byte) {
        size_t n = (size_t)a->cap * (size_t)a->genes;
        double *wide = malloc(n * sizeof *wide);
        if (!wide) return ST_ENOMEM;
        for (size_t k = 0; k < at; k++) wide[k] = a->genome[k];
        free(a->genome);
        a->genome = NULL;
        a->wide = wide;
    }
    if (a->wide)
        a->wide[at] = g;
    else
        a->genome[at] = (uint8_t)g;
    return ST_OK;
}

const char *const archive_state_words[] = {"ready", "leased", "ok", "failed", "pruned", "scored", "passed", "ready", "leased"};

long archive_planned(const struct archive *a)
{
    return a->n - a->count[TRIAL_SCORED] - a->count[TRIAL_PASSED] - a->count[TRIAL_DRAFT] - a->count[TRIAL_SCORING];
}

void archive_state_set(struct archive *a, long row, enum trial_state s)
{
    if (!a->of[row]) a->has[a->rung[row]] += (s == TRIAL_OK) - (a->state[row] == TRIAL_OK);
    a->count[a->state[row]]--;
    a->count[s]++;
    a->state[row] = (uint8_t)s;
}

st_t archive_damage_add(struct archive *a, int64_t trial, const char *why)
{
    if (a->ndamage == a->cap_damage) {
        long cap = a->cap_damage ? 2 * a->cap_damage : 16;
        if (grow(&a->damage, (size_t)cap * sizeof *a->damage)) return ST_ENOMEM;
        a->cap_damage = cap;
    }
    a->damage[a->ndamage++] = (struct archive_damage){trial, why};
    return ST_OK;
}

st_t archive_lower_set(struct archive *a, int col, long row, int rung, double median)
{
    struct archive_col *k = &a->col[col];
    if (rung >= a->job->rungs - 1) return ST_EINVAL;
    if (!k->lower && !(k->lower = calloc((size_t)a->job->rungs - 1, sizeof *k->lower))) return ST_ENOMEM;
    if (!k->lower[rung] && grow_nan(&k->lower[rung], 0, a->cap)) return ST_ENOMEM;
    k->lower[rung][row] = median;
    return ST_OK;
}

st_t archive_promote(struct archive *a, long row)
{
    if (a->rung[row] >= a->job->rungs - 1) return ST_EINVAL;
    a->count[a->state[row]]--;
    a->count[TRIAL_READY]++;
    a->state[row] = TRIAL_READY;
    a->rung[row]++;
    a->reached[a->rung[row]] += !a->of[row];
    return ST_OK;
}

const char *const archive_drawn_words[] = {"best", "front", "space", "all", NULL};

st_t archive_audit_add(struct archive *a, long row, int rung, const char *drawn)
{
    int how = 0;
    while (archive_drawn_words[how] && strcmp(archive_drawn_words[how], drawn)) how++;
    if (row < 0 || row >= a->n || rung < 0 || rung >= a->job->rungs || !archive_drawn_words[how] || a->audit[row]) return ST_EINVAL;
    if (a->naudit == a->cap_audit) {
        long cap = a->cap_audit ? 2 * a->cap_audit : 32;
        if (grow(&a->draw, (size_t)cap * sizeof *a->draw)) return ST_ENOMEM;
        a->cap_audit = cap;
    }
    a->audit[row] = (uint8_t)(rung + 1);
    a->draw[a->naudit++] = (struct archive_draw){(uint32_t)row, (uint8_t)how};
    return ST_OK;
}

st_t archive_verdict_set(struct archive *a, const char *shortcut, bool relied, long from)
{
    int i = 0;
    while (i < a->nverdicts && strcmp(a->verdict[i].shortcut, shortcut)) i++;
    if (i == a->nverdicts && grow(&a->verdict, ((size_t)i + 1) * sizeof *a->verdict)) return ST_ENOMEM;
    if (i == a->nverdicts) a->nverdicts++;
    else memmove(a->verdict + i, a->verdict + i + 1, (size_t)(a->nverdicts - i - 1) * sizeof *a->verdict);
    struct archive_verdict *v = &a->verdict[a->nverdicts - 1];
    *v = (struct archive_verdict){.relied = relied, .from = from};
    snprintf(v->shortcut, sizeof v->shortcut, "%s", shortcut);
    return ST_OK;
}

st_t archive_estimate_add(struct archive *a, const struct archive_estimate *e)
{
    if (a->nestimates == a->cap_estimates) {
        long cap = a->cap_estimates ? 2 * a->cap_estimates : 32;
        if (grow(&a->estimate, (size_t)cap * sizeof *a->estimate)) return ST_ENOMEM;
        a->cap_estimates = cap;
    }
    long i = a->nestimates++;
    for (; i > 0 && a->estimate[i - 1].row == e->row && a->estimate[i - 1].rung == e->rung; i--) { /* those of a report by name */
        if (strcmp(a->col[a->estimate[i - 1].col].name, a->col[e->col].name) < 0) break;
        a->estimate[i] = a->estimate[i - 1];
    }
    a->estimate[i] = *e;
    return ST_OK;
}

st_t archive_estimated_set(struct archive *a, int col, long row, bool estimated)
{
    struct archive_col *k = &a->col[col];
    if (!k->estimated && !estimated) return ST_OK;
    if (!k->estimated && !(k->estimated = calloc((size_t)a->cap, 1))) return ST_ENOMEM;
    k->estimated[row] = estimated;
    return ST_OK;
}

long archive_audited(const struct archive *a)
{
    return a->naudit;
}

long archive_audited_row(const struct archive *a, long i)
{
    return a->draw[i].row;
}

enum audit_drawn archive_audited_how(const struct archive *a, long i)
{
    return (enum audit_drawn)a->draw[i].how;
}

int archive_audit_rung(const struct archive *a, long row)
{
    return a->audit[row] - 1;
}

const struct archive_verdict *archive_verdicts(const struct archive *a, int *n)
{
    *n = a->nverdicts;
    return a->verdict;
}

bool archive_relied(const struct archive *a, const char *shortcut)
{
    for (int i = 0; i < a->nverdicts; i++)
        if (!strcmp(a->verdict[i].shortcut, shortcut)) return a->verdict[i].relied;
    return true;
}

st_t archive_report_add(struct archive *a, long row, int rung, int64_t at_ms, double busy_s)
{
    if (a->nrep == a->cap_rep) {
        size_t cap = a->cap_rep ? 2 * (size_t)a->cap_rep : 64;
        if (grow(&a->rep_row, cap * sizeof *a->rep_row) || grow(&a->rep_at, cap * sizeof *a->rep_at) ||
            grow(&a->rep_busy, cap * sizeof *a->rep_busy) || grow(&a->rep_rung, cap) || grow(&a->rep_first, cap * sizeof *a->rep_first))
            return ST_ENOMEM;
        a->cap_rep = (long)cap;
    }
    a->first += rung == 0;
    if (a->of[row]) return ST_OK;
    a->rep_rung[a->nrep] = (uint8_t)rung;
    a->rep_first[a->nrep] = (uint32_t)a->first;
    a->rep_row[a->nrep] = (uint32_t)row;
    a->rep_at[a->nrep] = at_ms;
    a->rep_busy[a->nrep++] = busy_s;
    return ST_OK;
}

/* ---- asking ---- */

bool archive_arch_parse(const char *hex, uint8_t out[ARCH_BYTES])
{
    for (int i = 0; i < 2 * ARCH_BYTES; i++) {
        int c = hex[i], d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0) return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | d : d << 4);
    }
    return hex[2 * ARCH_BYTES] == '\0';
}

long archive_count(const struct archive *a)
{
    return a->n;
}

long archive_count_state(const struct archive *a, enum trial_state s)
{
    return a->count[s];
}

long archive_damaged(const struct archive *a, const struct archive_damage **list)
{
    if (list) *list = a->damage;
    return a->ndamage;
}

int64_t archive_proposal(const struct archive *a, long row)
{
    return a->proposal[row];
}

int64_t archive_trial(const struct archive *a, long row)
{
    return a->trial[row];
}

enum trial_state archive_state(const struct archive *a, long row)
{
    return (enum trial_state)a->state[row];
}

const char *archive_arch_id(const struct archive *a, long row, char id[BASE_ID_HEX])
{
    static const char digit[] = "0123456789abcdef";
    for (int i = 0; i < ARCH_BYTES; i++) {
        id[2 * i] = digit[a->arch[row][i] >> 4];
        id[2 * i + 1] = digit[a->arch[row][i] & 15];
    }
    id[2 * ARCH_BYTES] = '\0';
    return id;
}

int64_t archive_epoch(const struct archive *a, long row)
{
    return a->epoch[row];
}

st_t archive_genome(const struct archive *a, long row, struct genome *g)
{
    if (g->n != a->genes) return ST_EINVAL;
    size_t at = (size_t)row * (size_t)a->genes;
    for (int i = 0; i < a->genes; i++) g->g[i] = a->wide ? a->wide[at + (size_t)i] : a->genome[at + (size_t)i];
    return ST_OK;
}

int archive_rung(const struct archive *a, long row)
{
    return a->rung[row];
}

bool archive_has(const struct archive *a, long row, int rung)
{
    return !a->of[row] && archive_reported_ok(a, row, rung);
}

bool archive_reported_ok(const struct archive *a, long row, int rung)
{
    return rung < a->rung[row] || (rung == a->rung[row] && a->state[row] == TRIAL_OK);
}

long archive_rung_count(const struct archive *a, int rung)
{
    return a->has[rung];
}

long archive_rung_reached(const struct archive *a, int rung)
{
    return rung ? a->reached[rung] : archive_planned(a) - a->nrepeats;
}

int archive_top(const struct archive *a)
{
    int r = a->job->rungs - 1;
    while (r > 0 && !a->has[r]) r--;
    return r;
}

int archive_reported_rung(const struct archive *a, long i)
{
    return a->rep_rung[i];
}

long archive_evaluations(const struct archive *a)
{
    return a->first;
}

long archive_reported_evaluations(const struct archive *a, long i)
{
    return a->rep_first[i];
}

long archive_reported(const struct archive *a)
{
    return a->nrep;
}

long archive_reported_row(const struct archive *a, long i)
{
    return a->rep_row[i];
}

int64_t archive_reported_at(const struct archive *a, long i)
{
    return a->rep_at[i];
}

double archive_reported_busy_s(const struct archive *a, long i)
{
    return a->rep_busy[i];
}

int archive_metric(const struct archive *a, const char *name)
{
    for (int c = 0; c < a->ncol; c++)
        if (!strcmp(a->col[c].name, name)) return c;
    return -1;
}

int archive_metrics(const struct archive *a)
{
    return a->ncol;
}

const char *archive_metric_name(const struct archive *a, int col)
{
    return a->col[col].name;
}

double archive_median(const struct archive *a, int col, long row)
{
    return a->col[col].median[row];
}

double archive_value(const struct archive *a, int col, long row, int rung)
{
    const struct archive_col *k = &a->col[col];
    if (rung >= a->rung[row]) return k->median[row];
    return k->lower && k->lower[rung] ? k->lower[rung][row] : NAN;
}

void archive_interval(const struct archive *a, int col, long row, double *low, double *high)
{
    const struct archive_col *k = &a->col[col];
    bool has = k->low && !isnan(k->low[row]);
    *low = has ? k->low[row] : k->median[row];
    *high = has ? k->high[row] : k->median[row];
}
