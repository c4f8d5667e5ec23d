/* The classes, as transformers 5.23 has them (models/<model_type>/configuration_*.py and modeling_*.py). */
#include "model/hf.h"
#include "model/model.h"
#include "searchspace/layer.h"

static int param(const struct arch_part *p, const char *name)
{
    return space_part_get(p, name);
}

static void rope_config(const struct arch *a, struct base_jw *w)
{
    base_jw_knum(w, "rope_theta", a->rope_theta); /* before transformers 5 */
    base_jw_key(w, "rope_parameters");
    base_jw_obj(w);
    base_jw_kstr(w, "rope_type", "default");
    base_jw_knum(w, "rope_theta", a->rope_theta);
    base_jw_end(w);
}

static void attention_config(const struct arch_part *p, struct base_jw *w)
{
    base_jw_kint(w, "num_attention_heads", param(p, "heads"));
    base_jw_kint(w, "num_key_value_heads", param(p, "kv_heads"));
    base_jw_kint(w, "head_dim", param(p, "head_dim"));
}

/* ---- LlamaForCausalLM, Qwen3ForCausalLM: our names are Llama's ---- */

static void llama_config(const struct arch *a, struct base_jw *w)
{
    base_jw_kint(w, "num_hidden_layers", a->depth);
    attention_config(&a->layer[0].mixer, w);
    base_jw_kint(w, "intermediate_size", param(&a->layer[0].ffn, "hidden"));
    base_jw_kstr(w, "hidden_act", "silu");
    base_jw_knum(w, "rms_norm_eps", MODEL_NORM_EPS);
    base_jw_kbool(w, "attention_bias", a->bias);
    base_jw_kbool(w, "mlp_bias", a->bias);
    rope_config(a, w);
}

const struct hf_class hf_classes[] = {
    {.family = "llama", .name = "LlamaForCausalLM", .model_type = "llama", .config = llama_config},
};
const int hf_nclasses = sizeof hf_classes / sizeof hf_classes[0];
