#include "controller/repeat.h"

#include <math.h>

bool repeat_brings(enum archive_repeat kind, const struct metric *m)
{
    return kind == REPEAT_PROFILE ? m->source == METRIC_PROFILE : m->source != METRIC_PAPER && !space_metric_once(m);
}

/* Objectives that such a repeat brings, as bits. */
static unsigned objectives(const struct job *job, enum archive_repeat kind)
{
    unsigned bits = 0;
    for (int k = 0; k < job->nobjectives; k++) bits |= repeat_brings(kind, &job->objective[k].metric) ? 1u << k : 0;
    return bits;
}

static bool under_way(const struct archive *a)
{
    for (long i = 0; i < archive_repeats(a); i++) {
        enum trial_state s = archive_state(a, archive_repeat_row(a, i));
        if (s == TRIAL_READY || s == TRIAL_LEASED) return true;
    }
    return repeat_promote(a) >= 0;
}

long repeat_promote(const struct archive *a)
{
    for (long i = 0; i < archive_repeats(a); i++) {
        long row = archive_repeat_row(a, i);
        if (archive_state(a, row) == TRIAL_OK && archive_repeat(a, row) == REPEAT_TRAIN && archive_rung(a, row) < archive_rung(a, archive_repeat_of(a, row))) return row;
    }
    return -1;
}

static st_t front(const struct job *job, const struct archive *a, unsigned exact, struct front *f)
{
    struct front_query q = {.nobj = job->nobjectives, .constrained = true, .rung = job->rungs - 1, .uncertain = true, .resamples = REPEAT_DRAWS, .exact = exact};
    for (int k = 0; k < job->nobjectives; k++) q.objective[k] = job->objective[k];
    return archive_front(a, &q, f, NULL);
}

/* How near to 1/2 the row's probability is, 0 to 1/2, with these objectives exact; less than what front shows: 0. */
static double doubt(const struct job *job, const struct archive *a, long row, unsigned exact)
{
    struct front f;
    double d = 0;
    if (front(job, a, exact, &f)) return 0;
    for (long i = 0; i < f.n; i++)
        if (f.row[i] == row) d = fmin(f.p[i], 1 - f.p[i]);
    archive_front_fini(&f);
    return d;
}

/* The member of the front that was repeated least: the k-th of REPEAT_SEEDS, spread over it. -1: all were REPEAT_EACH times. */
static long for_noise(const struct archive *a, const struct front *f, long k)
{
    long members = 0, best = -1, want, at = 0, least = 0;
    int times = REPEAT_EACH;
    for (long i = 0; i < f->n; i++) members += f->on[i];
    want = members * (2 * k + 1) / (2 * REPEAT_SEEDS);
    for (long i = 0; i < f->n; i++) {
        if (!f->on[i]) continue;
        long off = at > want ? at - want : want - at;
        int had = archive_repeated(a, f->row[i]);
        if (had < times || (best >= 0 && had == times && off < least)) best = f->row[i], least = off, times = had;
        at++;
    }
    return best;
}

/* Does the row stand where it does by an estimate of something that such a repeat measures? */
static bool estimated(const struct job *job, const struct archive *a, long row)
{
    for (int k = 0; k < job->nobjectives; k++) {
        double v, low, high;
        int col = archive_metric(a, job->objective[k].metric.name);
        if (!repeat_brings(REPEAT_PROFILE, &job->objective[k].metric) || !archive_estimated(a, col, row)) continue;
        archive_pooled(a, col, row, job->rungs - 1, &v, &low, &high);
        if (v == archive_median(a, col, row)) return true; /* no repeat has measured it */
    }
    return false;
}

/* The front is not drawn anew before every proposal. */
static bool looks(const struct archive *a)
{
    long n = archive_count(a), planned = archive_planned(a);
    return planned % (REPEAT_SHARE * (1 + planned / (REPEAT_SHARE * REPEAT_MOST))) == 0 || archive_repeat_of(a, n - 1) >= 0;
}

bool repeat_next(const struct job *job, const struct archive *a, double evaluations, struct repeat *out)
{
    long trained = 0, n = archive_repeats(a);
    unsigned seeds = objectives(job, REPEAT_TRAIN), times = objectives(job, REPEAT_PROFILE);
    struct front f;
    if (space_type(job->space) != SPACE_LM || job->problem || job->shared || !(seeds | times) || archive_rung_count(a, job->rungs - 1) < REPEAT_FROM) return false;
    if (n >= REPEAT_MOST || (n + 1) * REPEAT_SHARE > archive_planned(a) || (double)(archive_planned(a) + 1) > evaluations || !looks(a) || under_way(a)) return false;
    for (long i = 0; i < n; i++) trained += archive_repeat(a, archive_repeat_row(a, i)) == REPEAT_TRAIN;
    if (front(job, a, 0, &f)) return false;
    *out = (struct repeat){.row = -1, .kind = REPEAT_TRAIN, .probability = NAN};
    for (long i = 0; i < f.n && out->row < 0; i++)
        if (f.on[i] && archive_repeated(a, f.row[i]) < REPEAT_EACH && estimated(job, a, f.row[i])) *out = (struct repeat){.row = f.row[i], .kind = REPEAT_PROFILE, .probability = NAN};
    if (out->row < 0 && seeds && trained < REPEAT_SEEDS) out->row = for_noise(a, &f, trained);
    bool due = out->row >= 0;
    for (long i = 0; i < f.n && !due; i++) {
        double p = f.p[i], d = fabs(p - 0.5);
        if (p < REPEAT_DOUBT || p > 1 - REPEAT_DOUBT || archive_repeated(a, f.row[i]) >= REPEAT_EACH) continue;
        if (out->row >= 0 && (d > fabs(out->probability - 0.5) || (d == fabs(out->probability - 0.5) && f.row[i] > out->row))) continue;
        out->row = f.row[i];
        out->probability = p;
    }
    archive_front_fini(&f);
    if (out->row < 0) return false;
    if (!isnan(out->probability) && times && (!seeds || doubt(job, a, out->row, seeds) > doubt(job, a, out->row, times))) out->kind = REPEAT_PROFILE;
    out->number = archive_repeated(a, out->row) + 1;
    return true;
}
