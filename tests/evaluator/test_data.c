/* Which files, which tokens of them, and what is refused. The tokens themselves are checked against the bytes that were written. */
#include "tests/evaluator/evaltest.h"

#include <signal.h>
#include <sys/wait.h>

#include "searchspace/job.h"

static json_t *spec_of(const char *train, const char *valid, double share, int vocab, int context)
{
    struct job j = {.data = {.train = (char *)(uintptr_t)train, .valid = (char *)(uintptr_t)valid, .valid_share = share, .vocab = vocab,
                             .bytes = vocab == 256, .context = context}};
    struct job_files f = {0};
    struct base_err err = BASE_ERR_INIT;
    if (job_files_resolve(&j, &f, &err)) {
        printf("# %s: %s\n", err.where, err.what);
        return NULL;
    }
    json_t *v = job_files_json(&j, &f);
    job_files_free(&f);
    return v;
}

static struct data *open_spec(json_t *spec, bool verify)
{
    struct data *d = NULL;
    struct base_err err = BASE_ERR_INIT;
    if (data_open(&d, spec, verify, &err)) printf("# %s: %s\n", err.where, err.what);
    return d;
}

static struct data *open_path(const char *path, double share, int vocab, int context)
{
    struct data *d = NULL;
    struct base_err err = BASE_ERR_INIT;
    if (data_open_path(&d, path, NULL, share, vocab == 256 ? 0 : vocab, context, &err)) printf("# %s: %s\n", err.where, err.what);
    return d;
}

static void refused(const char *path, double share, int vocab, int context, st_t want, const char *words, const char *what)
{
    struct data *d = NULL;
    struct base_err err = BASE_ERR_INIT;
    st_t st = data_open_path(&d, path, NULL, share, vocab == 256 ? 0 : vocab, context, &err);
    is_int(st, want, "refused: %s", what);
    char text[1200];
    base_err_text(&err, text, sizeof text);
    ok(strstr(text, words) != NULL, "says so: %s", text);
    if (!st) data_close(d);
}

static bool windows_equal(const int32_t *tokens, const int32_t *targets, const uint8_t *text, int n)
{
    for (int i = 0; i < n; i++)
        if (tokens[i] != text[i] || targets[i] != text[i + 1]) return false;
    return true;
}

/* Where in text this window lies; -1: nowhere. */
static long find(const uint8_t *text, size_t n, const int32_t *tokens, const int32_t *targets, int T)
{
    for (size_t i = 0; i + (size_t)T < n; i++)
        if (text[i] == tokens[0] && windows_equal(tokens, targets, text + i, T)) return (long)i;
    return -1;
}

static void one_file(void)
{
    enum { N = 4000, T = 16, B = 8 };
    uint8_t *text = noise(N, 1);
    const char *path = put_file("one.txt", text, N);
    struct data *d = open_path(path, 0.1, 256, T);
    ok(d != NULL, "a file");
    is_int(data_train_tokens(d), 3600, "nine tenths to train on");
    is_int(data_valid_tokens(d), 400, "a tenth held out");
    ok(data_is_bytes(d), "bytes");
    int32_t tokens[B * T], targets[B * T], again[B * T], more[B * T];
    struct base_err err = BASE_ERR_INIT;
    long last = 0;
    int bad = 0, same = 0;
    for (uint64_t s = 0; s < 400; s++) {
        bad += data_batch(d, 7, s, B, T, tokens, targets, &err) != ST_OK;
        for (int b = 0; b < B; b++) {
            long at = find(text, N, tokens + b * T, targets + b * T, T);
            bad += at < 0 || at + T >= 3600;
            if (at > last) last = at;
        }
    }
    is_int(bad, 0, "every window is text, and stays before the held-out part, its last target included");
    is_int(last + T, 3599, "and the last token that may be trained on is reached");
    bad = data_batch(d, 7, 12, B, T, tokens, targets, &err) || data_batch(d, 7, 13, B, T, again, more, &err) ||
          data_batch(d, 7, 12, B, T, again, more, &err);
    ok(!bad && !memcmp(tokens, again, sizeof tokens) && !memcmp(targets, more, sizeof targets), "a batch depends on seed and step alone");
    same = !data_batch(d, 7, 13, B, T, again, more, &err) && !memcmp(tokens, again, sizeof tokens);
    same += !data_batch(d, 8, 12, B, T, again, more, &err) && !memcmp(tokens, again, sizeof tokens);
    is_int(same, 0, "another step, another seed: another batch");
    is_int(data_batch(d, 7, 0, 1, T + 1, tokens, targets, &err), ST_EINVAL, "a window longer than the context");

    int n = data_valid_windows(d, T), inside = 0, prev = -1;
    is_int(n, 399 / T, "windows that fit the held-out part");
    for (int i = 0; i < n; i++) {
        long at = data_valid_window(d, i, T, tokens, targets, &err) ? -1 : find(text, N, tokens, targets, T);
        inside += at >= 3600 && at > prev && (at - 3600) % T == 0;
        prev = (int)at;
    }
    is_int(inside, n, "all of them there, one after the other");
    is_int(data_valid_window(d, n + 1000, T, tokens, targets, &err), ST_EINVAL, "no such window");

    bad = 0;
    for (uint64_t s = 0; s < 60; s++) {
        bad += data_batch_sequential(d, s, B, T, tokens, targets, &err) != ST_OK;
        for (uint64_t b = 0; b < B; b++) {
            uint64_t at = (s * B + b) % (3599 / T) * T;
            bad += !windows_equal(tokens + b * T, targets + b * T, text + at, T);
        }
    }
    is_int(bad, 0, "in order: sequence b of step s starts at token (s B + b) T, and wraps round");
    data_close(d);

    /* The share decides, not the candidate: its context only says how the held-out part is cut. */
    struct data *e = open_path(path, 0.1, 256, 64);
    ok(data_train_tokens(e) == 3600 && data_valid_tokens(e) == 400, "held out the same at another context");
    data_close(e);
    free(text);
}

static void many_files(void)
{
    enum { T = 8, B = 16 };
    static const size_t size[] = {500, 37, 9, 800, 5}; /* the third gives one window if nothing is held out, the last none */
    uint8_t *text[5], *all = malloc(5000);
    size_t total = 0;
    mkdir(in("many"), 0777);
    mkdir(in("many/deep"), 0777);
    for (int i = 0; i < 5; i++) {
        char name[32];
        sprintf(name, i == 3 ? "many/deep/%d.txt" : "many/%d.txt", i);
        text[i] = noise(size[i], 10 + (uint64_t)i);
        put_file(name, text[i], size[i]);
        memcpy(all + total, text[i], size[i]);
        total += size[i];
    }
    put_file("many/.hidden", "nobody looks here, ever", 23);
    put_file("many/empty.txt", "", 0);
    put_file("held.txt", text[3], 300);
    json_t *spec = spec_of(in("many"), in("held.txt"), 0, 256, T);
    struct data *d = open_spec(spec, true);
    ok(d && data_train_tokens(d) == 500 + 37 + 9 + 800 + 5, "a folder, all of it to train on");
    is_int(data_valid_tokens(d), 300, "a validation file of its own");
    int32_t tokens[B * T], targets[B * T];
    struct base_err err = BASE_ERR_INIT;
    int bad = 0, seen[5] = {0};
    for (uint64_t s = 0; s < 1500; s++) {
        bad += data_batch(d, 3, s, B, T, tokens, targets, &err) != ST_OK;
        for (int b = 0; b < B; b++) {
            int hits = 0;
            for (int f = 0; f < 5; f++)
                if (find(text[f], size[f], tokens + b * T, targets + b * T, T) >= 0) seen[f]++, hits++;
            bad += hits != 1;
        }
    }
    is_int(bad, 0, "no window crosses a file's end");
    ok(seen[0] && seen[1] && seen[2] && seen[3] && !seen[4], "each file that holds a window is read, one of a single window too");
    /* 492, 29, 1 and 792 windows: as often as that, within five standard deviations */
    double expect = 1500.0 * B * 29 / (492 + 29 + 1 + 792);
    ok(fabs(seen[1] - expect) < 5 * sqrt(expect), "as often as its share of the windows says (%d, %.0f)", seen[1], expect);
    data_close(d);

    static const char *const same_order[] = {"many", "many/*.txt"};
    for (int k = 0; k < 2; k++) {
        d = open_path(in(same_order[k]), 0.01, 256, T);
        ok(d != NULL, "%s", same_order[k]);
        /* in path order: 0 1 2 4 (deep/3 after them, or not at all); 5 bytes hold no window and are held out as a whole */
        size_t held = data_valid_tokens(d);
        is_int(held, k ? 9 + 9 + 9 + 5 : 9 + 9 + 9 + 9 + 5, "%s: at least one window of each file is held out", same_order[k]);
        ok(!data_batch_sequential(d, 0, 1, T, tokens, targets, &err) && windows_equal(tokens, targets, text[0], T), "in order: the first file first");
        ok(!data_batch_sequential(d, 491 / T - 1, 1, T, tokens, targets, &err), "up to its end");
        uint64_t next = 490 / T;
        ok(!data_batch_sequential(d, next, 1, T, tokens, targets, &err) && windows_equal(tokens, targets, text[1], T), "then the next file");
        data_close(d);
    }
    json_decref(spec);

    /* The same content under other names is the same data; another share or order of content is not. */
    json_t *s1 = spec_of(in("many/0.txt"), NULL, 0.1, 256, T), *s2, *s3 = spec_of(in("many/0.txt"), NULL, 0.2, 256, T);
    put_file("copy.txt", text[0], size[0]);
    s2 = spec_of(in("copy.txt"), NULL, 0.1, 256, T);
    struct data *d1 = open_spec(s1, false), *d2 = open_spec(s2, false), *d3 = open_spec(s3, false);
    is_str(data_id(d1), data_id(d2), "a copy has the same id");
    ok(strcmp(data_id(d1), data_id(d3)) != 0, "another share has another");
    data_close(d1), data_close(d2), data_close(d3);
    json_decref(s1), json_decref(s2), json_decref(s3);
    for (int i = 0; i < 5; i++) free(text[i]);
    free(all);
}

static void held_out_limit(void)
{
    /* 200 kB held out: evenly spaced windows of it, not more than DATA_VALID_TOKENS */
    enum { N = 2000000, T = 128 };
    uint8_t *text = noise(N, 5);
    struct data *d = open_path(put_file("big.txt", text, N), 0.1, 256, T);
    int32_t tokens[T], targets[T];
    struct base_err err = BASE_ERR_INIT;
    int n = data_valid_windows(d, T), bad = 0;
    is_int(n, DATA_VALID_TOKENS / T, "as many windows as DATA_VALID_TOKENS allow");
    long all = 199999 / T;
    for (int i = 0; i < n; i++) {
        long want = 1800000 + all * i / n * T;
        bad += data_valid_window(d, i, T, tokens, targets, &err) || !windows_equal(tokens, targets, text + want, T);
    }
    is_int(bad, 0, "evenly over the held-out part");
    data_close(d);
    free(text);
}

/* ---- shards ---- */

static void put_shard(const char *name, int32_t magic, int32_t version, int32_t count, const uint16_t *t, int n)
{
    int32_t head[256] = {magic, version, count};
    char *p = malloc(sizeof head + 2 * (size_t)n);
    memcpy(p, head, sizeof head);
    memcpy(p + sizeof head, t, 2 * (size_t)n);
    put_file(name, p, sizeof head + 2 * (size_t)n);
    free(p);
}

static void shards(void)
{
    enum { N = 1000, T = 10, MAGIC = 20240520 };
    uint16_t t[N];
    int32_t tokens[4 * T], targets[4 * T];
    struct base_err err = BASE_ERR_INIT;
    for (int i = 0; i < N; i++) t[i] = (uint16_t)(i * 7919 % 50257);
    put_shard("llmc.bin", MAGIC, 1, N, t, N);
    put_file("bare.bin", t, sizeof t);
    static const char *const names[] = {"llmc.bin", "bare.bin"};
    for (int k = 0; k < 2; k++) {
        json_t *spec = spec_of(in(names[k]), NULL, 0.1, 50257, T);
        struct data *d = open_spec(spec, true);
        ok(d && !data_is_bytes(d), "%s: tokens, not bytes", names[k]);
        if (d) {
            ok(data_train_tokens(d) == 900 && data_valid_tokens(d) == 100, "%s: held out in tokens", names[k]);
            ok(!data_batch_sequential(d, 3, 2, T, tokens, targets, &err) && tokens[0] == t[60] && targets[2 * T - 1] == t[80], "%s: its tokens", names[k]);
            ok(!data_valid_window(d, 0, T, tokens, targets, &err) && tokens[0] == t[900], "%s: its held-out tokens", names[k]);
            data_close(d);
        }
        json_decref(spec);
    }
    put_shard("short.bin", MAGIC, 1, 500, t, N);
    struct data *d = open_path(in("short.bin"), 0.1, 50257, T);
    ok(d && data_train_tokens(d) + data_valid_tokens(d) == 500, "what lies past the header's count is not text");
    data_close(d);

    put_shard("long.bin", MAGIC, 1, N + 1, t, N);
    refused(in("long.bin"), 0.1, 50257, T, ST_ECORRUPT, "shard says 1001 tokens, the file holds 1000", "a count that lies");
    put_shard("negative.bin", MAGIC, 1, -5, t, N);
    refused(in("negative.bin"), 0.1, 50257, T, ST_ECORRUPT, "shard says -5 tokens", "a count below zero");
    put_shard("v2.bin", MAGIC, 2, N, t, N);
    refused(in("v2.bin"), 0.1, 50257, T, ST_EINVAL, "version 2", "a version that nobody knows");
    int32_t head[20] = {MAGIC, 1, 10};
    put_file("cut.bin", head, sizeof head);
    refused(in("cut.bin"), 0.1, 50257, T, ST_ECORRUPT, "header has 1024 bytes, the file has 80", "cut short in its header");
    put_file("odd.bin", t, 999);
    refused(in("odd.bin"), 0.1, 50257, T, ST_ECORRUPT, "this has 999", "half a token");
    put_shard("none.bin", MAGIC, 1, 0, t, 0);
    refused(in("none.bin"), 0.1, 50257, T, ST_EINVAL, "no file is longer than one window", "a shard of no tokens");
    refused(in("llmc.bin"), 0.1, 256, T, ST_EINVAL, "token shards need", "a shard where text is said");

    d = open_path(in("llmc.bin"), 0.1, 40000, T);
    ok(d != NULL, "a vocabulary that is too small shows when it is read");
    st_t st = ST_OK;
    for (uint64_t s = 0; s < 90 && !st; s++) st = data_batch_sequential(d, s, 1, T, tokens, targets, &err);
    is_int(st, ST_EINVAL, "a token outside of it");
    ok(strstr(err.where, "llmc.bin") && strstr(err.what, "outside the vocabulary of 40000"), "names file, token and place: %s: %s", err.where, err.what);
    data_close(d);
}

/* ---- what is not as it should be ---- */

static void bad_files(void)
{
    refused(in("nowhere.txt"), 0.1, 256, 8, ST_ENOTFOUND, "nowhere.txt", "a file that is not there");
    refused(in("no*.such"), 0.1, 256, 8, ST_ENOTFOUND, "no file matches", "a pattern that nothing matches");
    put_file("empty.txt", "", 0);
    refused(in("empty.txt"), 0.1, 256, 8, ST_EINVAL, "empty", "an empty file");
    mkdir(in("void"), 0777);
    refused(in("void"), 0.1, 256, 8, ST_ENOTFOUND, "no file with text", "an empty folder");
    put_file("tiny.txt", "eight ch", 8);
    refused(in("tiny.txt"), 0.1, 256, 8, ST_EINVAL, "no file is longer than one window of context + 1 = 9", "text shorter than a window");
    put_file("tight.txt", "seventeen charact", 17);
    refused(in("tight.txt"), 0.1, 256, 8, ST_EINVAL, "no file is longer than one window of context + 1 = 9 tokens, less the part of it that is held out to validate (0.1 of it, one window at least)",
            "nothing left to train on once a window is held out");
    refused(in("tight.txt"), 0, 256, 8, ST_EINVAL, "held-out part has no window", "nothing held out");
    struct data *d = open_path(put_file("enough.txt", "eighteen character", 18), 0.1, 256, 8);
    ok(d != NULL, "two windows are enough");
    data_close(d);
    if (geteuid()) {
        put_file("closed.txt", "nobody may read this text", 25);
        chmod(in("closed.txt"), 0);
        refused(in("closed.txt"), 0.1, 256, 8, ST_EPERM, "closed.txt", "a file that may not be read");
    } else {
        tap_skip("root reads everything");
    }

    static const struct {
        const char *spec, *words;
    } S[] = {{"{}", "train"},
             {"{\"train\":[]}", "no files"},
             {"{\"train\":\"/x\"}", "no files"},
             {"{\"train\":[{\"path\":\"relative.txt\",\"bytes\":1,\"sha256\":\"\"}]}", "not an absolute path"},
             {"{\"train\":[{\"path\":5}]}", "path"},
             {"{\"train\":[7]}", "data.train"},
             {"{\"train\":[{\"path\":\"/\",\"bytes\":1}]}", "not a regular file"},
             {"{\"train\":[{\"path\":\"/x\"}],\"context\":0}", "context"},
             {"{\"train\":[{\"path\":\"/x\"}],\"valid_share\":2}", "valid_share"},
             {"{\"train\":[{\"path\":\"/x\"}],\"tokenizer\":\"bpe\"}", "tokenizer"}};
    for (size_t i = 0; i < sizeof S / sizeof *S; i++) {
        struct base_err err = BASE_ERR_INIT;
        char text[1200];
        json_t *v = json_loads(S[i].spec, 0, NULL);
        ok(data_open(&d, v, false, &err) != ST_OK, "refused: %s", S[i].spec);
        base_err_text(&err, text, sizeof text);
        ok(strstr(text, S[i].words) != NULL, "says so: %s", text);
        json_decref(v);
    }
}

static void changed_files(void)
{
    char *text = prose(3000, 1);
    json_t *spec = spec_of(put_file("text.txt", text, 3000), NULL, 0.1, 256, 16);
    struct base_err err = BASE_ERR_INIT;
    struct data *d;
    ok(!data_verify(spec, &err), "as it was submitted");
    text[1500] ^= 1;
    put_file("text.txt", text, 3000);
    is_int(data_open(&d, spec, true, &err), ST_EVERSION, "a changed letter is found");
    ok(strstr(err.where, "text.txt") && strstr(err.what, "SHA-256"), "and the file named: %s: %s", err.where, err.what);
    ok(!data_open(&d, spec, false, &err), "unless nobody asked");
    data_close(d);
    put_file("text.txt", text, 2999);
    is_int(data_verify(spec, &err), ST_EVERSION, "so is another length");
    ok(strstr(err.what, "has 2999 bytes here, the job was submitted with 3000") != NULL, "with both: %s", err.what);
    unlink(in("text.txt"));
    is_int(data_verify(spec, &err), ST_ENOTFOUND, "and one that is gone");
    ok(strstr(err.where, "text.txt") != NULL, "by name");
    text[1500] ^= 1;
    put_file("text.txt", text, 3000);
    ok(!data_verify(spec, &err), "back as it was, it is the same");
    json_decref(spec);
    free(text);
}

/* A mapped file that is cut short: reading it is an error, and this program goes on. In a child, since the other outcome is its end. */
static int child_reads_cut(bool to_nothing)
{
    enum { N = 1 << 20, T = 64 };
    uint8_t *text = noise(N, 3);
    struct data *d = open_path(put_file("cut.txt", text, N), 0.1, 256, T);
    int32_t tokens[T], targets[T];
    struct base_err err = BASE_ERR_INIT;
    if (!d || data_batch(d, 1, 0, 1, T, tokens, targets, &err) || truncate(in("cut.txt"), to_nothing ? 0 : 4096)) return 10;
    st_t st = ST_OK;
    for (uint64_t s = 0; s < 1000 && !st; s++) st = data_batch(d, 1, s, 1, T, tokens, targets, &err);
    if (st != ST_EIO || !strstr(err.where, "cut.txt") || !strstr(err.what, "cut short")) return 11;
    if (data_valid_window(d, 0, T, tokens, targets, &err) != ST_EIO) return 12; /* again, and elsewhere */
    data_close(d);
    struct data *e = open_path(put_file("whole.txt", text, N), 0.1, 256, T);
    if (!e || data_batch(e, 1, 0, 1, T, tokens, targets, &err)) return 13;
    data_close(e);
    free(text);
    return 0;
}

/* A SIGBUS that has nothing to do with a mapped text still ends the program, as it should. */
static int child_faults_elsewhere(void)
{
    enum { T = 64 };
    uint8_t *text = noise(10000, 3);
    struct data *d = open_path(put_file("ok.txt", text, 10000), 0.1, 256, T);
    int32_t tokens[T], targets[T];
    struct base_err err = BASE_ERR_INIT;
    if (!d || data_batch(d, 1, 0, 1, T, tokens, targets, &err)) return 10;
    raise(SIGBUS);
    raise(SIGBUS); /* the handler has stepped aside */
    return 14;
}

static int in_child(int which)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        freopen("/dev/null", "w", stdout);
        _exit(which == 2 ? child_faults_elsewhere() : child_reads_cut(which));
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

int main(void)
{
    begin_files();
    one_file();
    many_files();
    held_out_limit();
    shards();
    bad_files();
    changed_files();
    is_int(in_child(0), 0, "a text cut short while it is mapped: an error that names it, and the program goes on");
    is_int(in_child(1), 0, "cut to nothing: the same");
    int status = in_child(2);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "any other SIGBUS ends the program as ever");
    end_files();
    return tap_done();
}
