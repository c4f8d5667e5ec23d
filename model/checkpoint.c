#define _GNU_SOURCE
#include "model/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_write.h"
#include "model/internal.h"
#include "model/safetensors.h"

#define STAGE    (1 << 20) /* bytes between device and file */
#define STEP_KEY "optimizer.step"

/* What is in a file: parameters, then m, then v; slab k of the model each. */
static const struct {
    const char *prefix;
    int slab;
} kinds[] = {{"", 0}, {"optimizer.m.", 2}, {"optimizer.v.", 3}};
#define OPTIMIZER_PREFIX "optimizer."

#define NAME_MAX_ (sizeof((struct model_param *)0)->name + 16)

static const char *full_name(char out[NAME_MAX_], int kind, const struct model_param *p)
{
    snprintf(out, NAME_MAX_, "%s%s", kinds[kind].prefix, p->name);
    return out;
}

static char *device_at(const struct model *m, int kind, const struct model_param *p)
{
    return (char *)m->slab[kinds[kind].slab] + (size_t)p->offset * m->plan.unit;
}

/* ---- writing ---- */

struct out {
    int fd;
    bool hashed;
    struct base_sha256 sha;
    uint64_t bytes;
};

static st_t put(struct out *o, const void *buf, size_t n)
{
    if (o->hashed) base_sha256_update(&o->sha, buf, n);
    for (size_t done = 0; done < n;) {
        ssize_t k = write(o->fd, (const char *)buf + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return k < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) ? ST_ENOSPC : ST_EIO;
        done += (size_t)k;
    }
    o->bytes += n;
    return ST_OK;
}

static void header(const struct model *m, int nkinds, const struct ckpt_meta *meta, int nmeta, struct base_buf *b)
{
    struct base_jw w;
    char name[NAME_MAX_], steps[32];
    uint64_t at = 0;
    bool format = false;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_key(&w, "__metadata__");
    base_jw_obj(&w);
    for (int i = 0; i < nmeta; i++) {
        base_jw_kstr(&w, meta[i].key, meta[i].value);
        format |= !strcmp(meta[i].key, "format");
    }
    if (!format) base_jw_kstr(&w, "format", "pt"); /* transformers loads no file without it */
    if (nkinds > 1) {
        snprintf(steps, sizeof steps, "%" PRId64, m->steps);
        base_jw_kstr(&w, STEP_KEY, steps);
    }
    base_jw_end(&w);
    for (int k = 0; k < nkinds; k++) {
        for (int i = 0; i < m->plan.params; i++) {
            const struct model_param *p = &m->param[i];
            uint64_t n = (uint64_t)kn_count(&p->w) * m->esize;
            base_jw_key(&w, full_name(name, k, p));
            base_jw_obj(&w);
            base_jw_kstr(&w, "dtype", m->dtype == KN_F64 ? "F64" : "F32");
            base_jw_key(&w, "shape");
            base_jw_arr(&w);
            for (int d = 0; d < p->w.rank; d++) base_jw_int(&w, p->w.d[d]);
            base_jw_end(&w);
            base_jw_key(&w, "data_offsets");
            base_jw_arr(&w);
            base_jw_int(&w, (int64_t)at);
            base_jw_int(&w, (int64_t)(at += n));
            base_jw_end(&w);
            base_jw_end(&w);
        }
    }
    base_jw_end(&w);
    while (!b->st && b->len % 8) base_buf_str(b, " "); /* numbers lie aligned in a mapped file */
}

static st_t put_numbers(const struct model *m, const char *from, size_t n, char *stage, struct out *o)
{
    for (size_t done = 0; done < n;) {
        size_t k = n - done < STAGE ? n - done : STAGE;
        TRY(m->dev->vt->download(m->dev, stage, from + done, k));
        TRY(put(o, stage, k));
        done += k;
    }
    return ST_OK;
}

static st_t put_all(const struct model *m, int nkinds, const struct base_buf *head, struct out *o)
{
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)head->len >> 8 * i);
    TRY(put(o, len, sizeof len));
    TRY(put(o, head->p, head->len));
    char *stage = malloc(STAGE);
    if (!stage) return ST_ENOMEM;
    st_t st = ST_OK;
    for (int k = 0; k < nkinds && !st; k++) {
        for (int i = 0; i < m->plan.params && !st; i++) {
            const struct model_param *p = &m->param[i];
            st = put_numbers(m, device_at(m, k, p), (size_t)kn_count(&p->w) * m->esize, stage, o);
        }
    }
    free(stage);
    return st;
}

/* So that the new name survives a power cut. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    free(dir);
}

static st_t write_file(const struct model *m, int nkinds, const struct base_buf *head, const char *tmp,
                       const char *path, struct out *o, struct base_err *err)
{
    o->fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (o->fd < 0)
        return base_err_set(err, errno == ENOSPC || errno == EDQUOT ? ST_ENOSPC : ST_EIO, tmp, "%s", strerror(errno));
    st_t st = put_all(m, nkinds, head, o);
    if (!st && fsync(o->fd)) st = errno == ENOSPC || errno == EDQUOT ? ST_ENOSPC : ST_EIO;
    if (close(o->fd) && !st) st = ST_EIO;
    if (!st && rename(tmp, path)) st = ST_EIO;
    if (!st) return ST_OK;
    unlink(tmp);
    return base_err_set(err, st, path, "cannot write: %s", base_status_text(st));
}

st_t model_save(struct model *m, const char *path, bool optimizer, const struct ckpt_meta *meta, int nmeta,
                char sha256[BASE_SHA256_HEX], uint64_t *bytes, struct base_err *err)
{
    if (optimizer && !m->opts.train)
        return base_err_set(err, ST_ESTATE, path, "no optimiser state: the model was not built to train");
    if (m->opts.weights != ARCH_WEIGHTS_F32)
        return base_err_set(err, ST_ENOTSUP, path, "weights kept in fewer bits are not saved: save those that they were made from");
    int nkinds = optimizer ? 3 : 1;
    struct out o = {.hashed = sha256 != NULL};
    struct base_buf head = BASE_BUF_INIT, tmp = BASE_BUF_INIT;
    header(m, nkinds, meta, nmeta, &head);
    base_buf_printf(&tmp, "%s.tmp%ld", path, (long)getpid());
    base_sha256_init(&o.sha);
    st_t st = head.st ? head.st : tmp.st;
    if (st)
        base_err_set(err, st, path, "out of memory");
    else
        st = write_file(m, nkinds, &head, tmp.p, path, &o, err);
    base_buf_fini(&head);
    base_buf_fini(&tmp);
    if (st) return st;
    sync_folder(path);
    if (sha256) {
        uint8_t h[32];
        base_sha256_final(&o.sha, h);
        for (int i = 0; i < 32; i++) snprintf(sha256 + 2 * i, 3, "%02x", h[i]);
    }
    if (bytes) *bytes = o.bytes;
    return ST_OK;
}

/* ---- reading ---- */

static double from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, f = h & 1023, bits;
    if (e == 31)
        bits = sign | 0x7f800000 | f << 13;
    else if (e)
        bits = sign | (e + 112) << 23 | f << 13;
    else
        return (sign ? -1.0 : 1.0) * f * 0x1p-24;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static double number_at(const char *p, enum safe_dtype t)
{
    union {
        double d;
        float f;
        uint32_t u;
        uint16_t h;
    } x = {0};
    switch (t) {
    case SAFE_F64:
        memcpy(&x.d, p, 8);
        return x.d;
    case SAFE_F32:
        memcpy(&x.f, p, 4);
        return x.f;
    case SAFE_F16:
        memcpy(&x.h, p, 2);
        return from_f16(x.h);
    default:
        memcpy(&x.h, p, 2);
        x.u = (uint32_t)x.h << 16;
        return x.f;
    }
}

static bool same_dtype(const struct model *m, enum safe_dtype t)
{
    return t == (m->dtype == KN_F64 ? SAFE_F64 : SAFE_F32);
}

/* raw [STAGE] as in the file, own [STAGE] as on the device. to: device memory; host memory where `host`. */
static st_t get_numbers(const struct model *m, const struct safe *f, const struct safe_tensor *t, char *to, bool host, char *raw,
                        char *own)
{
    int64_t n = (int64_t)(t->end - t->begin) / t->size, chunk = STAGE / 8;
    for (int64_t done = 0; done < n;) {
        int64_t k = n - done < chunk ? n - done : chunk;
        TRY(safe_read(f, t->begin + (uint64_t)(done * t->size), raw, (size_t)(k * t->size)));
        const char *from = raw;
        if (!same_dtype(m, t->dtype)) {
            for (int64_t i = 0; i < k; i++) {
                double v = number_at(raw + i * t->size, t->dtype);
                if (m->dtype == KN_F64)
                    ((double *)own)[i] = v;
                else
                    ((float *)own)[i] = (float)v;
            }
            from = own;
        }
        if (host)
            memcpy(to + (size_t)done * m->esize, from, (size_t)k * m->esize);
        else
            TRY(m->dev->vt->upload(m->dev, to + (size_t)done * m->esize, from, (size_t)k * m->esize));
        done += k;
    }
    return ST_OK;
}

/* A parameter that is kept in fewer bits. */
static st_t get_stored(struct model *m, const struct safe *f, const struct safe_tensor *t, const struct model_param *p, char *raw,
                       char *own)
{
    char *all = malloc((size_t)kn_count(&p->w) * m->esize);
    if (!all) return ST_ENOMEM;
    st_t st = get_numbers(m, f, t, all, true, raw, own);
    if (!st) st = model_store(m, p, (const float *)(void *)all);
    free(all);
    return st;
}

static bool same_shape(const struct safe_tensor *t, const struct kn_tensor *w)
{
    if (t->rank != w->rank) return false;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] != w->d[i]) return false;
    return true;
}

/* Every tensor there, none too many, all shapes right: before the first number is taken. */
static st_t match(const struct model *m, const struct safe *f, int nkinds, const char *path, struct base_err *err)
{
    char name[NAME_MAX_];
    for (int k = 0; k < nkinds; k++) {
        for (int i = 0; i < m->plan.params; i++) {
            const struct safe_tensor *t = safe_find(f, full_name(name, k, &m->param[i]));
            if (!t) return base_err_set(err, ST_EINVAL, path, "%s: missing", name);
            if (!same_shape(t, &m->w[i]))
                return base_err_set(err, ST_EINVAL, path, "%s: its shape is not this architecture's", name);
            if (t->dtype == SAFE_OTHER)
                return base_err_set(err, ST_EINVAL, path, "%s: its dtype is not F32, F64, BF16 or F16", name);
        }
    }
    for (int i = 0; i < f->n; i++) {
        const char *s = f->tensor[i].name;
        for (int k = 0; k < nkinds; k++) {
            size_t n = strlen(kinds[k].prefix);
            if (!strncmp(s, kinds[k].prefix, n) && model_param_find(m, s + n) >= 0) goto known;
        }
        if (nkinds == 1 && !strncmp(s, OPTIMIZER_PREFIX, strlen(OPTIMIZER_PREFIX)))
            continue; /* weights of a checkpoint */
        return base_err_set(err, ST_EINVAL, path, "%s: not in this architecture", s);
    known:;
    }
    return ST_OK;
}

static st_t read_steps(const struct safe *f, int64_t *out, const char *path, struct base_err *err)
{
    const char *s = safe_meta(f, STEP_KEY);
    char *end;
    if (!s) return base_err_set(err, ST_EINVAL, path, "no %s: not a checkpoint", STEP_KEY);
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno)
        return base_err_set(err, ST_ECORRUPT, path, "%s: not a number of steps", STEP_KEY);
    *out = v;
    return ST_OK;
}

static st_t load_from(struct model *m, const struct safe *f, bool optimizer, const char *path, struct base_err *err)
{
    int nkinds = optimizer ? 3 : 1;
    int64_t steps = 0;
    char name[NAME_MAX_];
    TRY(match(m, f, nkinds, path, err));
    if (optimizer) TRY(read_steps(f, &steps, path, err));
    char *stage = malloc(2 * STAGE);
    if (!stage) return base_err_set(err, ST_ENOMEM, path, "out of memory");
    st_t st = ST_OK;
    for (int k = 0; k < nkinds && !st; k++) {
        for (int i = 0; i < m->plan.params && !st; i++) {
            const struct model_param *p = &m->param[i];
            const struct safe_tensor *t = safe_find(f, full_name(name, k, p));
            st = p->w.dtype == m->dtype ? get_numbers(m, f, t, device_at(m, k, p), false, stage, stage + STAGE)
                                        : get_stored(m, f, t, p, stage, stage + STAGE);
        }
    }
    free(stage);
    if (st) return base_err_set(err, st, path, "%s: cannot read", name);
    if (optimizer) m->steps = steps;
    return ST_OK;
}

st_t model_load(struct model *m, const char *path, bool optimizer, struct base_err *err)
{
    struct safe f;
    if (optimizer && !m->opts.train)
        return base_err_set(err, ST_ESTATE, path, "no optimiser state: the model was not built to train");
    TRY(safe_open(&f, path, err));
    st_t st = load_from(m, &f, optimizer, path, err);
    safe_close(&f);
    return st;
}

st_t model_load_meta(const char *path, const char *key, char **value, struct base_err *err)
{
    struct safe f;
    TRY(safe_open(&f, path, err));
    const char *s = safe_meta(&f, key);
    char *v = s ? strdup(s) : NULL;
    st_t st = ST_OK;
    if (!s)
        st = base_err_set(err, ST_ENOTFOUND, path, "%s: not in __metadata__", key);
    else if (!v)
        st = base_err_set(err, ST_ENOMEM, path, "out of memory");
    else
        *value = v;
    safe_close(&f);
    return st;
}
