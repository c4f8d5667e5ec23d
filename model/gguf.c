#include "model/gguf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "model/internal.h"
#include "searchspace/families/family.h"

#define ALIGN 32 /* of each tensor's data, the format's default */
#define BLOCK 32 /* numbers with one scale in Q8_0 */

/* The format's numbers for types of a value and of a tensor. */
enum { VALUE_U32 = 4, VALUE_F32 = 6, VALUE_STRING = 8 };
enum { TENSOR_F32 = 0, TENSOR_Q8_0 = 8, TENSOR_BF16 = 30 };

static const struct {
    const char *ours, *theirs;
} names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
};

static bool theirs(const char *name, char *out, size_t size)
{
    int layer = -1, at = 0;
    if (sscanf(name, "model.layers.%d.%n", &layer, &at) < 1 || !at) layer = -1, at = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].ours, name + at)) continue;
        if (layer < 0) snprintf(out, size, "%s", names[i].theirs);
        else snprintf(out, size, "blk.%d.%s", layer, names[i].theirs);
        return true;
    }
    return false;
}

/* ---- the header ---- */

static void u32(struct base_buf *b, uint32_t v)
{
    uint8_t p[4];
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
    base_buf_add(b, p, sizeof p);
}

static void u64(struct base_buf *b, uint64_t v)
{
    u32(b, (uint32_t)v);
    u32(b, (uint32_t)(v >> 32));
}

static void text(struct base_buf *b, const char *s)
{
    u64(b, strlen(s));
    base_buf_str(b, s);
}

static void key_u32(struct base_buf *b, int *n, const char *key, int64_t v)
{
    text(b, key);
    u32(b, VALUE_U32);
    u32(b, (uint32_t)v);
    ++*n;
}

static void key_f32(struct base_buf *b, int *n, const char *key, double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    text(b, key);
    u32(b, VALUE_F32);
    u32(b, bits);
    ++*n;
}

static void key_text(struct base_buf *b, int *n, const char *key, const char *v)
{
    text(b, key);
    u32(b, VALUE_STRING);
    text(b, v);
    ++*n;
}

static int keys(const struct arch *a, struct base_buf *b)
{
    const struct arch_part *mixer = &a->layer[0].mixer, *ffn = &a->layer[0].ffn;
    int n = 0, k = space_part_get(mixer, "head_dim");
    key_text(b, &n, "general.architecture", "llama");
    key_u32(b, &n, "llama.vocab_size", a->vocab);
    key_u32(b, &n, "llama.context_length", a->context);
    key_u32(b, &n, "llama.embedding_length", a->width);
    key_u32(b, &n, "llama.block_count", a->depth);
    key_u32(b, &n, "llama.feed_forward_length", space_part_get(ffn, "hidden"));
    key_u32(b, &n, "llama.attention.head_count", space_part_get(mixer, "heads"));
    key_u32(b, &n, "llama.attention.head_count_kv", space_part_get(mixer, "kv_heads"));
    key_u32(b, &n, "llama.attention.key_length", k);
    key_u32(b, &n, "llama.attention.value_length", k);
    key_u32(b, &n, "llama.rope.dimension_count", k);
    key_f32(b, &n, "llama.rope.freq_base", a->rope_theta);
    key_f32(b, &n, "llama.attention.layer_norm_rms_epsilon", MODEL_NORM_EPS);
    key_text(b, &n, "tokenizer.ggml.model", "no_vocab");
    return n;
}

static int type_of(const struct model_param *p, enum arch_weights as)
{
    if (p->w.rank < 2 || as == ARCH_WEIGHTS_F32) return TENSOR_F32;
    return as == ARCH_WEIGHTS_BF16 ? TENSOR_BF16 : TENSOR_Q8_0;
}

static uint64_t bytes_of(const struct model_param *p, int type)
{
    uint64_t n = (uint64_t)kn_count(&p->w);
    return type == TENSOR_F32 ? 4 * n : type == TENSOR_BF16 ? 2 * n : n / BLOCK * (BLOCK + 2);
}

static st_t header(const struct model *m, enum arch_weights as, struct base_buf *b, struct base_err *err)
{
    struct base_buf fields = BASE_BUF_INIT;
    int nfields = keys(model_arch(m), &fields), n = model_params(m);
    uint64_t at = 0;
    st_t st = ST_OK;
    base_buf_str(b, "GGUF");
    u32(b, 3);
    u64(b, (uint64_t)n);
    u64(b, (uint64_t)nfields);
    base_buf_add(b, fields.p, fields.len);
    for (int i = 0; !st && i < n; i++) {
        const struct model_param *p = model_param(m, i);
        char name[96];
        int type = type_of(p, as);
        if (!theirs(p->name, name, sizeof name)) st = base_err_set(err, ST_ENOTSUP, p->name, "GGUF's llama has no such tensor");
        else if (type == TENSOR_Q8_0 && p->w.d[1] % BLOCK) st = base_err_set(err, ST_ENOTSUP, p->name, "rows of %lld are no blocks of 32", (long long)p->w.d[1]);
        if (st) break;
        text(b, name);
        u32(b, (uint32_t)p->w.rank);
        for (int d = p->w.rank; d-- > 0;) u64(b, (uint64_t)p->w.d[d]); /* the last dimension first */
        u32(b, (uint32_t)type);
        u64(b, at);
        at += (bytes_of(p, type) + ALIGN - 1) / ALIGN * ALIGN;
    }
    while (!b->st && b->len % ALIGN) base_buf_add(b, "", 1);
    if (!st && (b->st || fields.st)) st = base_err_set(err, ST_ENOMEM, "GGUF", "out of memory");
    base_buf_fini(&fields);
    return st;
}

/* ---- numbers ---- */

static uint16_t bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16); /* weights are finite */
}

/* A row of n numbers into out; the bytes that it takes there. */
static size_t row_as(const float *x, int64_t n, int type, uint8_t *out)
{
    if (type == TENSOR_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return (size_t)n * sizeof *x;
    }
    if (type == TENSOR_BF16) {
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = bf16(x[i]);
            memcpy(out + 2 * i, &h, sizeof h);
        }
        return (size_t)n * 2;
    }
    for (int64_t i = 0; i < n; i += BLOCK, out += BLOCK + 2) {
        float most = 0;
        for (int k = 0; k < BLOCK; k++) most = fmaxf(most, fabsf(x[i + k]));
        float scale = most / 127;
        _Float16 half = (_Float16)scale;
        memcpy(out, &half, 2);
        for (int k = 0; k < BLOCK; k++) out[2 + k] = (uint8_t)(int8_t)(scale > 0 ? roundf(x[i + k] / scale) : 0);
    }
    return (size_t)(n / BLOCK * (BLOCK + 2));
}

/* Which of our rows stands in row r: heads of k rows, halves made neighbours. */
static int64_t row_from(int64_t r, int k)
{
    int64_t in = r % k;
    return r - in + in / 2 + in % 2 * (k / 2);
}

static st_t why_not(void)
{
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ST_ENOSPC : ST_EIO;
}

static st_t put(FILE *f, const void *p, size_t n)
{
    return fwrite(p, 1, n, f) == n ? ST_OK : why_not();
}

static st_t put_param(struct model *m, const struct model_param *p, int type, FILE *f)
{
    static const uint8_t zeros[ALIGN];
    int64_t rows = p->w.rank > 1 ? p->w.d[0] : 1, cols = kn_count(&p->w) / rows;
    int turned = strstr(p->name, ".q_proj.") || strstr(p->name, ".k_proj.") ? space_part_get(&model_arch(m)->layer[0].mixer, "head_dim") : 0;
    size_t bytes = (size_t)(rows * cols) * sizeof(float);
    float *x = malloc(bytes);
    uint8_t *out = malloc((size_t)cols * sizeof(float));
    st_t st = x && out ? m->dev->vt->download(m->dev, x, p->w.p, bytes) : ST_ENOMEM;
    for (int64_t r = 0; !st && r < rows; r++) st = put(f, out, row_as(x + cols * (turned ? row_from(r, turned) : r), cols, type, out));
    if (!st) st = put(f, zeros, (ALIGN - bytes_of(p, type) % ALIGN) % ALIGN);
    free(out);
    free(x);
    return st;
}

st_t model_gguf_check(const struct arch *a, struct base_err *err)
{
    struct base_err why = BASE_ERR_INIT;
    if (space_family_check(&family_llama, a, &why)) return base_err_set(err, ST_ENOTSUP, why.where, "%s", why.what);
    return a->bias ? base_err_set(err, ST_ENOTSUP, "bias", "GGUF has none in what is written here") : ST_OK;
}

st_t model_write_gguf(struct model *m, enum arch_weights as, const char *path, struct base_err *err)
{
    struct base_buf head = BASE_BUF_INIT;
    TRY(model_gguf_check(model_arch(m), err));
    if (m->opts.weights != ARCH_WEIGHTS_F32 || m->dtype != KN_F32) return base_err_set(err, ST_ENOTSUP, path, "made from f32 weights alone");
    st_t st = header(m, as, &head, err);
    FILE *f = st ? NULL : fopen(path, "we");
    if (!st && !f) st = base_err_set(err, ST_EIO, path, "cannot be written: %s", strerror(errno));
    if (f) {
        st = put(f, head.p, head.len);
        for (int i = 0; !st && i < model_params(m); i++) {
            const struct model_param *p = model_param(m, i);
            st = put_param(m, p, type_of(p, as), f);
        }
        if (fclose(f) && !st) st = why_not();
        if (st) unlink(path), base_err_set(err, st, path, "cannot be written: %s", base_status_text(st));
    }
    base_buf_fini(&head);
    return st;
}
