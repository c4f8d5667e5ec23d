/* The classes, as transformers 5.23 has them (models/<model_type>/configuration_*.py and modeling_*.py). */
#include "model/hf.h"

#include <math.h>
#include <stdio.h>

#include "model/model.h"
#include "searchspace/layer.h"

static int param(const struct arch_part *p, const char *name)
{
    return space_part_get(p, name);
}

/* share: of each head, what is turned. */
static void rope_config(const struct arch *a, double share, struct base_jw *w)
{
    base_jw_knum(w, "rope_theta", a->rope_theta); /* before transformers 5 */
    base_jw_key(w, "rope_parameters");
    base_jw_obj(w);
    base_jw_kstr(w, "rope_type", "default");
    base_jw_knum(w, "rope_theta", a->rope_theta);
    if (share < 1) base_jw_knum(w, "partial_rotary_factor", share);
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
    rope_config(a, 1, w);
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
    rope_config(a, 1, w);
}

static void zeros(struct export_plan *p, const char *prefix, const char *name, int64_t rows, int64_t cols)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    export_plan_tensor(p, full, (int64_t[4]){rows ? rows : EXPORT_EMPTY, cols}, 0);
    export_plan_rows(p, "", 0, rows);
}

/* ---- GraniteMoeHybridForCausalLM ---- */

static const struct hf_tensor granite_tensors[] = {
    {.to = "shared_mlp.input_linear.weight", .from = {"mlp.gate_proj.weight", "mlp.up_proj.weight"}},
    {.to = "shared_mlp.output_linear.weight", .from = {"mlp.down_proj.weight"}},
    {.to = "block_sparse_moe.router.weight", .from = {"mlp.gate.weight"}},
    {.to = "block_sparse_moe.experts.gate_up_proj", .from = {"mlp.experts.gate_proj", "mlp.experts.up_proj"}},
    {.to = "block_sparse_moe.experts.down_proj", .from = {"mlp.experts.down_proj"}},
    {.to = "shared_mlp.input_linear.weight", .from = {"mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.up_proj.weight"}},
    {.to = "shared_mlp.output_linear.weight", .from = {"mlp.shared_experts.down_proj.weight"}},
};

/* Its shared_mlp is there even where it has no width. */
static void granite_extra(const struct arch *a, const struct arch_part *part, const char *prefix, struct export_plan *p)
{
    if (space_layer(part->type) != &layer_moe || param(part, "shared")) return;
    zeros(p, prefix, "shared_mlp.input_linear.weight", 0, a->width);
    zeros(p, prefix, "shared_mlp.output_linear.weight", a->width, EXPORT_EMPTY);
}

static void granite_config(const struct arch *a, struct base_jw *w)
{
    const struct arch_part *ffn = &a->layer[0].ffn, *attention = first(a, &layer_attention), *mamba = first(a, &layer_mamba2);
    bool moe = space_layer(ffn->type) == &layer_moe;
    int hidden = param(ffn, "hidden"), expand = mamba ? param(mamba, "expand") : 1, head = mamba ? param(mamba, "head_dim") : a->width;
    base_jw_kint(w, "num_hidden_layers", a->depth);
    layer_types(a, &layer_mamba2, "linear_attention", w);
    attention_config(attention, w);
    base_jw_knum(w, "attention_multiplier", 1 / sqrt(attention ? param(attention, "head_dim") : 2));
    base_jw_kstr(w, "position_embedding_type", attention && param(attention, "rope") ? "rope" : NULL);
    rope_config(a, 1, w);
    base_jw_kint(w, "intermediate_size", hidden);
    base_jw_kint(w, "shared_intermediate_size", moe ? hidden * param(ffn, "shared") : hidden);
    base_jw_kint(w, "num_local_experts", moe ? param(ffn, "experts") : 0);
    base_jw_kint(w, "num_experts_per_tok", moe ? param(ffn, "active") : 0);
    base_jw_knum(w, "rms_norm_eps", MODEL_NORM_EPS);
    base_jw_kint(w, "mamba_expand", expand);
    base_jw_kint(w, "mamba_d_head", head);
    base_jw_kint(w, "mamba_n_heads", expand * a->width / head);
    base_jw_kint(w, "mamba_n_groups", mamba ? param(mamba, "groups") : 1);
    base_jw_kint(w, "mamba_d_state", mamba ? param(mamba, "state") : 1);
    base_jw_kint(w, "mamba_d_conv", mamba ? param(mamba, "conv") : 4);
    base_jw_kbool(w, "mamba_conv_bias", true);
    base_jw_kbool(w, "mamba_proj_bias", false);
}

/* ---- NemotronHForCausalLM ---- */

static const struct hf_tensor nemotron_tensors[] = {
    {.to = "model.embeddings.weight", .from = {"model.embed_tokens.weight"}},
    {.to = "model.norm_f.weight", .from = {"model.norm.weight"}},
    {.to = "norm.weight", .from = {"input_layernorm.weight"}},
    {.to = "norm.weight", .from = {"post_attention_layernorm.weight"}},
    {.to = "mixer.", .from = {"self_attn."}},
    {.to = "mixer.", .from = {"mamba."}},
    {.to = "mixer.", .from = {"mlp."}},
};

/* A buffer that only its own training moves. */
static void nemotron_extra(const struct arch *a, const struct arch_part *part, const char *prefix, struct export_plan *p)
{
    (void)a;
    if (space_layer(part->type) == &layer_moe) zeros(p, prefix, "mixer.gate.e_score_correction_bias", param(part, "experts"), 0);
}

static void nemotron_blocks(const struct arch *a, struct base_jw *w)
{
    base_jw_key(w, "layers_block_type");
    base_jw_arr(w);
    for (int i = 0; i < a->depth; i++)
        for (int k = 0; k < 2; k++) {
            const struct layer_spec *s = space_layer(k ? a->layer[i].ffn.type : a->layer[i].mixer.type);
            if (s == &layer_none) continue;
            base_jw_str(w, s == &layer_attention ? "full_attention" : s == &layer_mamba2 ? "linear_attention" : s->name);
        }
    base_jw_end(w);
}

static void nemotron_config(const struct arch *a, struct base_jw *w)
{
    const struct arch_part *mlp = first(a, &layer_mlp), *moe = first(a, &layer_moe), *mamba = first(a, &layer_mamba2);
    int expand = mamba ? param(mamba, "expand") : 1, head = mamba ? param(mamba, "head_dim") : a->width;
    nemotron_blocks(a, w);
    attention_config(first(a, &layer_attention), w);
    base_jw_knum(w, "layer_norm_epsilon", MODEL_NORM_EPS);
    base_jw_kint(w, "intermediate_size", mlp ? param(mlp, "hidden") : a->width);
    base_jw_kstr(w, "mlp_hidden_act", "relu2");
    base_jw_kint(w, "expand", expand);
    base_jw_kint(w, "mamba_head_dim", head);
    base_jw_kint(w, "mamba_num_heads", expand * a->width / head);
    base_jw_kint(w, "n_groups", mamba ? param(mamba, "groups") : 1);
    base_jw_kint(w, "ssm_state_size", mamba ? param(mamba, "state") : 1);
    base_jw_kint(w, "conv_kernel", mamba ? param(mamba, "conv") : 4);
    base_jw_knum(w, "time_step_min", 1e-30); /* the class lets no step be smaller; 0 has no logarithm, which it takes when it makes new weights */
    base_jw_kint(w, "n_routed_experts", moe ? param(moe, "experts") : 2);
    base_jw_kint(w, "num_experts_per_tok", moe ? param(moe, "active") : 1);
    base_jw_kint(w, "moe_intermediate_size", moe ? param(moe, "hidden") : a->width);
    base_jw_kint(w, "moe_shared_expert_intermediate_size", moe ? param(moe, "hidden") * param(moe, "shared") : a->width);
    base_jw_kbool(w, "norm_topk_prob", true);
    base_jw_kint(w, "routed_scaling_factor", 1);
}

/* ---- Qwen3NextForCausalLM: its norms times 1 + w, but for the one within gated_delta ---- */

static const struct hf_tensor qwen3_next_tensors[] = {
    {.to = "model.norm.weight", .from = {"model.norm.weight"}, .add = -1},
    {.to = "input_layernorm.weight", .from = {"input_layernorm.weight"}, .add = -1},
    {.to = "post_attention_layernorm.weight", .from = {"post_attention_layernorm.weight"}, .add = -1},
    {.to = "self_attn.q_norm.weight", .from = {"self_attn.q_norm.weight"}, .add = -1},
    {.to = "self_attn.k_norm.weight", .from = {"self_attn.k_norm.weight"}, .add = -1},
    {.to = "linear_attn.in_proj_qkvz.weight",
     .from = {"linear_attn.in_proj_q.weight", "linear_attn.in_proj_k.weight", "linear_attn.in_proj_v.weight", "linear_attn.in_proj_z.weight"},
     .groups = "key_heads"},
    {.to = "linear_attn.in_proj_ba.weight", .from = {"linear_attn.in_proj_b.weight", "linear_attn.in_proj_a.weight"}, .groups = "key_heads"},
    {.to = "linear_attn.conv1d.weight", .from = {"linear_attn.conv1d_q.weight", "linear_attn.conv1d_k.weight", "linear_attn.conv1d_v.weight"}},
    {.to = "mlp.experts.gate_up_proj", .from = {"mlp.experts.gate_proj", "mlp.experts.up_proj"}},
    {.to = "mlp.shared_expert.", .from = {"mlp.shared_experts."}},
};

/* The class takes int(head_dim * factor). */
static double rope_share(int rope_dim, int head_dim)
{
    double share = (double)rope_dim / head_dim;
    return (int)(head_dim * share) < rope_dim ? nextafter(share, 1) : share;
}

static void qwen3_next_config(const struct arch *a, struct base_jw *w)
{
    const struct arch_part *attention = first(a, &layer_attention), *delta = first(a, &layer_gated_delta);
    const struct arch_part *swiglu = first(a, &layer_swiglu), *moe = first(a, &layer_moe);
    int rope_dim = attention ? param(attention, "rope_dim") : 0;
    base_jw_kint(w, "num_hidden_layers", a->depth);
    layer_types(a, &layer_gated_delta, "linear_attention", w);
    attention_config(attention, w);
    base_jw_kbool(w, "attention_bias", false);
    rope_config(a, rope_dim ? rope_share(rope_dim, param(attention, "head_dim")) : 1, w);
    base_jw_kstr(w, "hidden_act", "silu");
    base_jw_knum(w, "rms_norm_eps", MODEL_NORM_EPS);
    base_jw_kint(w, "linear_num_value_heads", delta ? param(delta, "heads") : 1);
    base_jw_kint(w, "linear_num_key_heads", delta ? param(delta, "key_heads") : 1);
    base_jw_kint(w, "linear_key_head_dim", delta ? param(delta, "head_dim") : 1);
    base_jw_kint(w, "linear_value_head_dim", delta ? param(delta, "value_dim") : 1);
    base_jw_kint(w, "linear_conv_kernel_dim", delta ? param(delta, "conv") : 4);
    base_jw_kint(w, "intermediate_size", swiglu ? param(swiglu, "hidden") : a->width);
    base_jw_kint(w, "decoder_sparse_step", 1);
    base_jw_key(w, "mlp_only_layers");
    base_jw_arr(w);
    for (int i = 0; i < a->depth; i++)
        if (space_layer(a->layer[i].ffn.type) == &layer_swiglu) base_jw_int(w, i);
    base_jw_end(w);
    base_jw_kint(w, "num_experts", moe ? param(moe, "experts") : 0);
    base_jw_kint(w, "num_experts_per_tok", moe ? param(moe, "active") : 1);
    base_jw_kbool(w, "norm_topk_prob", true);
    base_jw_kint(w, "moe_intermediate_size", moe ? param(moe, "hidden") : a->width);
    base_jw_kint(w, "shared_expert_intermediate_size", moe ? param(moe, "hidden") * param(moe, "shared") : a->width);
}

const struct hf_class hf_classes[] = {
    {.family = "llama", .name = "LlamaForCausalLM", .model_type = "llama", .config = llama_config},
    {.family = "qwen3", .name = "Qwen3ForCausalLM", .model_type = "qwen3", .config = llama_config},
    {.family = "lfm2", .name = "Lfm2ForCausalLM", .model_type = "lfm2", TENSORS(lfm2_tensors), .config = lfm2_config},
    {.family = "granite_hybrid", .name = "GraniteMoeHybridForCausalLM", .model_type = "granitemoehybrid", TENSORS(granite_tensors), .extra = granite_extra,
     .config = granite_config},
    {.family = "nemotron_h", .name = "NemotronHForCausalLM", .model_type = "nemotron_h", .blocks = true, TENSORS(nemotron_tensors), .extra = nemotron_extra,
     .config = nemotron_config},
    {.family = "qwen3_next", .name = "Qwen3NextForCausalLM", .model_type = "qwen3_next", TENSORS(qwen3_next_tensors), .config = qwen3_next_config},
};
const int hf_nclasses = sizeof hf_classes / sizeof hf_classes[0];
