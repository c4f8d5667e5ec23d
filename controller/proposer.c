#include "controller/proposer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct proposer {
    const struct job *job;
    const struct archive *archive;
    const struct strategy *strategy;
    void *state;
    long absorbed;        /* results, in the order of their reports */
    struct genome genome; /* scratch */
    struct genome pending[STRATEGY_PENDING_MAX];
    double size;          /* of the space, an upper bound */
    uint64_t next;        /* enumeration: everything before it is known or breaks a constraint */
    bool enumerating;     /* a call for `waiting` has ended with ST_EBUSY */
    uint64_t waiting;
    struct proposal *x; /* of the call under way */
    struct genome closest; /* of those for this proposal whose paper costs break a constraint the one that breaks them least … */
    double violation;      /* … by so much (INFINITY: none was seen) … */
    double cost[JOB_CONSTRAINTS_MAX]; /* … costing that; NaN: not known on paper */
    char why[256];
};

st_t proposer_new(struct proposer **out, const struct job *job, const struct archive *archive, struct base_err *err)
{
    const struct strategy *strategy = strategy_find(job->strategy);
    bool exact;
    if (!strategy) return base_err_set(err, ST_ENOTSUP, "search.strategy", "'%s' is not built yet", job->strategy);
    struct proposer *p = calloc(1, sizeof *p);
    if (!p) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    p->job = job;
    p->archive = archive;
    p->size = space_size(job->space, &exact);
    st_t st = space_genome_init(job->space, &p->genome);
    if (!st) st = space_genome_init(job->space, &p->closest);
    for (int i = 0; !st && i < STRATEGY_PENDING_MAX; i++) st = space_genome_init(job->space, &p->pending[i]);
    if (!st) st = strategy->open(&p->state, job);
    if (st) {
        proposer_free(p);
        return base_err_set(err, st, "search.strategy", "cannot start %s: %s", strategy->name, base_status_text(st));
    }
    p->strategy = strategy;
    *out = p;
    return ST_OK;
}

void proposer_free(struct proposer *p)
{
    if (!p) return;
    if (p->strategy) p->strategy->close(p->state);
    space_genome_fini(&p->genome);
    space_genome_fini(&p->closest);
    for (int i = 0; i < STRATEGY_PENDING_MAX; i++) space_genome_fini(&p->pending[i]);
    free(p);
}

const char *proposer_why(const struct proposer *p)
{
    return p->why;
}

void proposal_fini(struct proposal *x)
{
    space_genome_fini(&x->genome);
    space_candidate_fini(&x->candidate);
}

static double value(const struct archive *a, const char *metric, long row, int rung)
{
    int col = archive_metric(a, metric);
    return col < 0 ? NAN : archive_value(a, col, row, rung);
}

static void bounds(const struct job *job, const struct archive *a, long row, int rung, double *bound)
{
    for (int i = 0; i < job->nconstraints; i++) bound[i] = value(a, job->constraint[i].metric.name, row, rung);
}

bool proposer_values(const struct job *job, const struct archive *a, long row, int rung, double y[JOB_OBJECTIVES_MAX], double *violation)
{
    double bound[JOB_CONSTRAINTS_MAX];
    bool finite = true;
    for (int i = 0; i < job->nobjectives; i++) {
        double v = value(a, job->objective[i].metric.name, row, rung);
        y[i] = job->objective[i].goal == METRIC_MAX ? -v : v;
        finite &= isfinite(v) != 0;
    }
    bounds(job, a, row, rung, bound);
    *violation = job_violation(job, bound);
    return finite;
}

static st_t catch_up(struct proposer *p)
{
    while (p->absorbed < archive_reported(p->archive)) {
        long row = archive_reported_row(p->archive, p->absorbed);
        int rung = archive_reported_rung(p->archive, p->absorbed);
        double y[JOB_OBJECTIVES_MAX], bound[JOB_CONSTRAINTS_MAX];
        struct strategy_result r = {.trial = archive_trial(p->archive, row), .proposal = archive_proposal(p->archive, row), .rung = rung, .genome = &p->genome, .y = y, .bound = bound};
        st_t st = archive_genome(p->archive, row, &p->genome);
        bounds(p->job, p->archive, row, rung, bound);
        r.ok = archive_has(p->archive, row, rung) && proposer_values(p->job, p->archive, row, rung, y, &r.violation);
        if (!st) st = p->strategy->absorb(p->state, &r);
        if (st) return st;
        p->absorbed++;
    }
    return ST_OK;
}

/* Out, or about to be; what is scored is until it is passed over. */
static bool is_pending(enum trial_state s)
{
    return s == TRIAL_READY || s == TRIAL_LEASED || s == TRIAL_DRAFT || s == TRIAL_SCORING || s == TRIAL_SCORED;
}

/* What is out, the youngest first. */
static st_t list_pending(struct proposer *p, struct strategy_pending *out)
{
    const struct archive *a = p->archive;
    long left = 0;
    for (int s = 0; s < TRIAL_STATES; s++)
        if (is_pending((enum trial_state)s)) left += archive_count_state(a, (enum trial_state)s);
    *out = (struct strategy_pending){.genome = p->pending};
    for (long row = archive_count(a) - 1; left > 0 && row >= 0 && out->n < STRATEGY_PENDING_MAX; row--) {
        if (!is_pending(archive_state(a, row))) continue;
        left--;
        if (archive_rung(a, row) || archive_repeat_of(a, row) >= 0) continue; /* on its way up: it was reported before; or once more */
        st_t st = archive_genome(a, row, &p->pending[out->n++]);
        if (st) return st;
    }
    return ST_OK;
}

/* Makes the candidate of x->genome. ST_EEXIST: known. ST_EINVAL: it breaks what its paper costs can tell. */
static st_t consider(struct proposer *p)
{
    struct proposal *x = p->x;
    const struct job *job = p->job;
    double bound[JOB_CONSTRAINTS_MAX];
    st_t st = space_candidate(job->space, &x->genome, &x->candidate, NULL);
    if (st) return st == ST_ENOMEM ? st : ST_EINVAL; /* a hole of the space */
    if (archive_find_arch(p->archive, x->candidate.id) >= 0) {
        x->known++;
        st = ST_EEXIST;
    } else if (x->candidate.type == SPACE_LM) {
        for (int i = 0; i < job->nconstraints; i++) {
            const struct metric *m = &job->constraint[i].metric;
            bound[i] = m->source == METRIC_PAPER ? space_metric_paper(m, &x->candidate.arch, job->decode) : NAN;
        }
        double violation = job_violation(job, bound);
        if (violation > 0) {
            x->infeasible++;
            st = ST_EINVAL;
        }
        if (violation > 0 && violation <= p->violation) { /* as close too: a plateau is crossed by walking */
            space_genome_copy(&p->closest, &x->genome);
            memcpy(p->cost, bound, sizeof bound);
            p->violation = violation;
        }
    }
    if (st) space_candidate_fini(&x->candidate);
    return st;
}

static bool passed_over(st_t st)
{
    return st == ST_EEXIST || st == ST_EINVAL || st == ST_EEXHAUSTED;
}

/* A draw beside the strategy's. Where sampling has met nothing but candidates outside the constraints, its second half walks from the closest of them. */
static st_t draw(struct proposer *p, struct base_rng *r, bool walk)
{
    struct proposal *x = p->x;
    x->origin = (struct strategy_origin){.op = walk ? "repair" : "sample"};
    if (!walk) return space_sample(p->job->space, r, &x->genome);
    space_genome_copy(&x->genome, &p->closest);
    return space_mutate(p->job->space, r, 0, &x->genome);
}

/* The search has ended without a candidate: which constraint, and by how much. */
static void tell_closest(struct proposer *p, const char *what)
{
    char text[160];
    snprintf(p->why, sizeof p->why, "%s meets the constraints; the closest: %s", what, job_violation_text(p->job, p->cost, text, sizeof text));
}

static st_t ask(struct proposer *p, struct base_rng *r)
{
    struct proposal *x = p->x;
    struct strategy_pending pending;
    st_t bad = list_pending(p, &pending);
    if (bad) return bad;
    bool small = p->size <= PROPOSER_ENUMERATE_MAX;
    int samples = small ? PROPOSER_SAMPLES_SMALL : PROPOSER_SAMPLES;
    for (int i = 0; i < PROPOSER_ASKS + samples; i++) {
        st_t st;
        if (i < PROPOSER_ASKS) st = p->strategy->propose(p->state, r, &pending, &x->genome, &x->origin);
        else st = draw(p, r, !small && i >= PROPOSER_ASKS + samples / 2 && isfinite(p->violation));
        if (!st) st = consider(p);
        if (!passed_over(st)) return st;
    }
    if (small) return ST_EBUSY;
    char what[64];
    snprintf(what, sizeof what, "none of %ld draws", x->infeasible);
    if (!archive_count(p->archive) && x->infeasible) tell_closest(p, what);
    else snprintf(p->why, sizeof p->why, "%d draws brought nothing new that may meet the constraints (%ld known, %ld outside them)",
             PROPOSER_ASKS + samples, x->known, x->infeasible);
    return ST_EEXHAUSTED;
}

static st_t enumerate(struct proposer *p)
{
    p->x->origin = (struct strategy_origin){.op = "enumerate"};
    for (int i = 0; i < PROPOSER_ENUMERATE_STEP; i++, p->next++) {
        st_t st = space_nth(p->job->space, p->next, &p->x->genome);
        if (st == ST_ENOTFOUND) {
            long n = archive_count(p->archive);
            if (!n && isfinite(p->violation)) tell_closest(p, "the space is used up: no candidate");
            else snprintf(p->why, sizeof p->why, "the space is used up: %ld candidate%s%s", n, n == 1 ? "" : "s", p->job->nconstraints ? " that may meet the constraints" : "");
            return ST_EEXHAUSTED;
        }
        if (!st) st = consider(p);
        if (!passed_over(st)) return st;
    }
    return ST_EBUSY;
}

st_t proposer_next(struct proposer *p, uint64_t n, struct proposal *out)
{
    struct proposal x = {.known = 0};
    struct base_rng r = base_rng_at(p->job->seed, RNG_PROPOSE, n);
    st_t st = catch_up(p);
    if (!st) st = space_genome_init(p->job->space, &x.genome);
    if (st) return st;
    p->x = &x;
    bool goes_on = p->enumerating && p->waiting == n;
    if (!goes_on) p->violation = INFINITY;
    st = goes_on ? ST_EBUSY : ask(p, &r);
    if (st == ST_EBUSY) st = enumerate(p);
    p->enumerating = st == ST_EBUSY;
    p->waiting = n;
    if (st) space_genome_fini(&x.genome);
    else *out = x;
    p->x = NULL;
    return st;
}
