/* Allocation 1 fails, then 2, then 3 … until nothing fails: each time an error, no leak, nothing left on the device.
 * The linker routes malloc and its kin here. */
#include "tests/tap.h"

#include <unistd.h>

#include "tests/model/nets.h"

static int fail_at, calls; /* fail_at: which call fails; 0: none */

static int fails(void)
{
    return fail_at && ++calls == fail_at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

static char path[256];

/* Everything that allocates. */
static st_t all(struct kn_dev *dev, const struct arch *a)
{
    struct model *m = NULL;
    struct model_state *s = NULL;
    struct ckpt_meta meta = {"key", "value"};
    char *value = NULL, sha[BASE_SHA256_HEX];
    int32_t tok[18], tgt[18];
    double loss;
    float logits[13];
    random_tokens(1, 13, 18, tok, tgt);
    st_t st = model_new(&m, a, dev, &(struct model_opts){.train = true, .batch = 2}, NULL);
    if (!st) st = model_init(m, 1);
    if (!st) st = model_step(m, tok, tgt, 2, 9, &loss);
    if (!st) st = model_state_new(&s, m, 1, 9, NULL);
    if (!st) st = model_decode(s, tok, 9, logits);
    if (!st) st = model_save(m, path, true, &meta, 1, sha, NULL, NULL);
    if (!st) st = model_load(m, path, true, NULL);
    if (!st) st = model_load_meta(path, "key", &value, NULL);
    free(value);
    model_state_free(s);
    model_free(m);
    return st;
}

/* warm: the device has its scratch already, so that what stays on it afterwards must be as before; else its scratch
 * fails too. */
static void test(struct arch a, bool warm)
{
    int n, other = 0, left = 0;
    st_t st = ST_ENOMEM;
    struct kn_dev *dev = device("ref", 1);
    if (warm) is_int(all(dev, &a), ST_OK, "once without failures");
    uint64_t before = kn_dev_bytes(dev);
    for (n = 1; n < 1000; n++) {
        calls = 0, fail_at = n;
        st = all(dev, &a);
        fail_at = 0;
        left += kn_dev_bytes(dev) != before;
        if (!st && calls < n) break;
        /* syncing the folder may fail without a word: the file itself is synced */
        other += st != ST_ENOMEM && st != ST_OK;
        if (warm) continue;
        kn_dev_close(dev);
        dev = device("ref", 1);
    }
    is_int(st, ST_OK, "all goes well once nothing fails");
    ok(n > 30, "%d allocations failed, one after the other", n - 1);
    is_int(other, 0, "each is ST_ENOMEM");
    if (warm) is_int(left, 0, "nothing stays on the device");
    kn_dev_close(dev);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/taut-alloc-%ld", tmp ? tmp : "/tmp", (long)getpid());
    test(zoo(9, 0), true);
    test(zoo(9, 0), false);
    test(biased(9, 0), true);
    test(conv_zoo(9, 0), true);
    test(conv_zoo(9, 0), false);
    test(scans(9, 0), true);
    test(scans(9, 0), false);
    test(attentions(9, 0), true);
    test(attentions(9, 0), false);
    test(latents(9, 0), true);
    test(latents(9, 0), false);
    test(experts(9), true);
    test(experts(9), false);
    test(deltas(9, 0), true);
    test(deltas(9, 0), false);
    unlink(path);
    return tap_done();
}
