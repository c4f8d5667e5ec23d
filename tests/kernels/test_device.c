/* Devices: names, memory and its count, marks; descriptors; paper costs against counts made one by one. */
#include <stdlib.h>

#include "kernels/cost.h"
#include "kernels/device.h"
#include "tests/tap.h"

static void test_names(void)
{
    struct kn_dev *dev = NULL;
    struct base_err err = BASE_ERR_INIT;
    is_int(kn_dev_open(&dev, "gpu", 1, &err), ST_ENOTFOUND, "unknown kind");
    ok(strstr(err.what, "gpu") != NULL, "and the words name it");
    is_int(kn_dev_open(&dev, "", 1, NULL), ST_ENOTFOUND, "no name");
    is_int(kn_dev_open(&dev, "cp", 1, NULL), ST_ENOTFOUND, "half a name");
    is_int(kn_dev_open(&dev, "cpu:sse9", 1, NULL), ST_ENOTFOUND, "unknown instruction set");
    is_int(kn_dev_open(&dev, "cpu:7", 1, NULL), ST_ENOTFOUND, "the CPU has no numbers that high");
    is_int(kn_dev_open(&dev, "ref:1", 1, NULL), ST_ENOTFOUND, "there is one reference");
    st_t st = kn_dev_open(&dev, "cuda:99", 1, &err);
    ok((st == ST_ENOTSUP || st == ST_ENOTFOUND) && strstr(err.what, "CUDA"), "no CUDA, or not as many GPUs: %s", err.what);
    ok(dev == NULL, "what fails gives nothing");
    kn_dev_close(NULL);
}

static void test_device(const char *name)
{
    struct kn_dev *dev;
    struct base_err err = BASE_ERR_INIT;
    void *p, *q;
    st_t st = kn_dev_open(&dev, name, 3, &err);
    if (st == ST_ENOTSUP) {
        tap_skip(name);
        return;
    }
    if (!ok(!st, "%s opens: %s", name, err.what)) return;
    const char *colon = strchr(name, ':');
    ok(!strncmp(dev->info.kind, name, strlen(dev->info.kind)) && (!colon || !strcmp(dev->info.isa, colon + 1)) && dev->info.name[0],
       "%s says what it is: %s, %s, %d threads", name, dev->info.name, dev->info.isa, dev->info.threads);
    is_int(dev->info.threads, strcmp(name, "ref") ? 3 : 1, "%s: threads", name);
    ok(dev->info.memory > (64 << 20), "%s: memory", name);
    const void *const *slots = (const void *const *)dev->op;
    int empty = 0;
    for (size_t i = 0; i < sizeof *dev->op / sizeof *slots; i++) empty += !slots[i];
    is_int(empty, 0, "%s: no slot of the vtable is empty", name);

    is_int(kn_alloc(dev, 1000, &p), ST_OK, "%s: alloc", name);
    is_int(kn_alloc(dev, 5 << 20, &q), ST_OK, "%s: alloc of megabytes", name);
    int zero = 1;
    for (int i = 0; i < 1000; i++) zero &= ((char *)p)[i] == 0;
    for (int i = 0; i < 5 << 20; i++) zero &= ((char *)q)[i] == 0;
    ok(zero && (size_t)p % 64 == 0 && (size_t)q % 64 == 0, "%s: aligned and zeroed", name);
    is_int(kn_dev_bytes(dev), 1000 + (5 << 20), "%s: bytes are counted", name);
    kn_free(dev, q, 5 << 20);
    is_int(kn_dev_bytes(dev), 1000, "%s: and given back", name);
    is_int(kn_dev_peak(dev), 1000 + (5 << 20), "%s: the peak stays", name);
    kn_peak_reset(dev);
    is_int(kn_dev_peak(dev), 1000, "%s: until it is reset", name);
    kn_free(dev, NULL, 0);
    q = &dev;
    is_int(kn_alloc(dev, SIZE_MAX, &q), ST_ENOMEM, "%s: all the bytes there are", name);
    dev->info.memory = 3000;
    is_int(kn_alloc(dev, 2001, &q), ST_ENOMEM, "%s: one byte over the limit", name);
    is_int(kn_alloc(dev, 4000, &q), ST_ENOMEM, "%s: more than the limit itself", name);
    ok(q == &dev, "%s: what fails gives nothing", name);
    is_int(kn_alloc(dev, 2000, &q), ST_OK, "%s: up to the limit", name);
    kn_free(dev, q, 2000);

    char text[8] = "forward", got[8] = "";
    ok(!dev->vt->upload(dev, p, text, 8) && !dev->vt->sync(dev) && !dev->vt->download(dev, got, p, 8) && !strcmp(got, text), "%s: there and back", name);
    uint64_t ns = 0;
    is_int(dev->vt->elapsed(dev, &ns), ST_ESTATE, "%s: no time without marks", name);
    is_int(dev->vt->mark(dev, 2), ST_EINVAL, "%s: two marks", name);
    ok(!dev->vt->mark(dev, 0) && !dev->vt->mark(dev, 1) && !dev->vt->elapsed(dev, &ns) && ns < 1000000000, "%s: time between marks", name);
    kn_free(dev, p, 1000);
    kn_dev_close(dev);
}

static void test_tensor(void)
{
    float x[60];
    struct kn_tensor t = kn_t3(x, KN_F32, 3, 4, 5), tr = kn_transpose(&t), sl = kn_slice(&t, 1, 1, 2), sp = kn_split(&t, 1, 2, 2);
    is_int(kn_count(&t), 60, "elements");
    ok(t.s[0] == 20 && t.s[1] == 5 && t.s[2] == 1, "row-major strides");
    ok(tr.d[1] == 5 && tr.d[2] == 4 && tr.s[1] == 1 && tr.s[2] == 5 && tr.p == x, "transposed: same memory");
    ok(sl.p == x + 5 && sl.d[1] == 2 && sl.s[0] == 20, "slice of the middle dim");
    ok(sp.rank == 4 && sp.d[1] == 2 && sp.d[2] == 2 && sp.s[1] == 10 && sp.s[2] == 5 && sp.d[3] == 5 && sp.s[3] == 1, "split of the middle dim");
    is_str(kn_dtype_name(KN_BF16), "bf16", "name");
    is_int(kn_dtype_size(KN_F64), 8, "size");
    t = kn_t2(x, KN_U8, 4, 15);
    ok(kn_slice(&t, 0, 2, 1).p == (char *)x + 30, "slice counts in the dtype's size");
}

static void test_cost(void)
{
    int bad = 0;
    for (int64_t t = 0; t <= 6; t++)
        for (int64_t s = t; s <= 9; s++)
            for (int64_t w = 0; w <= 10; w++) {
                int64_t pairs = 0;
                for (int64_t i = s - t; i < s; i++)
                    for (int64_t j = 0; j <= i; j++) pairs += w == 0 || j > i - w;
                bad += pairs != kn_attention_pairs(t, s, w);
            }
    is_int(bad, 0, "attention's pairs, counted one by one");
    struct kn_cost c = kn_cost_gemm(2, 3, 5, 4);
    ok(c.flops == 60 && c.bytes == 4 * (10 + 15 + 6), "gemm's cost");
    c = kn_cost_attention(1, 8, 8, 2, 1, 4, 0, 4);
    ok(c.flops == 2 * 36 * 19 && c.bytes == 4 * 4 * (2 * 16 + 2 * 8), "attention's cost");
    struct kn_cost f = kn_cost_head_ce(10, 8, 100, 0, 4), b = kn_cost_head_ce(10, 8, 100, 1, 4);
    ok(b.flops > 2.9 * 2 * 10 * 8 * 100 && b.flops > f.flops && b.bytes > f.bytes, "head_ce's cost: three products with its gradients");
    c = kn_cost_head_distill(10, 8, 100, 16, 4);
    ok(c.flops > b.flops + 2 * 10 * 16 * 100 && c.bytes == b.bytes + 4 * (10 * 16 + 100 * 16), "head_distill's: and the teacher's logits");
}

int main(void)
{
    test_names();
    test_device("ref");
    test_device("cpu");
    test_device("cpu:generic");
    test_device("cpu:avx2");
    test_device("cpu:avx512");
    test_tensor();
    test_cost();
    return tap_done();
}
