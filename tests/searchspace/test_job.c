/* The job file: defaults, every refusal with where and what, identity, paths, wanted metrics, violation. */
#include <stdlib.h>

#include "searchspace/job.h"
#include "tests/searchspace/text.h"
#include "tests/tap.h"

static struct job *parse(const char *text, struct base_err *err)
{
    struct job *j = NULL;
    const char *t = quoted(text);
    *err = (struct base_err)BASE_ERR_INIT;
    if (job_parse(&j, t, strlen(t), "job.json", err)) printf("#   %s: %s\n", err->where, err->what);
    return j;
}

static void test_defaults(void)
{
    struct base_err err;
    struct job *j = parse("{'data':{'train':'a.txt'},'space':'lm-small','objectives':['valid_bpb']}", &err);
    if (!ok(j != NULL, "the least job reads")) return;
    is_str(j->name, "job", "name");
    is_int(j->seed, 1, "seed");
    is_str(j->data.train, "a.txt", "train");
    ok(!j->data.valid && j->data.valid_share == 0.05, "valid");
    ok(j->data.bytes && j->data.vocab == 256 && j->data.context == 256, "bytes, context 256");
    is_str(j->target, "first", "target");
    ok(j->nobjectives == 1 && j->objective[0].goal == METRIC_MIN && j->nconstraints == 0, "objectives and constraints");
    ok(j->train.batch == 16 && j->train.lr == 3e-3 && j->train.mup && j->train.weight_decay == 0.1 && j->train.warmup == 0.02 &&
           j->train.decay == 0.2 && j->train.beta1 == 0.9 && j->train.beta2 == 0.95 && j->train.eps == 1e-8 && j->train.clip == 1,
       "train");
    ok(j->tokens == 2e6 && j->population == 48 && !j->external, "fidelity, population, evaluator");
    is_str(j->strategy, "auto", "strategy");
    is_str(j->precision, "auto", "precision");
    ok(j->budget.evaluations == 200 && isinf(j->budget.hours) && isinf(j->budget.joules), "a job without budget ends after 200");
    ok(json_is_string(j->space_json) && json_is_object(j->data_json), "space and data as given");
    is_int(space_type(j->space), SPACE_LM, "language models");
    job_free(j);

    j = parse("{'name':'tiny-assistant','seed':7,'data':{'train':'shards/*.bin','valid':'v.bin','tokenizer':{'vocab':50257},'context':64},"
              "'space':'lm-tiny','target':'cpu','objectives':['valid_loss',{'metric':'throughput@8x128'},{'metric':'params','goal':'max'},"
              "'train_joules','state_bytes@4096'],"
              "'constraints':[{'metric':'decode_ms@1024','max':2.0},{'metric':'params','min':1e4,'max':1e6}],"
              "'train':{'batch':8,'lr':1e-3,'lr_width_rule':'none','weight_decay':0,'warmup':0.1,'schedule':'constant'},"
              "'fidelity':{'tokens':1e5,'rungs':2,'eta':4},'search':{'strategy':'random','population':8,'weights':'standalone'},"
              "'precision':'bf16','decode_precision':'same','evaluator':'external','budget':{'hours':0.5}}",
              &err);
    if (!ok(j != NULL, "a job with every key reads")) return;
    ok(!strcmp(j->name, "tiny-assistant") && j->seed == 7 && !strcmp(j->target, "cpu"), "names");
    ok(!j->data.bytes && j->data.vocab == 50257 && !strcmp(j->data.valid, "v.bin") && j->data.valid_share == 0, "shards");
    ok(j->objective[1].goal == METRIC_MAX && j->objective[1].metric.batch == 8 && j->objective[1].metric.context == 128,
       "throughput is maximised by itself");
    ok(j->objective[2].goal == METRIC_MAX, "a goal may be turned");
    ok(j->nconstraints == 2 && isinf(j->constraint[0].min) && j->constraint[0].max == 2 && j->constraint[1].min == 1e4, "constraints");
    ok(!j->train.mup && j->train.decay == 0 && j->train.warmup == 0.1, "train");
    ok(j->external && !strcmp(j->strategy, "random") && j->population == 8, "search");
    ok(isinf(j->budget.evaluations) && j->budget.hours == 0.5, "what a budget does not name is unbounded");
    double v[2] = {3, 5e3};
    is_near(job_violation(j, v), 0.5 + 0.5, 1e-12, "violation adds what exceeds, by its bound");
    v[0] = 2;
    v[1] = NAN;
    is_near(job_violation(j, v), 0, 0, "at the bound it holds; unknown is skipped");
    job_free(j);

    j = parse("{'data':{'anything':[1]},'evaluator':'external','objectives':['loss',{'metric':'f1','goal':'max'},'params'],'space':"
              "{'type':'custom','knobs':{'lr':{'log':[1e-4,1e-1]},'act':{'choice':['relu',2,null,true]},'b':{'choice':[0,1],'repeat':8}}}}",
              &err);
    if (!ok(j != NULL, "a custom job reads")) return;
    ok(j->objective[0].metric.def == -1 && j->objective[2].metric.source == METRIC_CUSTOM && j->objective[1].goal == METRIC_MAX,
       "its metrics have any name");
    ok(json_object_get(j->data_json, "anything") && !j->data.train, "its data is handed through");
    const char *names[8];
    is_int(job_wanted(j, names, 8), 3, "and no more is wanted");
    job_free(j);
    j = parse("{'evaluator':'external','objectives':['x'],'space':{'type':'custom','knobs':{'a':{'int':[0,1]}}}}", &err);
    ok(j && !j->data_json, "a custom job needs no data");
    job_free(j);
}

/* ---- refusals ---- */

static const struct {
    const char *data, *space, *objectives, *more; /* see job_text; more alone with a '{' first is the whole text */
    st_t st;
    const char *where, *what;
} bad_jobs[] = {
    /* the top */
    {0, 0, 0, "{'space':'lm-small','objectives':['params']}", ST_EINVAL, "data", "missing"},
    {0, 0, 0, "{'data':{'train':'a'},'objectives':['params']}", ST_EINVAL, "space", "missing"},
    {0, 0, 0, "{'data':{'train':'a'},'space':'lm-small'}", ST_EINVAL, "objectives", "missing"},
    {0, 0, 0, "'objective':[]", ST_EINVAL, "", "unknown key 'objective'; did you mean 'objectives'?"},
    {0, 0, 0, "'budgets':{}", ST_EINVAL, "", "unknown key 'budgets'; did you mean 'budget'?"},
    {0, 0, 0, "'xyzzy':1", ST_EINVAL, "", "unknown key 'xyzzy'"},
    {0, 0, 0, "'name':''", ST_EINVAL, "name", "must have 1 to 127 bytes and no control characters"},
    {0, 0, 0, "'name':'a\\nb'", ST_EINVAL, "name", "must have 1 to 127 bytes and no control characters"},
    {0, 0, 0, "'name':5", ST_EINVAL, "name", "must be a string, not a number"},
    {0, 0, 0, "'seed':-1", ST_EINVAL, "seed", "must be an integer of at least 0, not -1"},
    {0, 0, 0, "'seed':1.5", ST_EINVAL, "seed", "must be an integer of at least 0, not 1.5"},
    {0, 0, 0, "'target':'a b'", ST_EINVAL, "target",
     "must be \"first\", \"cpu\", \"cuda\" or an evaluator's name (letters, digits and _ . : -)"},
    {0, 0, 0, "'proxies':['auto']", ST_EINVAL, "proxies[0]", "unknown proxy 'auto'; known: params, decoder_params, flops, gradnorm, snip, grasp, synflow, fisher, jacov, naswot, zico, dss, wpca"},
    {0, 0, 0, "'proxies':'snip'", ST_EINVAL, "proxies", "must be a list, as in [\"snip\"]"},
    {0, 0, 0, "'proxies':{}", ST_EINVAL, "proxies", "must be a list of at most 16 names"},
    {0, 0, 0, "'proxies':['snip','synflw']", ST_EINVAL, "proxies[1]", "unknown proxy 'synflw'; did you mean 'synflow'?"},
    {0, 0, 0, "'proxies':['snip',3]", ST_EINVAL, "proxies[1]", "must be a proxy's name"},
    {0, 0, 0, "'proxies':['snip','zico','snip']", ST_EINVAL, "proxies[2]", "'snip' is already proxies[0]"},
    {0, 0, 0, "'audit':0.6", ST_EINVAL, "audit", "must be a number from 0 to 0.5, not 0.6"},
    {0, 0, 0, "'fidelity':{'rungs':3},'budget':{'evaluations':9}", ST_EINVAL, "audit",
     "trains 12 architectures to the top rung (0.1 of the budget, 12 at least) and budget.evaluations is 9, which leaves nothing to search with; "
     "raise the budget above 12, or set audit to 0"},
    {0, 0, 0, "'final':'scratch'", ST_EINVAL, "final", "means something with \"search\": {\"weights\": \"shared\"} alone"},
    {0, 0, 0, "'search':{'weights':'shared'},'final':'best'", ST_EINVAL, "final", "unknown final 'best'; known: scratch, inherited"},
    {0, 0, 0, "'search':{'weights':'shared'},'fidelity':{'rungs':3}", ST_EINVAL, "fidelity.rungs",
     "shared weights bring two of their own, inherited and trained alone; leave it out"},
    {0, 0, 0, "'precision':'fp32'", ST_EINVAL, "precision", "unknown precision 'fp32'; did you mean 'f32'?"},
    {0, 0, 0, "'decode_precision':'int4'", ST_EINVAL, "decode_precision", "unknown decode_precision 'int4'; did you mean 'int8'?"},
    {0, 0, 0, "'decode_precision':'sane'", ST_EINVAL, "decode_precision", "unknown decode_precision 'sane'; did you mean 'same'?"},
    {0, 0, 0, "'evaluator':{'problem':'zdt1'}", ST_EINVAL, "space", "the problem 'zdt1' brings its own; leave it out"},
    {0, 0, 0, "'evaluator':{'problm':'zdt1'}", ST_EINVAL, "evaluator", "unknown key 'problm'; did you mean 'problem'?"},
    {0, 0, 0, "'evaluator':'tout'", ST_EINVAL, "evaluator", "unknown evaluator 'tout'; did you mean 'taut'?"},
    {0, 0, 0, "'search':{'strategy':'nsga3'}", ST_EINVAL, "search.strategy", "unknown strategy 'nsga3'; did you mean 'nsga2'?"},
    {0, 0, 0, "'search':{'strategy':'gradient descent'}", ST_EINVAL, "search.strategy",
     "unknown strategy 'gradient descent'; known: auto, aging, nsga2, random, surrogate"},
    {0, 0, 0, "'search':{'weights':'shard'}", ST_EINVAL, "search.weights", "unknown weights 'shard'; did you mean 'shared'?"},
    {0, 0, 0, "'search':{'supernet':2}", ST_EINVAL, "search.supernet", "means something with \"weights\": \"shared\" alone"},
    {0, 0, 0, "'search':{'adapt':0.1}", ST_EINVAL, "search.adapt", "means something with \"weights\": \"shared\" alone"},
    {0, 0, 0, "'search':{'weights':'shared','supernet':0}", ST_EINVAL, "search.supernet", "must be a number from 0.01 to 1000, not 0"},
    {0, 0, 0, "'search':{'weights':'shared','adapt':1.5}", ST_EINVAL, "search.adapt", "must be a number from 0 to 1, not 1.5"},
    {0, 0, 0, "'search':{'population':1}", ST_EINVAL, "search.population", "must be an integer from 2 to 100000, not 1"},
    {0, 0, 0, "'search':{'pop':10}", ST_EINVAL, "search", "unknown key 'pop'"},
    {0, 0, 0, "'search':[]", ST_EINVAL, "search", "must be an object, not an array"},
    {0, 0, 0, "'fidelity':{'rungs':3,'tokens':36000}", ST_EINVAL, "fidelity.rungs",
     "rung 0 of 3 has 4000 tokens, less than one step (batch 16 x context 256 = 4096); take fewer rungs, a smaller eta or more tokens (fidelity.tokens: 36864 is enough)"},
    {0, 0, 0, "'fidelity':{'rungs':3,'tokens':12000,'eta':1.1}", ST_EINVAL, "fidelity.rungs",
     "rungs 0 and 1 have as many steps (3); take fewer rungs, a smaller eta or more tokens (fidelity.tokens: 49152 is enough)"},
    {0, 0, 0, "'fidelity':{'rungs':5}", ST_EINVAL, "train.warmup",
     "its 10 steps (a share of the top rung's 489) are more than the 6 before rung 0 decays; take a smaller one, or fewer rungs"},
    {0, 0, 0, "'fidelity':{'rungs':0}", ST_EINVAL, "fidelity.rungs", "must be an integer from 1 to 32, not 0"},
    {0, 0, 0, "'fidelity':{'tokens':1.5}", ST_EINVAL, "fidelity.tokens", "must be a whole number"},
    {0, 0, 0, "'fidelity':{'tokens':100}", ST_EINVAL, "fidelity.tokens", "100 is less than one step; the least is batch 16 x context 256 = 4096"},
    {0, 0, 0, "'fidelity':{'tokens':'2e6'}", ST_EINVAL, "fidelity.tokens", "must be a number from 1 to 1000000000000000, not a string"},
    {0, 0, 0, "'fidelity':{'eta':1}", ST_EINVAL, "fidelity.eta", "must be a number from 1.1 to 100, not 1"},
    {0, 0, 0, "'fidelity':{'rung':1}", ST_EINVAL, "fidelity", "unknown key 'rung'; did you mean 'rungs'?"},
    /* data */
    {"3", 0, 0, 0, ST_EINVAL, "data", "must be an object, not a number"},
    {"{}", 0, 0, 0, ST_EINVAL, "data.train", "missing"},
    {"{'train':''}", 0, 0, 0, ST_EINVAL, "data.train", "must not be empty"},
    {"{'train':['a']}", 0, 0, 0, ST_EINVAL, "data.train", "must be a string, not an array"},
    {"{'train':'a','valid':0}", 0, 0, 0, ST_EINVAL, "data.valid", "must be above 0: without held-out text nothing is compared"},
    {"{'train':'a','valid':1}", 0, 0, 0, ST_EINVAL, "data.valid", "must be a number from 0 to 0.9, not 1"},
    {"{'train':'a','valid':true}", 0, 0, 0, ST_EINVAL, "data.valid", "must be a share, such as 0.05, or a file"},
    {"{'train':'a','valid':''}", 0, 0, 0, ST_EINVAL, "data.valid", "must not be empty"},
    {"{'train':'a','tokenizer':'byte'}", 0, 0, 0, ST_EINVAL, "data.tokenizer", "unknown tokenizer 'byte'; did you mean 'bytes'?"},
    {"{'train':'a','tokenizer':'tokenizer.json'}", 0, 0, 0, ST_ENOTSUP, "data.tokenizer",
     "a tokenizer's file ('tokenizer.json') is not built yet; use \"bytes\""},
    {"{'train':'a','tokenizer':3}", 0, 0, 0, ST_EINVAL, "data.tokenizer", "must be \"bytes\" or {\"vocab\": N}"},
    {"{'train':'a','tokenizer':{}}", 0, 0, 0, ST_EINVAL, "data.tokenizer.vocab", "missing"},
    {"{'train':'a','tokenizer':{'vocab':70000}}", 0, 0, 0, ST_EINVAL, "data.tokenizer.vocab",
     "must be an integer from 2 to 65536, not 70000"},
    {"{'train':'a','tokenizer':{'vocabulary':9}}", 0, 0, 0, ST_EINVAL, "data.tokenizer", "unknown key 'vocabulary'"},
    {"{'train':'a','context':0}", 0, 0, 0, ST_EINVAL, "data.context", "must be an integer from 1 to 16777216, not 0"},
    {"{'train':'a','contxt':8}", 0, 0, 0, ST_EINVAL, "data", "unknown key 'contxt'; did you mean 'context'?"},
    /* objectives and constraints */
    {0, 0, "[]", 0, ST_EINVAL, "objectives", "must be a list of 1 to 8 metrics"},
    {0, 0, "'params'", 0, ST_EINVAL, "objectives", "must be a list of 1 to 8 metrics"},
    {0, 0, "['decode_ms@1','decode_ms@2','decode_ms@3','decode_ms@4','decode_ms@5','decode_ms@6','decode_ms@7','decode_ms@8','params']", 0,
     ST_EINVAL, "objectives", "must be a list of 1 to 8 metrics"},
    {0, 0, "['params','decode']", 0, ST_EINVAL, "objectives[1].metric", "unknown metric 'decode'; did you mean 'decode_ms@1024'?"},
    {0, 0, "['params',{'metric':'decode'}]", 0, ST_EINVAL, "objectives[1].metric",
     "unknown metric 'decode'; did you mean 'decode_ms@1024'?"},
    {0, 0, "['flux']", 0, ST_EINVAL, "objectives[0].metric", "unknown metric 'flux'"},
    {0, 0, "['decode_ms']", 0, ST_EINVAL, "objectives[0].metric", "metric 'decode_ms' needs a context, as in 'decode_ms@1024'"},
    {0, 0, "['proxy.synflw']", 0, ST_EINVAL, "objectives[0].metric", "unknown metric 'proxy.synflw'; did you mean 'proxy.synflow'?"},
    {0, 0, "['train_joules_est']", 0, ST_ENOTSUP, "objectives[0].metric", "metric 'train_joules_est' is not built yet"},
    {0, 0, "['params','params']", 0, ST_EINVAL, "objectives[1].metric", "'params' is already objectives[0]"},
    {0, 0, "['params',{'metric':'params','goal':'max'}]", 0, ST_EINVAL, "objectives[1].metric", "'params' is already objectives[0]"},
    {0, 0, "[{'metric':'params','goal':'least'}]", 0, ST_EINVAL, "objectives[0].goal", "unknown goal 'least'; known: min, max"},
    {0, 0, "[{'metric':'params','gaol':'max'}]", 0, ST_EINVAL, "objectives[0]", "unknown key 'gaol'; did you mean 'goal'?"},
    {0, 0, "[{'goal':'max'}]", 0, ST_EINVAL, "objectives[0].metric", "missing"},
    {0, 0, "[{'metric':3}]", 0, ST_EINVAL, "objectives[0].metric", "must be a string"},
    {0, 0, "[3]", 0, ST_EINVAL, "objectives[0]", "must be a metric's name or {\"metric\": …, \"goal\": …}"},
    {"{'train':'a','tokenizer':{'vocab':100}}", 0, "['valid_bpb']", 0, ST_EINVAL, "objectives[0].metric",
     "valid_bpb is unknown for token shards, whose bytes nobody knows; use 'valid_loss'"},
    {"{'train':'a','tokenizer':{'vocab':100}}", 0, "['valid_loss']", "'constraints':[{'metric':'valid_bpb','max':2}]", ST_EINVAL,
     "constraints[0].metric", "valid_bpb is unknown for token shards, whose bytes nobody knows; use 'valid_loss'"},
    {0, 0, 0, "'constraints':{}", ST_EINVAL, "constraints", "must be a list of at most 16 constraints"},
    {0, 0, 0, "'constraints':['params']", ST_EINVAL, "constraints[0]", "must be an object, not a string"},
    {0, 0, 0, "'constraints':[{'metric':'params'}]", ST_EINVAL, "constraints[0]", "needs \"min\" or \"max\""},
    {0, 0, 0, "'constraints':[{'metric':'params','max':1,'min':2}]", ST_EINVAL, "constraints[0].min", "2 is above max 1"},
    {0, 0, 0, "'constraints':[{'metric':'params','max':'1'}]", ST_EINVAL, "constraints[0].max", "must be a number, not a string"},
    {0, 0, 0, "'constraints':[{'metric':'parms','max':1}]", ST_EINVAL, "constraints[0].metric",
     "unknown metric 'parms'; did you mean 'params'?"},
    {0, 0, 0, "'constraints':[{'metric':'params','max':1},{'metric':'params','min':0}]", ST_EINVAL, "constraints[1].metric",
     "'params' is already constraints[0]"},
    {0, 0, 0, "'constraints':[{'metric':'params','maximum':1}]", ST_EINVAL, "constraints[0]", "unknown key 'maximum'"},
    /* train and budget */
    {0, 0, 0, "'train':null", ST_EINVAL, "train", "must be an object, not null"},
    {0, 0, 0, "'train':{'batch':0}", ST_EINVAL, "train.batch", "must be an integer from 1 to 65536, not 0"},
    {0, 0, 0, "'train':{'lr':0}", ST_EINVAL, "train.lr", "must be above 0"},
    {0, 0, 0, "'train':{'lr':11}", ST_EINVAL, "train.lr", "must be a number from 0 to 10, not 11"},
    {0, 0, 0, "'train':{'lr_width_rule':'mip'}", ST_EINVAL, "train.lr_width_rule", "unknown lr_width_rule 'mip'; did you mean 'mup'?"},
    {0, 0, 0, "'train':{'weight_decay':-1}", ST_EINVAL, "train.weight_decay", "must be a number from 0 to 10, not -1"},
    {0, 0, 0, "'train':{'warmup':0.9}", ST_EINVAL, "train.warmup", "must be a number from 0 to 0.8, not 0.9"},
    {0, 0, 0, "'train':{'schedule':'cosine'}", ST_EINVAL, "train.schedule", "unknown schedule 'cosine'; known: wsd, constant"},
    {0, 0, 0, "'train':{'learning_rate':1}", ST_EINVAL, "train", "unknown key 'learning_rate'"},
    {"{'train':'a','context':16777216}", 0, 0, "'train':{'batch':5}", ST_EINVAL, "train.batch",
     "5 x context 16777216 is more than 67108864 tokens a step"},
    {0, 0, 0, "'budget':{}", ST_EINVAL, "budget", "needs \"evaluations\" or \"hours\""},
    {0, 0, 0, "'budget':200", ST_EINVAL, "budget", "must be an object, not a number"},
    {0, 0, 0, "'budget':{'joules':5e6}", ST_ENOTSUP, "budget.joules", "a budget of energy is not built yet"},
    {0, 0, 0, "'budget':{'evaluations':0}", ST_EINVAL, "budget.evaluations", "must be an integer from 1 to 1000000000, not 0"},
    {0, 0, 0, "'budget':{'hours':0}", ST_EINVAL, "budget.hours", "must be above 0"},
    {0, 0, 0, "'budget':{'hour':1}", ST_EINVAL, "budget", "unknown key 'hour'; did you mean 'hours'?"},
    /* the space */
    {0, "3", 0, 0, ST_EINVAL, "space", "must be a preset's name or an object"},
    {0, "'lm-smal'", 0, 0, ST_EINVAL, "space", "unknown preset 'lm-smal'; did you mean 'lm-small'?"},
    {0, "{}", 0, 0, ST_EINVAL, "space.type", "missing"},
    {0, "{'type':'lmm'}", 0, 0, ST_EINVAL, "space.type", "unknown type of space 'lmm'; did you mean 'lm'?"},
#define LM "{'type':'lm','depth':[1,2],'width':[64],"
#define SW "'ffn':{'swiglu':{'ratio':[2]}}"
#define NONE "'mixer':{'none':{}}"
    {0, "{'type':'lm','width':[64]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.depth", "missing: [least, most]"},
    {0, "{'type':'lm','depth':4,'width':[64]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.depth",
     "must be [least, most], integers from 1 to 128"},
    {0, "{'type':'lm','depth':[4,2],'width':[64]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.depth",
     "must be [least, most], integers from 1 to 128"},
    {0, "{'type':'lm','depth':[1,129],'width':[64]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.depth",
     "must be [least, most], integers from 1 to 128"},
    {0, "{'type':'lm','depth':[1,2]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.width", "missing: a list of choices"},
    {0, "{'type':'lm','depth':[1,2],'width':64," NONE "," SW "}", 0, 0, ST_EINVAL, "space.width", "must be a list of 1 to 64 choices"},
    {0, "{'type':'lm','depth':[1,2],'width':[64,64]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.width[1]", "is listed twice"},
    {0, "{'type':'lm','depth':[1,2],'width':[64.5]," NONE "," SW "}", 0, 0, ST_EINVAL, "space.width[0]",
     "must be an integer from 1 to 65536, not 64.5"},
    {0, LM SW "}", 0, 0, ST_EINVAL, "space.mixer", "must be an object of mixer types, such as {\"none\": {}}"},
    {0, LM NONE "}", 0, 0, ST_EINVAL, "space.ffn", "must be an object of ffn types, such as {\"none\": {}}"},
    {0, LM NONE ",'ffn':{'none':{}}}", 0, 0, ST_EINVAL, "space", "mixer and ffn offer nothing but 'none': no layer would be left"},
    {0, LM NONE "," SW ",'depht':1}", 0, 0, ST_EINVAL, "space", "unknown key 'depht'; did you mean 'depth'?"},
    {0, LM "'mixer':{'mla':{'heads':[4]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mla.kv_rank", "missing: a list of choices"},
    {0, LM "'mixer':{'mla':{'heads':[3],'kv_rank':[8],'rope_dim':[4]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mla.heads[0]",
     "no architecture can use this choice (heads: 3 does not divide width 64)"},
    {0, LM "'mixer':{'mla':{'heads':[4],'kv_rank':[8],'rope_dim':[4,5]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mla.rope_dim[1]",
     "no architecture can use this choice (rope_dim: RoPE turns pairs: 5 must be even)"},
    {0, LM "'mixer':{'mla':{'heads':[4],'kv_rank':[8],'rope_dim':[4],'nope_dim':[8]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mla",
     "unknown key 'nope_dim'; did you mean 'rope_dim'?"},
    {0, LM "'mixer':{'gated_delta':{}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.gated_delta.heads", "missing: a list of choices"},
    {0, LM "'mixer':{'gated_delta':{'heads':[4],'key_ratio':[3]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.gated_delta.key_ratio[0]",
     "no architecture can use this choice (key_ratio: 3 does not divide 4 heads)"},
    {0, LM "'mixer':{'linear':{'heads':[3]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.linear.heads[0]",
     "no architecture can use this choice (heads: 3 does not divide width 64)"},
    {0, LM "'mixer':{'none':{},'mamba2':{}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mamba2.head_dim", "missing: a list of choices"},
    {0, LM "'mixer':{'mamba2':{'head_dim':[16,24],'state':[16]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mamba2.head_dim[1]",
     "no architecture can use this choice (head_dim: 24 does not divide width 64 x 2)"},
    {0, LM "'mixer':{'mamba2':{'head_dim':[32],'state':[16],'groups':[1,3]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.mamba2.groups[1]",
     "no architecture can use this choice (groups: 3 does not divide 4 heads)"},
    {0, LM "'mixer':{'short_conv':{'conv':[3,17]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.short_conv.conv[1]",
     "must be an integer from 1 to 16, not 17"},
    {0, LM NONE ",'ffn':{'mlp':{}}}", 0, 0, ST_EINVAL, "space.ffn.mlp.ratio", "missing: a list of choices"},
    {0, LM NONE ",'ffn':{'mlp':{'ratio':[2],'act':['silu']}}}", 0, 0, ST_EINVAL, "space.ffn.mlp.act[0]", "unknown act 'silu'; known: relu2, gelu"},
    {0, LM NONE ",'ffn':{'mlp':{'ratio':[2],'act':['gelu','gelu']}}}", 0, 0, ST_EINVAL, "space.ffn.mlp.act[1]", "is listed twice"},
    {0, LM NONE ",'ffn':{'mlp':{'ratio':[2],'rank':[8]}}}", 0, 0, ST_EINVAL, "space.ffn.mlp", "unknown key 'rank'"},
    {0, LM NONE ",'ffn':{'moe':{}}}", 0, 0, ST_EINVAL, "space.ffn.moe.experts", "missing: a list of choices"},
    {0, LM NONE ",'ffn':{'moe':{'experts':[4],'active':[2],'ratio':[1],'shared':[65]}}}", 0, 0, ST_EINVAL, "space.ffn.moe.shared[0]",
     "must be an integer from 0 to 64, not 65"},
    {0, LM NONE ",'ffn':{'moe':{'experts':[4],'active':[2],'ratio':[1],'shared_gate':[true]}}}", 0, 0, ST_EINVAL, "space.ffn.moe.shared_gate[0]",
     "no architecture can use this choice (shared_gate: there is no shared expert to gate: 'shared' is 0)"},
    {0, LM NONE ",'ffn':{'moe':{'experts':[4],'active':[2],'ratio':[1],'shared':[0],'shared_gate':[false,true]}}}", 0, 0, ST_EINVAL,
     "space.ffn.moe.shared_gate[1]", "no architecture can use this choice (shared_gate: there is no shared expert to gate: 'shared' is 0)"},
    {0, LM NONE ",'ffn':{'swiglo':{}}}", 0, 0, ST_EINVAL, "space.ffn.swiglo", "unknown ffn 'swiglo'; did you mean 'swiglu'?"},
    {0, LM "'mixer':{'none':{'x':1}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.none", "unknown key 'x'"},
    {0, LM "'mixer':{'attention':{}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.heads", "missing: a list of choices"},
    {0, LM "'mixer':{'attention':{'heads':[4],'kv_heads':[1]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention",
     "unknown key 'kv_heads'; did you mean 'heads'?"},
    {0, LM "'mixer':{'attention':{'heads':[2,4,3]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.heads[2]",
     "no architecture can use this choice (heads: 3 does not divide width 64)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'kv_ratio':[1,8]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.kv_ratio[1]",
     "no architecture can use this choice (kv_ratio: 8 does not divide 4 heads)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'head_dim':[16,15]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.head_dim[1]",
     "no architecture can use this choice (head_dim: RoPE turns pairs: 15 must be even)"},
    {0, LM "'mixer':{'attention':{'heads':[4,2],'head_dim':[15]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.head_dim[0]",
     "no architecture can use this choice (head_dim: RoPE turns pairs: 15 must be even)"},
    {0, LM "'mixer':{'attention':{'heads':[2,4],'kv_ratio':[4],'head_dim':[15]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.head_dim[0]",
     "no architecture can use this choice (head_dim: RoPE turns pairs: 15 must be even)"},
    {0, LM "'mixer':{'attention':{'heads':[64]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.head_dim",
     "no architecture can be built without it (head_dim: RoPE turns pairs: 1 must be even)"},
    {0, LM "'mixer':{'attention':{'heads':[4,3],'kv_ratio':[3]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.heads[1]",
     "no architecture can use this choice (heads: 3 does not divide width 64)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'kv_ratio':[1,2],'head_dim':[8],'rope_dim':[10]}}," SW "}", 0, 0, ST_EINVAL,
     "space.mixer.attention.rope_dim[0]", "no architecture can use this choice (rope_dim: 10 is more than head_dim 8)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'qk_norm':[0]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.qk_norm[0]",
     "must be true or false"},
    {0, LM "'mixer':{'attention':{'heads':[4],'gate':['on']}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.gate[0]",
     "must be true or false"},
    {0, LM "'mixer':{'attention':{'heads':[4],'rope_dim':[0,5]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.rope_dim[1]",
     "no architecture can use this choice (rope_dim: RoPE turns pairs: 5 must be even)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'rope_dim':[0,18]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.rope_dim[1]",
     "no architecture can use this choice (rope_dim: 18 is more than head_dim 16)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'share_kv':[2]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.share_kv[0]",
     "must be true or false"},
    {0, LM "'mixer':{'attention':{'heads':[4],'share_kv':[true]}}," SW ",'family':'llama'}", 0, 0, ST_EINVAL,
     "space.mixer.attention.share_kv", "family 'llama' holds share_kv false only"},
    {0, LM "'mixer':{'attention':{'heads':[4],'rope':[1]}}," SW "}", 0, 0, ST_EINVAL, "space.mixer.attention.rope[0]",
     "must be true or false"},
    {0, LM NONE ",'ffn':{'swiglu':{'ratio':[0]}}}", 0, 0, ST_EINVAL, "space.ffn.swiglu.ratio[0]", "must be a number from 0.01 to 64, not 0"},
    {0, LM NONE ",'ffn':{'swiglu':{'ratio':[2],'rank':[0,64]}}}", 0, 0, ST_EINVAL, "space.ffn.swiglu.rank[1]",
     "no architecture can use this choice (rank: 64 is not below 64, the rank of a full 128 x 64 matrix)"},
    {0, "{'type':'lm','depth':[1,2],'width':[64,50],'mixer':{'attention':{'heads':[4]}}," SW "}", 0, 0, ST_EINVAL, "space.width[1]",
     "no mixer can be built at width 50"},
    {0, "{'type':'lm','depth':[1,2],'width':[64,50],'mixer':{'none':{},'attention':{'heads':[4]}},'ffn':{'none':{}}}", 0, 0, ST_EINVAL,
     "space.width[1]", "no layer can be built at width 50"},
    {0, LM NONE "," SW ",'norm':['rms','layer','rms']}", 0, 0, ST_EINVAL, "space.norm[2]", "is listed twice"},
    {0, LM NONE "," SW ",'norm':'layer'}", 0, 0, ST_EINVAL, "space.norm", "must be a list of 1 to 64 choices"},
    {0, LM NONE "," SW ",'norm':['batch']}", 0, 0, ST_EINVAL, "space.norm[0]", "unknown norm 'batch'; known: rms, layer"},
    {0, LM NONE "," SW ",'bias':[1]}", 0, 0, ST_EINVAL, "space.bias[0]", "must be true or false"},
    {0, LM NONE "," SW ",'tie_embeddings':true}", 0, 0, ST_EINVAL, "space.tie_embeddings", "must be a list of 1 to 64 choices"},
    {0, LM NONE "," SW ",'rope_theta':[0]}", 0, 0, ST_EINVAL, "space.rope_theta[0]", "must be a number from 1 to 1000000000000, not 0"},
    {0, LM "'mixer':{'gated_delta':{'heads':[4]}},'ffn':{'moe':{'experts':[4],'active':[2],'ratio':[1],'shared':[0]}},'family':'qwen3_next'}", 0, 0,
     ST_EINVAL, "space.ffn.moe.shared[0]",
     "no architecture can use this choice (shared: family 'qwen3_next' holds no mixture without shared experts)"},
    {0, LM "'mixer':{'gated_delta':{'heads':[4]}},'ffn':{'moe':{'experts':[4],'active':[2],'ratio':[1]}},'family':'qwen3_next'}", 0, 0, ST_EINVAL,
     "space.ffn.moe.shared", "no architecture can be built without it (shared: family 'qwen3_next' holds no mixture without shared experts)"},
    {0, LM "'mixer':{'attention':{'heads':[4]}},'ffn':{'moe':{'experts':[2],'active':[1],'ratio':[1]}},'family':'nemotron_h'}", 0, 0, ST_EINVAL,
     "space.ffn.moe.shared", "no architecture can be built without it (shared: family 'nemotron_h' holds no mixture without shared experts)"},
    {0, LM "'mixer':{'attention':{'heads':[4]}},'ffn':{'moe':{'experts':[1],'active':[1],'ratio':[1],'shared':[1]}},'family':'nemotron_h'}", 0, 0, ST_EINVAL,
     "space.ffn.moe.experts[0]", "no architecture can use this choice (experts: family 'nemotron_h' holds two at least)"},
    {0, LM NONE "," SW ",'family':'lama'}", 0, 0, ST_EINVAL, "space.family", "unknown family 'lama'; did you mean 'llama'?"},
    {0, LM NONE "," SW ",'family':'llama'}", 0, 0, ST_EINVAL, "space.mixer.none", "family 'llama' does not hold 'none' as mixer"},
    {0, LM "'mixer':{'attention':{'heads':[4],'window':[4,8]}}," SW ",'family':'llama'}", 0, 0, ST_EINVAL,
     "space.mixer.attention.window", "family 'llama' holds window 0 only"},
    {0, LM "'mixer':{'attention':{'heads':[3],'head_dim':[16]}}," SW ",'family':'llama'}", 0, 0, ST_EINVAL,
     "space.mixer.attention.heads[0]", "no architecture can use this choice (heads: family 'llama': 3 does not divide width 64)"},
    {0, LM "'mixer':{'attention':{'heads':[4],'rope':[false]}}," SW ",'family':'llama'}", 0, 0, ST_EINVAL,
     "space.mixer.attention.rope", "family 'llama' holds rope true only"},
    {0, LM "'mixer':{'attention':{'heads':[4]}},'ffn':{'swiglu':{'ratio':[1],'rank':[4]}},'family':'llama'}", 0, 0, ST_EINVAL,
     "space.ffn.swiglu.rank", "family 'llama' holds rank 0 only"},
    /* custom spaces */
#define CUSTOM(knobs) "{'type':'custom','knobs':" knobs "}"
#define EXT "'evaluator':'external'"
    {0, CUSTOM("{'a':{'int':[1,2]}}"), "['x']", 0, ST_EINVAL, "evaluator", "a custom space needs \"evaluator\": \"external\""},
    {0, CUSTOM("{'a':{'int':[1,2]}}"), "['x']", EXT ",'proxies':['snip']", ST_EINVAL, "proxies", "are of language models: a custom space has none"},
    {0, "{'type':'custom'}", "['x']", EXT, ST_EINVAL, "space.knobs", "missing"},
    {0, CUSTOM("{}"), "['x']", EXT, ST_EINVAL, "space.knobs", "must be an object of 1 to 256 knobs"},
    {0, CUSTOM("{'a':3}"), "['x']", EXT, ST_EINVAL, "space.knobs.a", "must be an object, not a number"},
    {0, CUSTOM("{'a':{}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a", "must have one of \"log\", \"int\", \"float\" and \"choice\""},
    {0, CUSTOM("{'a':{'int':[1,2],'log':[1,2]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a",
     "must have one of \"log\", \"int\", \"float\" and \"choice\""},
    {0, CUSTOM("{'a':{'itn':[1,2]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a", "unknown key 'itn'; did you mean 'int'?"},
    {0, CUSTOM("{'a':{'int':[1,2.5]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.int", "must be integers within +-1e9"},
    {0, CUSTOM("{'a':{'int':[2,2]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.int", "low must be below high"},
    {0, CUSTOM("{'a':{'log':[0,2]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.log", "a logarithmic range must lie above 0"},
    {0, CUSTOM("{'a':{'float':[0]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.float", "must be [low, high]"},
    {0, CUSTOM("{'a':{'float':[0,1e301]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.float", "must lie within +-1e300"},
    {0, CUSTOM("{'a':{'choice':[]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.choice", "must be a list of 1 to 1024 choices"},
    {0, CUSTOM("{'a':{'choice':[1,[2]]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.choice[1]",
     "must be a string, a number, true, false or null"},
    {0, CUSTOM("{'a':{'choice':[1,2,1.0]}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.choice[2]", "is listed twice"},
    {0, CUSTOM("{'a':{'choice':[1],'repeat':0}}"), "['x']", EXT, ST_EINVAL, "space.knobs.a.repeat",
     "must be an integer from 1 to 1024, not 0"},
    {0, CUSTOM("{'a':{'choice':[1],'repeat':1024},'b':{'choice':[1],'repeat':1024},'c':{'choice':[1],'repeat':1024},"
               "'d':{'choice':[1],'repeat':1024},'e':{'choice':[1],'repeat':1024}}"),
     "['x']", EXT, ST_EINVAL, "space.knobs", "make 5120 genes; at most 4096"},
    {0, CUSTOM("{'a':{'choice':[1]}}"), "['a b']", EXT, ST_EINVAL, "objectives[0].metric",
     "'a b' is no metric's name: letters, digits and _ . @ - only, a letter or _ first"},
    {0, "{'type':'custom','knobs':{'a':{'choice':[1]}},'width':[1]}", "['x']", EXT, ST_EINVAL, "space", "unknown key 'width'"},
};

static void test_bad(void)
{
    int n = sizeof bad_jobs / sizeof bad_jobs[0];
    for (int i = 0; i < n; i++) {
        const char *more = bad_jobs[i].more;
        const char *t = more && *more == '{' ? quoted(more) : job_text(bad_jobs[i].data, bad_jobs[i].space, bad_jobs[i].objectives, more);
        struct base_err err = BASE_ERR_INIT;
        struct job *j = NULL;
        st_t st = job_parse(&j, t, strlen(t), "job.json", &err);
        int good = st == bad_jobs[i].st && err.st == st && !j && !strcmp(err.where, bad_jobs[i].where) && !strcmp(err.what, bad_jobs[i].what);
        if (!ok(good, "bad job %d: %s: %s", i, bad_jobs[i].where, bad_jobs[i].what))
            printf("#   %s\n#   got %d %s: %s\n", t, st, err.where, err.what);
        if (!st) job_free(j);
    }
    struct job *j = NULL;
    struct base_err err = BASE_ERR_INIT;
    is_int(job_parse(&j, "{\"name\":\n x}", 11, "job.json", &err), ST_EPARSE, "malformed JSON");
    is_str(err.where, "job.json:2:2", "says file, line and column");
    is_int(job_parse(&j, "{}", 2, "job.json", NULL), ST_EINVAL, "no words wanted");
}

/* ---- identity, paths, wanted ---- */

static void identity(const char *a, const char *b, int same, const char *what)
{
    char x[BASE_ID_HEX] = "", y[BASE_ID_HEX] = "";
    json_t *u = json_loads(quoted(a), 0, NULL), *v = json_loads(quoted(b), 0, NULL);
    is_int(job_identity(u, x, NULL) | job_identity(v, y, NULL), 0, "%s: has an identity", what);
    is_int(!strcmp(x, y), same, "%s: %s", what, same ? "the same" : "another");
    json_decref(u);
    json_decref(v);
}

static void test_identity(void)
{
    identity("{'a':1,'b':{'c':[1,2],'d':null},'budget':{'hours':1}}", "{'b':{'d':null,'c':[1,2]},'a':1,'budget':{'hours':2}}", 1,
             "order of keys, and the budget");
    identity("{'a':2e6}", "{'a':2000000}", 1, "spelling of a number");
    identity("{'a':[1,2]}", "{'a':[2,1]}", 0, "order of a list");
    identity("{'a':{'budget':1}}", "{'a':{'budget':2}}", 0, "a budget below the top");
    identity("{'a':'x'}", "{'a':'y'}", 0, "a string");
    char id[BASE_ID_HEX];
    json_t *v = json_loads(quoted("{'b':[1.50,true],'budget':{},'a':'x'}"), 0, NULL);
    job_identity(v, id, NULL);
    is_str(id, "b6d6ea7b6a4f3483b31fc26df508100d", "a known id");
    json_decref(v);
}

static void test_paths(void)
{
    struct base_err err;
    json_t *v = json_loads(job_text("{'train':'./sub/a.txt','valid':'/abs/v.txt'}", NULL, NULL, NULL), 0, NULL);
    is_int(job_paths_absolute(v, "/home/x", &err), ST_OK, "paths become absolute");
    json_t *data = json_object_get(v, "data");
    is_str(json_string_value(json_object_get(data, "train")), "/home/x/sub/a.txt", "relative ones");
    is_str(json_string_value(json_object_get(data, "valid")), "/abs/v.txt", "and absolute ones stay");
    struct job *j = NULL;
    is_int(job_from_json(&j, v, &err), ST_OK, "the job reads");
    is_int(job_paths_check(j, &err), ST_OK, "and passes");
    job_free(j);
    json_decref(v);
    v = json_loads(job_text("{'train':'a.txt','valid':0.1}", NULL, NULL, NULL), 0, NULL);
    is_int(job_from_json(&j, v, &err), ST_OK, "a relative path reads");
    is_int(job_paths_check(j, &err), ST_EINVAL, "and does not pass");
    is_str(err.where, "data.train", "where");
    is_int(job_paths_absolute(v, "/", &err), ST_OK, "against the root");
    is_str(json_string_value(json_object_get(json_object_get(v, "data"), "train")), "/a.txt", "one slash");
    is_near(json_number_value(json_object_get(json_object_get(v, "data"), "valid")), 0.1, 0, "a share stays");
    job_free(j);
    json_decref(v);
    v = json_loads(quoted("{'data':{'train':'x'},'space':{'type':'custom'}}"), 0, NULL);
    is_int(job_paths_absolute(v, "/d", &err), ST_OK, "a custom space");
    is_str(json_string_value(json_object_get(json_object_get(v, "data"), "train")), "x", "keeps its data untouched");
    json_decref(v);
    v = json_loads("[1]", 0, NULL);
    is_int(job_paths_absolute(v, "/d", &err), ST_OK, "anything else is left to the parser");
    json_decref(v);
}

static void test_wanted(void)
{
    struct base_err err;
    const char *names[16];
    struct job *j = NULL;
    const char *t = job_text(NULL, NULL, "['params','decode_ms@64']", "'constraints':[{'metric':'params','max':1e6},{'metric':'train_bytes','max':1e9}]");
    is_int(job_parse(&j, t, strlen(t), "job.json", &err), ST_OK, "a job");
    int n = job_wanted(j, names, 16);
    is_int(n, 8, "wants eight metrics");
    static const char *const want[] = {"params",       "decode_ms@64",    "train_bytes",  "valid_bpb", "train_tokens_per_s",
                                       "active_params", "flops_per_token", "weight_bytes"};
    for (int i = 0; i < n && i < 8; i++) is_str(names[i], want[i], "metric %d", i);
    is_int(job_wanted(j, names, 3), 3, "as many as fit");
    job_free(j);
    j = parse("{'data':{'train':'a'},'space':'lm-small','objectives':['valid_bpb'],'proxies':'auto'}", &err);
    ok(j && j->nproxies == 13 && !strcmp(j->proxy[0].name, "proxy.params") && !strcmp(j->proxy[12].name, "proxy.wpca"), "auto is all proxies");
    job_free(j);
    j = parse("{'data':{'train':'a'},'space':'lm-small','objectives':['proxy.snip'],'proxies':['params','snip','zico']}", &err);
    ok(j && j->nproxies == 3 && j->objective[0].goal == METRIC_MAX && j->proxy[0].source == METRIC_PAPER && j->proxy[2].source == METRIC_PROXY,
       "proxies, of which more is better");
    if (!j) return;
    job_wanted(j, names, 3);
    ok(!strcmp(names[0], "proxy.snip") && !strcmp(names[1], "proxy.params") && !strcmp(names[2], "proxy.zico"), "are wanted, each once");
    job_free(j);
}

int main(void)
{
    test_defaults();
    test_bad();
    test_identity();
    test_paths();
    test_wanted();
    return tap_done();
}
