#define _GNU_SOURCE
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/safetensors_json.h"

static const struct {
    const char *name;
    enum safe_dtype dtype;
    int size;
} dtypes[] = {
    {"F32", SAFE_F32, 4},    {"F64", SAFE_F64, 8},       {"F16", SAFE_F16, 2},       {"BF16", SAFE_BF16, 2},
    {"BOOL", SAFE_OTHER, 1}, {"U8", SAFE_OTHER, 1},      {"I8", SAFE_OTHER, 1},      {"U16", SAFE_OTHER, 2},
    {"I16", SAFE_OTHER, 2},  {"U32", SAFE_OTHER, 4},     {"I32", SAFE_OTHER, 4},     {"U64", SAFE_OTHER, 8},
    {"I64", SAFE_OTHER, 8},  {"F8_E5M2", SAFE_OTHER, 1}, {"F8_E4M3", SAFE_OTHER, 1},
};

struct parser {
    struct safe_json j;
    struct safe *f;
    int cap, meta_cap;
};

/* Room for one more in an array that the arena owns: doubled when full, the old one stays behind. */
static void *grow(struct base_arena *a, void *old, int n, int *cap, size_t size)
{
    if (n < *cap) return old;
    int next = *cap ? 2 * *cap : 32;
    void *p = base_arena_alloc(a, (size_t)next * size);
    if (!p) return NULL;
    if (n) memcpy(p, old, (size_t)n * size);
    *cap = next;
    return p;
}

static st_t read_metadata(struct parser *p)
{
    struct safe *f = p->f;
    for (bool more = safe_json_open(&p->j, '{'); more; more = safe_json_more(&p->j, '}')) {
        const char *key = safe_json_key(&p->j), *value = safe_json_string(&p->j);
        if (!key || !value) break;
        struct safe_meta *m = grow(&f->arena, f->meta, f->nmeta, &p->meta_cap, sizeof *m);
        if (!m) return safe_json_fail(&p->j, ST_ENOMEM, "out of memory");
        f->meta = m;
        m[f->nmeta++] = (struct safe_meta){key, value};
    }
    return p->j.st;
}

static st_t read_dtype(struct parser *p, struct safe_tensor *t)
{
    const char *s = safe_json_string(&p->j);
    if (!s) return p->j.st;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, s)) continue;
        t->dtype = dtypes[i].dtype;
        t->size = dtypes[i].size;
        return ST_OK;
    }
    return safe_json_fail(&p->j, ST_ECORRUPT, "unknown dtype");
}

static st_t read_ints(struct parser *p, int64_t *out, int max, int *n)
{
    *n = 0;
    for (bool more = safe_json_open(&p->j, '['); more; more = safe_json_more(&p->j, ']')) {
        if (*n == max) return safe_json_fail(&p->j, ST_ECORRUPT, "too many numbers in a list");
        out[(*n)++] = safe_json_int(&p->j);
    }
    return p->j.st;
}

static st_t read_tensor(struct parser *p, struct safe_tensor *t)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    int seen = 0, n;
    for (bool more = safe_json_open(&p->j, '{'); more; more = safe_json_more(&p->j, '}')) {
        const char *key = safe_json_key(&p->j);
        if (!key) break;
        int which = !strcmp(key, "dtype")          ? DTYPE
                    : !strcmp(key, "shape")        ? SHAPE
                    : !strcmp(key, "data_offsets") ? OFFSETS
                                                   : 0;
        if (!which || (seen & which)) return safe_json_fail(&p->j, ST_ECORRUPT, "unknown or repeated key of a tensor");
        seen |= which;
        int64_t at[2];
        if (which == DTYPE) read_dtype(p, t);
        if (which == SHAPE) read_ints(p, t->shape, SAFE_RANK, &t->rank);
        if (which == OFFSETS) {
            if (!read_ints(p, at, 2, &n) && n != 2) safe_json_fail(&p->j, ST_ECORRUPT, "data_offsets are two numbers");
            if (!p->j.st) t->begin = (uint64_t)at[0], t->end = (uint64_t)at[1];
        }
        if (p->j.st) return p->j.st;
    }
    if (!p->j.st && seen != (DTYPE | SHAPE | OFFSETS))
        return safe_json_fail(&p->j, ST_ECORRUPT, "a tensor lacks dtype, shape or data_offsets");
    return p->j.st;
}

/* Does [begin, end) hold shape numbers of that size, inside the file? */
static bool fits(const struct safe *f, const struct safe_tensor *t)
{
    uint64_t n = (uint64_t)t->size;
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(n, (uint64_t)t->shape[i], &n)) return false;
    return t->begin <= t->end && t->end <= f->bytes && t->end - t->begin == n;
}

static st_t read_header(struct parser *p)
{
    struct safe *f = p->f;
    bool metadata = false;
    for (bool more = safe_json_open(&p->j, '{'); more; more = safe_json_more(&p->j, '}')) {
        const char *name = safe_json_key(&p->j);
        if (!name) break;
        if (!strcmp(name, "__metadata__")) {
            if (metadata) return safe_json_fail(&p->j, ST_ECORRUPT, "__metadata__ twice");
            metadata = true;
            if (read_metadata(p)) break;
            continue;
        }
        struct safe_tensor *all = grow(&f->arena, f->tensor, f->n, &p->cap, sizeof *all), t = {.name = name};
        if (!all) return safe_json_fail(&p->j, ST_ENOMEM, "out of memory");
        f->tensor = all;
        if (read_tensor(p, &t)) break;
        if (!fits(f, &t)) return safe_json_fail(&p->j, ST_ECORRUPT, "data_offsets do not fit the shape or the file");
        all[f->n++] = t;
    }
    return safe_json_end(&p->j);
}

static int by_begin(const void *a, const void *b)
{
    const struct safe_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safe_tensor *)a)->name, ((const struct safe_tensor *)b)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct safe_meta *)a)->key, ((const struct safe_meta *)b)->key);
}

/* Tensors tile the data, names differ. Leaves both lists sorted by name. */
static st_t check_whole(struct safe *f, const char *path, struct base_err *err)
{
    uint64_t at = 0;
    if (f->n) qsort(f->tensor, (size_t)f->n, sizeof *f->tensor, by_begin);
    for (int i = 0; i < f->n; i++) {
        if (f->tensor[i].begin != at)
            return base_err_set(err, ST_ECORRUPT, path, "%s: its data %s the data before it", f->tensor[i].name,
                                f->tensor[i].begin < at ? "overlaps" : "leaves a gap to");
        at = f->tensor[i].end;
    }
    if (at != f->bytes)
        return base_err_set(err, ST_ECORRUPT, path, "%llu bytes of data belong to no tensor",
                            (unsigned long long)(f->bytes - at));
    if (f->n) qsort(f->tensor, (size_t)f->n, sizeof *f->tensor, by_name);
    for (int i = 1; i < f->n; i++)
        if (!by_name(&f->tensor[i - 1], &f->tensor[i]))
            return base_err_set(err, ST_ECORRUPT, path, "%s: twice in the header", f->tensor[i].name);
    if (f->nmeta) qsort(f->meta, (size_t)f->nmeta, sizeof *f->meta, by_key);
    for (int i = 1; i < f->nmeta; i++)
        if (!by_key(&f->meta[i - 1], &f->meta[i]))
            return base_err_set(err, ST_ECORRUPT, path, "%s: twice in __metadata__", f->meta[i].key);
    return ST_OK;
}

static st_t read_at(int fd, uint64_t at, void *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = pread(fd, (char *)buf + done, n - done, (off_t)(at + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return ST_EIO;
        done += (size_t)k;
    }
    return ST_OK;
}

static st_t open_header(struct safe *f, const char *path, struct base_err *err)
{
    struct stat s;
    uint8_t len[8];
    uint64_t n = 0;
    if (fstat(f->fd, &s)) return base_err_set(err, ST_EIO, path, "%s", strerror(errno));
    if (!S_ISREG(s.st_mode)) return base_err_set(err, ST_EINVAL, path, "not a regular file");
    if (s.st_size < 8) return base_err_set(err, ST_ECORRUPT, path, "shorter than a safetensors header");
    if (read_at(f->fd, 0, len, sizeof len)) return base_err_set(err, ST_EIO, path, "cannot read");
    for (int i = 7; i >= 0; i--) n = n << 8 | len[i];
    if (n > SAFE_HEADER_MAX || n > (uint64_t)s.st_size - 8)
        return base_err_set(err, ST_ECORRUPT, path, "header of %llu bytes: not a safetensors file, or cut off",
                            (unsigned long long)n);
    char *text = malloc(n + 1);
    if (!text) return base_err_set(err, ST_ENOMEM, path, "out of memory");
    struct parser p = {.f = f};
    f->data = 8 + n;
    f->bytes = (uint64_t)s.st_size - f->data;
    st_t st = read_at(f->fd, 8, text, n);
    if (st) {
        base_err_set(err, st, path, "cannot read");
    } else {
        safe_json_init(&p.j, text, n, &f->arena);
        if ((st = read_header(&p))) base_err_set(err, st, path, "header, byte %zu: %s", p.j.at, p.j.what);
    }
    free(text);
    return st ? st : check_whole(f, path, err);
}

st_t safe_open(struct safe *f, const char *path, struct base_err *err)
{
    memset(f, 0, sizeof *f);
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0) return base_err_set(err, errno == ENOENT ? ST_ENOTFOUND : ST_EIO, path, "%s", strerror(errno));
    base_arena_init(&f->arena, 0);
    st_t st = open_header(f, path, err);
    if (st) safe_close(f);
    return st;
}

void safe_close(struct safe *f)
{
    base_arena_fini(&f->arena);
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

const struct safe_tensor *safe_find(const struct safe *f, const char *name)
{
    struct safe_tensor key = {.name = name};
    return f->n ? bsearch(&key, f->tensor, (size_t)f->n, sizeof key, by_name) : NULL;
}

const char *safe_meta(const struct safe *f, const char *key)
{
    struct safe_meta k = {.key = key};
    const struct safe_meta *m = f->nmeta ? bsearch(&k, f->meta, (size_t)f->nmeta, sizeof k, by_key) : NULL;
    return m ? m->value : NULL;
}

st_t safe_read(const struct safe *f, uint64_t at, void *buf, size_t n)
{
    return at > f->bytes || n > f->bytes - at ? ST_EIO : read_at(f->fd, f->data + at, buf, n);
}
