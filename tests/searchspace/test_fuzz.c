/* Texts changed at random, with a fixed seed: whatever comes, the parsers return, and an error has its words. What reads is sound. */
#include <stdlib.h>

#include "base/rng.h"
#include "searchspace/arch_json.h"
#include "searchspace/job.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

enum { ROUNDS = 20000 };

static const char *const jobs[] = {
    "{'name':'x','seed':7,'data':{'train':'a.txt','valid':0.1,'tokenizer':'bytes','context':64},'space':{'type':'lm','depth':[1,3],"
    "'width':[32,64],'mixer':{'attention':{'heads':[1,2],'kv_ratio':[1,2],'window':[0,8]},'none':{}},'ffn':{'swiglu':{'ratio':[1,2],"
    "'rank':[0,8]}},'rope_theta':[10000],'norm':['rms','layer'],'bias':[false,true],'family':'any'},"
    "'objectives':['valid_bpb',{'metric':'decode_ms@64','goal':'min'}],"
    "'constraints':[{'metric':'params','max':1e6}],'train':{'batch':4,'lr':1e-3},'fidelity':{'tokens':1e5,'rungs':1},"
    "'search':{'strategy':'auto','population':8},'budget':{'evaluations':20,'hours':1}}",
    "{'evaluator':'external','objectives':['loss'],'space':{'type':'custom','knobs':{'lr':{'log':[1e-4,1e-1]},'n':{'int':[2,8]},"
    "'act':{'choice':['relu',null,1.5]},'b':{'choice':[0,1],'repeat':4}}}}",
};
static const char *const archs[] = {
    "{'taut':1,'vocab':256,'context':64,'width':64,'tie_embeddings':false,'norm':'rms','bias':false,'rope_theta':500,'layers':["
    "{'mixer':{'type':'attention','heads':4,'kv_heads':2,'head_dim':16,'window':8},'ffn':{'type':'swiglu','hidden':128,'rank':8}},"
    "{'mixer':{'type':'none'},'ffn':{'type':'swiglu','hidden':64}}]}",
    "{'taut':1,'vocab':256,'context':64,'width':64,'norm':'layer','bias':true,'layers':["
    "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':64,'act':'gelu'}}]}",
};
static const char *const filters[] = {"decode_ms@1024 <= 2 and (params < 5e6 or not weight_bytes > 1e6)"};

static const char *const pieces[] = {"0", "-1", "1e308", "1e-320", "9223372036854775807", "null", "true", "[]", "{}", "\"\"", "[", "]", "{", "}",
                                     ",", ":", "\"", "\\u0000", "\\ud800", "none", "attention", "@", "and", "(", ")", "not ", "4294967296",
                                     "\xff", "\xc3", "2147483648", "0.5", "custom", "lm"};

static size_t change(struct base_rng *r, const char *from, char *text, size_t cap)
{
    size_t n = strlen(from);
    memcpy(text, from, n + 1);
    for (int k = 1 + (int)base_rng_below(r, 3); k > 0; k--) {
        size_t at = base_rng_below(r, (uint32_t)n + 1), len = base_rng_below(r, 6);
        const char *piece = pieces[base_rng_below(r, sizeof pieces / sizeof pieces[0])];
        size_t add = base_rng_below(r, 3) ? strlen(piece) : 0;
        if (len > n - at) len = n - at;
        if (n - len + add >= cap) continue;
        memmove(text + at + add, text + at + len, n - at - len + 1);
        memcpy(text + at, piece, add);
        n = n - len + add;
        if (base_rng_below(r, 4) == 0 && n) text[base_rng_below(r, (uint32_t)n)] = (char)(32 + base_rng_below(r, 95));
    }
    return n;
}

static int worded(st_t st, const struct base_err *err)
{
    return err->st == st && err->what[0] && !strpbrk(err->what, "\n\r\t");
}

static void fuzz_jobs(void)
{
    int read = 0, bad = 0;
    struct base_rng r = base_rng_at(11, RNG_TEST, 0);
    for (int i = 0; i < ROUNDS; i++) {
        char text[4096];
        size_t n = change(&r, quoted(jobs[i % 2]), text, sizeof text);
        struct job *j = NULL;
        struct base_err err = BASE_ERR_INIT;
        st_t st = job_parse(&j, text, n, "job.json", &err);
        if (st) {
            bad += j || !worded(st, &err);
            continue;
        }
        read++;
        struct genome g;
        struct candidate c;
        if (!space_genome_init(j->space, &g)) {
            if (!space_sample(j->space, &r, &g)) {
                space_mutate(j->space, &r, 0, &g);
                if (space_candidate(j->space, &g, &c, NULL)) bad++;
                else space_candidate_fini(&c);
            }
            space_genome_fini(&g);
        }
        job_free(j);
    }
    is_int(bad, 0, "jobs: %d texts, %d read, the rest refused in words", ROUNDS, read);
    ok(read > ROUNDS / 100, "some still read");
}

static void fuzz_archs(void)
{
    int read = 0, bad = 0;
    struct base_rng r = base_rng_at(12, RNG_TEST, 0);
    for (int i = 0; i < ROUNDS; i++) {
        char text[4096];
        size_t n = change(&r, quoted(archs[0]), text, sizeof text);
        struct arch a, again;
        struct base_err err = BASE_ERR_INIT;
        st_t st = space_arch_parse(&a, text, n, "arch.json", &err);
        if (st) {
            bad += !worded(st, &err);
            continue;
        }
        read++;
        struct base_buf b = BASE_BUF_INIT;
        struct arch_cost cost;
        space_arch_canonical(&a, &b);
        bad += space_arch_parse(&again, b.p, b.len, "again", NULL) || !space_arch_equal(&a, &again);
        space_arch_cost(&a, &cost);
        bad += !isfinite(cost.params) || !isfinite(cost.flops_per_token) || cost.params < 1;
        base_buf_fini(&b);
    }
    is_int(bad, 0, "architectures: %d texts, %d read and read back the same", ROUNDS, read);
    ok(read > ROUNDS / 100, "some still read");
}

static void fuzz_filters(void)
{
    int read = 0, bad = 0;
    struct base_rng r = base_rng_at(13, RNG_TEST, 0);
    for (int i = 0; i < ROUNDS; i++) {
        char text[4096];
        change(&r, filters[0], text, sizeof text);
        struct where *w = NULL;
        struct base_err err = BASE_ERR_INIT;
        double v[64];
        for (int k = 0; k < 64; k++) v[k] = k % 3 ? k : NAN;
        st_t st = space_where_parse(&w, text, i % 2, &err);
        if (st) {
            bad += w || !worded(st, &err);
            continue;
        }
        read++;
        if (space_where_metrics(w) <= 64) space_where_eval(w, v);
        space_where_free(w);
    }
    is_int(bad, 0, "filters: %d texts, %d read", ROUNDS, read);
    ok(read > ROUNDS / 100, "some still read");
}

int main(void)
{
    fuzz_jobs();
    fuzz_archs();
    fuzz_filters();
    return tap_done();
}
