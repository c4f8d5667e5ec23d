/* Who gets what: which jobs can be served, which end, and what a waiting evaluator is handed.
 *
 * Fair share: among the jobs that an evaluator can serve and that have something to do, the one that has had the least evaluator time (a trial
 * counts as SHARE_LEAST_S at least) goes first; of equals the older. A job that comes back starts level with the others. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "controller/internal.h"

/* ---- who can serve what ---- */

/* "decode_ms@1024" is provided by "decode_ms@1024" and by "decode_ms". */
static bool provides(const struct ctl_session *s, const char *metric)
{
    size_t base = strcspn(metric, "@");
    if (!s->provides) return true;
    for (size_t i = 0; i < json_array_size(s->provides); i++) {
        const char *have = json_string_value(json_array_get(s->provides, i));
        if (!strcmp(have, metric) || (strlen(have) == base && !strncmp(have, metric, base))) return true;
    }
    return false;
}

/* Whether the device of s multiplies in this precision; -1: its registration does not say. first: only as its fastest. */
static int multiplies(const struct ctl *c, const struct ctl_session *s, const char *precision, bool first)
{
    const struct ctl_device *d = ctl_device_get((struct ctl *)c, s->known->device);
    json_t *v = d ? json_object_get(d->body, "precisions") : NULL, *word;
    size_t i;
    if (!json_is_array(v)) return -1;
    json_array_foreach(v, i, word)
        if (json_is_string(word) && !strcmp(json_string_value(word), precision) && (!first || i == 0)) return 1;
    return 0;
}

/* "auto" is what the first evaluator's device does fastest, for all trials of the job. */
static st_t settle_precision(struct ctl *c, struct ctl_job *j, const struct ctl_session *s)
{
    const char *word = j->job->precision;
    if (!strcmp(word, "auto")) word = multiplies(c, s, "bf16", true) > 0 ? "bf16" : "f32";
    st_t st = ctl_event(c, j, "precision", json_pack("{s:s}", "precision", word));
    if (!st) snprintf(j->precision, sizeof j->precision, "%s", word);
    return st;
}

static bool is_target(const struct ctl *c, const struct ctl_session *s, const struct ctl_job *j)
{
    const char *want = j->job->target;
    if (j->device) return s->known->device == j->device;
    if (!strcmp(want, "first") || !strcmp(want, s->known->name)) return true;
    const struct ctl_device *d = ctl_device_get((struct ctl *)c, s->known->device);
    const char *name = d ? json_string_value(json_object_get(d->body, "name")) : NULL;
    size_t kind = strcspn(want, ":"); /* "cuda:0" is a cuda */
    return d && ((name && !strcmp(name, want)) || (strlen(d->kind) == kind && !strncmp(d->kind, want, kind)) || !strcmp(d->kind, want));
}

/* Is there nothing to be had but what is to be scored? */
static bool scores_alone(struct ctl *c, struct ctl_job *j)
{
    struct repeat r;
    bool wanted = archive_count_state(j->archive, TRIAL_DRAFT) || ctl_job_filters(c, j);
    if (!wanted || ctl_job_closed(j, j->evaluations) || archive_count_state(j->archive, TRIAL_READY)) return false;
    return !(j->exhausted && ctl_filter_left(j)) && ctl_job_promote(j, j->evaluations) < 0 && !ctl_job_repeat(j, &r);
}

bool ctl_can_serve(const struct ctl *c, const struct ctl_session *s, const struct ctl_job *j, char *why, size_t size)
{
    const struct metric *need[JOB_OBJECTIVES_MAX + JOB_CONSTRAINTS_MAX];
    enum space_type type = space_type(j->job->space);
    bool measured = false;
    int n = ctl_job_needs(j, need);
    if (j->job->problem) {
        snprintf(why, size, "no connected evaluator serves the standard problems (taut-evaluator does)");
        return s->train && s->spaces & (1 << CTL_SPACE_PROBLEM);
    }
    if (!s->train || (s->spaces && !(s->spaces & (1 << type)))) {
        snprintf(why, size, "no connected evaluator trains in %s spaces", type == SPACE_LM ? "language-model" : "custom");
        return false;
    }
    if (j->job->shared && !s->validate) {
        snprintf(why, size, "no connected evaluator validates with shared weights");
        return false;
    }
    if (!s->score && j->archive && scores_alone((struct ctl *)c, (struct ctl_job *)j)) {
        snprintf(why, size, "no connected evaluator scores candidates");
        return false;
    }
    if (!s->supernet && j->archive && ctl_super_due(j)) {
        snprintf(why, size, "no connected evaluator trains supernets");
        return false;
    }
    for (int i = 0; i < n; i++) {
        measured |= ctl_metric_measured(need[i]);
        if (provides(s, need[i]->name)) continue;
        snprintf(why, size, "no connected evaluator provides %s", need[i]->name);
        return false;
    }
    const char *precision = *j->precision ? j->precision : j->job->precision;
    if (type == SPACE_LM && strcmp(precision, "auto") && !multiplies(c, s, precision, false)) {
        snprintf(why, size, "no connected evaluator has products in %s, this search's precision", precision);
        return false;
    }
    if (!measured || is_target(c, s, j)) return true;
    const struct ctl_device *d = j->device ? ctl_device_get((struct ctl *)c, j->device) : NULL;
    if (d) snprintf(why, size, "no evaluator on this search's target device (%s, device %lld) is connected", d->kind, (long long)d->id);
    else snprintf(why, size, "no evaluator on the target '%s' is connected", j->job->target);
    return false;
}

/* ---- states ---- */

static void update(struct ctl *c, struct ctl_job *j)
{
    char why[256] = "no evaluator is connected";
    if (ctl_job_archive(c, j, NULL) || *j->unread) return;
    ctl_job_audit(c, j);
    ctl_modelled_judge(c, j);
    if (!j->nleases && ctl_job_used_up(j, j->evaluations, j->hours, why, sizeof why)) {
        ctl_job_finish(c, j, why);
        return;
    }
    if (!j->nleases && j->exhausted && ctl_job_closed(j, j->evaluations) && !archive_count_state(j->archive, TRIAL_READY) && ctl_job_promote(j, j->evaluations) < 0) {
        ctl_job_finish(c, j, proposer_why(j->proposer));
        return;
    }
    if (!j->nleases && ctl_super_older(j)) {
        ctl_job_state(c, j, CTL_FAILED, "begun by an older version, whose inherited losses are of another kind: submit it again");
        return;
    }
    bool served = j->nleases > 0;
    for (const struct ctl_session *s = c->sessions; s && !served; s = s->next) served = ctl_can_serve(c, s, j, why, sizeof why);
    ctl_job_state(c, j, served ? CTL_RUNNING : CTL_WAITING, served ? NULL : why);
}

/* What this tautd does not read, or what is damaged, it cannot go on with: the trials that are out come back, and the job waits for a tautd that reads it. */
static void stop_unread(struct ctl *c, struct ctl_job *j)
{
    for (struct ctl_lease *l = j->nleases ? c->leases : NULL, *next; l; l = next) {
        next = l->next;
        if (l->job == j) ctl_lease_return(c, l, j->job ? "what the store has of its job is damaged" : "this tautd does not read its job", false);
    }
    if (ctl_state_active(j->state)) ctl_job_state(c, j, CTL_PAUSED, j->unread);
}

/* ---- what is handed out ---- */

static bool has_work(struct ctl_job *j)
{
    if (!ctl_state_active(j->state) || !j->archive || ctl_job_busy_s(j) >= j->hours * 3600 || ctl_super_out(j) || ctl_super_older(j)) return false;
    return archive_count_state(j->archive, TRIAL_READY) > 0 || !ctl_job_closed(j, j->evaluations) || ctl_job_promote(j, j->evaluations) >= 0;
}

static double share(const struct ctl *c, const struct ctl_job *j)
{
    double s = j->share_s;
    uint64_t now = base_clock_ns();
    for (const struct ctl_lease *l = c->leases; l; l = l->next)
        if (l->job == j) s += fmax((double)(now - l->since_ns) / 1e9, 1);
    return s;
}

static json_t *genome_json(const struct genome *g)
{
    json_t *list = json_array();
    for (int i = 0; list && i < g->n; i++) json_array_append_new(list, ctl_number(g->g[i]));
    return list;
}

static json_t *origin_json(const struct proposal *x)
{
    json_t *parents = json_array(), *o;
    for (int i = 0; i < x->origin.nparents; i++) json_array_append_new(parents, json_integer(x->origin.parent[i]));
    o = json_pack("{s:s,s:o}", "op", x->origin.op, "parents", parents);
    if (o && x->known) json_object_set_new(o, "known", json_integer(x->known));
    if (o && x->infeasible) json_object_set_new(o, "infeasible", json_integer(x->infeasible));
    return o;
}

/* Paper costs: the four of every architecture, and those that the job asks for. */
static json_t *paper_json(const struct job *job, const struct candidate *cand)
{
    const char *name[CTL_WANTED_MAX] = {"params", "active_params", "flops_per_token", "weight_bytes"};
    json_t *paper = json_object();
    if (cand->type != SPACE_LM) return paper;
    int n = 4 + job_wanted(job, name + 4, CTL_WANTED_MAX - 4);
    for (int i = 0; i < n; i++) {
        struct metric m;
        if (json_object_get(paper, name[i]) || space_metric_parse(&m, name[i], false, "", NULL) || m.source != METRIC_PAPER) continue;
        json_object_set_new(paper, name[i], ctl_number(space_metric_paper(&m, &cand->arch, job->decode)));
    }
    return paper;
}

/* Records it when another strategy than before has the word. */
static st_t record_by(struct ctl *c, struct ctl_job *j, long proposal, const struct strategy_origin *o)
{
    json_t *by, *body;
    if (!o->by) return ST_OK;
    st_t st = ctl_job_by(c, j, &by);
    const char *from = by ? json_string_value(json_object_get(by, "to")) : STRATEGY_FIRST;
    if (st || !strcmp(from, o->by)) return st;
    body = json_pack("{s:I,s:s,s:s}", "proposal", (json_int_t)proposal, "from", from, "to", o->by);
    if (body && isfinite(o->rho)) json_object_set_new(body, "rho", json_real(o->rho));
    log_info("job %lld: from proposal %ld on by %s", (long long)j->id, proposal, o->by);
    st = ctl_event(c, j, "strategy", json_incref(body));
    if (st) {
        json_decref(body);
        return st;
    }
    json_decref(j->by);
    j->by = body;
    return ST_OK;
}

/* A new trial as the archive's last row. *arch: its text, owned by the caller. */
static st_t propose(struct ctl *c, struct ctl_job *j, bool score, char **arch)
{
    struct proposal x;
    long n = archive_count(j->archive);
    st_t st = j->proposer ? ST_OK : proposer_new(&j->proposer, j->job, j->archive, NULL);
    if (!st) st = proposer_next(j->proposer, (uint64_t)n, &x);
    if (st) return st;
    j->known += x.known;
    j->infeasible += x.infeasible;
    json_t *body = json_pack("{s:I,s:I,s:s,s:s,s:o,s:o,s:I,s:o}", "trial", (json_int_t)db_next_id(c->db, DB_TRIAL), "proposal", (json_int_t)n,
                             "arch_id", x.candidate.id, "arch", x.candidate.canonical, "genome", genome_json(&x.genome), "origin",
                             origin_json(&x), "seed", (json_int_t)j->job->seed, "paper", paper_json(j->job, &x.candidate));
    if (body && score) json_object_set_new(body, "score", json_true());
    st = record_by(c, j, n, &x.origin);
    if (st) json_decref(body);
    else st = ctl_event(c, j, "proposed", body);
    if (!st) {
        *arch = x.candidate.canonical;
        x.candidate.canonical = NULL;
    }
    proposal_fini(&x);
    return st;
}

/* A trial once more, as the archive's last row. */
static st_t propose_repeat(struct ctl *c, struct ctl_job *j, const struct repeat *r, const char *arch)
{
    const struct archive *a = j->archive;
    char id[BASE_ID_HEX];
    struct genome g;
    json_t *paper = json_object(), *origin, *body;
    struct metric m;
    long n = archive_count(a), trial = archive_trial(a, r->row);
    st_t st = space_genome_init(j->job->space, &g);
    if (!st) st = archive_genome(a, r->row, &g);
    for (int col = 0; col < archive_metrics(a) && !st; col++)
        if (!space_metric_parse(&m, archive_metric_name(a, col), false, "", NULL) && m.source == METRIC_PAPER)
            json_object_set_new(paper, m.name, ctl_number(archive_median(a, col, r->row)));
    origin = json_pack("{s:s,s:[I],s:s,s:i,s:o}", "op", "repeat", "parents", (json_int_t)trial, "kind", archive_repeat_words[r->kind], "number", r->number, "reason",
                       isnan(r->probability) ? json_string(r->kind == REPEAT_TRAIN ? "for the noise of losses from seed to seed" : "it is on the front by an estimate")
                                             : json_sprintf("its probability of being on the front is %.2f, by the intervals of its %s", r->probability, r->kind == REPEAT_TRAIN ? "losses" : "measurements"));
    body = json_pack("{s:I,s:I,s:s,s:o,s:o,s:o,s:I,s:o}", "trial", (json_int_t)db_next_id(c->db, DB_TRIAL), "proposal", (json_int_t)n, "arch_id", archive_arch_id(a, r->row, id), "arch",
                     json_string(arch), "genome", genome_json(&g), "origin", origin, "seed", (json_int_t)j->job->seed + (r->kind == REPEAT_TRAIN ? r->number : 0), "paper", paper);
    space_genome_fini(&g);
    if (st) json_decref(body);
    else st = ctl_event(c, j, "proposed", body);
    if (!st) log_info("job %lld: trial %ld once more (%s)", (long long)j->id, trial, archive_repeat_words[r->kind]);
    return st;
}

static st_t returned_arch(struct ctl_job *j, long row, char **arch)
{
    struct genome g;
    struct candidate cand;
    st_t st = space_genome_init(j->job->space, &g);
    if (st) return st;
    st = archive_genome(j->archive, row, &g);
    if (!st) st = space_candidate(j->job->space, &g, &cand, NULL);
    if (!st) {
        *arch = cand.canonical;
        cand.canonical = NULL;
        space_candidate_fini(&cand);
    }
    space_genome_fini(&g);
    return st;
}

/* What a trial that was out before goes on from; NULL: nothing. New reference. */
static json_t *checkpoint_of(struct ctl *c, int64_t id)
{
    json_t *trial = NULL, *checkpoint = NULL;
    if (!db_trial_json(c->db, id, &trial, NULL)) checkpoint = json_incref(json_object_get(trial, "checkpoint"));
    json_decref(trial);
    return checkpoint;
}

static st_t promote(struct ctl *c, struct ctl_job *j, long row)
{
    int64_t trial = archive_trial(j->archive, row);
    int rung = archive_rung(j->archive, row) + 1;
    bool audit = archive_audit_rung(j->archive, row) >= 0, repeat = archive_repeat_of(j->archive, row) >= 0;
    st_t st = ctl_event(c, j, "promoted", json_pack("{s:I,s:i,s:s*}", "trial", (json_int_t)trial, "rung", rung, "reason", repeat ? "repeat" : audit ? "audit" : NULL));
    if (!st) log_info("job %lld trial %lld: promoted to rung %d%s", (long long)j->id, (long long)trial, rung, audit ? " by the audit" : "");
    return st;
}

/* The next trial of j for s. ST_EBUSY: the proposer is still looking. ST_ENOTSUP: s does not do what is next. ST_EEXHAUSTED. */
static st_t hand_out(struct ctl *c, struct ctl_session *s, struct ctl_job *j, struct wire_call *call)
{
    struct ctl_lease *l;
    json_t *checkpoint = NULL;
    char *arch = NULL;
    struct repeat repeat;
    long row = 0, n = archive_count(j->archive);
    enum trial_state waits = archive_count_state(j->archive, TRIAL_READY) ? TRIAL_READY : TRIAL_DRAFT;
    bool drafts = s->score && archive_count_state(j->archive, TRIAL_DRAFT) && !ctl_job_closed(j, j->evaluations);
    st_t st;
    if (ctl_super_due(j)) {
        row = -1;
        checkpoint = json_incref(json_object_get(j->super, "checkpoint"));
        st = ST_OK;
    } else if (waits == TRIAL_READY || drafts) { /* what came back goes before anything new */
        while (row < n && archive_state(j->archive, row) != waits) row++;
        st = returned_arch(j, row, &arch);
        if (!st && archive_epoch(j->archive, row)) checkpoint = checkpoint_of(c, archive_trial(j->archive, row));
    } else if ((row = ctl_job_promote(j, j->evaluations)) >= 0) {
        st = returned_arch(j, row, &arch);
        if (!st) st = promote(c, j, row);
        if (!st && !j->job->shared) checkpoint = checkpoint_of(c, archive_trial(j->archive, row));
    } else if (!(st = ctl_filter_look(c, j)) && ctl_job_repeat(j, &repeat)) {
        st = returned_arch(j, repeat.row, &arch);
        if (!st) st = propose_repeat(c, j, &repeat, arch);
        row = n;
    } else {
        if (!st) st = ctl_filter_choose(c, j, &row);
        if (!st && row >= 0) {
            st = returned_arch(j, row, &arch);
        } else if (!st) {
            bool score = ctl_job_filters(c, j);
            st = !s->score && (score || archive_count_state(j->archive, TRIAL_DRAFT)) ? ST_ENOTSUP : propose(c, j, score, &arch);
            row = n;
        }
    }
    if (!st && !j->device && is_target(c, s, j)) {
        st = ctl_event(c, j, "target", json_pack("{s:I}", "device", (json_int_t)s->known->device));
        if (!st) j->device = s->known->device;
    }
    if (!st && !*j->precision && space_type(j->job->space) == SPACE_LM) st = settle_precision(c, j, s);
    if (!st) st = ctl_lease_grant(c, s, j, row, &l);
    if (!st) {
        if (!s->spaces) s->spaces = 1 << space_type(j->job->space);
        ctl_sched_answer(c, call, l, arch, checkpoint);
    }
    json_decref(checkpoint);
    free(arch);
    return st;
}

/* Answers a waiting evaluator; false: there is nothing for it now. */
static bool serve(struct ctl *c, struct ctl_wait *w)
{
    struct ctl_session *s = w->session;
    char why[256];
    bool tried[c->njobs + 1];
    memset(tried, 0, sizeof tried);
    if (s->nleases >= s->slots || !wire_call_conn(w->call)) return false;
    while (!c->failed) {
        int best = -1;
        double least = INFINITY;
        for (int i = 0; i < c->njobs; i++) {
            struct ctl_job *j = c->job[i];
            if (tried[i] || !has_work(j) || !ctl_can_serve(c, s, j, why, sizeof why)) continue;
            double x = share(c, j);
            if (x >= least) continue;
            least = x;
            best = i;
        }
        if (best < 0) return false;
        struct ctl_job *j = c->job[best];
        st_t st = hand_out(c, s, j, w->call);
        if (!st) return true;
        tried[best] = true;
        if (st == ST_EEXHAUSTED) {
            j->exhausted = true;
            ctl_job_audit(c, j);
            tried[best] = ctl_job_promote(j, j->evaluations) < 0 && ctl_job_closed(j, j->evaluations); /* now that nothing new can come */
        } else if (st == ST_EBUSY) c->again = true;
        else if (st == ST_ENOTSUP) update(c, j); /* it may wait for another evaluator now, and is to say so */
        else if (!c->failed) log_error("job %lld: no proposal: %s", (long long)j->id, base_status_text(st));
    }
    return false;
}

void ctl_sched(struct ctl *c)
{
    for (int i = 0; i < c->njobs; i++) {
        struct ctl_job *j = c->job[i];
        if (!*j->unread && ctl_state_active(j->state)) update(c, j);
        if (*j->unread) stop_unread(c, j); /* as it may have turned out just now */
    }
    struct ctl_wait **p = &c->waits;
    while (*p && !c->failed) {
        struct ctl_wait *w = *p;
        if (!serve(c, w)) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        if (!w->next) c->waits_end = p;
        free(w);
    }
    /* The proposer may have come to an end meanwhile. */
    for (int i = 0; i < c->njobs; i++)
        if (ctl_state_active(c->job[i]->state) && c->job[i]->exhausted) update(c, c->job[i]);
    c->kick = false;
}

/* ---- the answer ---- */

/* Is what the row has of a metric that is measured once an estimate? */
static bool estimated(const struct ctl_job *j, long row)
{
    struct metric m;
    for (int col = 0; col < archive_metrics(j->archive); col++)
        if (archive_estimated(j->archive, col, row) && !space_metric_parse(&m, archive_metric_name(j->archive, col), false, "", NULL) && space_metric_once(&m)) return true;
    return false;
}

/* What a lease says beside its trial. */
struct lease_of {
    int text;             /* CTL_TEXTS, or 0 of the job's supernet */
    bool super, again, profile; /* again: what no training changes is wanted on a higher rung too; profile: the evaluator takes such tasks */
    enum archive_repeat repeat;
    int64_t seed;
};

static char *lease_text(const struct ctl_job *j, const struct lease_of *of)
{
    int text = of->text, rung = text < JOB_RUNGS_MAX ? text : 0;
    bool score = text == CTL_TEXT_SCORE, super = of->super;
    const struct job *job = j->job;
    bool lm = space_type(job->space) == SPACE_LM;
    const char *wanted[CTL_WANTED_MAX];
    int n = job_wanted(job, wanted, CTL_WANTED_MAX);
    struct base_buf b = BASE_BUF_INIT;
    struct base_jw w;
    char *data = j->files && !json_is_null(j->files) ? json_dumps(j->files, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    base_jw_init(&w, &b);
    base_jw_obj(&w);
    base_jw_key(&w, "task");
    base_jw_obj(&w);
    bool inherits = job->shared && rung == 0 && !score;
    base_jw_kstr(&w, "kind", score ? "score" : super ? "supernet" : inherits ? "validate" : of->repeat == REPEAT_PROFILE && of->profile ? "profile" : "train");
    if (inherits || (job->shared && job->inherited)) {
        char *space = json_dumps(job->space_json, JSON_COMPACT | JSON_ENCODE_ANY);
        char *file = super ? NULL : json_dumps(json_object_get(j->super, "checkpoint"), JSON_COMPACT);
        base_jw_key(&w, "supernet");
        base_jw_obj(&w);
        base_jw_knum(&w, "tokens", job_rung_tokens(job, 0));
        if (inherits) base_jw_knum(&w, "adapt", round(job->adapt * job->tokens));
        base_jw_kraw(&w, "space", space ? space : "null");
        if (file) base_jw_kraw(&w, "checkpoint", file);
        base_jw_end(&w);
        free(space);
        free(file);
    }
    if (job->problem) base_jw_kstr(&w, "problem", job->problem->name);
    if (lm) {
        base_jw_key(&w, "train");
        base_jw_obj(&w);
        base_jw_kint(&w, "batch", job->train.batch);
        base_jw_knum(&w, "lr", job->train.lr);
        base_jw_kstr(&w, "lr_width_rule", job->train.mup ? "mup" : "none");
        base_jw_knum(&w, "weight_decay", job->train.weight_decay);
        base_jw_knum(&w, "warmup", job->train.warmup);
        base_jw_kstr(&w, "schedule", job->train.decay > 0 ? "wsd" : "constant");
        base_jw_end(&w);
        base_jw_kint(&w, "context", job->data.context);
        if (job->rungs > 1 && !job->shared) {
            base_jw_key(&w, "rungs");
            base_jw_arr(&w);
            for (int r = 0; r < job->rungs; r++) base_jw_num(&w, job_rung_tokens(job, r));
            base_jw_end(&w);
        }
        base_jw_kstr(&w, "precision", j->precision);
        base_jw_kstr(&w, "decode_precision", job->decode_precision);
    }
    base_jw_end(&w);
    base_jw_kraw(&w, "data", data ? data : "null");
    base_jw_kint(&w, "rung", rung);
    base_jw_knum(&w, "tokens", job_rung_tokens(job, rung));
    base_jw_kint(&w, "seed", of->seed);
    base_jw_key(&w, "metrics");
    base_jw_arr(&w);
    for (int i = 0; i < n && !super; i++) {
        struct metric m;
        bool parsed = lm && !space_metric_parse(&m, wanted[i], false, "", NULL), proxy = parsed && m.source == METRIC_PROXY;
        if (parsed && (m.source == METRIC_PAPER || (rung && space_metric_once(&m) && !(of->again && m.source == METRIC_PROFILE)) || (text == CTL_TEXT_SCORED && proxy))) continue; /* known */
        if (score && !proxy) continue;
        if (of->repeat && !repeat_brings(of->repeat, &m)) continue;
        base_jw_str(&w, wanted[i]);
    }
    base_jw_end(&w);
    base_jw_end(&w);
    free(data);
    return base_buf_take(&b);
}

/* Has it been scored, and is now to be trained? */
static bool was_scored(const struct ctl_job *j, long row)
{
    for (int i = 0; i < j->job->nproxies; i++) {
        int col = archive_metric(j->archive, j->job->proxy[i].name);
        if (j->job->proxy[i].source == METRIC_PROXY && col >= 0 && !isnan(archive_median(j->archive, col, row))) return true;
    }
    return false;
}

void ctl_sched_answer(struct ctl *c, struct wire_call *call, struct ctl_lease *l, const char *arch_text, json_t *checkpoint)
{
    struct ctl_job *j = l->job;
    struct base_buf b = BASE_BUF_INIT;
    long row = l->super ? -1 : archive_row(j->archive, l->trial);
    int rung = l->super ? 0 : archive_rung(j->archive, row);
    struct lease_of of = {.text = rung, .super = l->super, .again = rung && estimated(j, row), .seed = (int64_t)j->job->seed};
    of.repeat = l->super ? REPEAT_NONE : archive_repeat(j->archive, row);
    if (of.repeat == REPEAT_TRAIN) of.seed += archive_repeat_number(j->archive, row);
    of.profile = l->session && l->session->profile;
    if (!l->super && archive_state(j->archive, row) == TRIAL_SCORING) of.text = CTL_TEXT_SCORE;
    else if (!l->super && !rung && was_scored(j, row)) of.text = CTL_TEXT_SCORED;
    bool special = l->super || of.repeat || of.again;
    char *own = special ? lease_text(j, &of) : NULL, **alike = special ? &own : &j->lease_text[of.text];
    if (!*alike && !special) *alike = lease_text(j, &of);
    base_buf_printf(&b, "{\"lease\":%lld,\"epoch\":%lld,\"job\":%lld,", (long long)l->id, (long long)l->epoch, (long long)j->id);
    if (l->super) base_buf_str(&b, "\"trial\":null,\"arch\":null,");
    else base_buf_printf(&b, "\"trial\":%lld,\"arch\":%s,", (long long)l->trial, arch_text);
    char *text = checkpoint && !json_is_null(checkpoint) ? json_dumps(checkpoint, JSON_COMPACT) : NULL;
    if (text) base_buf_printf(&b, "\"checkpoint\":%s,", text);
    free(text);
    if (*alike) base_buf_str(&b, *alike + 1); /* without its brace */
    else b.st = ST_ENOMEM;
    free(own);
    wire_call_raw(call, &b);
}
