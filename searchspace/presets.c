#include <string.h>

#include "searchspace/space.h"

static const char *const names[] = {"lm-small", "lm-tiny", "lm-mixed", NULL};

static const char *const texts[] = {
    /* hours on a laptop's processor */
    "{\"type\":\"lm\",\"depth\":[2,8],\"width\":[64,96,128,192,256],"
    "\"mixer\":{\"attention\":{\"heads\":[2,4,8],\"kv_ratio\":[1,2,4],\"head_dim\":[32],\"window\":[0,128],\"rope\":[true],"
    "\"qk_norm\":[false]},\"none\":{}},"
    "\"ffn\":{\"swiglu\":{\"ratio\":[1,1.5,2,3,4],\"rank\":[0,32]},\"none\":{}},"
    "\"tie_embeddings\":[true],\"norm\":[\"rms\"],\"bias\":[false],\"rope_theta\":[10000],\"family\":\"any\"}",
    /* seconds: tests and the quick start */
    "{\"type\":\"lm\",\"depth\":[1,4],\"width\":[32,48,64,96,128],"
    "\"mixer\":{\"attention\":{\"heads\":[1,2,4],\"kv_ratio\":[1,2,4],\"window\":[0,64]},\"none\":{}},"
    "\"ffn\":{\"swiglu\":{\"ratio\":[1,1.5,2,3,4],\"rank\":[0,16]},\"none\":{}}}",
    /* a night: every layer type against every other */
    "{\"type\":\"lm\",\"depth\":[2,8],\"width\":[64,96,128,192,256],"
    "\"mixer\":{\"attention\":{\"heads\":[2,4,8],\"kv_ratio\":[1,2,4],\"head_dim\":[32],\"window\":[0,128],\"qk_norm\":[false,true],"
    "\"gate\":[false,true],\"share_kv\":[false,true]},"
    "\"mla\":{\"heads\":[4],\"kv_rank\":[32,64],\"rope_dim\":[16]},\"gated_delta\":{\"heads\":[2,4],\"head_dim\":[32]},"
    "\"linear\":{\"heads\":[2,4],\"head_dim\":[32]},\"mamba2\":{\"expand\":[1,2],\"head_dim\":[32],\"state\":[16,64]},"
    "\"short_conv\":{\"conv\":[3]},\"none\":{}},"
    "\"ffn\":{\"swiglu\":{\"ratio\":[1,1.5,2,3,4],\"rank\":[0,32]},\"mlp\":{\"ratio\":[2,4],\"act\":[\"relu2\",\"gelu\"]},"
    "\"moe\":{\"experts\":[4,8],\"active\":[1,2],\"ratio\":[0.5,1],\"shared\":[0,1]},\"none\":{}}}",
};

const char *const *space_preset_names(void)
{
    return names;
}

const char *space_preset_text(const char *name)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name)) return texts[i];
    return NULL;
}
