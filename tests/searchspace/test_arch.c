/* Architectures: reading, canonical form and id, paper costs, families. */
#include <stdlib.h>

#include "searchspace/arch_json.h"
#include "searchspace/families/family.h"
#include "searchspace/layer.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

/* Ids, parameters and FLOPs below come from a Python script of their own: hashlib over the text, loops over (query, key) pairs. */
#define TEXT_A                                                                                                                      \
    "{'taut':1,'vocab':256,'context':256,'width':192,'layers':[{'mixer':{'type':'attention','heads':6,'kv_heads':2,'head_dim':32}," \
    "'ffn':{'type':'swiglu','hidden':512}}]}"
#define ID_A "559a0be3a28389a94e8a0407d124bbe3"
#define TEXT_B                                                                                                               \
    "{'taut':1,'vocab':1000,'context':64,'width':48,'tie_embeddings':false,'rope_theta':500000.5,'layers':["                 \
    "{'mixer':{'type':'attention','heads':4,'kv_heads':1,'head_dim':12,'window':16},'ffn':{'type':'none'}},"                 \
    "{'mixer':{'type':'none'},'ffn':{'type':'swiglu','hidden':100,'rank':8}},"                                               \
    "{'mixer':{'type':'attention','heads':3,'kv_heads':3,'head_dim':5,'rope':false},'ffn':{'type':'swiglu','hidden':64}}]}"
#define ID_B "7754e33e1507ede239f2a9324604f4e5"
/* attention's options */
#define TEXT_C                                                                                                                           \
    "{'taut':1,'vocab':256,'context':64,'width':32,'layers':[{'mixer':{'type':'attention','heads':4,'kv_heads':2,'head_dim':8,'qk_norm':true,'gate':true,'rope_dim':4},'ffn':{'type':'none'}}," \
    "{'mixer':{'type':'attention','heads':2,'kv_heads':2,'head_dim':8,'rope_dim':4,'share_kv':true},'ffn':{'type':'none'}}]}"
#define ID_C "dfbfa3a27db9bfc3cb26893a1c73664e"

#define TEXT_CONV                                                                                                                \
    "{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'type':'short_conv'},'ffn':{'type':'swiglu','hidden':96}}," \
    "{'mixer':{'type':'short_conv','conv':4},'ffn':{'type':'none'}}]}"

#define TEXT_MLP                                                                                                                \
    "{'taut':1,'vocab':100,'context':32,'width':48,'norm':'layer','bias':true,'layers':["                                      \
    "{'mixer':{'type':'attention','heads':4,'kv_heads':2,'head_dim':16,'rope':false},'ffn':{'type':'mlp','hidden':96,'act':'gelu'}}," \
    "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':64}},"                                                             \
    "{'mixer':{'type':'none'},'ffn':{'type':'swiglu','hidden':64,'rank':8}}]}"
#define ID_MLP "1d9e576ded94d642c2f4658d7296cbf9"
#define TEXT_MOE                                                                                                                        \
    "{'taut':1,'vocab':300,'context':64,'width':48,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':8,'active':2,'hidden':64}},"  \
    "{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':6,'active':3,'hidden':32,'shared':2,'router':'sigmoid','act':'relu2','shared_gate':true}}]}"
#define ID_MOE "bfddf064f70c1e598ab970aeb17df333"
#define TEXT_DELTA                                                                                                                 \
    "{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'type':'gated_delta','heads':4,'key_heads':2,'head_dim':8," \
    "'value_dim':12},'ffn':{'type':'none'}},{'mixer':{'type':'gated_delta','heads':3,'key_heads':3,'head_dim':16,'value_dim':16,"   \
    "'conv':2},'ffn':{'type':'none'}}]}"

#define TEXT_LINEAR                                                                                                              \
    "{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'type':'linear','heads':4,'head_dim':8,'value_dim':12},"  \
    "'ffn':{'type':'none'}},{'mixer':{'type':'linear','heads':3,'head_dim':16,'value_dim':16,'gate_rank':5},'ffn':{'type':'none'}}]}"

#define TEXT_MAMBA                                                                                                               \
    "{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'type':'mamba2','expand':2,'head_dim':16,'state':20},"    \
    "'ffn':{'type':'none'}},{'mixer':{'type':'mamba2','expand':1,'head_dim':8,'state':5,'conv':2,'groups':3},'ffn':{'type':'none'}}]}"

#define TEXT_MLA                                                                                                                          \
    "{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'type':'mla','heads':3,'kv_rank':10,'nope_dim':16,'rope_dim':8,"    \
    "'v_dim':12},'ffn':{'type':'none'}},{'mixer':{'type':'mla','heads':2,'kv_rank':6,'nope_dim':8,'rope_dim':4,'v_dim':10,'q_rank':14},"   \
    "'ffn':{'type':'none'}}]}"
#define ID_MLA "def67a59e186e11d841734c17f1ce115"

static st_t parse(struct arch *a, const char *text, struct base_err *err)
{
    const char *t = quoted(text);
    *err = (struct base_err)BASE_ERR_INIT;
    return space_arch_parse(a, t, strlen(t), "arch.json", err);
}

static void same(const char *text, const char *canonical, const char *id, const char *what)
{
    struct arch a;
    struct base_err err;
    struct base_buf b = BASE_BUF_INIT;
    char got[BASE_ID_HEX] = "";
    if (!ok(!parse(&a, text, &err), "%s: reads", what)) {
        printf("#   %s: %s\n", err.where, err.what);
        return;
    }
    space_arch_canonical(&a, &b);
    is_str(b.p, quoted(canonical), "%s: canonical form", what);
    space_arch_id(&a, got);
    is_str(got, id, "%s: id", what);
    base_buf_fini(&b);
}

static void test_canonical(void)
{
    same(TEXT_A, TEXT_A, ID_A, "canonical text");
    same(TEXT_B, TEXT_B, ID_B, "canonical text with every option");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'bias':true,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':2,'active':1,'hidden':32}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':2,'active':1,'hidden':32}}]}",
         "2978f262ea9ff4d6f4b877881d9460ab", "bias means nothing where no layer has one");
    same(TEXT_MLP, TEXT_MLP, ID_MLP, "layer norm, biases, mlp");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'norm':'rms','bias':false,'layers':[{'mixer':{'type':'none'},"
         "'ffn':{'type':'mlp','hidden':32,'act':'relu2'}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':32}}]}",
         "d597865b7e15e03ee6319b5c36554018", "mlp's default");
    same(TEXT_CONV, TEXT_CONV, "39a635920dc89e7e657c2bb44d582d39", "short convolutions");
    same(TEXT_MAMBA, TEXT_MAMBA, "acb2a5f52be21641d9c2ea741d1b55b2", "Mamba-2");
    same("{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'groups':1,'conv':4,'type':'mamba2','state':20,'head_dim':16,"
         "'expand':2},'ffn':{'type':'none'}},{'mixer':{'type':'mamba2','expand':1,'head_dim':8,'state':5,'conv':2,'groups':3},"
         "'ffn':{'type':'none'}}]}",
         TEXT_MAMBA, "acb2a5f52be21641d9c2ea741d1b55b2", "Mamba-2, defaults written");
    same(TEXT_MLA, TEXT_MLA, ID_MLA, "latent attention");
    same("{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'q_rank':0,'v_dim':12,'rope_dim':8,'nope_dim':16,'kv_rank':10,"
         "'heads':3,'type':'mla'},'ffn':{'type':'none'}},{'mixer':{'type':'mla','heads':2,'kv_rank':6,'nope_dim':8,'rope_dim':4,'v_dim':10,"
         "'q_rank':14},'ffn':{'type':'none'}}]}",
         TEXT_MLA, ID_MLA, "latent attention, the default written");
    same("{'taut':1,'vocab':256,'context':64,'width':48,'layers':[{'mixer':{'conv':3,'type':'short_conv'},'ffn':{'type':'swiglu',"
         "'hidden':96}},{'mixer':{'type':'short_conv','conv':4},'ffn':{'type':'none'}}]}",
         TEXT_CONV, "39a635920dc89e7e657c2bb44d582d39", "short convolutions, the default written");
    same(TEXT_LINEAR, TEXT_LINEAR, "cfd48d95b23ba458db6d41c61ab81fd8", "gated linear attention");
    same(TEXT_DELTA, TEXT_DELTA, "6869074950fc3096be5d74d78fd7503b", "gated delta rule");
    same("{'layers':[{'ffn':{'hidden':512,'type':'swiglu'},'mixer':{'head_dim':32,'kv_heads':2,'heads':6,'type':'attention'}}],"
         "'width':192,'context':256,'vocab':256,'taut':1}",
         TEXT_A, ID_A, "permuted keys");
    same(" { 'taut' : 1, 'vocab' : 256.0, 'context': 2.56e2, 'width': 192, 'tie_embeddings': true, 'norm': 'rms', 'bias': false,"
         " 'rope_theta': 10000, 'layers': [ {'mixer': {'type':'attention','heads':6,'kv_heads':2,'head_dim':32,'window':0,'rope':true,"
         "'qk_norm':false}, 'ffn': {'type':'swiglu','hidden':512,'rank':0}} ] } ",
         TEXT_A, ID_A, "written defaults and spaces");
    same("{'taut':1,'vocab':256,'context':256,'width':192,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'none'}},"
         "{'mixer':{'type':'attention','heads':6,'kv_heads':2,'head_dim':32},'ffn':{'type':'swiglu','hidden':512}},"
         "{'mixer':{'type':'none'},'ffn':{'type':'none'}}]}",
         TEXT_A, ID_A, "skipped layers are dropped");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'rope_theta':500,'layers':[{'mixer':{'type':'none'},"
         "'ffn':{'type':'swiglu','hidden':32}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'swiglu','hidden':32}}]}",
         "a15feec6e782d0e0370586eceae31b28", "rope_theta means nothing without a layer that rotates");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'rope_theta':500,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,"
         "'head_dim':32,'rope':false},'ffn':{'type':'none'}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,'head_dim':32,"
         "'rope':false},'ffn':{'type':'none'}}]}",
         "9ef1758034a862408b9c857978b739d5", "nor with rope off");
    same(TEXT_C, TEXT_C, ID_C, "attention's options");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,'head_dim':32,"
         "'qk_norm':false,'gate':false,'rope_dim':32,'share_kv':false},'ffn':{'type':'none'}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,'head_dim':32},'ffn':{'type':'none'}}]}",
         "da9f088f88827704e65ece515df40f1e", "a rope_dim of the whole head is none");
    same("{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,"
         "'head_dim':32,'rope':false,'rope_dim':6},'ffn':{'type':'none'}}]}",
         "{'taut':1,'vocab':8,'context':4,'width':32,'layers':[{'mixer':{'type':'attention','heads':1,'kv_heads':1,'head_dim':32,"
         "'rope':false},'ffn':{'type':'none'}}]}",
         "9ef1758034a862408b9c857978b739d5", "it means nothing with rope off");
}

static void test_experts(void)
{
    struct arch a;
    struct base_err err;
    struct arch_cost c;
    struct layer_tensor t[LAYER_TENSORS_MAX];
    same(TEXT_MOE, TEXT_MOE, ID_MOE, "experts with every option");
    same("{'taut':1,'vocab':300,'context':64,'width':48,'layers':[{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':8,'active':2,'hidden':64,"
         "'shared':0,'router':'softmax','act':'swiglu','shared_gate':false}},{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':6,'active':3,"
         "'hidden':32,'shared_gate':true,'act':'relu2','router':'sigmoid','shared':2}}]}",
         TEXT_MOE, ID_MOE, "defaults of experts are left out");
    is_int(parse(&a, TEXT_MOE, &err), ST_OK, "experts read");
    space_arch_cost(&a, &c);
    is_near(c.params, 113568, 0, "experts: parameters");
    is_near(c.active_params, 49056, 0, "experts: of one token");
    is_near(c.flops_per_token, 97824, 1e-15, "experts: FLOPs a token");
    is_near(space_arch_state_bytes(&a, 100), 0, 0, "experts keep no state");
    const struct arch_part *p = &a.layer[1].ffn;
    is_int(space_layer(p->type)->tensors(&a, 1, p, t), 6, "a router, two stacks, two shared matrices, a gate");
    is_str(t[1].name, "mlp.experts.up_proj", "experts lie in one tensor");
    ok(t[1].rows == 6 * 32 && t[1].mid == 32 && t[1].cols == 48 && t[2].mid == 48 && t[2].cols == 32, "[experts, out, in]");
    /* Mixtral 8x7B has 46702792704 parameters, 12.9e9 of them active */
    struct arch m = {.vocab = 32000, .context = 4096, .width = 4096, .depth = 32, .rope_theta = 1e6};
    for (int i = 0; i < m.depth; i++) {
        m.layer[i].mixer = (struct arch_part){space_layer_find("attention", LAYER_MIXER), {32, 8, 128, 0, 1, 0}};
        m.layer[i].ffn = (struct arch_part){space_layer_find("moe", LAYER_FFN), {8, 2, 14336}};
    }
    is_int(space_arch_check(&m, &err), ST_OK, "Mixtral 8x7B is valid");
    space_arch_cost(&m, &c);
    is_near(c.params, 46702792704.0, 0, "it has as many parameters as published");
    is_near(c.active_params, 12879925248.0, 1e-15, "and as many active ones");
}

static double brute_pairs(int64_t pos0, int64_t n, int64_t w)
{
    double pairs = 0;
    for (int64_t i = pos0; i < pos0 + n; i++)
        for (int64_t j = 0; j <= i; j++) pairs += w == 0 || j > i - w;
    return pairs;
}

static void test_costs(void)
{
    struct arch a;
    struct base_err err;
    struct arch_cost c;
    is_int(parse(&a, TEXT_A, &err), ST_OK, "A reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 442944, 0, "A: parameters");
    is_near(c.active_params, 442944, 0, "A: active parameters");
    is_near(c.weight_bytes, 4 * 442944.0, 0, "A: bytes of the weights");
    is_near(c.flops_per_token, 983424, 0, "A: FLOPs a token");
    is_near(space_arch_decode_flops(&a, 100), 962304, 0, "A: FLOPs of a decoded token");
    is_near(space_arch_prefill_flops(&a, 40), 32185344, 0, "A: FLOPs of a prefill");
    is_near(space_arch_state_bytes(&a, 1000), 2 * 2 * 32 * 1000 * 4.0, 0, "A: state grows with the context");
    is_int(parse(&a, TEXT_B, &err), ST_OK, "B reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 117648, 0, "B: parameters");
    is_near(c.flops_per_token, 143478, 1e-15, "B: FLOPs a token");
    is_near(space_arch_decode_flops(&a, 100), 147948, 0, "B: FLOPs of a decoded token");
    is_near(space_arch_prefill_flops(&a, 40), 1957680, 0, "B: FLOPs of a prefill");
    is_near(space_arch_state_bytes(&a, 100), 4 * (2 * 1 * 12 * 16 + 2 * 3 * 5 * 100.0), 0, "B: a window bounds the state");
    is_near(space_arch_state_bytes(&a, 10), 4 * (2 * 1 * 12 * 10 + 2 * 3 * 5 * 10.0), 0, "B: not below the window");
    is_near(space_arch_state_bytes(&a, 0), 0, 0, "B: no tokens, no state");

    is_int(parse(&a, TEXT_CONV, &err), ST_OK, "short convolutions read");
    space_arch_cost(&a, &c);
    is_near(c.params, 45072, 0, "short convolutions: parameters");
    is_near(c.flops_per_token, 89760, 0, "short convolutions: FLOPs a token");
    is_near(space_arch_state_bytes(&a, 64), 4 * 48 * (2 + 3), 0, "short convolutions: k - 1 inputs each, whatever the context");
    is_near(space_arch_state_bytes(&a, 1), 4 * 48 * (2 + 3), 0, "short convolutions: from the first token on");
    is_int(parse(&a, TEXT_C, &err), ST_OK, "C reads");
    space_arch_cost(&a, &c);
    /* q and gate 64 rows, k and v 16 each, o 32 columns, two norms of 8; q 16, o 16; norms before both, at the end, embedding */
    is_near(c.params, 128 * 32 + 16 + 32 * 32 + 3 * 32 + 256 * 32, 0, "C: parameters");
    is_near(c.flops_per_token, 2 * 32 * (128 + 32) + 4 * (32 + 16) * 65 / 2.0 + 2 * 256 * 32, 1e-15, "C: FLOPs a token");
    is_near(space_arch_decode_flops(&a, 100), 2 * 32 * (128 + 32) + 4 * (32 + 16) * 101 + 2 * 256 * 32, 0, "C: FLOPs of a decoded token");
    is_near(space_arch_state_bytes(&a, 10), 4 * 2 * 2 * 8 * 10, 0, "C: the second layer keeps nothing");

    is_int(parse(&a, TEXT_MLP, &err), ST_OK, "mlp reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 33152, 0, "mlp: parameters, biases and both of a layer norm's among them");
    is_near(c.flops_per_token, 68352, 0, "mlp: FLOPs a token, biases not counted");
    is_int(parse(&a, TEXT_DELTA, &err), ST_OK, "gated delta rule reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 33722, 0, "gated delta rule: parameters");
    is_near(c.flops_per_token, 75328, 0, "gated delta rule: FLOPs a token");
    is_near(space_arch_state_bytes(&a, 1), 6144, 0, "gated delta rule: states and k - 1 inputs from the first token on");
    is_near(space_arch_state_bytes(&a, 1000), 6144, 0, "gated delta rule: whatever the context");

    is_int(parse(&a, TEXT_LINEAR, &err), ST_OK, "gated linear attention reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 35804, 0, "gated linear attention: parameters");
    is_near(c.flops_per_token, 76864, 0, "gated linear attention: FLOPs a token");
    is_near(space_arch_state_bytes(&a, 1), 4608, 0, "gated linear attention: the states, whatever the context");

    is_int(parse(&a, TEXT_MAMBA, &err), ST_OK, "Mamba-2 reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 38198, 0, "Mamba-2: parameters");
    is_near(c.flops_per_token, 86552, 0, "Mamba-2: FLOPs a token");
    is_near(space_arch_decode_flops(&a, 40), 86552, 0, "Mamba-2: of a decoded one, wherever it stands");
    is_near(space_arch_state_bytes(&a, 64), 4 * 2646, 0, "Mamba-2: state and the convolution's inputs, whatever the context");
    is_near(space_arch_state_bytes(&a, 1), 4 * 2646, 0, "Mamba-2: from the first token on");

    is_int(parse(&a, TEXT_MLA, &err), ST_OK, "latent attention reads");
    space_arch_cost(&a, &c);
    is_near(c.params, 22014, 0, "latent attention: parameters");
    is_near(c.flops_per_token, 53560, 0, "latent attention: FLOPs a token");
    is_near(space_arch_decode_flops(&a, 100), 67112, 0, "latent attention: a decoded one meets latents");
    is_near(space_arch_prefill_flops(&a, 40), 1038016, 0, "latent attention: FLOPs of a prefill");
    is_near(space_arch_state_bytes(&a, 100), 4 * (18 + 10) * 100, 0, "latent attention: keeps a latent and one key");
    /* kv_b stays in f32 */
    is_near(space_arch_weight_bytes(&a, ARCH_WEIGHTS_BF16), 4.0 * 22014 - 2 * (256 * 48 + 3 * 24 * 48 + 18 * 48 + 36 * 48 + 14 * 48 + 24 * 14 + 10 * 48 + 20 * 48), 0,
            "latent attention: bytes in bf16");
    a.bias = true;
    space_arch_cost(&a, &c);
    is_near(c.params, 22152, 0, "latent attention: biases of what the class gives some");
    /* DeepSeek-V3: 671e9 parameters; transformers counts 671026404352 (biases that choose experts are buffers there) */
    struct arch v3 = {.vocab = 129280, .context = 4096, .width = 7168, .depth = 61, .rope_theta = 1e4};
    for (int i = 0; i < v3.depth; i++) {
        v3.layer[i].mixer = (struct arch_part){space_layer_find("mla", LAYER_MIXER), {128, 512, 128, 64, 128, 1536}};
        v3.layer[i].ffn = i < 3 ? (struct arch_part){space_layer_find("swiglu", LAYER_FFN), {18432}}
                                : (struct arch_part){space_layer_find("moe", LAYER_FFN), {256, 8, 2048, 1, 1}};
    }
    is_int(space_arch_check(&v3, &err), ST_OK, "DeepSeek-V3 is valid");
    space_arch_cost(&v3, &c);
    is_near(c.params, 671026404352.0, 0, "it has as many parameters as published");

    int bad = 0;
    for (int64_t w = 0; w < 12; w++)
        for (int64_t pos = 0; pos < 20; pos++)
            for (int64_t n = 0; n < 20; n++) bad += layer_attention_pairs(pos, n, w) != brute_pairs(pos, n, w);
    is_int(bad, 0, "pairs are those a loop counts");

    /* Llama 2 7B (vocab 32000, 32 layers, width 4096, hidden 11008, untied) has 6738415616 parameters; Llama 3.2 1B 1235814400. */
    struct arch l = {.vocab = 32000, .context = 4096, .width = 4096, .depth = 32, .rope_theta = 10000};
    for (int i = 0; i < l.depth; i++) {
        l.layer[i].mixer = (struct arch_part){space_layer_find("attention", LAYER_MIXER), {32, 32, 128, 0, 1, 0}};
        l.layer[i].ffn = (struct arch_part){space_layer_find("swiglu", LAYER_FFN), {11008, 0}};
    }
    is_int(space_arch_check(&l, &err), ST_OK, "Llama 2 7B is valid");
    space_arch_cost(&l, &c);
    is_near(c.params, 6738415616.0, 0, "Llama 2 7B has as many parameters as published");
    is_near(c.flops_per_token, 2 * (c.params - 32000.0 * 4096 - 65 * 4096) + 4.0 * 32 * 4096 * 4097 / 2, 1e-15,
            "its FLOPs are 2 a weight and 4 width a pair");
    l = (struct arch){.vocab = 128256, .context = 8192, .width = 2048, .depth = 16, .tie = true, .rope_theta = 500000};
    for (int i = 0; i < l.depth; i++) {
        l.layer[i].mixer = (struct arch_part){space_layer_find("attention", LAYER_MIXER), {32, 8, 64, 0, 1, 0}};
        l.layer[i].ffn = (struct arch_part){space_layer_find("swiglu", LAYER_FFN), {8192, 0}};
    }
    space_arch_cost(&l, &c);
    is_near(c.params, 1235814400.0, 0, "Llama 3.2 1B too");
}

/* GPT-2 with head_dim 64 whatever the width, layer norm, bias b, a gated feed-forward of m width, an untied head. */
struct gpt {
    int width, bias, depth, heads[12], ratio[12];
};

static double gpt_params(const struct gpt *g)
{
    struct arch a = {.vocab = 50254, .context = 1024, .width = g->width, .depth = g->depth, .norm = ARCH_NORM_LAYER, .bias = g->bias, .rope_theta = 10000};
    struct arch_cost c;
    for (int i = 0; i < g->depth; i++) {
        a.layer[i].mixer = (struct arch_part){space_layer_find("attention", LAYER_MIXER), {g->heads[i], g->heads[i], 64, 0, 0}};
        a.layer[i].ffn = (struct arch_part){space_layer_find("swiglu", LAYER_FFN), {g->ratio[i] * g->width, 0}};
    }
    if (space_arch_check(&a, NULL)) return NAN;
    space_arch_cost(&a, &c);
    return c.params;
}

static double gpt_formula(const struct gpt *g)
{
    double d = g->width, b = g->bias, sum = 2 * 50254 * d + 2 * d;
    for (int i = 0; i < g->depth; i++) {
        double h = g->heads[i], m = g->ratio[i];
        sum += h * (256 * d + 192 * b) + b * d + m * d * (3 * d + 2 * b) + b * d + 4 * d;
    }
    return sum;
}

/* Some rows of HW-GPT-Bench (Sukthanker et al. 2024; github.com/automl/HW-GPT-Bench, Apache-2.0), its small space: what it says of their params. */
static const struct {
    struct gpt g;
    double params;
} gpts[] = {
    {{192, 0, 10, {8, 8, 4, 12, 4, 8, 4, 12, 12, 4}, {3, 2, 3, 4, 3, 2, 4, 2, 4, 4}}, 26469504},
    {{192, 1, 10, {12, 12, 12, 8, 8, 8, 4, 4, 4, 12}, {4, 4, 3, 4, 2, 3, 4, 2, 3, 2}}, 26894592},
    {{192, 0, 11, {12, 12, 8, 8, 4, 8, 12, 4, 12, 8, 4}, {2, 4, 4, 4, 3, 2, 3, 2, 3, 4, 4}}, 27699072},
    {{192, 1, 12, {4, 12, 4, 4, 12, 8, 4, 8, 8, 8, 8, 4}, {3, 2, 2, 4, 2, 3, 4, 2, 4, 2, 3, 4}}, 27340800},
    {{384, 0, 10, {8, 8, 4, 4, 4, 4, 8, 8, 12, 8}, {3, 4, 2, 3, 3, 4, 2, 3, 2, 3}}, 58124544},
    {{384, 1, 10, {8, 8, 8, 8, 8, 12, 8, 12, 4, 8}, {2, 4, 2, 2, 3, 2, 2, 2, 2, 4}}, 57970944},
    {{384, 1, 11, {8, 4, 12, 8, 8, 12, 4, 4, 4, 4, 12}, {3, 4, 3, 4, 3, 3, 4, 3, 2, 3, 2}}, 61567488},
    {{384, 0, 12, {8, 8, 8, 8, 12, 8, 12, 12, 8, 4, 12, 8}, {2, 2, 2, 3, 2, 4, 4, 4, 2, 4, 3, 3}}, 64713984},
    {{768, 0, 10, {12, 12, 12, 12, 4, 8, 4, 12, 8, 8}, {2, 4, 2, 2, 3, 2, 4, 4, 3, 2}}, 144855552},
    {{768, 1, 10, {4, 4, 8, 4, 8, 4, 8, 4, 4, 12}, {4, 3, 3, 4, 3, 4, 3, 3, 4, 2}}, 147489024},
    {{768, 1, 11, {12, 12, 12, 4, 8, 4, 12, 8, 4, 8, 4}, {4, 2, 4, 4, 3, 4, 4, 2, 2, 2, 2}}, 153004032},
    {{768, 0, 12, {12, 4, 8, 8, 12, 12, 8, 12, 12, 8, 12, 12}, {2, 2, 3, 4, 4, 3, 4, 4, 2, 2, 3, 4}}, 166291968},
};

static void test_published(void)
{
    int n = 0, bad = 0;
    for (size_t i = 0; i < sizeof gpts / sizeof gpts[0]; i++) {
        const struct gpt *g = &gpts[i].g;
        is_near(gpt_params(g), gpts[i].params, 0, "width %d, %d layers%s: as many parameters as published", g->width, g->depth, g->bias ? ", biases" : "");
        bad += gpt_formula(g) != gpts[i].params;
    }
    is_int(bad, 0, "and as the formula says");
    bad = 0;
    for (int width = 32; width <= 1024; width += 96)
        for (int bias = 0; bias < 2; bias++)
            for (int depth = 1; depth <= 12; depth++, n++) {
                struct gpt g = {width, bias, depth, {0}, {0}};
                for (int i = 0; i < depth; i++) g.heads[i] = 1 + (n + 5 * i) % 16, g.ratio[i] = 1 + (n + 3 * i) % 5;
                bad += gpt_params(&g) != gpt_formula(&g);
            }
    is_int(bad, 0, "the formula for %d other shapes", n);
}

static void test_tensors(void)
{
    struct arch a;
    struct base_err err;
    struct layer_tensor t[LAYER_TENSORS_MAX];
    parse(&a, TEXT_B, &err);
    const struct arch_part *p = &a.layer[1].ffn;
    is_int(space_layer(p->type)->tensors(&a, 1, p, t), 6, "a low-rank swiglu has six tensors");
    is_str(t[0].name, "mlp.gate_proj.a.weight", "first factor's name");
    ok(t[0].rows == 8 && t[0].cols == 48, "first factor [rank, in]");
    is_str(t[1].name, "mlp.gate_proj.b.weight", "second factor's name");
    ok(t[1].rows == 100 && t[1].cols == 8, "second factor [out, rank]");
    p = &a.layer[0].mixer;
    is_int(space_layer(p->type)->tensors(&a, 0, p, t), 4, "attention has four");
    is_str(t[1].name, "self_attn.k_proj.weight", "named as Llama names them");
    ok(t[1].rows == 12 && t[1].cols == 48, "k [kv_heads x head_dim, width]");
    is_int(space_part_get(p, "window"), 16, "a parameter by name");
    ok(!space_part_is_none(p) && space_part_is_none(&a.layer[0].ffn), "none is none");
    is_int(space_layer_find("swiglu", LAYER_MIXER), -1, "swiglu is no mixer");
    is_int(space_layer_param(space_layer(p->type), "hidden"), -1, "attention has no hidden");
}

#define HEAD "{'taut':1,'vocab':256,'context':64,'width':64,'layers':["
#define MIX "{'mixer':{'type':'attention','heads':4,'kv_heads':2,'head_dim':16"
#define FFN "},'ffn':{'type':'swiglu','hidden':128"
#define L MIX FFN "}}"
#define NOBODY_LENDS "no attention layer before this one has the same kv_heads, head_dim, window, rope and rope_dim"

static const struct {
    const char *text;
    st_t st;
    const char *where, *what;
} bad_archs[] = {
    {"", ST_EPARSE, NULL, NULL},
    {"{", ST_EPARSE, NULL, NULL},
    {"[]", ST_EINVAL, "", "must be an object, not an array"},
    {"3", ST_EINVAL, "", "must be an object, not a number"},
    {"{'taut':1,'taut':1}", ST_EPARSE, NULL, NULL},
    {"{'vocab':256,'context':64,'width':64,'layers':[" L "]}", ST_EINVAL, "taut", "missing"},
    {"{'taut':2,'vocab':256,'context':64,'width':64,'layers':[" L "]}", ST_EVERSION, "taut",
     "this program reads architectures of version 1, not 2"},
    {"{'taut':'1','vocab':256,'context':64,'width':64,'layers':[" L "]}", ST_EINVAL, "taut",
     "must be an integer from 0 to 2147483647, not a string"},
    {"{'taut':1,'context':64,'width':64,'layers':[" L "]}", ST_EINVAL, "vocab", "missing"},
    {"{'taut':1,'vocab':0,'context':64,'width':64,'layers':[" L "]}", ST_EINVAL, "vocab", "must be an integer from 1 to 1048576, not 0"},
    {"{'taut':1,'vocab':256,'width':64,'layers':[" L "]}", ST_EINVAL, "context", "missing"},
    {"{'taut':1,'vocab':256,'context':1e9,'width':64,'layers':[" L "]}", ST_EINVAL, "context",
     "must be an integer from 1 to 16777216, not 1000000000"},
    {"{'taut':1,'vocab':256,'context':64,'layers':[" L "]}", ST_EINVAL, "width", "missing"},
    {"{'taut':1,'vocab':256,'context':64,'width':64.5,'layers':[" L "]}", ST_EINVAL, "width",
     "must be an integer from 1 to 65536, not 64.5"},
    {"{'taut':1,'vocab':256,'context':64,'width':65537,'layers':[" L "]}", ST_EINVAL, "width",
     "must be an integer from 1 to 65536, not 65537"},
    {"{'taut':1,'vocab':256,'context':64,'width':64}", ST_EINVAL, "layers", "missing"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'layers':[]}", ST_EINVAL, "layers", "must be an array of 1 to 128 layers"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'layers':{}}", ST_EINVAL, "layers", "must be an array of 1 to 128 layers"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'layer':[" L "]}", ST_EINVAL, "", "unknown key 'layer'; did you mean 'layers'?"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'deploy':{},'layers':[" L "]}", ST_EINVAL, "", "unknown key 'deploy'"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'norm':'rns','layers':[" L "]}", ST_EINVAL, "norm",
     "unknown norm 'rns'; did you mean 'rms'?"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'norm':'batch','layers':[" L "]}", ST_EINVAL, "norm",
     "unknown norm 'batch'; known: rms, layer"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'bias':0,'layers':[" L "]}", ST_EINVAL, "bias", "must be true or false, not a number"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'tie_embeddings':'yes','layers':[" L "]}", ST_EINVAL, "tie_embeddings",
     "must be true or false, not a string"},
    {"{'taut':1,'vocab':256,'context':64,'width':64,'rope_theta':0.5,'layers':[" L "]}", ST_EINVAL, "rope_theta",
     "must be a number from 1 to 1000000000000, not 0.5"},
    {HEAD "3]}", ST_EINVAL, "layers[0]", "must be an object, not a number"},
    {HEAD "{}]}", ST_EINVAL, "layers[0].mixer", "missing"},
    {HEAD MIX "}}]}", ST_EINVAL, "layers[0].ffn", "missing"},
    {HEAD "{'mixer':{},'ffn':{}}]}", ST_EINVAL, "layers[0].mixer.type", "missing"},
    {HEAD "{'mixer':7,'ffn':{}}]}", ST_EINVAL, "layers[0].mixer", "must be an object, not a number"},
    {HEAD "{'mixer':{'type':1},'ffn':{}}]}", ST_EINVAL, "layers[0].mixer.type", "must be a string, not a number"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'none'},'norm':1}]}", ST_EINVAL, "layers[0]", "unknown key 'norm'"},
    {HEAD L ",{'mixer':{'type':'mamba2','expand':2,'head_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[1].mixer.state", "missing"},
    {HEAD "{'mixer':{'type':'mamba2','expand':2,'head_dim':24,'state':8},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer.head_dim",
     "24 does not divide width 64 x 2"},
    {HEAD "{'mixer':{'type':'mamba2','expand':2,'head_dim':32,'state':8,'groups':3},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.groups", "3 does not divide 4 heads"},
    {HEAD "{'mixer':{'type':'mamba2','expand':2,'head_dim':32,'state':8,'conv':17},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.conv", "must be an integer from 1 to 16, not 17"},
    {HEAD "{'mixer':{'type':'mla','heads':4,'nope_dim':16,'rope_dim':8,'v_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.kv_rank", "missing"},
    {HEAD "{'mixer':{'type':'mla','heads':4,'kv_rank':16,'nope_dim':16,'rope_dim':7,'v_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.rope_dim", "RoPE turns pairs: 7 must be even"},
    {HEAD "{'mixer':{'type':'mla','heads':4,'kv_rank':16,'nope_dim':16,'rope_dim':0,'v_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.rope_dim", "must be an integer from 2 to 1024, not 0"},
    {HEAD "{'mixer':{'type':'mla','heads':4,'kv_rank':4097,'nope_dim':16,'rope_dim':8,'v_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.kv_rank", "must be an integer from 1 to 4096, not 4097"},
    {HEAD "{'mixer':{'type':'mla','heads':4,'kv_rank':16,'nope_dim':16,'rope_dim':8,'v_dim':16,'head_dim':16},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer",
     "unknown key 'head_dim'"},
    {HEAD "{'mixer':{'type':'gated_delta','heads':4,'key_heads':3,'head_dim':8,'value_dim':8},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.key_heads", "3 does not divide 4 heads"},
    {HEAD "{'mixer':{'type':'gated_delta','heads':4,'key_heads':2,'head_dim':8},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.value_dim", "missing"},
    {HEAD "{'mixer':{'type':'gated_delta','heads':4,'key_heads':2,'head_dim':8,'value_dim':8,'conv':17},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.conv", "must be an integer from 1 to 16, not 17"},
    {HEAD "{'mixer':{'type':'linear','heads':4,'value_dim':8},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer.head_dim", "missing"},
    {HEAD "{'mixer':{'type':'linear','heads':4,'head_dim':8,'value_dim':8,'gate_rank':0},'ffn':{'type':'none'}}]}", ST_EINVAL,
     "layers[0].mixer.gate_rank", "must be an integer from 1 to 1024, not 0"},
    {HEAD "{'mixer':{'type':'short_conv','conv':0},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer.conv",
     "must be an integer from 1 to 16, not 0"},
    {HEAD "{'mixer':{'type':'short_conv','kernel':3},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer", "unknown key 'kernel'"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'mlp'}}]}", ST_EINVAL, "layers[0].ffn.hidden", "missing"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':32,'act':'relu'}}]}", ST_EINVAL, "layers[0].ffn.act",
     "unknown act 'relu'; did you mean 'relu2'?"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':32,'act':2}}]}", ST_EINVAL, "layers[0].ffn.act",
     "must be a string, not a number"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':0}}]}", ST_EINVAL, "layers[0].ffn.hidden",
     "must be an integer from 1 to 1048576, not 0"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'mlp','hidden':32,'rank':4}}]}", ST_EINVAL, "layers[0].ffn", "unknown key 'rank'"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':4,'active':5,'hidden':32}}]}", ST_EINVAL, "layers[0].ffn.active", "5 of 4 experts"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':4,'active':0,'hidden':32}}]}", ST_EINVAL, "layers[0].ffn.active",
     "must be an integer from 1 to 4096, not 0"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'moe','active':2,'hidden':32}}]}", ST_EINVAL, "layers[0].ffn.experts", "missing"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':4,'active':2,'hidden':32,'shared_gate':true}}]}", ST_EINVAL,
     "layers[0].ffn.shared_gate", "there is no shared expert to gate: 'shared' is 0"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'moe','experts':4,'active':2,'hidden':32,'router':'sigmiod'}}]}", ST_EINVAL,
     "layers[0].ffn.router", "unknown router 'sigmiod'; did you mean 'sigmoid'?"},
    {HEAD "{'mixer':{'type':'none'},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers", "every layer is skipped; at least one must be left"},
    {HEAD "{'mixer':{'type':'atention'},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer.type",
     "unknown mixer 'atention'; did you mean 'attention'?"},
    {HEAD "{'mixer':{'type':'swiglu','hidden':3},'ffn':{'type':'none'}}]}", ST_EINVAL, "layers[0].mixer.type",
     "unknown mixer 'swiglu'; known: none, attention, short_conv, mamba2, mla, gated_delta, linear"},
    {HEAD MIX ",'head':4" FFN "}}]}", ST_EINVAL, "layers[0].mixer", "unknown key 'head'; did you mean 'heads'?"},
    {HEAD MIX ",'kv_ratio':4" FFN "}}]}", ST_EINVAL, "layers[0].mixer", "unknown key 'kv_ratio'"},
    {HEAD MIX ",'qk_norm':1" FFN "}}]}", ST_EINVAL, "layers[0].mixer.qk_norm", "must be true or false, not a number"},
    {HEAD MIX ",'gate':1" FFN "}}]}", ST_EINVAL, "layers[0].mixer.gate", "must be true or false, not a number"},
    {HEAD MIX ",'rope_dim':7" FFN "}}]}", ST_EINVAL, "layers[0].mixer.rope_dim", "RoPE turns pairs: 7 must be even"},
    {HEAD MIX ",'rope_dim':18" FFN "}}]}", ST_EINVAL, "layers[0].mixer.rope_dim", "18 is more than head_dim 16"},
    {HEAD MIX ",'share_kv':true" FFN "}}]}", ST_EINVAL, "layers[0].mixer.share_kv", NOBODY_LENDS},
    {HEAD MIX ",'window':8" FFN "}}," MIX ",'share_kv':true" FFN "}}]}", ST_EINVAL, "layers[1].mixer.share_kv", NOBODY_LENDS},
    {HEAD MIX FFN "}}," MIX ",'rope_dim':4,'share_kv':true" FFN "}}]}", ST_EINVAL, "layers[1].mixer.share_kv", NOBODY_LENDS},
    {HEAD MIX ",'window':-1" FFN "}}]}", ST_EINVAL, "layers[0].mixer.window", "must be an integer from 0 to 16777216, not -1"},
    {HEAD MIX ",'rope':1" FFN "}}]}", ST_EINVAL, "layers[0].mixer.rope", "must be true or false, not a number"},
    {HEAD "{'mixer':{'type':'attention','kv_heads':2,'head_dim':16" FFN "}}]}", ST_EINVAL, "layers[0].mixer.heads", "missing"},
    {HEAD "{'mixer':{'type':'attention','heads':4,'head_dim':16" FFN "}}]}", ST_EINVAL, "layers[0].mixer.kv_heads", "missing"},
    {HEAD "{'mixer':{'type':'attention','heads':4,'kv_heads':2" FFN "}}]}", ST_EINVAL, "layers[0].mixer.head_dim", "missing"},
    {HEAD "{'mixer':{'type':'attention','heads':4,'kv_heads':3,'head_dim':16" FFN "}}]}", ST_EINVAL, "layers[0].mixer.kv_heads",
     "3 does not divide 4 heads"},
    {HEAD L ",{'mixer':{'type':'attention','heads':4,'kv_heads':4,'head_dim':15" FFN "}}]}", ST_EINVAL, "layers[1].mixer.head_dim",
     "RoPE turns pairs: 15 must be even"},
    {HEAD "{'mixer':{'type':'attention','heads':0,'kv_heads':1,'head_dim':16" FFN "}}]}", ST_EINVAL, "layers[0].mixer.heads",
     "must be an integer from 1 to 1024, not 0"},
    {HEAD MIX "},'ffn':{'type':'swiglu'}}]}", ST_EINVAL, "layers[0].ffn.hidden", "missing"},
    {HEAD MIX FFN ",'rank':64}}]}", ST_EINVAL, "layers[0].ffn.rank", "64 is not below 64, the rank of a full 128 x 64 matrix"},
    {HEAD MIX "},'ffn':{'type':'swiglu','hidden':2000000}}]}", ST_EINVAL, "layers[0].ffn.hidden",
     "must be an integer from 1 to 1048576, not 2000000"},
};

static void test_bad(void)
{
    int n = sizeof bad_archs / sizeof bad_archs[0];
    for (int i = 0; i < n; i++) {
        struct arch a = {.vocab = -7};
        struct base_err err;
        st_t st = parse(&a, bad_archs[i].text, &err);
        int good = st == bad_archs[i].st && err.st == st && a.vocab == -7;
        if (bad_archs[i].where) good = good && !strcmp(err.where, bad_archs[i].where) && !strcmp(err.what, bad_archs[i].what);
        if (!ok(good, "bad arch %d: %s", i, bad_archs[i].what ? bad_archs[i].what : "malformed"))
            printf("#   %s\n#   got %d %s: %s\n", bad_archs[i].text, st, err.where, err.what);
    }
    struct arch a;
    struct base_err err = BASE_ERR_INIT;
    json_t *v = json_loads(quoted(HEAD "{}]}"), 0, NULL);
    is_int(space_arch_from_json(&a, v, "arch", &err), ST_EINVAL, "an arch inside something else");
    is_str(err.where, "arch.layers[0].mixer", "says where from there");
    json_decref(v);
    v = json_loads(quoted(HEAD MIX FFN ",'rank':64}}]}"), 0, NULL);
    is_int(space_arch_from_json(&a, v, "trial.arch", &err), ST_EINVAL, "and a broken rule");
    is_str(err.where, "trial.arch.layers[0].ffn.rank", "too");
    json_decref(v);
}

static void test_families(void)
{
    struct arch a;
    struct base_err err;
    const struct family *llama = space_family_find("llama"), *any = space_family_find("any");
    ok(llama && any && !space_family_find("nobody"), "families by name");
    is_str(space_family_names()[0], "any", "and listed");
    parse(&a, TEXT_A, &err);
    is_int(space_family_check(llama, &a, &err), ST_OK, "Llama holds A");
    parse(&a, TEXT_B, &err);
    is_int(space_family_check(any, &a, &err), ST_OK, "any holds B");
    is_int(space_family_check(llama, &a, &err), ST_EINVAL, "Llama does not");
    is_str(err.where, "layers[0].mixer.window", "where");
    is_str(err.what, "family 'llama' holds 0 only, not 16", "why");
    parse(&a, HEAD "{'mixer':{'type':'attention','heads':2,'kv_heads':2,'head_dim':16,'qk_norm':true},'ffn':{'type':'swiglu','hidden':160}}]}", &err);
    is_int(space_family_check(llama, &a, &err), ST_EINVAL, "nor norms of q and k");
    is_str(err.what, "family 'llama' holds false only", "why, in the words of a file");
    parse(&a, HEAD L "," MIX "},'ffn':{'type':'swiglu','hidden':160}}]}", &err);
    is_int(space_family_check(llama, &a, &err), ST_EINVAL, "nor layers that differ");
    is_str(err.where, "layers[1].ffn", "where");
    parse(&a, HEAD L ",{'mixer':{'type':'none'" FFN "}}]}", &err);
    is_int(space_family_check(llama, &a, &err), ST_EINVAL, "nor a layer without attention");
    is_str(err.where, "layers[1].mixer.type", "where");
    const struct family *lfm2 = space_family_find("lfm2");
#define QK "'type':'attention','heads':2,'kv_heads':2,'head_dim':8,'qk_norm':true}"
#define SW64 "'ffn':{'type':'swiglu','hidden':64}}"
    parse(&a, HEAD "{'mixer':{" QK "," SW64 ",{'mixer':{'type':'short_conv'}," SW64 ",{'mixer':{" QK "," SW64 "]}", &err);
    is_int(space_family_check(lfm2, &a, &err), ST_OK, "a family that lets each layer choose its type");
    parse(&a, HEAD "{'mixer':{'type':'short_conv','conv':4}," SW64 ",{'mixer':{" QK "," SW64 ",{'mixer':{'type':'short_conv'}," SW64 "]}", &err);
    is_int(space_family_check(lfm2, &a, &err), ST_EINVAL, "but not its parameters");
    is_str(err.where, "layers[2].mixer", "where");
    is_str(err.what, "family 'lfm2' holds one kind of 'short_conv' only; this one differs from the first", "why");
}

static void test_struct(void)
{
    struct base_err err;
    struct arch a = {.vocab = 8, .context = 8, .width = 8, .depth = 1, .rope_theta = 10000}, b;
    a.layer[0].ffn.type = space_layer_find("attention", LAYER_MIXER);
    is_int(space_arch_check(&a, &err), ST_EINVAL, "attention is no ffn");
    is_str(err.where, "layers[0].ffn.type", "where");
    a.layer[0].ffn.type = 99;
    is_int(space_arch_check(&a, &err), ST_EINVAL, "no such type");
    a.layer[0].ffn = (struct arch_part){space_layer_find("swiglu", LAYER_FFN), {32, 0, 7, 7}};
    is_int(space_arch_check(&a, NULL), ST_OK, "a valid struct");
    b = a;
    b.layer[0].ffn.v[2] = 5;
    a.layer[0].ffn.v[2] = 0;
    is_int(space_arch_canonicalise(&a, NULL) + space_arch_canonicalise(&b, NULL), 0, "canonicalises");
    ok(space_arch_equal(&a, &b), "what lies behind the parameters means nothing");
    b.tie = true;
    ok(!space_arch_equal(&a, &b), "tied is another");
    a.norm = (enum arch_norm)2;
    is_int(space_arch_check(&a, &err), ST_EINVAL, "there are two norms");
    a.norm = ARCH_NORM_RMS;
    a.rope_theta = NAN;
    is_int(space_arch_check(&a, &err), ST_EINVAL, "NaN is no theta");
    a.rope_theta = 10000;
    a.depth = 0;
    is_int(space_arch_check(&a, &err), ST_EINVAL, "no layers");
}

int main(void)
{
    test_canonical();
    test_costs();
    test_published();
    test_experts();
    test_tensors();
    test_bad();
    test_families();
    test_struct();
    return tap_done();
}
