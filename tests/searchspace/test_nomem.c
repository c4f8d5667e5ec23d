/* Every allocation of an operation fails once: 1, then 2, then 3 … until it succeeds. Linked with --wrap for the allocators.
 * Inside jansson's own reader nothing fails: its lexer (2.14) does not check that its buffer grew and stops on an assertion. */
#include <stdlib.h>

#include "searchspace/arch_json.h"
#include "searchspace/job.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t k, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t k, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

json_t *__real_json_loads(const char *text, size_t flags, json_error_t *error);
json_t *__real_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error);
json_t *__wrap_json_loads(const char *text, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error);

static int fail_at, count; /* fail_at 0: none */
static int reading;        /* inside jansson's reader */

static int fails(void)
{
    return !reading && ++count == fail_at;
}

json_t *__wrap_json_loads(const char *text, size_t flags, json_error_t *error)
{
    reading++;
    json_t *v = __real_json_loads(text, flags, error);
    reading--;
    return v;
}

json_t *__wrap_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error)
{
    reading++;
    json_t *v = __real_json_loadb(text, n, flags, error);
    reading--;
    return v;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t k, size_t n)
{
    return fails() ? NULL : __real_calloc(k, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

static void *json_alloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

static struct job *lm, *custom;
static struct genome genome;

static st_t job_of(const char *text)
{
    struct job *j;
    struct base_err err;
    st_t st = job_parse(&j, text, strlen(text), "job.json", &err);
    if (!st) job_free(j);
    return st;
}

static st_t op_lm(void)
{
    static const char *text;
    if (!text) text = strdup(job_text("{'train':'a','valid':'b'}", NULL, NULL, "'constraints':[{'metric':'params','max':1}]"));
    return job_of(text);
}

static st_t op_custom(void)
{
    static const char *text;
    if (!text)
        text = strdup(job_text("{'x':1}", "{'type':'custom','knobs':{'a':{'choice':['x',1]},'b':{'int':[0,9],'repeat':3}}}", "['loss']",
                               "'evaluator':'external'"));
    return job_of(text);
}

static st_t op_identity(void)
{
    char id[BASE_ID_HEX];
    return job_identity(custom->space_json, id, NULL);
}

static st_t op_candidate(void)
{
    struct candidate c;
    st_t st = space_candidate(lm->space, &genome, &c, NULL);
    if (!st) space_candidate_fini(&c);
    return st;
}

static st_t op_mutate(void)
{
    struct base_rng r = base_rng_at(1, RNG_TEST, 1);
    return space_mutate(lm->space, &r, 0, &genome);
}

static st_t report(const struct job *j, json_t *v)
{
    st_t st = v ? ST_OK : ST_ENOMEM;
    json_decref(v);
    return st;
}

static st_t op_describe(void)
{
    st_t st = report(lm, space_describe_json(lm->space));
    return st ? st : report(custom, space_describe_json(custom->space));
}

static st_t op_describe_text(void)
{
    struct base_buf b = BASE_BUF_INIT;
    space_describe(lm->space, &b);
    st_t st = b.st;
    base_buf_fini(&b);
    return st;
}

static st_t op_features(void)
{
    struct candidate c;
    st_t st = space_candidate(lm->space, &genome, &c, NULL);
    if (st) return st;
    st = report(lm, space_candidate_features(lm->space, &c));
    space_candidate_fini(&c);
    return st;
}

static st_t op_where(void)
{
    struct where *w;
    st_t st = space_where_parse(&w, "a<1 and b<1 and c<1 and d<1 and e<1 and f<1 and g<1", true, NULL);
    if (!st) space_where_free(w);
    return st;
}

static st_t op_arch(void)
{
    struct arch a;
    static const char text[] = "{\"taut\":1,\"vocab\":8,\"context\":8,\"width\":8,\"layers\":[{\"mixer\":{\"type\":\"none\"},"
                               "\"ffn\":{\"type\":\"swiglu\",\"hidden\":32}}]}";
    return space_arch_parse(&a, text, sizeof text - 1, "arch.json", NULL);
}

static st_t op_files(void)
{
    struct job_files f;
    st_t st = job_files_resolve(lm, &f, NULL);
    if (st) return st;
    st = report(lm, job_files_json(lm, &f));
    job_files_free(&f);
    return st;
}

static void run(const char *what, int least, st_t (*op)(void))
{
    int at, bad = 0;
    st_t st = op(); /* statics are made, and it works */
    for (at = 1; at < 5000; at++) {
        fail_at = at;
        count = 0;
        st = op();
        fail_at = 0;
        if (count < at) break;
        if (st == ST_OK) continue; /* an allocation that could be done without */
        if (st != ST_ENOMEM && ++bad < 4) printf("#   allocation %d: status %d\n", at, st);
    }
    ok(st == ST_OK && bad == 0 && at > least, "%s: each of %d allocations may fail", what, at - 1);
}

int main(void)
{
    char dir[] = "/tmp/taut-nomem-XXXXXX", path[64], data[128];
    struct base_err err;
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/a.txt", dir);
    FILE *f = fopen(path, "w");
    if (!f) return 1;
    fputs("text", f);
    fclose(f);
    snprintf(data, sizeof data, "{'train':'%s'}", dir);
    json_set_alloc_funcs(json_alloc, free);
    const char *t = job_text(data, "'lm-tiny'", NULL, NULL);
    if (job_parse(&lm, t, strlen(t), "lm", &err)) return 1;
    t = job_text("{}", "{'type':'custom','knobs':{'a':{'choice':['x',1]},'b':{'int':[0,9],'repeat':3}}}", "['loss']", "'evaluator':'external'");
    if (job_parse(&custom, t, strlen(t), "custom", &err)) return 1;
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    if (space_genome_init(lm->space, &genome) || space_sample(lm->space, &r, &genome)) return 1;
    run("a job of language models", 1, op_lm);
    run("a custom job", 1, op_custom);
    run("identity", 1, op_identity);
    run("candidate", 1, op_candidate);
    run("mutation", 1, op_mutate);
    run("description", 1, op_describe);
    run("description as text", 1, op_describe_text);
    run("features", 1, op_features);
    run("filter", 1, op_where);
    run("architecture, which takes no memory of its own", 0, op_arch);
    run("files", 1, op_files);
    space_genome_fini(&genome);
    job_free(lm);
    job_free(custom);
    remove(path);
    remove(dir);
    return tap_done();
}
