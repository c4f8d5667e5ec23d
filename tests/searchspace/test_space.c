/* Spaces: draws, mutation, crossover, size and enumeration, genomes as JSON, reports. */
#include <stdlib.h>

#include "searchspace/families/family.h"
#include "searchspace/layer.h"
#include "searchspace/space.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

enum { DRAWS = 10000 };

static struct space *make(const char *text)
{
    struct space *s = NULL;
    struct base_err err = BASE_ERR_INIT;
    json_t *v = json_loads(quoted(text), JSON_DECODE_ANY, NULL);
    if (space_new(&s, v, 256, 64, &err)) printf("#   %s: %s\n", err.where, err.what);
    json_decref(v);
    return s;
}

#define TINY                                                                                                             \
    "{'type':'lm','depth':[1,2],'width':[32,48],'mixer':{'attention':{'heads':[1,3],'kv_ratio':[1,3]},'none':{}},"       \
    "'ffn':{'swiglu':{'ratio':[1,1.5,2]},'none':{}},'tie_embeddings':[true,false]}"
#define ROPES                                                                                                          \
    "{'type':'lm','depth':[2,3],'width':[32],'mixer':{'attention':{'heads':[1,2],'rope':[true,false]}},'ffn':{'none':{}}," \
    "'rope_theta':[10000,500]}"
#define CONVS                                                                                                            \
    "{'type':'lm','depth':[1,2],'width':[32,64],'mixer':{'short_conv':{'conv':[2,3,4]},'attention':{'heads':[1]}},"       \
    "'ffn':{'swiglu':{'ratio':[1,2]},'none':{}}}"
#define SCANS                                                                                                            \
    "{'type':'lm','depth':[1,2],'width':[32,48],'mixer':{'mamba2':{'expand':[1,2],'head_dim':[16,32],'state':[8,16],'groups':[1,2]}}," \
    "'ffn':{'swiglu':{'ratio':[1]},'none':{}}}"
#define LATENTS                                                                                                          \
    "{'type':'lm','depth':[1,2],'width':[32,48],'mixer':{'mla':{'heads':[1,3],'kv_rank':[8,16],'rope_dim':[4],'q_rank':[0,8]}}," \
    "'ffn':{'none':{}}}"
#define DELTAS                                                                                                           \
    "{'type':'lm','depth':[1,2],'width':[32,48],'mixer':{'gated_delta':{'heads':[2,3],'key_ratio':[1,2],'conv':[2,4]}},"   \
    "'ffn':{'none':{}}}"
#define LINEARS                                                                                                          \
    "{'type':'lm','depth':[1,2],'width':[32,48],'mixer':{'linear':{'heads':[2,3],'value_dim':[16,24],'gate_rank':[4,16]}}," \
    "'ffn':{'none':{}}}"
#define UNIFORM                                                                                                          \
    "{'type':'lm','depth':[2,5],'width':[32,64],'mixer':{'attention':{'heads':[1,2,4],'kv_ratio':[1,2]}},"               \
    "'ffn':{'swiglu':{'ratio':[1,2]}},'family':'llama'}"
#define SHARED                                                                                                                \
    "{'type':'lm','depth':[1,3],'width':[32],'mixer':{'attention':{'heads':[2,4],'kv_ratio':[1,2],'share_kv':[false,true],"    \
    "'gate':[false,true],'rope_dim':[0,8,16]},'none':{}},'ffn':{'swiglu':{'ratio':[1]}}}"
#define BORROW                                                                                                         \
    "{'type':'lm','depth':[2,2],'width':[32],'mixer':{'attention':{'heads':[1,2],'share_kv':[false,true]}},"              \
    "'ffn':{'none':{}}}"
#define NORMS                                                                                                              \
    "{'type':'lm','depth':[1,2],'width':[32],'mixer':{'attention':{'heads':[1]},'none':{}},"                             \
    "'ffn':{'mlp':{'ratio':[1,2],'act':['gelu','relu2']},'none':{}},'norm':['layer','rms'],'bias':[true,false]}"
#define LAYERNORM                                                                                                          \
    "{'type':'lm','depth':[1,1],'width':[32],'mixer':{'attention':{'heads':[1]}},'ffn':{'mlp':{'ratio':[2]}},"           \
    "'norm':['layer'],'bias':[false,true]}"
#define UNBIASED                                                                                                           \
    "{'type':'lm','depth':[1,1],'width':[32],'mixer':{'attention':{'heads':[1]},'none':{}},"                              \
    "'ffn':{'moe':{'experts':[2],'active':[1,2],'ratio':[1]}},'bias':[false,true]}"
#define ONE "{'type':'lm','depth':[1,1],'width':[32],'mixer':{'attention':{'heads':[2]}},'ffn':{'none':{}}}"
#define CUSTOM                                                                                                             \
    "{'type':'custom','knobs':{'lr':{'log':[1e-4,1e-1]},'depth':{'int':[2,8]},'drop':{'float':[0,0.5]},"                   \
    "'act':{'choice':['relu','gelu',null,2.5,true]},'block':{'choice':[0,1,2],'repeat':8}}}"
#define DISCRETE "{'type':'custom','knobs':{'b':{'int':[-1,2]},'a':{'choice':['x','y','z']},'c':{'choice':[0,1],'repeat':3}}}"

/* width 32; ratios 1 and 0.9 are the same; shared 0 with and without its gate are one, shared 1 are two */
#define MOE "{'type':'lm','depth':[1,1],'width':[32],'mixer':{'none':{}},'ffn':{'moe':{'experts':[2,4],'active':[2,1,3],'ratio':[1,0.9],'shared':[0,1],'shared_gate':[false,true],'router':['softmax','sigmoid']}}}"
#define TYPES                                                                                                              \
    "{'type':'lm','depth':[1,2],'width':[32],'mixer':{'attention':{'heads':[1,2],'head_dim':[8]},'short_conv':{'conv':[2,3]}}," \
    "'ffn':{'swiglu':{'ratio':[1,2]}},'rope_theta':[10000,500],'family':'lfm2'}"

static const char *const spaces[] = {"'lm-small'", "'lm-tiny'", "'lm-mixed'", TINY, ROPES, NORMS, UNBIASED, CONVS, SCANS, LATENTS, DELTAS, LINEARS, SHARED, UNIFORM, TYPES, MOE, CUSTOM, DISCRETE};
enum { NSPACES = sizeof spaces / sizeof spaces[0] };

/* Is the candidate canonical and what its id says? */
static bool sound(const struct space *s, const struct genome *g, struct candidate *c)
{
    char id[BASE_ID_HEX];
    struct arch again;
    if (space_candidate(s, g, c, NULL)) return false;
    base_id_hex(c->canonical, strlen(c->canonical), id);
    if (strcmp(id, c->id)) return false;
    if (c->type == SPACE_CUSTOM) return true;
    again = c->arch;
    return !space_arch_check(&again, NULL) && !space_arch_canonicalise(&again, NULL) && space_arch_equal(&again, &c->arch);
}

static void test_draws(const char *text)
{
    struct space *s = make(text);
    struct genome g, h, k, before;
    struct candidate c, d;
    int bad = 0, same = 0, foreign = 0, failed = 0;
    space_genome_init(s, &g);
    space_genome_init(s, &h);
    space_genome_init(s, &k);
    space_genome_init(s, &before);
    struct base_rng r = base_rng_at(5, RNG_TEST, 1);
    if (space_sample(s, &r, &g)) bad++;
    for (int i = 0; i < DRAWS; i++) {
        if (space_sample(s, &r, &h) || !sound(s, &h, &c)) bad++;
        else space_candidate_fini(&c);
    }
    is_int(bad, 0, "%.40s: every sample is valid", text);
    for (int i = 0; i < DRAWS; i++) {
        if (!sound(s, &g, &c)) bad++;
        space_genome_copy(&before, &g);
        failed += space_mutate(s, &r, i % 3 ? 0 : 0.5, &g) != ST_OK;
        if (!sound(s, &g, &d)) bad++;
        same += !strcmp(c.id, d.id);
        space_candidate_fini(&c);
        space_candidate_fini(&d);
        if (i % 20 == 0) space_sample(s, &r, &g);
    }
    is_int(bad, 0, "every mutant is valid");
    is_int(failed, 0, "every mutation finds one");
    is_int(same, 0, "and changes the candidate");
    for (int i = 0; i < DRAWS; i++) {
        if (i % 2) space_sample(s, &r, &g);
        else space_sample(s, &r, &h);
        if (space_crossover(s, &r, &g, &h, &k) || !sound(s, &k, &c)) bad++;
        else space_candidate_fini(&c);
        for (int j = 0; j < k.n; j++) foreign += k.g[j] != g.g[j] && k.g[j] != h.g[j];
    }
    is_int(bad, 0, "every child is valid");
    is_int(foreign, 0, "and has its parents' genes alone");
    space_genome_fini(&g);
    space_genome_fini(&h);
    space_genome_fini(&k);
    space_genome_fini(&before);
    space_free(s);
}

/* What is drawn hangs on (seed, stream, n) alone. */
static void test_determinism(const char *text)
{
    struct space *s = make(text), *t = make(text);
    struct genome g, h;
    int bad = 0, equal = 0;
    double last = -1;
    space_genome_init(s, &g);
    space_genome_init(t, &h);
    for (uint64_t n = 0; n < 200; n++) {
        struct base_rng r = base_rng_at(9, RNG_PROPOSE, n), q = base_rng_at(9, RNG_PROPOSE, n);
        space_sample(s, &r, &g);
        space_mutate(s, &r, 0, &g);
        space_sample(t, &q, &h);
        space_mutate(t, &q, 0, &h);
        bad += memcmp(g.g, h.g, (size_t)g.n * sizeof *g.g) != 0;
        double sum = 0;
        for (int i = 0; i < g.n; i++) sum += g.g[i] * (i + 1);
        equal += sum == last;
        last = sum;
    }
    ok(bad == 0 && equal < 150, "%.40s: the same n draws the same, another n another", text);
    space_genome_fini(&g);
    space_genome_fini(&h);
    space_free(s);
    space_free(t);
}

/* Every choice of every gene turns up, in samples and by mutation. */
static void test_coverage(void)
{
    struct space *s = make("'lm-tiny'");
    struct genome g;
    struct candidate c;
    int width[200] = {0}, depth[8] = {0}, heads[8] = {0}, window[80] = {0}, rank[20] = {0}, none[2] = {0}, hidden[600] = {0}, kv[8] = {0};
    space_genome_init(s, &g);
    for (int pass = 0; pass < 2; pass++) {
        struct base_rng r = base_rng_at(2, RNG_TEST, (uint64_t)pass);
        space_sample(s, &r, &g);
        for (int i = 0; i < 3000; i++) {
            if (pass == 0) space_sample(s, &r, &g);
            else space_mutate(s, &r, 0, &g);
            space_candidate(s, &g, &c, NULL);
            width[c.arch.width] |= 1 << pass;
            depth[c.arch.depth] |= 1 << pass;
            for (int l = 0; l < c.arch.depth; l++) {
                const struct arch_part *m = &c.arch.layer[l].mixer, *f = &c.arch.layer[l].ffn;
                if (space_part_is_none(m)) {
                    none[0] |= 1 << pass;
                } else {
                    heads[m->v[0]] |= 1 << pass;
                    kv[m->v[0] / m->v[1]] |= 1 << pass;
                    window[m->v[3]] |= 1 << pass;
                }
                if (space_part_is_none(f)) {
                    none[1] |= 1 << pass;
                } else {
                    hidden[f->v[0]] |= 1 << pass;
                    rank[f->v[1]] |= 1 << pass;
                }
            }
            space_candidate_fini(&c);
        }
    }
    ok((width[32] & width[48] & width[64] & width[96] & width[128]) == 3, "every width");
    ok((depth[1] & depth[2] & depth[3] & depth[4]) == 3, "every depth");
    ok((heads[1] & heads[2] & heads[4]) == 3 && (kv[1] & kv[2] & kv[4]) == 3, "every number of heads, and ratio");
    ok((window[0] & window[64]) == 3 && (rank[0] & rank[16]) == 3, "every window and rank");
    ok((hidden[32] & hidden[512]) == 3 && (none[0] & none[1]) == 3, "every ratio, and none");
    space_genome_fini(&g);
    space_free(s);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* want: the size it says; different: how many there are. */
static void test_walk(const char *text, double want, int different, bool doubles)
{
    struct space *s = make(text);
    bool exact = false;
    double size = space_size(s, &exact);
    ok(exact == (different == (int)want), "%.40s: says whether its size is exact", text);
    is_near(size, want, 0, "as worked out by hand");
    struct genome g;
    space_genome_init(s, &g);
    char(*id)[BASE_ID_HEX] = calloc(20000, sizeof *id);
    int n = 0, bad = 0, distinct = 0;
    st_t st;
    while (n < 20000 && !(st = space_nth(s, (uint64_t)n, &g))) {
        struct candidate c;
        if (!sound(s, &g, &c)) bad++;
        else memcpy(id[n], c.id, BASE_ID_HEX);
        space_candidate_fini(&c);
        struct base_buf b = BASE_BUF_INIT;
        space_genome_write(&g, &b);
        json_t *v = json_loads(b.p, 0, NULL);
        bad += space_genome_read(s, v, &g) != ST_OK;
        json_decref(v);
        base_buf_fini(&b);
        n++;
    }
    is_int(st, ST_ENOTFOUND, "the enumeration ends");
    is_int(bad, 0, "all of it valid");
    qsort(id, (size_t)n, sizeof *id, compare_ids);
    for (int i = 0; i < n; i++) distinct += i == 0 || strcmp(id[i], id[i - 1]);
    is_int(distinct, different, "as many distinct candidates as worked out by hand");
    ok(doubles ? n > distinct : n == distinct, doubles ? "some come twice" : "none comes twice");

    /* whatever is drawn is among them */
    struct base_rng r = base_rng_at(3, RNG_TEST, 3);
    char *seen = calloc((size_t)n + 1, 1);
    int strange = 0, hit = 0;
    for (int i = 0; i < 60 * distinct && i < 200000; i++) {
        struct candidate c;
        space_sample(s, &r, &g);
        space_candidate(s, &g, &c, NULL);
        char *at = bsearch(c.id, id, (size_t)n, sizeof *id, compare_ids);
        if (!at) {
            strange++;
        } else {
            size_t k = (size_t)(at - id[0]) / sizeof *id;
            while (k > 0 && !strcmp(id[k - 1], id[k])) k--;
            hit += !seen[k];
            seen[k] = 1;
        }
        space_candidate_fini(&c);
    }
    is_int(strange, 0, "every sample is one of them");
    ok(hit > distinct * 9 / 10, "and most of them are drawn (%d of %d)", hit, distinct);
    free(seen);
    free(id);
    space_genome_fini(&g);
    space_free(s);
}

static void test_enumeration(const char *text, double want, bool doubles)
{
    test_walk(text, want, (int)want, doubles);
}

static void test_sizes(void)
{
    /* width 32: heads 1 only (3 does not divide 32), so mixers none, 1/1; ffns none, 32 and 64 (1.5 and 2 both round to 64): 2 x 3 - 1 = 5.
     * width 48: heads 1/1, 3/3, 3/1 of 16: mixers 4; ratios 1, 1.5, 2 make 64, 96, 96: ffns 3; 4 x 3 - 1 = 11. n + n^2, tied or not. */
    test_enumeration(TINY, 2 * (5 + 25 + 11 + 121), false);
    /* layers: two with rope, two without; depth 2 and 3. Two thetas for all but the 2^k sequences without rope. */
    test_enumeration(ROPES, (2 * (16 - 4) + 4) + (2 * (64 - 8) + 8), true);
    /* heads 1 allow ratio 1; heads 2 and 4 both: 5 mixers, 2 ffns, 2 widths, 4 depths */
    test_enumeration(UNIFORM, 5 * 2 * 2 * 4, false);
    /* three kernels and attention, three ffns, at each width: 12 + 12^2, twice */
    test_enumeration(CONVS, 2 * (12 + 144), false);
    /* (experts, active): 2/2, 2/1, 4/2, 4/1, 4/3 */
    test_enumeration(MOE, 5 * 3 * 2, false);
    /* width 32: heads 2, 1; 4, 2: in two groups 0 where there is one head: 4 + 3 of each state: 14. Width 48: 3; 6, 3 (32 does not divide 48):
     * two groups of 6 alone: 4 of each state: 8. Two ffns. */
    test_enumeration(SCANS, 28 + 28 * 28 + 16 + 16 * 16, false);
    /* each type has 2 kinds. One layer: 2 convolutions, 2 attentions of 2 thetas, each with 2 ffns: 12. Two: 2 of convolutions alone; 2 of
     * attention alone and 2 x 4 of both, of 2 thetas; with 2 ffns: 2 (2 + 20). */
    test_enumeration(TYPES, 12 + 44, true);
    /* one head at width 32, one or three at 48 */
    test_enumeration(LATENTS, 4 + 16 + 8 + 64, false);
    /* two lengths of convolution with each of: width 32: 2 heads on 1 or 2; width 48: also 3 heads on 3. n + n^2 */
    test_enumeration(DELTAS, 4 + 16 + 6 + 36, false);
    /* two value_dim and two gate_rank with each of: width 32: 2 heads; width 48: 2 or 3 */
    test_enumeration(LINEARS, 4 + 16 + 8 + 64, false);
    test_enumeration(ONE, 1, false);
    /* mixers 2, ffns 4 + 1: 9 layers, once or twice; two norms, with biases or without */
    test_enumeration(NORMS, (9 + 81) * 4, false);
    test_enumeration(LAYERNORM, 2, false);
    /* four layers; the two without attention have no bias */
    test_walk(UNBIASED, 4 * 2, 2 * 2 + 2, true);
    test_enumeration(DISCRETE, 3 * 4 * 8, false);
    /* 4 layers on paper, 4^2; the first may not borrow: 2; the second may where the first has as many heads: 3 */
    test_walk(BORROW, 16, 2 * 3, true);

    bool exact;
    struct space *s = make("'lm-small'");
    struct genome g;
    space_genome_init(s, &g);
    double size = space_size(s, &exact);
    ok(size > 1e15 && isfinite(size), "lm-small holds about %g", size);
    is_int(space_nth(s, 0, &g), ST_ETOOBIG, "too many to enumerate");
    space_genome_fini(&g);
    space_free(s);
    s = make(CUSTOM);
    space_genome_init(s, &g);
    size = space_size(s, &exact);
    ok(isinf(size) && !exact, "real knobs have no number");
    is_int(space_nth(s, 0, &g), ST_ETOOBIG, "nor an n-th");
    space_genome_fini(&g);
    space_free(s);
    s = make(ONE);
    space_genome_init(s, &g);
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    is_int(space_sample(s, &r, &g), ST_OK, "a space of one is drawn");
    is_int(space_mutate(s, &r, 0, &g), ST_EEXHAUSTED, "and says that nothing is left to change");
    space_genome_fini(&g);
    space_free(s);
    s = make("{'type':'custom','knobs':{'a':{'choice':[1]}}}");
    space_genome_init(s, &g);
    is_int(space_mutate(s, &r, 0, &g), ST_EEXHAUSTED, "custom ones too");
    space_genome_fini(&g);
    space_free(s);
}

static void test_members(const char *text, const char *name)
{
    struct space *s = make(text);
    struct base_rng r = base_rng_at(4, RNG_TEST, 0);
    struct genome g, h, child;
    struct candidate c;
    int bad = 0;
    space_genome_init(s, &g), space_genome_init(s, &h), space_genome_init(s, &child);
    space_sample(s, &r, &g);
    for (int i = 0; i < 1000; i++) {
        space_mutate(s, &r, 0, &g);
        space_sample(s, &r, &h);
        space_crossover(s, &r, &g, &h, &child);
        for (int k = 0; k < 3; k++) {
            bad += space_candidate(s, k == 0 ? &g : k == 1 ? &h : &child, &c, NULL) != ST_OK;
            bad += space_family_check(space_family_find(name), &c.arch, NULL) != ST_OK;
            space_candidate_fini(&c);
        }
    }
    is_int(bad, 0, "every draw, mutant and child of family %s is one", name);
    space_genome_fini(&g), space_genome_fini(&h), space_genome_fini(&child);
    space_free(s);
}

static void test_family(void)
{
    test_members(UNIFORM, "llama");
    test_members(TYPES, "lfm2");
    struct space *s = make(UNIFORM);
    is_str(space_taken(s),
           "every layer has the same mixer\nevery layer has the same ffn\nnorm is 'rms'\nattention.window is 0\nattention.rope is true\n"
           "attention.qk_norm is false\nattention.gate is false\nattention.rope_dim is 0\nattention.share_kv is false\nswiglu.rank is 0",
           "a family says what it takes away");
    space_free(s);
    s = make("{'type':'lm','depth':[2,5],'width':[32],'mixer':{'attention':{'heads':[1],'window':[8,0,16]},'none':{}},"
             "'ffn':{'swiglu':{'ratio':[1],'rank':[0]}},'family':'llama'}");
    ok(strstr(space_taken(s), "\nattention.window is 0 (not 8, 16)\n") && strstr(space_taken(s), "\nno mixer 'none'\n"),
       "also of what the job has listed");
    bool exact;
    is_near(space_size(s, &exact), 4, 0, "which is left out");
    space_free(s);
    s = make(TINY);
    is_str(space_taken(s), "", "family any takes nothing");
    space_free(s);
}

/* A gene's JSON that does not fit the space. */
static void test_genome_json(const char *text)
{
    struct space *s = make(text);
    struct genome g, h;
    space_genome_init(s, &g);
    space_genome_init(s, &h);
    struct base_rng r = base_rng_at(6, RNG_TEST, 0);
    space_sample(s, &r, &g);
    struct base_buf b = BASE_BUF_INIT;
    space_genome_write(&g, &b);
    json_t *v = json_loads(b.p, 0, NULL);
    is_int(space_genome_read(s, v, &h), ST_OK, "%.40s: a genome reads back", text);
    ok(!memcmp(g.g, h.g, (size_t)g.n * sizeof *g.g), "to the same bits");
    static const double wrong[] = {-1e6, 1e6, 1e18, -0.5};
    int bad = 0;
    for (int i = 0; i < g.n; i++)
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            json_t *w = json_deep_copy(v);
            json_array_set_new(w, (size_t)i, json_real(wrong[k]));
            bad += space_genome_read(s, w, &h) != ST_ECORRUPT;
            json_decref(w);
        }
    json_t *w = json_deep_copy(v);
    json_array_append_new(w, json_integer(0));
    bad += space_genome_read(s, w, &h) != ST_ECORRUPT;
    json_array_clear(w);
    bad += space_genome_read(s, w, &h) != ST_ECORRUPT;
    json_decref(w);
    w = json_object();
    bad += space_genome_read(s, w, &h) != ST_ECORRUPT;
    json_decref(w);
    is_int(bad, 0, "what does not fit is corrupt");
    ok(!memcmp(g.g, h.g, (size_t)g.n * sizeof *g.g), "and changes nothing");
    json_decref(v);
    base_buf_fini(&b);
    space_genome_fini(&g);
    space_genome_fini(&h);
    space_free(s);
}

/* A genome as a store of the first version has it, before attention got more knobs: still read, and the same architecture. */
static void test_old_genome(void)
{
    static const char text[] = "[1,4,0,0,1,2,2,0,1,0,0,1,1,0,0,1,0,0,1,0,0,1,1,0,1,2,0,0,0,0,0,0,4,1,0,0,0,0,0,0,0,0,4,1]";
    struct space *s = make("'lm-tiny'");
    struct genome g;
    struct candidate c;
    json_t *v = json_loads(text, 0, NULL);
    space_genome_init(s, &g);
    is_int(space_genome_read(s, v, &g), ST_OK, "a genome of the first version reads");
    if (ok(!space_candidate(s, &g, &c, NULL), "and means something")) {
        ok(strstr(c.canonical, "\"width\":128,\"layers\":[{\"mixer\":{\"type\":\"attention\",\"heads\":4,\"kv_heads\":1,\"head_dim\":32,\"window\":64},"
                               "\"ffn\":{\"type\":\"swiglu\",\"hidden\":192}}]}") != NULL, "what it meant: %s", c.canonical);
        space_candidate_fini(&c);
    }
    json_decref(v);
    space_genome_fini(&g);
    space_free(s);
}

static void test_custom(void)
{
    struct space *s = make("{'type':'custom','knobs':{'lr':{'log':[1e-4,1e-1]},'depth':{'int':[2,8]},'drop':{'float':[0,0.5]},"
                           "'act':{'choice':['relu','gelu']},'block':{'choice':[0,1,2],'repeat':2}}}");
    struct genome g;
    struct candidate c;
    space_genome_init(s, &g);
    is_int(g.n, 6, "six genes, in the order of the names");
    static const double genes[6] = {1, 2, 0, 3, 0.25, 1e-3}; /* act, block, block, depth, drop, lr */
    memcpy(g.g, genes, sizeof genes);
    is_int(space_candidate(s, &g, &c, NULL), ST_OK, "a candidate");
    is_str(c.canonical, quoted("{'act':'gelu','block':[2,0],'depth':3,'drop':0.25,'lr':0.001}"), "canonical form");
    is_str(c.id, "7111f3f73307d027a96e36624be148d7", "id");
    json_t *f = space_candidate_features(s, &c);
    char *text = json_dumps(f, JSON_COMPACT | JSON_SORT_KEYS);
    is_str(text, quoted("{'act':'gelu','block[0]':2,'block[1]':0,'depth':3,'drop':0.25,'lr':0.001}"), "features");
    free(text);
    json_decref(f);
    space_candidate_fini(&c);
    struct base_buf b = BASE_BUF_INIT;
    space_describe(s, &b);
    is_str(b.p, "act: relu gelu\nblock: 0 1 2 (x 2)\ndepth: 2 to 8 (int)\ndrop: 0 to 0.5 (float)\nlr: 0.0001 to 0.1 (log)\n", "described");
    base_buf_fini(&b);

    struct base_rng r = base_rng_at(8, RNG_TEST, 0);
    int low = 0, bad = 0, ends[2] = {0, 0};
    for (int i = 0; i < DRAWS; i++) {
        space_sample(s, &r, &g);
        low += g.g[5] < 0.0031622776601683794; /* the middle of the logarithm */
        bad += !(g.g[5] >= 1e-4 && g.g[5] <= 1e-1 && g.g[4] >= 0 && g.g[4] <= 0.5 && g.g[3] >= 2 && g.g[3] <= 8);
        ends[0] += g.g[3] == 2;
        ends[1] += g.g[3] == 8;
    }
    ok(abs(low - DRAWS / 2) < 200, "log is even on the logarithm (%d below)", low);
    ok(!bad && ends[0] > 1000 && ends[1] > 1000, "ranges hold, both ends of an int are drawn");
    space_genome_fini(&g);
    space_free(s);

    s = make("{'type':'custom','knobs':{'z':{'int':[0,1]},'a':{'int':[0,1]}}}");
    struct space *t = make("{'knobs':{'a':{'int':[0,1]},'z':{'int':[0,1]}},'type':'custom'}");
    struct candidate d;
    space_genome_init(s, &g);
    g.g[0] = 1;
    space_candidate(s, &g, &c, NULL);
    space_candidate(t, &g, &d, NULL);
    is_str(c.canonical, d.canonical, "the order of the knobs in the file means nothing");
    space_candidate_fini(&c);
    space_candidate_fini(&d);
    space_genome_fini(&g);
    space_free(s);
    space_free(t);
}

static void test_reports(void)
{
    struct space *s = make(TINY);
    struct base_buf b = BASE_BUF_INIT;
    space_describe(s, &b);
    is_str(b.p,
           "depth: 1 to 2 (int)\nwidth: 32 48\ntie_embeddings: true false\nrope_theta: 10000\nmixer: none attention\nattention.heads: 1 3\n"
           "attention.kv_ratio: 1 3\nattention.window: 0\nattention.rope: true\nattention.qk_norm: false\nattention.gate: false\n"
           "attention.rope_dim: 0\nattention.share_kv: false\nffn: none swiglu\n"
           "swiglu.ratio: 1 1.5 2\nswiglu.rank: 0\n",
           "a space described");
    base_buf_fini(&b);
    struct candidate c = {.type = SPACE_LM, .arch = {.width = 48, .depth = 2, .tie = true, .rope_theta = 10000}};
    c.arch.layer[0].mixer = (struct arch_part){1, {3, 1, 16, 0, 1, 0}};
    c.arch.layer[1].ffn = (struct arch_part){2, {96, 0}};
    json_t *f = space_candidate_features(s, &c);
    char *text = json_dumps(f, JSON_COMPACT | JSON_SORT_KEYS);
    is_str(text,
           quoted("{'attention.gate':0,'attention.head_dim':16,'attention.heads':3,'attention.kv_heads':1,'attention.qk_norm':0,'attention.rope':1,"
                  "'attention.rope_dim':0,'attention.share_kv':0,'attention.window':0,'depth':2,"
                  "'ffn.none':0.5,'ffn.swiglu':0.5,'mixer.attention':0.5,'mixer.none':0.5,'rope_theta':10000,'swiglu.hidden':96,"
                  "'swiglu.rank':0,'tie_embeddings':true,'width':48}"),
           "a candidate's features");
    free(text);
    json_decref(f);
    space_free(s);
    s = make(NORMS);
    b = (struct base_buf)BASE_BUF_INIT;
    space_describe(s, &b);
    ok(strstr(b.p, "\nrope_theta: 10000\nnorm: layer rms\nbias: true false\nmixer: ") && strstr(b.p, "mlp.act: gelu relu2\n"),
       "norm and bias where they are a choice");
    base_buf_fini(&b);
    c.arch.norm = ARCH_NORM_LAYER;
    f = space_candidate_features(s, &c);
    is_str(json_string_value(json_object_get(f, "norm")), "layer", "and as features");
    ok(json_is_false(json_object_get(f, "bias")), "both");
    json_decref(f);
    space_free(s);
    for (const char *const *p = space_preset_names(); *p; p++) {
        json_t *v = json_string(*p);
        is_int(space_new(&s, v, 256, 64, NULL), ST_OK, "preset %s reads", *p);
        json_decref(v);
        space_free(s);
    }
    ok(!space_preset_text("nope"), "no other");
}

/* hidden = ratio x width rounded up to a multiple of 32, also where the product is not exact */
static void test_rounding(void)
{
    const struct layer_spec *s = space_layer(space_layer_find("swiglu", LAYER_FFN));
    static const struct {
        double ratio;
        int width, hidden;
    } t[] = {{1, 64, 64}, {1.5, 64, 96}, {1.5, 32, 64}, {1.1, 320, 352}, {8.0 / 3, 96, 256}, {8.0 / 3, 100, 288}, {0.01, 32, 32}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct arch_part p = {0};
        double knob[2] = {t[i].ratio, 0};
        is_int(s->resolve(knob, t[i].width, &p, NULL), ST_OK, "%g x %d resolves", t[i].ratio, t[i].width);
        is_int(p.v[0], t[i].hidden, "to %d", t[i].hidden);
    }
}

int main(void)
{
    for (int i = 0; i < NSPACES; i++) {
        test_draws(spaces[i]);
        test_determinism(spaces[i]);
        test_genome_json(spaces[i]);
    }
    test_coverage();
    test_sizes();
    test_family();
    test_old_genome();
    test_custom();
    test_reports();
    test_rounding();
    return tap_done();
}
