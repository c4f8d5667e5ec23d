/* What weight sharing asks of a space: all options of a layer, and paths dealt from decks. */
#include "searchspace/layer.h"
#include "searchspace/options.h"
#include "searchspace/space.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

static struct space *make(const char *text)
{
    struct space *s = NULL;
    struct base_err err = BASE_ERR_INIT;
    json_t *v = json_loads(quoted(text), JSON_DECODE_ANY, NULL);
    if (space_new(&s, v, 256, 64, &err)) printf("#   %s: %s\n", err.where, err.what);
    json_decref(v);
    return s;
}

static bool offered(const struct space_options *o, unsigned role, int width, const struct arch_part *p)
{
    for (int i = 0; i < o->n; i++)
        if (o->option[i].role == role && o->option[i].width == width && !memcmp(&o->option[i].part, p, sizeof *p)) return true;
    return space_part_is_none(p);
}

static void test_preset(const char *name, int paths)
{
    struct space *s = make(space_preset_text(name));
    struct space_options o;
    struct base_err err = BASE_ERR_INIT;
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    struct genome g;
    struct arch a, big, small;
    is_int(space_options_of(s, &o, &err), ST_OK, "%s: options", name);
    ok(o.vocab == 256 && o.context == 64 && o.n > 0 && !o.untied && !o.layer_norm && !o.bias, "of the network");
    space_genome_init(s, &g);
    int bad = 0, differ = 0;
    for (int i = 0; i < paths; i++) { /* half by the space's own draws, half by decks */
        struct candidate c = {0};
        if (i % 2) {
            space_sample(s, &r, &g);
            bad += space_candidate(s, &g, &c, NULL) != ST_OK;
            a = c.arch;
            space_candidate_fini(&c);
        } else {
            struct arch again;
            bad += space_path(s, SPACE_PATH_RANDOM, 7, (uint64_t)i, &a) != ST_OK;
            bad += space_path(s, SPACE_PATH_RANDOM, 7, (uint64_t)i, &again) != ST_OK || !space_arch_equal(&a, &again);
            space_path(s, SPACE_PATH_RANDOM, 8, (uint64_t)i, &again);
            differ += !space_arch_equal(&a, &again);
        }
        bad += space_arch_check(&a, NULL) != ST_OK || a.depth > o.depth || a.width > o.width;
        for (int k = 0; k < a.depth; k++)
            bad += !offered(&o, LAYER_MIXER, a.width, &a.layer[k].mixer) || !offered(&o, LAYER_FFN, a.width, &a.layer[k].ffn);
    }
    is_int(bad, 0, "every path and every candidate is made of them; a path is pure");
    ok(differ > paths / 3, "other seeds, other paths");
    struct arch_cost cost, least = {.params = INFINITY}, most = {0};
    space_path(s, SPACE_PATH_LARGEST, 7, 0, &big), space_path(s, SPACE_PATH_SMALLEST, 7, 0, &small);
    for (int i = 0; i < paths; i++) {
        space_path(s, SPACE_PATH_RANDOM, 7, (uint64_t)i, &a);
        space_arch_cost(&a, &cost);
        if (cost.params < least.params) least = cost;
        if (cost.params > most.params) most = cost;
    }
    space_arch_cost(&big, &cost);
    ok(cost.params > most.params && big.depth == o.depth && big.width == o.width, "the largest is larger than any of them");
    space_arch_cost(&small, &cost);
    ok(cost.params < most.params && small.width < o.width, "the smallest is small");
    space_options_fini(&o);
    space_genome_fini(&g);
    space_free(s);
}

/* n paths in a row take each value n / values times, give or take one. */
static void test_even(void)
{
    struct space *s = make("{'type':'lm','depth':[2,4],'width':[32,64,96,128],'mixer':{'attention':{'heads':[1,2,4],'window':[0,16]},'mamba2':{'head_dim':[16],'state':[16]}},"
                           "'ffn':{'swiglu':{'ratio':[1,2]}}}");
    int depth[5] = {0}, width[129] = {0}, mamba = 0, type = space_layer_find("mamba2", LAYER_MIXER);
    struct arch a;
    for (uint64_t i = 0; i < 240; i++) {
        if (space_path(s, SPACE_PATH_RANDOM, 3, i, &a)) break;
        depth[a.depth]++, width[a.width]++, mamba += a.layer[0].mixer.type == type;
    }
    ok(depth[2] == 80 && depth[3] == 80 && depth[4] == 80, "depths: %d, %d, %d of 240", depth[2], depth[3], depth[4]);
    ok(width[32] == 60 && width[64] == 60 && width[96] == 60 && width[128] == 60, "widths");
    is_int(mamba, 120, "a layer's types");
    int both = 0;
    for (uint64_t i = 0; i < 2; i++) {
        space_path(s, SPACE_PATH_LARGEST, 3, i, &a);
        both += a.layer[0].mixer.type == type;
    }
    is_int(both, 1, "two of the largest in a row: both types");
    space_free(s);
}

static void test_refused(void)
{
    struct space *s = make("{'type':'custom','knobs':{'x':{'int':[1,4]}}}");
    struct space_options o;
    struct base_err err = BASE_ERR_INIT;
    struct arch a;
    is_int(space_options_of(s, &o, &err), ST_ENOTSUP, "no language model");
    is_int(space_path(s, SPACE_PATH_RANDOM, 1, 1, &a), ST_ENOTSUP, "nor a path");
    space_free(s);
    s = make("{'type':'lm','depth':[1,1],'width':[64],'mixer':{'attention':{'heads':[1,2,4,8],'window':[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,"
             "29,30,31],'head_dim':[2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62,64],'kv_ratio':[1,2]}},'ffn':{'none':{}}}");
    is_int(space_options_of(s, &o, &err), ST_ENOTSUP, "a type with too many combinations");
    ok(strstr(err.what, "attention") && !strcmp(err.where, "space.mixer"), "by its name");
    space_free(s);
}

int main(void)
{
    test_preset("lm-tiny", 200);
    test_preset("lm-small", 200);
    test_preset("lm-mixed", 200);
    test_even();
    test_refused();
    return tap_done();
}
