/* fidelity_next against the words of its header, written anew: random searches with objectives that tie, constraints, failures, trials under way. */
#include "base/pareto.h"
#include "controller/fidelity.h"
#include "tests/controller/toy.h"
#include "base/rng.h"
#include "tests/tap.h"

#define JOB(objectives, constraints, eta)                                                                                                                 \
    "{\"evaluator\":\"external\",\"space\":{\"type\":\"custom\",\"knobs\":{\"x\":{\"float\":[0,1]}}},\"objectives\":[" objectives "],\"constraints\":[" constraints \
    "],\"fidelity\":{\"tokens\":1000,\"rungs\":3,\"eta\":" eta "}}"

struct shadow { /* of a trial */
    int rung;
    bool out, good[3];
    double y[3][3], d[3];
};

struct world {
    struct toy t;
    struct base_rng r;
    struct shadow s[600];
    int n, m;
    double eta;
    bool constrained;
    long by_diversity, promoted;
};

static bool dominates(const struct world *w, const struct shadow *a, const struct shadow *b, int r)
{
    double va = w->constrained ? fmax(a->d[r] - 0.7, 0) : 0, vb = w->constrained ? fmax(b->d[r] - 0.7, 0) : 0;
    if (va > 0 || vb > 0) return va < vb;
    bool better = false;
    for (int j = 0; j < w->m; j++) {
        if (a->y[r][j] > b->y[r][j]) return false;
        better |= a->y[r][j] < b->y[r][j];
    }
    return better;
}

/* Ranks by peeling. */
static int ranks(const struct world *w, int r, int *index, int *rank)
{
    int k = 0, left;
    for (int i = 0; i < w->n; i++)
        if (w->s[i].good[r]) rank[k] = -1, index[k++] = i;
    left = k;
    for (int front = 0; left; front++) {
        bool now[600] = {false};
        for (int i = 0; i < k; i++) {
            now[i] = rank[i] < 0;
            for (int o = 0; o < k && now[i]; o++) now[i] = rank[o] >= 0 || !dominates(w, &w->s[index[o]], &w->s[index[i]], r);
        }
        for (int i = 0; i < k; i++)
            if (now[i]) rank[i] = front, left--;
    }
    return k;
}

static int reports(const struct world *w, int r)
{
    int n = 0;
    for (int i = 0; i < w->n; i++) n += w->s[i].rung > r || (w->s[i].rung == r && !w->s[i].out);
    return n;
}

/* What may be said of an answer without doing all of it again: it is on rung r, is not promoted, and so many at most stand before it. */
static void judge(struct world *w, long row, bool closed, long *bad)
{
    int index[600], rank[600], under_way = 0;
    for (int i = 0; i < w->n; i++) under_way += w->s[i].out;
    int from = row >= 0 ? w->s[row].rung : -1;
    for (int r = 1; r >= 0; r--) {
        int k = ranks(w, r, index, rank), reported = reports(w, r), quota = (int)floor(reported / w->eta), ahead, promoted = 0;
        if (closed && !under_way) quota = (int)ceil(reported / w->eta);
        /* Trials that are among the first whatever their crowding says: of each rank all, as long as they fit. */
        int sure = -1, upto = 0;
        for (int f = 0; f < k; f++) {
            int size = 0;
            for (int i = 0; i < k; i++) size += rank[i] == f;
            if (upto + size > quota) break;
            upto += size;
            sure = f;
        }
        bool due = false;
        for (int i = 0; i < k; i++) {
            due |= rank[i] <= sure && w->s[index[i]].rung == r;
            promoted += w->s[index[i]].rung > r;
        }
        if (due && from < r && !(closed && !under_way)) ++*bad, printf("# rung %d has one that is due, and rung %d was chosen\n", r, from);
        if (due && row < 0) ++*bad, puts("# one is due and none was chosen");
        if (from != r) continue;
        ahead = 0;
        int own = -1;
        for (int i = 0; i < k; i++)
            if (index[i] == row) own = rank[i];
        for (int i = 0; i < k; i++) ahead += rank[i] < own;
        if (own < 0 || w->s[row].out) ++*bad, printf("# row %ld has no result on rung %d\n", row, r);
        bool diverse = (promoted + 1) % FIDELITY_DIVERSE == 0;
        if (ahead >= (diverse ? 2 : 1) * quota) ++*bad, printf("# row %ld: %d stand before it, %d may go up\n", row, ahead, quota);
        w->by_diversity += diverse && ahead >= quota;
    }
}

static void propose(struct world *w)
{
    char id[BASE_ID_HEX + 8];
    snprintf(id, sizeof id, "%032x", (unsigned)w->n + 1);
    toy_fold(&w->t, "proposed", json_pack("{s:i,s:i,s:s,s:[f],s:{}}", "trial", w->n + 1, "proposal", w->n, "arch_id", id, "genome", 0.5, "paper"));
    w->s[w->n++] = (struct shadow){.out = true};
}

static void report(struct world *w, int i)
{
    struct shadow *s = &w->s[i];
    json_t *m = json_object();
    char name[2] = "a";
    bool good = base_rng_below(&w->r, 12);
    for (int j = 0; j < w->m; j++, name[0]++) {
        s->y[s->rung][j] = base_rng_below(&w->r, 40) / 4.0 - s->rung;
        json_object_set_new(m, name, json_real(s->y[s->rung][j]));
    }
    s->d[s->rung] = base_rng_unit(&w->r);
    json_object_set_new(m, "d", json_real(s->d[s->rung]));
    toy_fold(&w->t, "reported", json_pack("{s:i,s:s,s:o,s:f}", "trial", i + 1, "status", good ? "ok" : "failed", "metrics", m, "busy_s", 1.0));
    s->good[s->rung] = good;
    s->out = false;
}

static void search(const char *text, int m, double eta, bool constrained, uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    long bad = 0, row;
    *w = (struct world){.r = base_rng_at(seed, RNG_TEST, 0), .m = m, .eta = eta, .constrained = constrained};
    toy_open(&w->t, text, NULL);
    while (w->n < 300 || base_rng_below(&w->r, 2000)) {
        bool closed = w->n >= 300;
        int out[600], k = 0;
        for (int i = 0; i < w->n; i++)
            if (w->s[i].out) out[k++] = i;
        if (k && (k > 3 || closed || base_rng_below(&w->r, 3))) {
            report(w, out[base_rng_below(&w->r, (uint32_t)k)]);
            continue;
        }
        row = fidelity_next(w->t.job, w->t.archive, closed);
        judge(w, row, closed, &bad);
        if (row < 0 && closed) break;
        if (row < 0) {
            propose(w);
            continue;
        }
        toy_fold(&w->t, "promoted", json_pack("{s:I,s:i}", "trial", (json_int_t)row + 1, "rung", w->s[row].rung + 1));
        w->s[row].rung++;
        w->s[row].out = true;
        w->promoted++;
    }
    long on[3] = {0};
    for (int i = 0; i < w->n; i++)
        for (int r = 0; r <= w->s[i].rung; r++) on[r]++;
    ok(bad == 0, "%d objectives%s, eta %g: each of %ld promotions is one that may be", m, constrained ? ", constrained" : "", eta, w->promoted);
    ok(on[1] >= 300 / eta && on[1] <= 2 * 300 / eta && on[2] >= on[1] / eta && on[2] <= 2 * on[1] / eta, "%ld, %ld, %ld trials got to the rungs", on[0], on[1], on[2]);
    ok(w->by_diversity > 0 && w->by_diversity < w->promoted / 3, "%ld of them went up for being far from the others", w->by_diversity);
    toy_close(&w->t);
    free(w);
}

/* One objective, by hand: 1 is best. */
static void by_hand(void)
{
    struct toy t;
    static const double value[] = {5, 3, 4, 1, 2, 6};
    toy_open(&t, JOB("\"a\"", "", "3"), NULL);
    ok(fidelity_next(t.job, t.archive, true) < 0, "nothing there, nothing to promote");
    for (int i = 0; i < 6; i++) {
        char id[BASE_ID_HEX + 8];
        snprintf(id, sizeof id, "%032x", (unsigned)i + 1);
        toy_fold(&t, "proposed", json_pack("{s:i,s:i,s:s,s:[f],s:{}}", "trial", i + 1, "proposal", i, "arch_id", id, "genome", 0.5, "paper"));
        if (i == 2) is_int(fidelity_next(t.job, t.archive, false), -1, "of two, a third is none");
        toy_fold(&t, "reported", json_pack("{s:i,s:s,s:{s:f},s:f}", "trial", i + 1, "status", "ok", "metrics", "a", value[i], "busy_s", 1.0));
        if (i == 2) is_int(fidelity_next(t.job, t.archive, false), 1, "of three the best one");
    }
    is_int(fidelity_next(t.job, t.archive, false), 3, "of six the best two, the better one first");
    toy_fold(&t, "promoted", json_pack("{s:i,s:i}", "trial", 4, "rung", 1));
    is_int(fidelity_next(t.job, t.archive, false), 4, "then the other, while that one is under way");
    toy_fold(&t, "promoted", json_pack("{s:i,s:i}", "trial", 5, "rung", 1));
    is_int(fidelity_next(t.job, t.archive, true), -1, "then none, and none at the end while two are under way");
    toy_fold(&t, "pruned", json_pack("{s:i,s:s,s:f}", "trial", 4, "reason", "r", "busy_s", 1.0));
    toy_fold(&t, "reported", json_pack("{s:i,s:s,s:{s:f},s:f}", "trial", 5, "status", "ok", "metrics", "a", 1.5, "busy_s", 1.0));
    is_int(fidelity_next(t.job, t.archive, false), -1, "two reports make no third");
    is_int(fidelity_next(t.job, t.archive, true), 4, "but at the end one of two goes on, though the other was pruned");
    toy_close(&t);
}

int main(void)
{
    by_hand();
    search(JOB("\"a\"", "", "3"), 1, 3, false, 1);
    search(JOB("\"a\",\"b\"", "", "3"), 2, 3, false, 2);
    search(JOB("\"a\",\"b\",\"c\"", "", "2"), 3, 2, false, 3);
    search(JOB("\"a\",\"b\"", "{\"metric\":\"d\",\"max\":0.7}", "4"), 2, 4, true, 4);
    return tap_done();
}
