/* Weights and checkpoints: training goes on to the same bits; what does not fit is named; other dtypes are
 * converted. */
#include "tests/tap.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "tests/model/nets.h"

static char dir[200], path[256];
static const struct model_hyper hyper = {
    .lr = 1e-2, .hidden_lr_scale = 0.5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1};

static double train(struct model *m, int from, int to)
{
    int32_t tok[18], tgt[18];
    double loss = NAN, norm;
    for (int s = from; s < to; s++) {
        random_tokens((uint64_t)s, 13, 18, tok, tgt);
        if (model_step(m, tok, tgt, 2, 9, &loss) || model_update(m, &hyper, &norm)) return NAN;
    }
    return loss;
}

static int same_weights(struct kn_dev *dev, struct model *x, struct model *y)
{
    int same = 1;
    for (int i = 0; i < model_params(x); i++) {
        const struct kn_tensor *w = &model_param(x, i)->w;
        double *a = numbers(dev, w), *b = numbers(dev, &model_param(y, i)->w);
        same &= !memcmp(a, b, (size_t)kn_count(w) * sizeof *a);
        free(a), free(b);
    }
    return same;
}

static void test_resume(const char *device_name, enum kn_dtype dtype, int tie)
{
    struct kn_dev *dev = device(device_name, 2);
    struct arch a = zoo(9, tie);
    struct model *x = model_of(&a, dev, dtype, 2, true, 1), *y = model_of(&a, dev, dtype, 2, true, 99);
    struct base_err err = BASE_ERR_INIT;
    struct ckpt_meta meta[] = {{"trainer", "{\"at\": 3, \"\xc3\xa9\": \"\\\"\"}"}, {"empty", ""}};
    char sha[BASE_SHA256_HEX], want[BASE_SHA256_HEX], *value = NULL;
    uint64_t bytes = 0, size = 0;
    train(x, 0, 3);
    train(y, 0, 1);
    is_int(model_save(x, path, true, meta, 2, sha, &bytes, &err), ST_OK, "%s: saved after three steps", device_name);
    is_int(base_sha256_file(path, want, &size), ST_OK, "the file");
    ok(!strcmp(sha, want) && bytes == size, "its hash and size are as told");
    if (!ok(!model_load(y, path, true, &err), "loaded into another")) printf("# %s: %s\n", err.where, err.what);
    is_int(model_steps(y), 3, "steps");
    double lx = train(x, 3, 7), ly = train(y, 3, 7);
    ok(isfinite(lx) && lx == ly && same_weights(dev, x, y), "goes on to the same bits");
    is_int(model_load_meta(path, "trainer", &value, &err), ST_OK, "metadata");
    is_str(value, meta[0].value, "as given");
    free(value);
    is_int(model_load_meta(path, "empty", &value, &err), ST_OK, "an empty value");
    is_str(value, "", "is empty");
    free(value);
    is_int(model_load_meta(path, "none", &value, &err), ST_ENOTFOUND, "a key that is not there");
    /* weights of a checkpoint, without the rest */
    struct model *w = model_of(&a, dev, dtype, 0, false, 5), *v = model_of(&a, dev, dtype, 0, false, 6);
    is_int(model_load(w, path, false, &err), ST_OK, "weights of a checkpoint");
    is_int(model_load(w, path, true, &err), ST_ESTATE, "its optimiser wants a model that trains");
    is_int(model_save(w, path, true, NULL, 0, NULL, NULL, &err), ST_ESTATE, "nor can that be saved");
    is_int(model_save(w, path, false, NULL, 0, NULL, NULL, &err), ST_OK, "weights alone");
    is_int(model_load(v, path, false, &err), ST_OK, "read back");
    ok(same_weights(dev, v, w), "the same bits");
    is_int(model_load(y, path, true, &err), ST_EINVAL, "weights alone are no checkpoint: %s", err.what);
    model_free(x), model_free(y), model_free(w), model_free(v);
    kn_dev_close(dev);
}

static void test_mismatch(void)
{
    struct kn_dev *dev = device("ref", 1);
    struct arch a = net(7, 4, 8, 0), tied = net(7, 4, 8, 1), wide = net(7, 4, 8, 0), deep = net(7, 4, 8, 0);
    add(&a, attention(2, 1, 4, 0, 1), swiglu(12, 0));
    add(&tied, attention(2, 1, 4, 0, 1), swiglu(12, 0));
    add(&wide, attention(2, 1, 4, 0, 1), swiglu(16, 0));
    add(&deep, attention(2, 1, 4, 0, 1), swiglu(12, 0));
    add(&deep, NO_MIXER, swiglu(12, 0));
    struct model *m = model_of(&a, dev, KN_F32, 1, true, 1);
    struct base_err err = BASE_ERR_INIT;
    model_save(m, path, false, NULL, 0, NULL, NULL, NULL);
    const struct {
        const struct arch *a;
        const char *name;
    } others[] = {{&tied, "lm_head.weight: not in"},
                  {&wide, "model.layers.0.mlp.gate_proj.weight: its shape"},
                  {&deep, "model.layers.1.post_attention_layernorm.weight: missing"}};
    for (int i = 0; i < 3; i++) {
        struct model *o = model_of(others[i].a, dev, KN_F32, 0, false, 2);
        double *before = numbers(dev, &model_param(o, 0)->w);
        is_int(model_load(o, path, false, &err), ST_EINVAL, "another architecture's weights");
        ok(strstr(err.what, others[i].name) != NULL, "%s", err.what);
        double *after = numbers(dev, &model_param(o, 0)->w);
        ok(!memcmp(before, after, 7 * 8 * sizeof *before), "nothing was taken");
        free(before), free(after);
        model_free(o);
    }
    is_int(model_load(m, "/nowhere/x", false, &err), ST_ENOTFOUND, "no file");
    model_free(m);
    kn_dev_close(dev);
}

/* An architecture of 2 x 2 numbers in other types: f16 and bf16 with known bits. */
static void test_dtypes(void)
{
    static const struct {
        const char *name;
        uint16_t bits[4];
        double want[4];
    } types[] = {{"F16", {0x3c00, 0xc000, 0x0001, 0x7bff}, {1, -2, 0x1p-24, 65504}},
                 {"BF16", {0x3f80, 0xc000, 0x0001, 0x7f7f}, {1, -2, 0x1p-133, 0x1.fep127}}};
    struct kn_dev *dev = device("ref", 1);
    struct arch a = net(2, 4, 2, 1);
    add(&a, NO_MIXER, swiglu(1, 0));
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 1);
    struct base_err err = BASE_ERR_INIT;
    for (int t = 0; t < 2; t++) {
        /* embed [2,2], norms [2] twice, gate [1,2], up [1,2], down [2,1] */
        static const char *const names[] = {"model.embed_tokens.weight",
                                            "model.layers.0.post_attention_layernorm.weight",
                                            "model.norm.weight",
                                            "model.layers.0.mlp.gate_proj.weight",
                                            "model.layers.0.mlp.up_proj.weight",
                                            "model.layers.0.mlp.down_proj.weight"};
        static const char *const shapes[] = {"[2,2]", "[2]", "[2]", "[1,2]", "[1,2]", "[2,1]"};
        char head[2048] = "{";
        int at = 0;
        for (int i = 0; i < 6; i++) {
            int n = i ? 4 : 8;
            snprintf(head + strlen(head), sizeof head - strlen(head),
                     "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%d,%d]}", i ? "," : "", names[i],
                     types[t].name, shapes[i], at, at + n);
            at += n;
        }
        strcat(head, "}");
        FILE *f = fopen(path, "wb");
        uint64_t len = strlen(head);
        fwrite(&len, 8, 1, f); /* this test runs on little-endian machines, as the format is */
        fwrite(head, 1, len, f);
        for (int i = 0; i < 14; i++) fwrite(&types[t].bits[i % 4], 2, 1, f);
        fclose(f);
        if (!ok(!model_load(m, path, false, &err), "%s", types[t].name)) printf("# %s\n", err.what);
        double *w = numbers(dev, &model_param(m, 0)->w);
        for (int i = 0; i < 4; i++) ok(w[i] == types[t].want[i], "%04x is %g", types[t].bits[i], types[t].want[i]);
        free(w);
    }
    model_free(m);
    kn_dev_close(dev);
}

static int files_in(const char *d)
{
    char cmd[300], line[32] = "";
    snprintf(cmd, sizeof cmd, "ls -A %s | wc -l", d);
    FILE *p = popen(cmd, "r");
    if (!p || !fgets(line, sizeof line, p)) return -1;
    pclose(p);
    return atoi(line);
}

static void test_failures(void)
{
    struct kn_dev *dev = device("ref", 1);
    struct arch a = zoo(9, 0);
    struct model *m = model_of(&a, dev, KN_F32, 0, false, 1);
    struct base_err err = BASE_ERR_INIT;
    struct rlimit keep, small = {4096, RLIM_INFINITY};
    is_int(model_save(m, "/nowhere/x", false, NULL, 0, NULL, NULL, &err), ST_EIO, "no such folder: %s", err.what);
    unlink(path);
    getrlimit(RLIMIT_FSIZE, &keep);
    signal(SIGXFSZ, SIG_IGN);
    small.rlim_max = keep.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    st_t st = model_save(m, path, false, NULL, 0, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &keep);
    is_int(st, ST_ENOSPC, "no room for the file: %s", err.what);
    is_int(files_in(dir), 0, "nothing is left behind");
    model_free(m);
    kn_dev_close(dev);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/taut-ckpt-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/w.safetensors", dir);
    test_resume("cpu", KN_F32, 0);
    test_resume("ref", KN_F64, 1);
    test_mismatch();
    test_dtypes();
    test_failures();
    unlink(path);
    rmdir(dir);
    return tap_done();
}
