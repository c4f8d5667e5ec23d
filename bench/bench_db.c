/* bench_db DIR [N]: what the store and the archive cost, in a new store in DIR that is grown to N (100,000) trials. The
 * figures are in SPEED.md. CPU time is the process's own, user and system: it leaves out waiting for the disk. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/gen.h"
#include "db/archive.h"

#define SAMPLE          2000
#define PER_TRANSACTION 5000

static void check(st_t st, const struct base_err *err)
{
    char text[1024];
    if (!st) return;
    fprintf(stderr, "bench_db: %s: %s\n", base_status_text(st), base_err_text(err, text, sizeof text));
    exit(1);
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double wall_s(void)
{
    return (double)base_clock_ns() * 1e-9;
}

static double resident_mib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 0x1p20;
}

/* What malloc has handed out, large blocks included. */
static double heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)(m.uordblks + m.hblkhd);
}

/* SAMPLE trials as tautd writes them: proposed and leased in one transaction, reported in another. */
static void durable(struct gen *g, struct base_err *err)
{
    struct gen_trial *t = calloc(SAMPLE, sizeof *t);
    long at = g->proposals;
    for (int i = 0; i < SAMPLE; i++) check(t ? gen_trial(g, &t[i]) : ST_ENOMEM, err);
    double wall = wall_s(), cpu = cpu_s();
    for (int i = 0; i < SAMPLE; i++) {
        check(db_begin(g->db), err);
        check(gen_append(g, "proposed", t[i].proposed, err), err);
        check(gen_append(g, "leased", t[i].leased, err), err);
        check(db_commit(g->db), err);
        check(db_begin(g->db), err);
        check(gen_append(g, "reported", t[i].reported, err), err);
        check(db_commit(g->db), err);
    }
    printf("durable trial, from trial %7ld on   %8.1f us CPU   %8.1f us wall\n", at, (cpu_s() - cpu) / SAMPLE * 1e6,
           (wall_s() - wall) / SAMPLE * 1e6);
    for (int i = 0; i < SAMPLE; i++) gen_trial_fini(&t[i]);
    free(t);
}

static void grow(struct gen *g, long n, struct base_err *err)
{
    double wall = wall_s();
    long from = g->proposals;
    while (g->proposals < n) {
        struct gen_trial t;
        if (!db_in_transaction(g->db)) check(db_begin(g->db), err);
        check(gen_trial(g, &t), err);
        check(gen_append(g, "proposed", t.proposed, err), err);
        check(gen_append(g, "leased", t.leased, err), err);
        check(gen_append(g, "reported", t.reported, err), err);
        gen_trial_fini(&t);
        if (g->proposals % PER_TRANSACTION == 0) check(db_commit(g->db), err);
    }
    if (db_in_transaction(g->db)) check(db_commit(g->db), err);
    if (n > from)
        printf("trial, 5000 a transaction, made and written %.1f us\n", (wall_s() - wall) / (double)(n - from) * 1e6);
}

static void fronts(const struct archive *a, const struct job *job, struct base_err *err)
{
    struct front_query q = {.nobj = job->nobjectives};
    memcpy(q.objective, job->objective, sizeof q.objective);
    struct where *where;
    check(space_where_parse(&where, "params < 100000 and prefill_ms@256 <= 0.5", false, err), err);
    for (int with = 0; with < 2; with++) {
        struct front f = {0};
        double best = 1e9;
        q.where = with ? where : NULL;
        for (int i = 0; i < 5; i++) {
            archive_front_fini(&f);
            double wall = wall_s();
            check(archive_front(a, &q, &f, err), err);
            if (wall_s() - wall < best) best = wall_s() - wall;
        }
        printf("front, 3 objectives%s  %8.2f ms, %ld members\n", with ? ", where " : "         ", best * 1e3, f.n);
        archive_front_fini(&f);
    }
    space_where_free(where);
    double ref[] = {6, 1, 4e6}, *hv = malloc(((size_t)archive_reported(a) + 1) * sizeof *hv), wall = wall_s();
    check(hv ? archive_progress(a, job, ref, hv) : ST_ENOMEM, err);
    printf("hypervolume after each trial   %8.2f ms\n", (wall_s() - wall) * 1e3);
    free(hv);
}

int main(int argc, char **argv)
{
    long n = argc == 3 ? atol(argv[2]) : 100000;
    if (argc < 2 || argc > 3 || n < 1) {
        fprintf(stderr, "usage: bench_db DIR [N]\n");
        return 2;
    }
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    struct gen g;
    check(db_open(&db, argv[1], DB_CREATE, &err), &err);
    check(gen_init(&g, db, &err), &err);
    durable(&g, &err);
    grow(&g, n, &err);
    durable(&g, &err);
    db_close(db);

    check(db_open(&db, argv[1], DB_READONLY, &err), &err);
    struct archive *a;
    double before = heap_bytes(), wall = wall_s();
    check(archive_load(&a, db, g.id, g.job, &err), &err);
    wall = wall_s() - wall;
    printf(
        "archive_load of %ld trials  %8.1f ms, heap %.0f bytes a trial (SQLite's cache included), process %.0f MiB\n",
        archive_count(a), wall * 1e3, (heap_bytes() - before) / (double)archive_count(a), resident_mib());
    fronts(a, g.job, &err);
    archive_free(a);
    wall = wall_s();
    check(db_verify(db, &err), &err);
    printf("verify %.1f s\n", wall_s() - wall);
    gen_fini(&g);
    db_close(db);
    return 0;
}
