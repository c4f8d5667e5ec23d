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
    const struct safe_tensor **tensor; /* those that are copied, as they lie in the file */
    int n;
    int fd;
    char *stage;
    struct base_sha256 sha;
    uint64_t bytes;
};

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

static st_t choose(struct copy *c, const char *path, struct base_err *err)
{
    c->tensor = malloc(((size_t)c->in.n + 1) * sizeof *c->tensor);
    if (!c->tensor) return base_err_set(err, ST_ENOMEM, path, "out of memory");
    for (int i = 0; i < c->in.n; i++) {
        const struct safe_tensor *t = &c->in.tensor[i];
        if (!strncmp(t->name, OPTIMIZER, strlen(OPTIMIZER))) continue;
        if (t->dtype == SAFE_OTHER) return base_err_set(err, ST_ENOTSUP, path, "%s is of a type that is not written here", t->name);
        c->tensor[c->n++] = t;
    }
    if (!c->n) return base_err_set(err, ST_ECORRUPT, path, "holds no weights");
    qsort(c->tensor, (size_t)c->n, sizeof *c->tensor, by_place);
    return ST_OK;
}

static void header(const struct copy *c, const struct ckpt_meta *meta, int nmeta, struct base_buf *b)
{
    static const char *const dtype[] = {[SAFE_F32] = "F32", [SAFE_F64] = "F64", [SAFE_F16] = "F16", [SAFE_BF16] = "BF16"};
    struct base_jw w;
    uint64_t at = 0;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_key(&w, "__metadata__");
    base_jw_obj(&w);
    base_jw_kstr(&w, "format", "pt");
    for (int i = 0; i < nmeta; i++) base_jw_kstr(&w, meta[i].key, meta[i].value);
    base_jw_end(&w);
    for (int i = 0; i < c->n; i++) {
        const struct safe_tensor *t = c->tensor[i];
        base_jw_key(&w, t->name);
        base_jw_obj(&w);
        base_jw_kstr(&w, "dtype", dtype[t->dtype]);
        base_jw_key(&w, "shape");
        base_jw_arr(&w);
        for (int k = 0; k < t->rank; k++) base_jw_int(&w, t->shape[k]);
        base_jw_end(&w);
        base_jw_key(&w, "data_offsets");
        base_jw_arr(&w);
        base_jw_int(&w, (int64_t)at);
        base_jw_int(&w, (int64_t)(at += t->end - t->begin));
        base_jw_end(&w);
        base_jw_end(&w);
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

static st_t put_all(struct copy *c, const struct base_buf *head)
{
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)head->len >> 8 * i);
    st_t st = put(c, len, sizeof len);
    if (!st) st = put(c, head->p, head->len);
    for (int i = 0; i < c->n; i++) {
        const struct safe_tensor *t = c->tensor[i];
        for (uint64_t at = t->begin; at < t->end && !st;) {
            size_t n = t->end - at < STAGE ? (size_t)(t->end - at) : STAGE;
            st = safe_read(&c->in, at, c->stage, n);
            if (!st) st = put(c, c->stage, n);
            at += n;
        }
    }
    if (!st && fsync(c->fd)) st = errno == ENOSPC || errno == EDQUOT ? ST_ENOSPC : ST_EIO;
    return st;
}

st_t model_export_weights(const char *from, const char *sha256, int fd, const struct ckpt_meta *meta, int nmeta, struct export_sum *out,
                          struct base_err *err)
{
    struct copy c = {.fd = fd};
    struct base_buf head = BASE_BUF_INIT;
    st_t st = safe_open(&c.in, from, err);
    if (st) return st;
    base_sha256_init(&c.sha);
    c.stage = malloc(STAGE);
    st = c.stage ? check_hash(&c, from, sha256, err) : base_err_set(err, ST_ENOMEM, from, "out of memory");
    if (!st) st = choose(&c, from, err);
    if (!st) {
        header(&c, meta, nmeta, &head);
        st = head.st ? head.st : put_all(&c, &head);
        if (st) base_err_set(err, st, "", "cannot write the weights: %s", base_status_text(st));
    }
    if (!st) {
        *out = (struct export_sum){.tensors = c.n, .bytes = c.bytes};
        for (int i = 0; i < c.n; i++) out->numbers += (int64_t)((c.tensor[i]->end - c.tensor[i]->begin) / (uint64_t)c.tensor[i]->size);
        hex(&c.sha, out->sha256);
    }
    base_buf_fini(&head);
    free(c.stage);
    free(c.tensor);
    safe_close(&c.in);
    return st;
}
