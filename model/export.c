#define _GNU_SOURCE
#include "model/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_write.h"
#include "model/safetensors.h"

#define STAGE     (1 << 20)
#define OPTIMIZER "optimizer."

struct copy {
    struct safe in;
    struct export_plan plan;
    const struct safe_tensor **src; /* [plan.npieces]; NULL: zeros */
    enum safe_dtype *dtype;         /* [plan.n] */
    int fd;
    char *stage;
    struct base_sha256 sha;
    uint64_t bytes;
    int64_t numbers;
};

/* ---- plans ---- */

static void *grown(struct export_plan *p, void *old, int n, int *room, size_t size)
{
    if (n < *room) return old;
    int more = *room ? 2 * *room : 64;
    void *new = p->st ? NULL : realloc(old, (size_t)more * size);
    if (!new) p->st = ST_ENOMEM;
    else *room = more;
    return new ? new : old;
}

void export_plan_tensor(struct export_plan *p, const char *name, const int64_t shape[4], double add)
{
    p->tensor = grown(p, p->tensor, p->n, &p->room, sizeof *p->tensor);
    if (p->st) return;
    struct export_tensor *t = &p->tensor[p->n++];
    *t = (struct export_tensor){.add = add, .piece = p->npieces};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (; t->rank < 4 && (shape[t->rank] > 0 || shape[t->rank] == EXPORT_EMPTY); t->rank++)
        t->shape[t->rank] = shape[t->rank] == EXPORT_EMPTY ? 0 : shape[t->rank];
}

void export_plan_rows(struct export_plan *p, const char *from, int64_t row, int64_t rows)
{
    p->piece = grown(p, p->piece, p->npieces, &p->piece_room, sizeof *p->piece);
    if (p->st) return;
    struct export_piece *x = &p->piece[p->npieces++];
    *x = (struct export_piece){.row = row, .rows = rows};
    snprintf(x->from, sizeof x->from, "%s", from);
    p->tensor[p->n - 1].npieces++;
}

void export_plan_fini(struct export_plan *p)
{
    free(p->tensor);
    free(p->piece);
    *p = (struct export_plan){0};
}

static void hex(struct base_sha256 *s, char out[BASE_SHA256_HEX])
{
    uint8_t h[32];
    base_sha256_final(s, h);
    for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", h[i]);
}

/* Of the open file itself, so that what is checked is what is copied. */
static st_t check_hash(struct copy *c, const char *path, const char *want, struct base_err *err)
{
    struct base_sha256 s;
    char have[BASE_SHA256_HEX];
    base_sha256_init(&s);
    for (uint64_t at = 0, end = c->in.data + c->in.bytes; at < end;) {
        size_t want_n = end - at < STAGE ? (size_t)(end - at) : STAGE;
        ssize_t n = pread(c->in.fd, c->stage, want_n, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return base_err_set(err, ST_EIO, path, "%s", n ? strerror(errno) : "became shorter while it was read");
        base_sha256_update(&s, c->stage, (size_t)n);
        at += (uint64_t)n;
    }
    hex(&s, have);
    if (strcmp(have, want)) return base_err_set(err, ST_ESTALE, path, "has changed since it was recorded (SHA-256 %.12s…, not %.12s…)", have, want);
    return ST_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct safe_tensor *x = *(const struct safe_tensor *const *)a, *y = *(const struct safe_tensor *const *)b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static bool is_state(const struct safe_tensor *t)
{
    return !strncmp(t->name, OPTIMIZER, strlen(OPTIMIZER));
}

/* Every parameter as it is, in the order of the file. */
static st_t plan_same(struct copy *c)
{
    const struct safe_tensor **order = malloc(((size_t)c->in.n + 1) * sizeof *order);
    if (!order) return ST_ENOMEM;
    for (int i = 0; i < c->in.n; i++) order[i] = &c->in.tensor[i];
    qsort(order, (size_t)c->in.n, sizeof *order, by_place);
    for (int i = 0; i < c->in.n; i++) {
        int64_t shape[4] = {0};
        if (is_state(order[i])) continue;
        for (int k = 0; k < order[i]->rank && k < 4; k++) shape[k] = order[i]->shape[k] ? order[i]->shape[k] : EXPORT_EMPTY;
        export_plan_tensor(&c->plan, order[i]->name, shape, 0);
        export_plan_rows(&c->plan, order[i]->name, 0, -1);
    }
    free(order);
    return c->plan.st;
}

static int64_t row_size(int rank, const int64_t *shape)
{
    return rank < 2 ? 1 : shape[rank - 1];
}

static int64_t row_count(int rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int i = 0; i < (rank < 2 ? rank : rank - 1); i++) n *= shape[i];
    return n;
}

/* Finds a tensor's rows in the file; used[i] counts those of in.tensor[i]. */
static st_t resolve(struct copy *c, int i, int64_t *used, const char *path, struct base_err *err)
{
    const struct export_tensor *t = &c->plan.tensor[i];
    int64_t rows = 0;
    c->dtype[i] = SAFE_F32;
    for (int k = t->piece; k < t->piece + t->npieces; k++) {
        struct export_piece *p = &c->plan.piece[k];
        const struct safe_tensor *from = *p->from ? safe_find(&c->in, p->from) : NULL;
        if (*p->from && !from) return base_err_set(err, ST_EINVAL, path, "holds no %s", p->from);
        c->src[k] = from;
        if (from) {
            int64_t all = row_count(from->rank, from->shape);
            if (from->dtype == SAFE_OTHER) return base_err_set(err, ST_ENOTSUP, path, "%s is of a type that is not written here", from->name);
            if (p->rows < 0) p->rows = all - p->row;
            if (p->row + p->rows > all || row_size(from->rank, from->shape) != row_size(t->rank, t->shape) || (t->add != 0 && from->dtype != SAFE_F32) ||
                (k > t->piece && from->dtype != c->dtype[i]))
                return base_err_set(err, ST_EINVAL, path, "%s does not fit %s", p->from, t->name);
            c->dtype[i] = from->dtype;
            used[from - c->in.tensor] += p->rows;
        }
        rows += p->rows;
    }
    return rows == row_count(t->rank, t->shape) ? ST_OK : base_err_set(err, ST_EINVAL, path, "has too many or too few rows for %s", t->name);
}

static st_t choose(struct copy *c, const char *path, struct base_err *err)
{
    st_t st = c->plan.n ? c->plan.st : plan_same(c);
    int64_t *used = calloc((size_t)c->in.n + 1, sizeof *used);
    c->src = calloc((size_t)c->plan.npieces + 1, sizeof *c->src);
    c->dtype = calloc((size_t)c->plan.n + 1, sizeof *c->dtype);
    if (!st && (!used || !c->src || !c->dtype)) st = ST_ENOMEM;
    if (st) base_err_set(err, st, path, "out of memory");
    if (!st && !c->plan.n) st = base_err_set(err, ST_ECORRUPT, path, "holds no weights");
    for (int i = 0; !st && i < c->plan.n; i++) st = resolve(c, i, used, path, err);
    for (int i = 0; !st && i < c->in.n; i++) {
        const struct safe_tensor *t = &c->in.tensor[i];
        if (!is_state(t) && used[i] != row_count(t->rank, t->shape))
            st = base_err_set(err, ST_EINVAL, path, "%s has no place among the tensors to be written", t->name);
    }
    free(used);
    return st;
}

static const char *const dtype_name[] = {[SAFE_F32] = "F32", [SAFE_F64] = "F64", [SAFE_F16] = "F16", [SAFE_BF16] = "BF16"};
static const int dtype_size[] = {[SAFE_F32] = 4, [SAFE_F64] = 8, [SAFE_F16] = 2, [SAFE_BF16] = 2};

static void header(struct copy *c, const struct ckpt_meta *meta, int nmeta, struct base_buf *b)
{
    struct base_jw w;
    uint64_t at = 0;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_key(&w, "__metadata__");
    base_jw_obj(&w);
    base_jw_kstr(&w, "format", "pt");
    for (int i = 0; i < nmeta; i++) base_jw_kstr(&w, meta[i].key, meta[i].value);
    base_jw_end(&w);
    for (int i = 0; i < c->plan.n; i++) {
        const struct export_tensor *t = &c->plan.tensor[i];
        int64_t numbers = row_size(t->rank, t->shape) * row_count(t->rank, t->shape);
        base_jw_key(&w, t->name);
        base_jw_obj(&w);
        base_jw_kstr(&w, "dtype", dtype_name[c->dtype[i]]);
        base_jw_key(&w, "shape");
        base_jw_arr(&w);
        for (int k = 0; k < t->rank; k++) base_jw_int(&w, t->shape[k]);
        base_jw_end(&w);
        base_jw_key(&w, "data_offsets");
        base_jw_arr(&w);
        base_jw_int(&w, (int64_t)at);
        base_jw_int(&w, (int64_t)(at += (uint64_t)numbers * (uint64_t)dtype_size[c->dtype[i]]));
        base_jw_end(&w);
        base_jw_end(&w);
        c->numbers += numbers;
    }
    base_jw_end(&w);
    while (!b->st && b->len % 8) base_buf_str(b, " "); /* numbers lie aligned in a mapped file */
}

static st_t put(struct copy *c, const void *p, size_t n)
{
    base_sha256_update(&c->sha, p, n);
    c->bytes += n;
    for (size_t done = 0; done < n;) {
        ssize_t k = write(c->fd, (const char *)p + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return k < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) ? ST_ENOSPC : ST_EIO;
        done += (size_t)k;
    }
    return ST_OK;
}

static st_t put_rows(struct copy *c, const struct export_tensor *t, int piece, enum safe_dtype dtype)
{
    const struct export_piece *p = &c->plan.piece[piece];
    const struct safe_tensor *from = c->src[piece];
    uint64_t row = (uint64_t)row_size(t->rank, t->shape) * (uint64_t)dtype_size[dtype], at = from ? from->begin + (uint64_t)p->row * row : 0;
    st_t st = ST_OK;
    for (uint64_t left = (uint64_t)p->rows * row; left && !st;) {
        size_t n = left < STAGE ? (size_t)left : STAGE;
        if (from) st = safe_read(&c->in, at, c->stage, n);
        else memset(c->stage, 0, n);
        for (float *x = (float *)(void *)c->stage; t->add != 0 && x < (float *)(void *)(c->stage + n); x++) *x = (float)(*x + t->add);
        if (!st) st = put(c, c->stage, n);
        at += n;
        left -= n;
    }
    return st;
}

static st_t put_all(struct copy *c, const struct base_buf *head)
{
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)head->len >> 8 * i);
    st_t st = put(c, len, sizeof len);
    if (!st) st = put(c, head->p, head->len);
    for (int i = 0; i < c->plan.n; i++) {
        const struct export_tensor *t = &c->plan.tensor[i];
        for (int k = t->piece; k < t->piece + t->npieces && !st; k++) st = put_rows(c, t, k, c->dtype[i]);
    }
    if (!st && fsync(c->fd)) st = errno == ENOSPC || errno == EDQUOT ? ST_ENOSPC : ST_EIO;
    return st;
}

/* The caller's plan stays as it is: rows that it leaves open are filled in here. */
static st_t copy_plan(struct copy *c, const struct export_plan *plan)
{
    if (!plan) return ST_OK;
    if (plan->st) return plan->st;
    c->plan = *plan;
    c->plan.tensor = malloc((size_t)plan->n * sizeof *plan->tensor + 1);
    c->plan.piece = malloc((size_t)plan->npieces * sizeof *plan->piece + 1);
    if (!c->plan.tensor || !c->plan.piece) return ST_ENOMEM;
    memcpy(c->plan.tensor, plan->tensor, (size_t)plan->n * sizeof *plan->tensor);
    memcpy(c->plan.piece, plan->piece, (size_t)plan->npieces * sizeof *plan->piece);
    return ST_OK;
}

st_t model_export_weights(const char *from, const char *sha256, int fd, const struct export_plan *plan, const struct ckpt_meta *meta, int nmeta,
                          struct export_sum *out, struct base_err *err)
{
    struct copy c = {.fd = fd};
    struct base_buf head = BASE_BUF_INIT;
    st_t st = safe_open(&c.in, from, err);
    if (st) return st;
    base_sha256_init(&c.sha);
    c.stage = malloc(STAGE);
    st = c.stage ? copy_plan(&c, plan) : ST_ENOMEM;
    if (st) base_err_set(err, st, from, "%s", base_status_text(st));
    if (!st) st = check_hash(&c, from, sha256, err);
    if (!st) st = choose(&c, from, err);
    if (!st) {
        header(&c, meta, nmeta, &head);
        st = head.st ? head.st : put_all(&c, &head);
        if (st) base_err_set(err, st, "", "cannot write the weights: %s", base_status_text(st));
    }
    if (!st) {
        *out = (struct export_sum){.tensors = c.plan.n, .numbers = c.numbers, .bytes = c.bytes};
        hex(&c.sha, out->sha256);
    }
    base_buf_fini(&head);
    export_plan_fini(&c.plan);
    free(c.stage);
    free(c.src);
    free(c.dtype);
    safe_close(&c.in);
    return st;
}
