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

#define TENSORS(table) .tensor = table, .ntensors = sizeof table / sizeof table[0]

/* The first part of a type; NULL: there is none. */
static const struct arch_part *first(const struct arch *a, const struct layer_spec *s)
{
    for (int i = 0; i < a->depth; i++) {
        if (space_layer(a->layer[i].mixer.type) == s) return &a->layer[i].mixer;
        if (space_layer(a->layer[i].ffn.type) == s) return &a->layer[i].ffn;
    }
    return NULL;
}

/* p NULL: no layer attends, and the class only wants numbers that go together. */
static void attention_config(const struct arch_part *p, struct base_jw *w)
{
    base_jw_kint(w, "num_attention_heads", p ? param(p, "heads") : 1);
    base_jw_kint(w, "num_key_value_heads", p ? param(p, "kv_heads") : 1);
    base_jw_kint(w, "head_dim", p ? param(p, "head_dim") : 2);
}

/* Mixers: attention, or the one other. */
static void layer_types(const struct arch *a, const struct layer_spec *other, const char *name, struct base_jw *w)
{
    base_jw_key(w, "layer_types");
    base_jw_arr(w);
    for (int i = 0; i < a->depth; i++) base_jw_str(w, space_layer(a->layer[i].mixer.type) == other ? name : "full_attention");
    base_jw_end(w);
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

/* ---- Lfm2ForCausalLM ---- */

static const struct hf_tensor lfm2_tensors[] = {
    {.to = "model.embedding_norm.weight", .from = {"model.norm.weight"}},
    {.to = "operator_norm.weight", .from = {"input_layernorm.weight"}},
    {.to = "ffn_norm.weight", .from = {"post_attention_layernorm.weight"}},
    {.to = "self_attn.out_proj.weight", .from = {"self_attn.o_proj.weight"}},
    {.to = "self_attn.q_layernorm.weight", .from = {"self_attn.q_norm.weight"}},
    {.to = "self_attn.k_layernorm.weight", .from = {"self_attn.k_norm.weight"}},
    {.to = "feed_forward.w1.weight", .from = {"mlp.gate_proj.weight"}},
    {.to = "feed_forward.w3.weight", .from = {"mlp.up_proj.weight"}},
    {.to = "feed_forward.w2.weight", .from = {"mlp.down_proj.weight"}},
};

static void lfm2_config(const struct arch *a, struct base_jw *w)
{
    const struct arch_part *conv = first(a, &layer_short_conv);
    base_jw_kint(w, "num_hidden_layers", a->depth);
    layer_types(a, &layer_short_conv, "conv", w);
    attention_config(first(a, &layer_attention), w);
    base_jw_kint(w, "intermediate_size", param(&a->layer[0].ffn, "hidden"));
    base_jw_kbool(w, "block_auto_adjust_ff_dim", false);
    base_jw_knum(w, "norm_eps", MODEL_NORM_EPS);
    base_jw_kint(w, "conv_L_cache", conv ? param(conv, "conv") : 3);
    base_jw_kbool(w, "conv_bias", false);
    rope_config(a, w);
}

const struct hf_class hf_classes[] = {
    {.family = "llama", .name = "LlamaForCausalLM", .model_type = "llama", .config = llama_config},
    {.family = "qwen3", .name = "Qwen3ForCausalLM", .model_type = "qwen3", .config = llama_config},
    {.family = "lfm2", .name = "Lfm2ForCausalLM", .model_type = "lfm2", TENSORS(lfm2_tensors), .config = lfm2_config},
};
const int hf_nclasses = sizeof hf_classes / sizeof hf_classes[0];
