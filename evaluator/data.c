#include "evaluator/data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"
#include "evaluator/fault.h"
#include "searchspace/job.h"

/* llm.c's shards: 256 int32 of header, then uint16 tokens. */
#define SHARD_MAGIC 20240520
#define SHARD_HEADER_BYTES (256 * 4)

struct part { /* the training or the held-out stretch of one file */
    const uint8_t *p;  /* into the file's mapping */
    uint64_t tokens;
    int shard;         /* two bytes a token */
    uint64_t windows;  /* start positions of a window of context + 1 tokens, before which … */
    uint64_t before;   /* … so many belong to earlier files */
    const char *path;  /* borrowed from the mapping */
};

struct mapping {
    char *path;
    void *p;
    size_t bytes;
};

struct data {
    struct mapping *map;
    int nmap;
    struct part *train, *valid;
    int ntrain, nvalid;
    uint64_t train_tokens, valid_tokens, train_windows;
    int vocab, context;
    double share;          /* of each file that is held out; 0: files of their own are, or nothing */
    bool bytes;
    char id[BASE_ID_HEX];
};

/* Files whose hash this process has checked already: a lease names the same data again and again. */
struct verified {
    struct verified *next;
    char *path, sha[BASE_SHA256_HEX];
    off_t size;
    struct timespec mtime;
};
static struct verified *verified_list;

static st_t verify_file(const char *path, uint64_t bytes, const char *sha, struct base_err *err)
{
    struct stat sb;
    if (stat(path, &sb)) return base_err_set(err, ST_ENOTFOUND, path, "%s", strerror(errno));
    if ((uint64_t)sb.st_size != bytes)
        return base_err_set(err, ST_EVERSION, path, "has %lld bytes here, the job was submitted with %llu",
                            (long long)sb.st_size, (unsigned long long)bytes);
    for (struct verified *v = verified_list; v; v = v->next)
        if (!strcmp(v->path, path) && v->size == sb.st_size && v->mtime.tv_sec == sb.st_mtim.tv_sec &&
            v->mtime.tv_nsec == sb.st_mtim.tv_nsec && !strcmp(v->sha, sha))
            return ST_OK;
    char have[BASE_SHA256_HEX];
    uint64_t n;
    st_t st = base_sha256_file(path, have, &n);
    if (st) return base_err_set(err, st, path, "cannot be read: %s", strerror(errno));
    if (strcmp(have, sha))
        return base_err_set(err, ST_EVERSION, path, "its content differs from what the job was submitted with (SHA-256 %.12s…, not %.12s…)",
                            have, sha);
    struct verified *v = calloc(1, sizeof *v);
    if (!v || !(v->path = strdup(path))) {
        free(v);
        return ST_ENOMEM;
    }
    strcpy(v->sha, have);
    v->size = sb.st_size;
    v->mtime = sb.st_mtim;
    v->next = verified_list;
    verified_list = v;
    return ST_OK;
}

/* Where the tokens of a shard are, and how many. */
static st_t shard_part(int fd, size_t bytes, struct part *out, struct base_err *err)
{
    int32_t head[3] = {0};
    if (bytes >= sizeof head && pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return base_err_set(err, ST_EIO, out->path, "cannot be read: %s", strerror(errno));
    if (head[0] != SHARD_MAGIC) {
        if (bytes % 2) return base_err_set(err, ST_ECORRUPT, out->path, "a shard of uint16 tokens has an even number of bytes, this has %zu", bytes);
        out->tokens = bytes / 2;
        return ST_OK;
    }
    if (head[1] != 1) return base_err_set(err, ST_EINVAL, out->path, "shard version %d is unknown; 1 is", head[1]);
    if (bytes < SHARD_HEADER_BYTES) return base_err_set(err, ST_ECORRUPT, out->path, "a shard's header has %d bytes, the file has %zu", SHARD_HEADER_BYTES, bytes);
    size_t there = (bytes - SHARD_HEADER_BYTES) / 2;
    if (head[2] < 0 || (size_t)head[2] > there)
        return base_err_set(err, ST_ECORRUPT, out->path, "shard says %d tokens, the file holds %zu", head[2], there);
    out->p += SHARD_HEADER_BYTES;
    out->tokens = (uint64_t)head[2];
    return ST_OK;
}

static st_t map_file(struct data *d, const char *path, struct part *out, struct base_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return base_err_set(err, errno == ENOENT ? ST_ENOTFOUND : ST_EIO, path, "%s", strerror(errno));
    struct stat sb;
    st_t st = ST_OK;
    struct mapping *m = NULL;
    if (fstat(fd, &sb) || !S_ISREG(sb.st_mode)) {
        st = base_err_set(err, ST_EINVAL, path, "not a regular file");
        goto close_fd;
    }
    if (!sb.st_size) {
        st = base_err_set(err, ST_EINVAL, path, "is empty");
        goto close_fd;
    }
    m = realloc(d->map, (size_t)(d->nmap + 1) * sizeof *m);
    if (!m) {
        st = ST_ENOMEM;
        goto close_fd;
    }
    d->map = m;
    m += d->nmap;
    m->bytes = (size_t)sb.st_size;
    m->path = strdup(path);
    m->p = m->path ? mmap(NULL, m->bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (m->p == MAP_FAILED) {
        free(m->path);
        st = base_err_set(err, ST_EIO, path, "cannot be mapped: %s", strerror(errno));
        goto close_fd;
    }
    d->nmap++;
    out->path = m->path;
    out->shard = !d->bytes;
    out->p = m->p;
    out->tokens = m->bytes;
    if (out->shard) st = shard_part(fd, m->bytes, out, err);
close_fd:
    close(fd);
    return st;
}

static st_t add_part(struct part **list, int *n, const struct part *p)
{
    struct part *l = realloc(*list, (size_t)(*n + 1) * sizeof *l);
    if (!l) return ST_ENOMEM;
    *list = l;
    l[(*n)++] = *p;
    return ST_OK;
}

/* Splits a mapped file into its training and held-out stretch: the last share of it, in whole tokens. */
static st_t add_split(struct data *d, const struct part *whole, double share)
{
    uint64_t held = share > 0 ? (uint64_t)((double)whole->tokens * share) : 0;
    uint64_t least = (uint64_t)d->context + 1;
    if (share > 0 && held < least) held = least;
    if (held > whole->tokens) held = whole->tokens;
    struct part p = *whole;
    p.tokens = whole->tokens - held;
    st_t st = p.tokens ? add_part(&d->train, &d->ntrain, &p) : ST_OK;
    if (!st && held) {
        p.p += p.tokens * (p.shard ? 2 : 1);
        p.tokens = held;
        st = add_part(&d->valid, &d->nvalid, &p);
    }
    return st;
}

static st_t too_short(const struct data *d, const char *window, int tokens, struct base_err *err)
{
    char held[96] = "";
    if (d->share > 0) snprintf(held, sizeof held, ", less the part of it that is held out to validate (%g of it, one window at least)", d->share);
    return base_err_set(err, ST_EINVAL, "data.train", "no file is longer than one window of %s%d tokens%s", window, tokens, held);
}

/* Counts tokens and windows; refuses what is too small to train on. */
static st_t finish(struct data *d, struct base_err *err)
{
    uint64_t need = (uint64_t)d->context + 1;
    for (int i = 0; i < d->ntrain; i++) {
        struct part *p = &d->train[i];
        p->before = d->train_windows;
        p->windows = p->tokens >= need ? p->tokens - need + 1 : 0;
        d->train_windows += p->windows;
        d->train_tokens += p->tokens;
    }
    for (int i = 0; i < d->nvalid; i++) d->valid_tokens += d->valid[i].tokens;
    if (!d->train_windows) return too_short(d, "context + 1 = ", d->context + 1, err);
    if (data_valid_windows(d, d->context) < 1)
        return base_err_set(err, ST_EINVAL, "data.valid", "the held-out part has no window of context + 1 = %llu tokens", (unsigned long long)need);
    return ST_OK;
}

/* The spec without paths: the same content under another name is the same data. */
static st_t make_id(struct data *d, json_t *spec)
{
    struct base_buf b = BASE_BUF_INIT;
    static const char *const lists[] = {"train", "valid"};
    for (int k = 0; k < 2; k++) {
        size_t i;
        json_t *f;
        base_buf_printf(&b, "%s:", lists[k]);
        json_array_foreach(json_object_get(spec, lists[k]), i, f)
        {
            const char *sha = json_string_value(json_object_get(f, "sha256"));
            base_buf_printf(&b, "%s ", sha ? sha : "");
        }
    }
    base_buf_printf(&b, "%.17g %d %d", json_number_value(json_object_get(spec, "valid_share")), d->vocab, d->context);
    if (!b.st) base_id_hex(b.p, b.len, d->id);
    st_t st = b.st;
    base_buf_fini(&b);
    return st;
}

static st_t open_list(struct data *d, json_t *list, const char *key, double share, bool held, struct base_err *err)
{
    size_t i;
    json_t *f;
    json_array_foreach(list, i, f)
    {
        struct base_jr r = base_jr_at(f, key, err);
        const char *path = base_jr_str(&r, "path", "");
        if (r.st) return r.st;
        if (*path != '/') return base_err_set(err, ST_EINVAL, key, "'%s' is not an absolute path", path);
        struct part p = {0};
        st_t st = map_file(d, path, &p, err);
        if (!st) st = held ? add_part(&d->valid, &d->nvalid, &p) : add_split(d, &p, share);
        if (st) return st;
    }
    return ST_OK;
}

st_t data_verify(json_t *spec, struct base_err *err)
{
    static const char *const lists[] = {"train", "valid"}, *const keys[] = {"data.train", "data.valid"};
    for (int k = 0; k < 2; k++) {
        size_t i;
        json_t *f;
        json_array_foreach(json_object_get(spec, lists[k]), i, f)
        {
            struct base_jr r = base_jr_at(f, keys[k], err);
            const char *path = base_jr_str(&r, "path", ""), *sha = base_jr_str(&r, "sha256", "");
            uint64_t bytes = (uint64_t)base_jr_int(&r, "bytes", 0, 0, INT64_MAX);
            st_t st = r.st ? r.st : verify_file(path, bytes, sha, err);
            if (st) return st;
        }
    }
    return ST_OK;
}

st_t data_open(struct data **out, json_t *spec, bool verify, struct base_err *err)
{
    struct data *d = calloc(1, sizeof *d);
    if (!d) return ST_ENOMEM;
    struct base_jr r = base_jr_at(spec, "data", err);
    json_t *train = base_jr_need(&r, "train"), *valid = base_jr_get(&r, "valid");
    d->share = base_jr_num(&r, "valid_share", 0, 0, 0.9);
    d->vocab = (int)base_jr_int(&r, "vocab", 256, 1, ARCH_VOCAB_MAX);
    d->context = (int)base_jr_int(&r, "context", 256, 1, ARCH_CONTEXT_MAX);
    json_t *tokenizer = base_jr_get(&r, "tokenizer");
    d->bytes = !json_is_object(tokenizer); /* {"vocab": N}: token shards */
    if (tokenizer && d->bytes && strcmp(base_jr_str(&r, "tokenizer", ""), "bytes")) base_jr_fail(&r, ST_ENOTSUP, "tokenizer", "is not built yet");
    st_t st = r.st;
    if (!st && (!json_is_array(train) || !json_array_size(train))) st = base_err_set(err, ST_EINVAL, "data.train", "no files");
    if (!st && verify) st = data_verify(spec, err);
    if (!st) st = open_list(d, train, "data.train", d->share, false, err);
    if (!st && json_is_array(valid)) st = open_list(d, valid, "data.valid", 0, true, err);
    if (!st) st = finish(d, err);
    if (!st) st = make_id(d, spec);
    if (st) {
        data_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

/* Absolute; a glob stays one. */
static char *absolute(const char *path)
{
    char *real = realpath(path, NULL), *cwd = real || *path == '/' ? NULL : getcwd(NULL, 0);
    struct base_buf b = BASE_BUF_INIT;
    base_buf_printf(&b, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", real ? real : path);
    free(real);
    free(cwd);
    return base_buf_take(&b);
}

st_t data_open_path(struct data **out, const char *train, const char *valid, double valid_share, int vocab, int context, struct base_err *err)
{
    struct job j = {.data = {.train = absolute(train), .valid = valid ? absolute(valid) : NULL, .valid_share = valid ? 0 : valid_share,
                             .vocab = vocab ? vocab : 256, .bytes = !vocab, .context = context}};
    struct job_files files = {0};
    json_t *spec = NULL;
    st_t st = j.data.train && (!valid || j.data.valid) ? job_files_resolve(&j, &files, err) : ST_ENOMEM;
    if (!st && !(spec = job_files_json(&j, &files))) st = ST_ENOMEM;
    if (!st) st = data_open(out, spec, false, err);
    json_decref(spec);
    job_files_free(&files);
    free(j.data.train);
    free(j.data.valid);
    return st;
}

void data_close(struct data *d)
{
    if (!d) return;
    for (int i = 0; i < d->nmap; i++) {
        munmap(d->map[i].p, d->map[i].bytes);
        free(d->map[i].path);
    }
    free(d->map);
    free(d->train);
    free(d->valid);
    free(d);
}

uint64_t data_train_tokens(const struct data *d)
{
    return d->train_tokens;
}

uint64_t data_valid_tokens(const struct data *d)
{
    return d->valid_tokens;
}

bool data_is_bytes(const struct data *d)
{
    return d->bytes;
}

const char *data_id(const struct data *d)
{
    return d->id;
}

static st_t copy_tokens(const struct data *d, const struct part *p, uint64_t at, int n, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    for (int i = 0; i <= n; i++) {
        uint64_t k = at + (uint64_t)i;
        int32_t t = p->shard ? p->p[2 * k] | p->p[2 * k + 1] << 8 : p->p[k];
        if (t >= d->vocab)
            return base_err_set(err, ST_EINVAL, p->path, "token %d at position %llu is outside the vocabulary of %d", t,
                                (unsigned long long)k, d->vocab);
        if (i < n) tokens[i] = t;
        if (i) targets[i - 1] = t;
    }
    return ST_OK;
}

/* n + 1 tokens from `at`: tokens gets the first n, targets the last n. */
static st_t copy_window(const struct data *d, const struct part *p, uint64_t at, int n, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    sigjmp_buf back;
    if (sigsetjmp(back, 0)) {
        fault_end();
        return base_err_set(err, ST_EIO, p->path, "cannot be read any more: it was cut short, or its disk failed");
    }
    fault_begin(&back);
    st_t st = copy_tokens(d, p, at, n, tokens, targets, err);
    fault_end();
    return st;
}

st_t data_batch(struct data *d, uint64_t seed, uint64_t step, int B, int T, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    if (T > d->context) return base_err_set(err, ST_EINVAL, "data", "window %d is longer than the context %d", T, d->context);
    struct base_rng r = base_rng_at(seed, RNG_BATCH, step);
    for (int b = 0; b < B; b++) {
        /* modulo bias is below windows / 2^64 */
        uint64_t w = base_rng_u64(&r) % d->train_windows;
        int lo = 0, hi = d->ntrain - 1; /* the last file with before <= w: it has windows, since w < train_windows */
        while (lo < hi) {
            int mid = (lo + hi + 1) / 2;
            if (d->train[mid].before <= w) lo = mid;
            else hi = mid - 1;
        }
        st_t st = copy_window(d, &d->train[lo], w - d->train[lo].before, T, tokens + (size_t)b * T, targets + (size_t)b * T, err);
        if (st) return st;
    }
    return ST_OK;
}

st_t data_batch_sequential(struct data *d, uint64_t step, int B, int T, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    /* whole windows of T + 1 tokens that overlap by one, file after file */
    uint64_t total = 0;
    for (int i = 0; i < d->ntrain; i++) total += d->train[i].tokens > (uint64_t)T ? (d->train[i].tokens - 1) / (uint64_t)T : 0;
    if (!total) return too_short(d, "", T, err);
    for (int b = 0; b < B; b++) {
        uint64_t w = (step * (uint64_t)B + (uint64_t)b) % total;
        int i = 0;
        for (;; i++) {
            uint64_t n = d->train[i].tokens > (uint64_t)T ? (d->train[i].tokens - 1) / (uint64_t)T : 0;
            if (w < n) break;
            w -= n;
        }
        st_t st = copy_window(d, &d->train[i], w * (uint64_t)T, T, tokens + (size_t)b * T, targets + (size_t)b * T, err);
        if (st) return st;
    }
    return ST_OK;
}

/* Windows of T + 1 tokens that fit the held-out files, overlapping by one. */
static uint64_t valid_total(const struct data *d, int T)
{
    uint64_t n = 0;
    for (int i = 0; i < d->nvalid; i++) n += d->valid[i].tokens > (uint64_t)T ? (d->valid[i].tokens - 1) / (uint64_t)T : 0;
    return n;
}

int data_valid_windows(const struct data *d, int T)
{
    uint64_t n = valid_total(d, T), most = DATA_VALID_TOKENS / (uint64_t)T;
    if (most < 1) most = 1;
    return (int)(n < most ? n : most);
}

st_t data_valid_window(struct data *d, int i, int T, int32_t *tokens, int32_t *targets, struct base_err *err)
{
    uint64_t all = valid_total(d, T), use = (uint64_t)data_valid_windows(d, T), w = all * (uint64_t)i / use;
    for (int f = 0; f < d->nvalid; f++) {
        uint64_t n = d->valid[f].tokens > (uint64_t)T ? (d->valid[f].tokens - 1) / (uint64_t)T : 0;
        if (w < n) return copy_window(d, &d->valid[f], w * (uint64_t)T, T, tokens, targets, err);
        w -= n;
    }
    return base_err_set(err, ST_EINVAL, "data.valid", "window %d does not exist", i);
}
