/* What the archive's files share; nobody else includes this. */
#ifndef TAUT_DB_ARCHIVE_IMPL_H
#define TAUT_DB_ARCHIVE_IMPL_H

#include "db/archive.h"

#define ARCH_BYTES 16

struct archive_col {
    char *name;         /* owned */
    double *median;     /* [cap]; NaN: missing */
    double *low, *high; /* [cap] or NULL while no row has an interval */
    uint8_t *estimated; /* [cap]: the median is an estimate; NULL while none is */
    double **lower;     /* [job->rungs - 1][cap]: medians on the rungs that a row was promoted from; each NULL while there is none */
};

struct archive {           /* rows are proposals; every array has room for cap of them */
    const struct job *job; /* borrowed */
    int genes;
    long n, cap;
    int64_t *trial, *epoch, *proposal;
    uint8_t *state, *rung;
    uint32_t *of;                /* the row that it repeats + 1; 0: none */
    uint32_t *repeat;            /* [nrepeats] rows that do, in their order */
    uint8_t *repeat_kind;        /* likewise */
    long nrepeats, cap_repeats;
    uint8_t *audit;              /* the rung that the audit drew the row on + 1; 0: it did not */
    uint8_t (*arch)[ARCH_BYTES];
    uint8_t *genome; /* [cap][genes] while all genes are bytes … */
    double *wide;    /* … [cap][genes] from the first that is not; the other is then NULL */
    long count[TRIAL_STATES];
    long has[JOB_RUNGS_MAX];     /* rows reported ok on each rung */
    long reached[JOB_RUNGS_MAX]; /* rows on it or above */

    struct archive_col *col;
    int ncol, cap_col;

    uint32_t *by_trial, *by_arch; /* open hash tables of row + 1; of one arch the newest row */
    uint32_t mask;                /* size - 1 of both, >= 2 cap */

    uint32_t *rep_row; /* in order of report */
    int64_t *rep_at;
    double *rep_busy;
    uint8_t *rep_rung;
    uint32_t *rep_first; /* those of rung 0 by then, repeats too */
    long nrep, cap_rep, first; /* first: those of rung 0 */
    double busy_s; /* of the job so far */

    struct archive_damage *damage; /* [ndamage], owned */
    long ndamage, cap_damage;
    struct archive_draw { uint32_t row; uint8_t how; } *draw; /* [naudit], in their order */
    long naudit, cap_audit;
    struct archive_verdict *verdict; /* [nverdicts] */
    int nverdicts;
    struct archive_estimate *estimate; /* [nestimates] */
    long nestimates, cap_estimates;
};

struct archive *archive_new(const struct job *job);
st_t archive_reserve(struct archive *a, long rows);
/* Adds row a->n in state ready and enters it in the hash tables; the caller has reserved it and sets what else it has.
 */
void archive_add(struct archive *a, int64_t trial, const uint8_t arch[ARCH_BYTES]);
/* The same of a row that repeats another. ST_EINVAL: no such kind, or the other is none to be repeated. */
st_t archive_add_repeat(struct archive *a, int64_t trial, const uint8_t arch[ARCH_BYTES], long of, const char *kind);
bool archive_reported_ok(const struct archive *a, long row, int rung); /* archive_has, of repeats too */
int archive_column(struct archive *a, const char *name); /* made when missing; -1: out of memory */
st_t archive_set(struct archive *a, int col, long row, double median, double low,
                 double high); /* low NaN: no interval */
st_t archive_gene_set(struct archive *a, long row, int i, double g);
void archive_state_set(struct archive *a, long row, enum trial_state s);
st_t archive_damage_add(struct archive *a, int64_t trial, const char *why);
st_t archive_report_add(struct archive *a, long row, int rung, int64_t at_ms, double busy_s); /* before the row's state is set */
/* Value of a rung that the row is to be promoted from. */
st_t archive_lower_set(struct archive *a, int col, long row, int rung, double median);
/* Up one rung. ST_EINVAL: the job has no more. */
st_t archive_promote(struct archive *a, long row);
st_t archive_audit_add(struct archive *a, long row, int rung, const char *drawn);
st_t archive_verdict_set(struct archive *a, const char *shortcut, bool relied, long from);
/* e->saved or not: a line of the list. Whether the row's value is an estimate: archive_estimated_set. */
st_t archive_estimate_add(struct archive *a, const struct archive_estimate *e);
st_t archive_estimated_set(struct archive *a, int col, long row, bool estimated);
bool archive_arch_parse(const char *hex, uint8_t out[ARCH_BYTES]);

#endif
