/* gen_store DIR N [--open]: a store in DIR with a finished search of N trials; --open: one still running, its last two
 * trials leased. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gen.h"

#define PER_TRANSACTION 5000

static st_t fill(struct gen *g, long n, long unreported, struct base_err *err)
{
    st_t st = ST_OK;
    for (long i = 0; i < n && !st; i++) {
        struct gen_trial t;
        if (!db_in_transaction(g->db)) st = db_begin(g->db);
        if (!st) st = gen_trial(g, &t);
        if (st) break;
        st = gen_append(g, "proposed", t.proposed, err);
        if (!st) st = gen_append(g, "leased", t.leased, err);
        if (!st && i < n - unreported) st = gen_append(g, "reported", t.reported, err);
        gen_trial_fini(&t);
        if (!st && (i + 1) % PER_TRANSACTION == 0) st = db_commit(g->db);
    }
    if (!st && db_in_transaction(g->db)) st = db_commit(g->db);
    return st;
}

static st_t finish(struct gen *g, struct base_err *err)
{
    json_t *body = json_pack("{s:s,s:s}", "state", "done", "reason", "budget reached");
    st_t st = db_begin(g->db);
    if (!st) st = gen_append(g, "state", body, err);
    json_decref(body);
    return st ? st : db_commit(g->db);
}

int main(int argc, char **argv)
{
    bool open = argc == 4 && !strcmp(argv[3], "--open");
    long n = argc >= 3 ? atol(argv[2]) : 0;
    if ((argc != 3 && !open) || n < 1) {
        fprintf(stderr, "usage: gen_store DIR N [--open]\n");
        return 2;
    }
    struct base_err err = BASE_ERR_INIT;
    struct db *db;
    struct gen g = {0};
    char text[1024];
    st_t st = db_open(&db, argv[1], DB_CREATE, &err);
    if (!st) {
        st = gen_init(&g, db, &err);
        if (!st) st = fill(&g, n, open ? 2 : 0, &err);
        if (!st && !open) st = finish(&g, &err);
        if (st && !err.st) base_err_set(&err, st, argv[1], "%s: %s", base_status_text(st), db_error_text(db));
        gen_fini(&g);
        db_close(db);
    }
    if (st) fprintf(stderr, "gen_store: %s\n", base_err_text(&err, text, sizeof text));
    return st ? 1 : 0;
}
