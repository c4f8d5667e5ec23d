/* The files behind "data": files, globs, folders; what is refused. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "searchspace/job.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

static char dir[128];

static const char *at(const char *name)
{
    static char path[4][256];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

static st_t resolve(const char *data, struct job_files *f, struct base_err *err)
{
    const char *t = job_text(data, NULL, strstr(data, "vocab") ? "['valid_loss']" : NULL, NULL);
    struct job *j;
    *err = (struct base_err)BASE_ERR_INIT;
    st_t st = job_parse(&j, t, strlen(t), "job.json", err);
    if (st) return st;
    st = job_files_resolve(j, f, err);
    job_free(j);
    return st;
}

/* data with every % replaced by the test's folder */
static const char *in_dir(const char *data)
{
    static char text[2048];
    size_t n = 0;
    for (; *data && n < sizeof text - 200; data++) {
        if (*data == '%') n += (size_t)sprintf(text + n, "%s", dir);
        else text[n++] = *data;
    }
    text[n] = '\0';
    return text;
}

/* names: relative to the test's folder, separated by spaces */
static void lists(const char *data, const char *names)
{
    struct job_files f;
    struct base_err err;
    char got[1024] = "";
    if (!ok(!resolve(in_dir(data), &f, &err), "resolves %s", data)) {
        printf("#   %s: %s\n", err.where, err.what);
        return;
    }
    for (int i = 0; i < f.ntrain; i++) {
        strcat(got, i ? " " : "");
        strcat(got, f.train[i].path + strlen(dir) + 1);
    }
    for (int i = 0; i < f.nvalid; i++) {
        strcat(got, " | ");
        strcat(got, f.valid[i].path + strlen(dir) + 1);
    }
    is_str(got, names, "to the right files");
    job_files_free(&f);
}

static void refuses(const char *data, st_t want, const char *where, const char *what)
{
    struct job_files f = {.ntrain = -5};
    struct base_err err;
    char expected[1024];
    snprintf(expected, sizeof expected, "%s", in_dir(what));
    st_t st = resolve(in_dir(data), &f, &err);
    if (!ok(st == want && f.ntrain == -5 && !strcmp(err.where, where) && !strcmp(err.what, expected), "refuses %s", data))
        printf("#   got %d %s: %s\n", st, err.where, err.what);
}

static void test_lists(void)
{
    lists("{'train':'%/a.txt'}", "a.txt");
    lists("{'train':'%/a.txt','valid':'%/sub/b.txt'}", "a.txt | sub/b.txt");
    lists("{'train':'%/*.txt'}", "a.txt c.txt odd[1].txt");
    lists("{'train':'%/sub'}", "sub/B.txt sub/b.txt sub/deep/d.txt");
    lists("{'train':'%/sub/'}", "sub/B.txt sub/b.txt sub/deep/d.txt");
    lists("{'train':'%/su*'}", "sub/B.txt sub/b.txt sub/deep/d.txt");
    lists("{'train':'%/links'}", "links/again.txt links/folder/B.txt links/folder/b.txt links/folder/deep/d.txt");
    lists("{'train':'%/odd[1].txt'}", "odd[1].txt");
    lists("{'train':'%/shards/*.bin','tokenizer':{'vocab':100}}", "shards/1.bin shards/2.bin");
    lists("{'train':'%/shards','tokenizer':{'vocab':100}}", "shards/1.bin shards/2.bin");
    lists("{'train':'%/beside'}", "beside/text.txt");
    lists("{'train':'%/beside/*'}", "beside/text.txt");
    lists("{'train':'%/names'}", "names/\u00e9\u4e2d\U0001f600");
}

/* bytes and held: of the text and of the file held out (0: a share of the text). want: what the error names; NULL: enough. */
static void holds(int context, int bytes, double share, int held, const char *want)
{
    char text[256], data[256], valid[32];
    struct base_err err;
    struct job_files f;
    memset(text, 'x', sizeof text);
    text[held] = '\0';
    put("held.txt", text);
    text[held] = 'x';
    text[bytes] = '\0';
    put("long.txt", text);
    snprintf(valid, sizeof valid, held ? "'%%/held.txt'" : "%g", share);
    snprintf(data, sizeof data, "{'train':'%%/long.txt','valid':%s,'context':%d}", valid, context);
    const char *t = job_text(in_dir(data), NULL, NULL, NULL);
    struct job *j;
    err = (struct base_err)BASE_ERR_INIT;
    if (!ok(!job_parse(&j, t, strlen(t), "job.json", &err) && !job_files_resolve(j, &f, &err), "%s", data)) return;
    st_t st = job_files_check(j, &f, &err);
    ok(want ? st == ST_EINVAL && !strcmp(err.where, want) : !st, "context %d, %d bytes, held out %g or %d: %s", context, bytes, share, held, want ? want : "enough");
    job_files_free(&f);
    job_free(j);
}

static void test_lengths(void)
{
    holds(8, 18, 0.05, 0, NULL);
    holds(8, 17, 0.05, 0, "data.train");
    holds(8, 90, 0.9, 0, NULL);
    holds(8, 80, 0.9, 0, "data.train");
    holds(8, 9, 0, 9, NULL);
    holds(8, 8, 0, 9, "data.train");
    holds(8, 9, 0, 8, "data.valid");
    unlink(at("held.txt"));
    unlink(at("long.txt"));
}

static void test_refusals(void)
{
    refuses("{'train':'%/no.txt'}", ST_ENOTFOUND, "data.train", "%/no.txt: No such file or directory");
    refuses("{'train':'%/no*.txt'}", ST_ENOTFOUND, "data.train", "%/no*.txt: no file matches");
    refuses("{'train':'%/a.txt','valid':'%/no.txt'}", ST_ENOTFOUND, "data.valid", "%/no.txt: No such file or directory");
    refuses("{'train':'%/void.txt'}", ST_EINVAL, "data.train", "%/void.txt: the file is empty");
    refuses("{'train':'%/voids'}", ST_ENOTFOUND, "data.train", "%/voids: no file with text in it");
    refuses("{'train':'%/beside/taut-job'}", ST_EINVAL, "data.train", "%/beside/taut-job: a search's own folder (it holds taut.db); keep text in another");
    refuses("{'train':'%/fifo'}", ST_EINVAL, "data.train", "%/fifo: not a regular file");
    refuses("{'train':'%/dangling'}", ST_ENOTFOUND, "data.train", "%/dangling: No such file or directory");
    refuses("{'train':'%/mixed'}", ST_EINVAL, "data.train", "%/mixed/a.bin and %/mixed/b.txt: token shards (.bin) and text are mixed");
    refuses("{'train':'%/shards'}", ST_EINVAL, "data.train", "%/shards/1.bin: token shards need \"tokenizer\": {\"vocab\": N}");
    refuses("{'train':'%/a.txt','tokenizer':{'vocab':9}}", ST_EINVAL, "data.train", "%/a.txt: {\"vocab\": N} needs token shards (.bin)");
    refuses("{'train':'%/shards','valid':'%/a.txt','tokenizer':{'vocab':9}}", ST_EINVAL, "data.valid",
            "%/a.txt: {\"vocab\": N} needs token shards (.bin)");
    refuses("{'train':'%/strange'}", ST_EINVAL, "data.train", "%/strange/x\xff.txt: the file's name is not UTF-8");
    if (geteuid() == 0) {
        tap_skip("root reads everything");
    } else {
        refuses("{'train':'%/locked/secret.txt'}", ST_EPERM, "data.train", "%/locked/secret.txt: not permitted");
    }
}

static void test_json(void)
{
    struct job_files f;
    struct base_err err;
    struct job *j;
    const char *t = job_text(in_dir("{'train':'%/a.txt','context':64}"), NULL, NULL, NULL);
    is_int(job_parse(&j, t, strlen(t), "job.json", &err), ST_OK, "a job");
    is_int(job_files_resolve(j, &f, &err), ST_OK, "its file");
    is_int(f.train[0].bytes, 3, "size");
    is_str(f.train[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "hash"); /* of "abc", FIPS 180-4 */
    json_t *v = job_files_json(j, &f);
    char *text = json_dumps(v, JSON_COMPACT | JSON_PRESERVE_ORDER), want[512];
    snprintf(want, sizeof want,
             "{\"train\":[{\"path\":\"%s\",\"bytes\":3,\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}],"
             "\"valid\":[],\"valid_share\":0.050000000000000003,\"tokenizer\":\"bytes\",\"vocab\":256,\"context\":64}",
             at("a.txt"));
    is_str(text, want, "as a lease carries it");
    free(text);
    json_decref(v);
    job_files_free(&f);
    is_int(f.ntrain, 0, "freed");
    job_free(j);
}

int main(void)
{
    snprintf(dir, sizeof dir, "%s/taut-files-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir)) return 1;
    static const char *const folders[] = {"sub", "sub/deep", "links", "shards", "voids", "voids/deep", "mixed", "strange", "locked", "names", "beside", "beside/taut-job"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) mkdir(at(folders[i]), 0700);
    static const char *const files[] = {"a.txt", "c.txt", "sub/b.txt", "sub/B.txt", "sub/.hidden", "sub/deep/d.txt", "odd[1].txt",
                                        "shards/1.bin", "shards/2.bin", "mixed/a.bin", "mixed/b.txt", "strange/x\xff.txt", "locked/secret.txt", "beside/text.txt", "beside/taut-job/taut.db", "beside/taut-job/log.txt", "names/\u00e9\u4e2d\U0001f600"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) put(files[i], "abc");
    static const char *const empty[] = {"void.txt", "sub/void.txt", "voids/1", "voids/deep/2"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) put(empty[i], "");
    chmod(at("locked/secret.txt"), 0);
    int made = mkfifo(at("fifo"), 0600) | symlink("nowhere", at("dangling")) | symlink("../a.txt", at("links/again.txt")) |
               symlink("../sub", at("links/folder")) | symlink("..", at("sub/deep/up")) | symlink("nowhere", at("links/dangling"));
    ok(!made, "the folder is laid out");
    test_lists();
    test_refusals();
    test_lengths();
    test_json();
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ok(!system(command), "and cleared away");
    return tap_done();
}
