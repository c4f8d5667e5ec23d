/* GGUF files: what is refused, what is left behind when writing fails. That the numbers are right is seen from outside, in tests/cli/test_bench.py. */
#include "tests/tap.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "model/gguf.h"
#include "tests/model/nets.h"

static char path[256];

static struct arch llama(int width, int hidden)
{
    struct arch a = net(32, 9, width, 1);
    add(&a, attention(4, 2, 8, 0, 1), swiglu(hidden, 0));
    add(&a, attention(4, 2, 8, 0, 1), swiglu(hidden, 0));
    return a;
}

static st_t write_as(const struct arch *a, enum arch_weights as, struct base_err *err)
{
    struct kn_dev *dev = device("ref", 1);
    struct model *m = model_of(a, dev, KN_F32, 0, false, 1);
    st_t st = model_write_gguf(m, as, path, err);
    model_free(m);
    kn_dev_close(dev);
    return st;
}

static void refused(struct arch a, enum arch_weights as, const char *where, const char *what)
{
    struct base_err err = BASE_ERR_INIT;
    is_int(write_as(&a, as, &err), ST_ENOTSUP, "%s: refused", what);
    is_str(err.where, where, "and where");
    ok(access(path, F_OK), "without a file");
}

static long size_of(void)
{
    FILE *f = fopen(path, "rb");
    long n = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    if (f) fclose(f);
    return n;
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    struct base_err err = BASE_ERR_INIT;
    snprintf(path, sizeof path, "%s/taut-gguf-%ld", tmp ? tmp : "/tmp", (long)getpid());
    struct arch good = llama(32, 64), a = good;
    a.bias = true;
    refused(a, ARCH_WEIGHTS_F32, "bias", "biases");
    a = good;
    set(&a.layer[0].mixer, "window", 4), set(&a.layer[1].mixer, "window", 4);
    refused(a, ARCH_WEIGHTS_F32, "layers[0].mixer.window", "windows");
    a = good;
    set(&a.layer[1].ffn, "hidden", 96);
    refused(a, ARCH_WEIGHTS_F32, "layers[1].ffn", "layers that differ");
    refused(llama(32, 40), ARCH_WEIGHTS_INT8, "model.layers.0.mlp.down_proj.weight", "Q8_0 of rows of 40");

    long bytes[3];
    for (int w = 0; w < 3; w++) {
        is_int(write_as(&good, (enum arch_weights)w, &err), ST_OK, "written, as number %d", w);
        bytes[w] = size_of();
    }
    /* matrices: q and o 32 x 32, k and v 16 x 32, three of 64 x 32, a layer; a tied embedding of 32 x 32 */
    long matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32) + 32 * 32;
    is_int(bytes[0] - bytes[1], 2 * matrices, "bf16 takes half of f32");
    is_int(bytes[1] - bytes[2], matrices * 2 - matrices / 32 * 34, "Q8_0 34 bytes for 32 numbers");

    signal(SIGXFSZ, SIG_IGN);
    struct rlimit was, small = {20000, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    is_int(write_as(&good, ARCH_WEIGHTS_F32, &err), ST_ENOSPC, "no room");
    ok(access(path, F_OK), "leaves nothing");
    setrlimit(RLIMIT_FSIZE, &was);
    snprintf(path, sizeof path, "/nowhere/model.gguf");
    is_int(write_as(&good, ARCH_WEIGHTS_F32, &err), ST_EIO, "no such folder");
    return tap_done();
}
