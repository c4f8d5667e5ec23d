/* The audit: are the shortcuts of a search worth what they save? Some trials go to the top rung whatever they bring on the way, and what each shortcut said of them is held against what
 * they came to there.
 *
 *   long row = audit_next(job, archive, &budget, closed, &how);     // to be drawn now; -1: none
 *   struct audit t; st = audit_table(&t, job, archive, true); audit_fini(&t);
 *
 *   shortcut   a named number that is known of a trial before (or without) training it to the top: the target on a lower rung ("rung 0", …), a proxy ("proxy.snip").
 *   target     the first objective that training changes.
 *   references "params" (more is better) and "largest" (parameters of what holds the constraints, as its rung-0 results have it; what breaks them comes last): what anybody would know
 *              without a shortcut. Where nobody knows the parameters (custom spaces), a shortcut is held against guessing, whose rho is 0.
 *   sample     trials that the audit drew and that have the target on the top rung; with one rung nothing is drawn and all results count. The newest AUDIT_SAMPLE.
 *   draws      once AUDIT_FROM trials have a result on rung 0; of n evaluations out of N that are planned as many as n / N of job_audit_trials, the first JOB_AUDIT_LEAST by N / 2 (or by half the
 *              hours, if that is sooner), for a verdict that comes at the end saves nothing. With hours and no planned number: the first JOB_AUDIT_LEAST likewise (one of four trials at most), and on as long as they take their share
 *              of the evaluators' time from the first report on (a supernet's is not counted), for one of them may take as long as a dozen others. Without either: the share of n, and one in four until JOB_AUDIT_LEAST were drawn. When nothing new can come,
 *              what is missing. Every second draw ("best") is one of the predicted best tenth (of all
 *              trials, by the target on rung 0) at random, or the best not drawn yet where all of those are; the others in turns "front": the member of rung 0's front that is farthest, in
 *              its objectives, from those drawn, and "space": of up to AUDIT_CANDIDATES trials at random the one whose genes are farthest from those drawn. What breaks a
 *              constraint that training does not change is not drawn. While a lower rung is not relied on, every trial proposed since is drawn ("all").
 *   verdict    from JOB_AUDIT_LEAST results on: a shortcut is relied on no more once the 95 % interval of its rho less that of "params" over the same trials lies below 0, and from AUDIT_POINT on
 *              once that difference itself is not above 0, for a dozen results leave it uncertain by 0.3; again when its interval lies above 0. Looked at whenever the number of results is a multiple of its own eighth (rounded down, 1 at least): with every one up to 16, then with every eighth more.
 *
 * Functions of their arguments and nothing else: a search that was killed and started again draws and judges the same. */
#ifndef TAUT_CONTROLLER_AUDIT_H
#define TAUT_CONTROLLER_AUDIT_H

#include "base/rng.h"
#include "base/stats.h"
#include "db/archive.h"

enum {
    AUDIT_FROM = 10,
    AUDIT_TENTH_LEAST = 10,   /* within the best tenth from so many on */
    AUDIT_CANDIDATES = 256,
    AUDIT_SAMPLE = 200,
    AUDIT_POINT = 20,         /* results from which on a verdict rests on the difference itself, not on its interval */
    AUDIT_RESAMPLES = 1000,   /* of up to 50 results; of more 50,000 divided by their number */
};

/* NULL: training changes no objective, and there is nothing to audit. */
const struct job_objective *audit_target(const struct job *job);

/* Is a metric by this name a shortcut (more is better)? What else is known of a trial without training it to the top joins here. */
bool audit_is_shortcut(const char *metric);

/* Has it shortcuts to be audited: low rungs, or proxies that trials were reported with? */
bool audit_wanted(const struct job *job, const struct archive *a);

struct audit_budget {
    double evaluations, hours; /* of the job; INFINITY: none. With shared weights JOB_FINAL_SHARE of the hours is not the search's */
};
/* Draws wanted after n evaluations. closed: no new trial can come. */
long audit_due(const struct job *job, const struct archive *a, const struct audit_budget *b, long n, bool closed);
/* Row to be drawn now; -1: none is due, nothing is left, or memory is out. */
long audit_next(const struct job *job, const struct archive *a, const struct audit_budget *b, bool closed, enum audit_drawn *how);

/* Of each number the value and its 95 % bootstrap interval; NaN where undefined. */
struct audit_agreement {
    int n;
    struct base_stats_value rho, tau; /* Spearman's rho, Kendall's tau_b between what was predicted and the result: 1 the same order */
};
struct audit_column {
    char name[METRIC_NAME_MAX];
    bool shortcut;                    /* false: a reference */
    bool relied;                      /* as of the last verdict */
    struct audit_agreement all, tenth; /* tenth: of the predicted best tenth (with one rung: by the results); n < AUDIT_TENTH_LEAST: values are NaN */
    struct base_stats_value regret;        /* the result of the one it puts first, less the best result; unit of the target */
    struct base_stats_value better;        /* rho less that of "params" over the same trials */
    long nested, violations;          /* pairs of sub- and super-network that it says something of; those of which it has the sub-network in front */
};
struct audit {
    const struct job_objective *target; /* of the job; NULL: everything else is 0 */
    long n, drawn;                    /* results; draws */
    long tenth;                       /* of n, those of the best tenth */
    long nested, violations;          /* by the results themselves */
    int columns;
    struct audit_column *column;      /* [columns]: shortcuts, then references; owned */
};
/* whole false: what a verdict needs, and that alone (n, drawn; of each shortcut name, relied, all.n, better; low and high of that only where it decides). ST_ENOMEM. */
st_t audit_table(struct audit *out, const struct job *job, const struct archive *a, bool whole);
void audit_fini(struct audit *t);

/* Is it time to look at the verdicts? */
bool audit_judgement_due(const struct job *job, const struct archive *a);
/* Is it to be relied on, by what the table says? */
bool audit_judge(const struct audit_column *c);
/* Are there results enough to tell, either way? Of a whole table. */
bool audit_judged(const struct audit_column *c);

/* May a search with low rungs promote by them? No, once one of them is not relied on. */
bool audit_rungs_relied(const struct job *job, const struct archive *a);

#endif
