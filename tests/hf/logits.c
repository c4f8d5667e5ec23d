/* logits ARCH.json WEIGHTS.safetensors TOKEN...: what the network makes of the tokens, one after the other through its state. A line a position,
 * the logits of the whole vocabulary. Not a test: what make check-hf compares with. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "model/checkpoint.h"
#include "searchspace/arch_json.h"

static int fail(const char *what, const struct base_err *err)
{
    fprintf(stderr, "logits: %s: %s %s\n", what, err->where, err->what);
    return 1;
}

int main(int argc, char **argv)
{
    struct base_buf text = BASE_BUF_INIT;
    struct base_err err = BASE_ERR_INIT;
    struct arch a;
    struct kn_dev *dev;
    struct model *m;
    struct model_state *s;
    if (argc < 4) return fprintf(stderr, "usage: logits ARCH.json WEIGHTS.safetensors TOKEN...\n"), 2;
    if (base_buf_read_file(&text, argv[1], 1 << 20)) return fail(argv[1], &err);
    if (space_arch_parse(&a, text.p, text.len, argv[1], &err)) return fail(argv[1], &err);
    if (kn_dev_open(&dev, "cpu", 1, &err)) return fail("device", &err);
    if (model_new(&m, &a, dev, &(struct model_opts){.dtype = KN_F32}, &err)) return fail("model", &err);
    if (model_load(m, argv[2], false, &err)) return fail(argv[2], &err);
    if (model_state_new(&s, m, 1, argc - 3, &err)) return fail("state", &err);
    float *logits = malloc((size_t)a.vocab * sizeof *logits);
    for (int i = 3; logits && i < argc; i++) {
        int32_t token = atoi(argv[i]);
        st_t st = model_decode(s, &token, 1, logits);
        if (st) return fprintf(stderr, "logits: token %d: %s\n", i - 3, base_status_text(st)), 1;
        for (int v = 0; v < a.vocab; v++) printf("%.9g%c", (double)logits[v], v + 1 < a.vocab ? ' ' : '\n');
    }
    free(logits);
    model_state_free(s);
    model_free(m);
    kn_dev_close(dev);
    base_buf_fini(&text);
    return 0;
}
