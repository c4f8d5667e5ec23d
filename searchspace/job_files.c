/* The files behind "data": which they are, their sizes and hashes. Content is looked at by the evaluator alone. */
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/hash.h"
#include "searchspace/job.h"

#define FILES_MAX 1000000
#define FOLDERS_DEEP_MAX 64
#define STORE "taut.db" /* in every folder that a search is kept in */

struct list {
    struct job_file *file;
    int n, cap;
    struct seen { /* folders already walked: a symlink may lead back into one */
        dev_t dev;
        ino_t ino;
    } *seen;
    int nseen, seen_cap;
    const char *where; /* "data.train" */
    struct base_err *err;
};

static st_t no_memory(struct list *l)
{
    return base_err_set(l->err, ST_ENOMEM, l->where, "out of memory");
}

static st_t io_error(struct list *l, const char *path)
{
    st_t st = errno == ENOENT ? ST_ENOTFOUND : errno == EACCES ? ST_EPERM : ST_EIO;
    return base_err_set(l->err, st, l->where, "%s: %s", path, strerror(errno));
}

/* A lease carries paths as JSON. Shape and range of each character (Unicode 15, table 3-7). */
static bool is_utf8(const char *path)
{
    for (const unsigned char *s = (const unsigned char *)path; *s;) {
        int more = *s < 0x80 ? 0 : *s < 0xC2 ? -1 : *s < 0xE0 ? 1 : *s < 0xF0 ? 2 : *s < 0xF5 ? 3 : -1;
        if (more < 0) return false;
        unsigned first = *s++;
        for (int i = 0; i < more; i++, s++) {
            unsigned low = i == 0 && first == 0xE0 ? 0xA0 : i == 0 && first == 0xF0 ? 0x90 : 0x80;
            unsigned high = i == 0 && first == 0xED ? 0x9F : i == 0 && first == 0xF4 ? 0x8F : 0xBF;
            if (*s < low || *s > high) return false;
        }
    }
    return true;
}

static st_t add_file(struct list *l, const char *path, uint64_t bytes)
{
    if (l->n >= FILES_MAX) return base_err_set(l->err, ST_ETOOBIG, l->where, "more than %d files", FILES_MAX);
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 16;
        struct job_file *grown = realloc(l->file, (size_t)cap * sizeof *grown);
        if (!grown) return no_memory(l);
        l->file = grown;
        l->cap = cap;
    }
    if (!is_utf8(path)) return base_err_set(l->err, ST_EINVAL, l->where, "%s: the file's name is not UTF-8", path);
    char *copy = strdup(path);
    if (!copy) return no_memory(l);
    l->file[l->n++] = (struct job_file){.path = copy, .bytes = bytes};
    return ST_OK;
}

/* ST_EEXIST: walked before. */
static st_t mark_seen(struct list *l, const struct stat *sb)
{
    for (int i = 0; i < l->nseen; i++)
        if (l->seen[i].dev == sb->st_dev && l->seen[i].ino == sb->st_ino) return ST_EEXIST;
    if (l->nseen == l->seen_cap) {
        int cap = l->seen_cap ? 2 * l->seen_cap : 16;
        struct seen *grown = realloc(l->seen, (size_t)cap * sizeof *grown);
        if (!grown) return no_memory(l);
        l->seen = grown;
        l->seen_cap = cap;
    }
    l->seen[l->nseen++] = (struct seen){sb->st_dev, sb->st_ino};
    return ST_OK;
}

static st_t walk(struct list *l, const char *path, int deep, bool named);

static int skip_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int compare_entries(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A search may well lie beside the text that it reads: its logs and weights change while it runs, and are no text. */
static bool holds_search(struct dirent *const *entry, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(entry[i]->d_name, STORE)) return true;
    return false;
}

static st_t walk_folder(struct list *l, const char *path, int deep, bool named)
{
    struct dirent **entry;
    int n = scandir(path, &entry, skip_hidden, compare_entries);
    if (n < 0) return io_error(l, path);
    st_t st = deep >= FOLDERS_DEEP_MAX ? base_err_set(l->err, ST_ETOOBIG, l->where, "%s: folders too deep", path) : ST_OK;
    size_t len = strlen(path);
    bool search = holds_search(entry, n);
    if (!st && search && named) st = base_err_set(l->err, ST_EINVAL, l->where, "%s: a search's own folder (it holds %s); keep text in another", path, STORE);
    for (int i = 0; i < n; i++) {
        struct base_buf b = BASE_BUF_INIT;
        base_buf_printf(&b, "%s%s%s", path, len && path[len - 1] == '/' ? "" : "/", entry[i]->d_name);
        if (!st && !search) st = b.st ? no_memory(l) : walk(l, b.p, deep + 1, false);
        base_buf_fini(&b);
        free(entry[i]);
    }
    free(entry);
    return st;
}

/* named: the job names this very path, so that leaving it out would surprise. What a folder or a pattern brings along and is empty, no regular
 * file, or a dangling symlink is left out. */
static st_t walk(struct list *l, const char *path, int deep, bool named)
{
    struct stat sb;
    if (stat(path, &sb)) {
        if (!named && (errno == ENOENT || errno == ELOOP)) return ST_OK;
        return io_error(l, path);
    }
    if (S_ISDIR(sb.st_mode)) {
        st_t st = mark_seen(l, &sb);
        if (st == ST_EEXIST) return ST_OK;
        return st ? st : walk_folder(l, path, deep, named);
    }
    if (!named && (!S_ISREG(sb.st_mode) || sb.st_size == 0)) return ST_OK;
    if (!S_ISREG(sb.st_mode)) return base_err_set(l->err, ST_EINVAL, l->where, "%s: not a regular file", path);
    if (sb.st_size == 0) return base_err_set(l->err, ST_EINVAL, l->where, "%s: the file is empty", path);
    return add_file(l, path, (uint64_t)sb.st_size);
}

static st_t walk_pattern(struct list *l, const char *pattern)
{
    glob_t g = {.gl_pathc = 0};
    int rc = glob(pattern, GLOB_NOSORT, NULL, &g);
    st_t st = ST_OK;
    if (rc == GLOB_NOSPACE) st = no_memory(l);
    else if (rc == GLOB_NOMATCH) st = base_err_set(l->err, ST_ENOTFOUND, l->where, "%s: no file matches", pattern);
    else if (rc) st = base_err_set(l->err, ST_EIO, l->where, "%s: cannot be searched", pattern);
    for (size_t i = 0; !st && i < g.gl_pathc; i++) st = walk(l, g.gl_pathv[i], 0, false);
    globfree(&g);
    return st;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct job_file *)a)->path, ((const struct job_file *)b)->path);
}

/* Sorted by path, each path once. */
static void sort_files(struct list *l)
{
    int n = 0;
    qsort(l->file, (size_t)l->n, sizeof *l->file, compare_files);
    for (int i = 0; i < l->n; i++) {
        if (n > 0 && !strcmp(l->file[i].path, l->file[n - 1].path)) free(l->file[i].path);
        else l->file[n++] = l->file[i];
    }
    l->n = n;
}

static bool is_shard(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".bin");
}

/* Token shards (.bin) go with {"vocab": N}, text with "bytes". */
static st_t check_kind(const struct list *l, bool bytes)
{
    const char *first = l->file[0].path;
    for (int i = 1; i < l->n; i++)
        if (is_shard(l->file[i].path) != is_shard(first))
            return base_err_set(l->err, ST_EINVAL, l->where, "%s and %s: token shards (.bin) and text are mixed", first, l->file[i].path);
    if (is_shard(first) && bytes)
        return base_err_set(l->err, ST_EINVAL, l->where, "%s: token shards need \"tokenizer\": {\"vocab\": N}", first);
    if (!is_shard(first) && !bytes)
        return base_err_set(l->err, ST_EINVAL, l->where, "%s: {\"vocab\": N} needs token shards (.bin)", first);
    return ST_OK;
}

static void list_fini(struct list *l)
{
    for (int i = 0; i < l->n; i++) free(l->file[i].path);
    free(l->file);
    free(l->seen);
}

/* hash: read them too. */
static st_t resolve(const char *path, bool bytes, bool hash, const char *where, struct job_file **file, int *n, struct base_err *err)
{
    struct list l = {.where = where, .err = err};
    struct stat sb;
    /* a file whose name holds a '[' is that file */
    bool pattern = strpbrk(path, "*?[") && stat(path, &sb);
    st_t st = pattern ? walk_pattern(&l, path) : walk(&l, path, 0, true);
    if (!st && l.n == 0) st = base_err_set(err, ST_ENOTFOUND, where, "%s: no file with text in it", path);
    if (!st) {
        sort_files(&l);
        st = check_kind(&l, bytes);
    }
    for (int i = 0; !st && hash && i < l.n; i++) {
        st = base_sha256_file(l.file[i].path, l.file[i].sha256, &l.file[i].bytes);
        if (st) base_err_set(err, st, where, "%s: %s", l.file[i].path, base_status_text(st));
    }
    if (!st) {
        *file = l.file;
        *n = l.n;
        l.file = NULL;
        l.n = 0;
    }
    list_fini(&l);
    return st;
}

static st_t find(const struct job *j, bool hash, struct job_files *out, struct base_err *err)
{
    struct job_files f = {.ntrain = 0};
    if (!j->data.train) return base_err_set(err, ST_EINVAL, "data.train", "this job has no files");
    st_t st = resolve(j->data.train, j->data.bytes, hash, "data.train", &f.train, &f.ntrain, err);
    if (!st && j->data.valid) st = resolve(j->data.valid, j->data.bytes, hash, "data.valid", &f.valid, &f.nvalid, err);
    if (st) job_files_free(&f);
    else *out = f;
    return st;
}

st_t job_files_resolve(const struct job *j, struct job_files *out, struct base_err *err)
{
    return find(j, true, out, err);
}

st_t job_files_list(const struct job *j, struct job_files *out, struct base_err *err)
{
    if (j->data.train) return find(j, false, out, err);
    *out = (struct job_files){.ntrain = 0};
    return ST_OK;
}

/* The longest of them, in tokens. */
static uint64_t longest(const struct job *j, const struct job_file *f, int n)
{
    uint64_t most = 0;
    for (int i = 0; i < n; i++)
        if (f[i].bytes > most) most = f[i].bytes;
    return j->data.bytes ? most : most / sizeof(uint16_t);
}

/* As evaluator/data.c splits a file: a share, but one window at least, is held out from its end. */
st_t job_files_check(const struct job *j, const struct job_files *f, struct base_err *err)
{
    uint64_t need = (uint64_t)j->data.context + 1, train = longest(j, f->train, f->ntrain);
    if (!f->ntrain) return ST_OK;
    if (j->data.valid && longest(j, f->valid, f->nvalid) < need)
        return base_err_set(err, ST_EINVAL, "data.valid", "no file holds a window of context + 1 = %llu tokens", (unsigned long long)need);
    if (!j->data.valid) {
        uint64_t held = (uint64_t)((double)train * j->data.valid_share);
        held = held < need ? need : held;
        train = train > held ? train - held : 0;
    }
    if (train >= need) return ST_OK;
    return base_err_set(err, ST_EINVAL, "data.train", "no file is long enough for a window of context + 1 = %llu tokens%s", (unsigned long long)need,
                        j->data.valid ? "" : " beside the part held out; a smaller context, or longer files");
}

void job_files_free(struct job_files *f)
{
    for (int i = 0; i < f->ntrain; i++) free(f->train[i].path);
    for (int i = 0; i < f->nvalid; i++) free(f->valid[i].path);
    free(f->train);
    free(f->valid);
    *f = (struct job_files){.ntrain = 0};
}

static json_t *files_json(const struct job_file *f, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_t *one = json_pack("{s:s, s:I, s:s}", "path", f[i].path, "bytes", (json_int_t)f[i].bytes, "sha256", f[i].sha256);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *job_files_json(const struct job *j, const struct job_files *f)
{
    const struct job_data *d = &j->data;
    json_t *tokenizer = d->bytes ? json_string("bytes") : json_pack("{s:i}", "vocab", d->vocab);
    return json_pack("{s:o, s:o, s:f, s:o, s:i, s:i}", "train", files_json(f->train, f->ntrain), "valid", files_json(f->valid, f->nvalid),
                     "valid_share", d->valid_share, "tokenizer", tokenizer, "vocab", d->vocab, "context", d->context);
}
