"""taut export --format hf: what stands in the folder, against the weights as Taut keeps them and the public classes' names, worked out here by other
means. That the classes load it and say the same is for `make check-hf`."""
import json
import math
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.environ.get("TAUT_SRC", "."), "tests/e2e"))
from taut_e2e import *

home = folder("taut-hf-")
make_text(os.path.join(home, "text.txt"), 4000)
ATTENTION = {"heads": [2], "kv_ratio": [2], "head_dim": [8]}


def tensors(path):
    """name -> (shape, numbers)"""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    same(head.pop("__metadata__")["format"], "pt", "transformers take the file")
    ends = sorted(t["data_offsets"] for t in head.values())
    ok(n % 8 == 0 and ends[0][0] == 0 and ends[-1][1] == len(data) and all(a[1] == b[0] for a, b in zip(ends, ends[1:])), "which is whole, its numbers aligned")
    return {k: (t["shape"], struct.unpack("<%df" % ((t["data_offsets"][1] - t["data_offsets"][0]) // 4), data[slice(*t["data_offsets"])])) for k, t in head.items()}


def bad(r, rc, words, name):
    ok(r.returncode == rc and r.stdout == "" and r.stderr.startswith("taut: ") and r.stderr.count("\n") == 1 and all(w in r.stderr for w in words),
       "%s: %d %s" % (name, r.returncode, r.stderr.strip()))


class Search:
    def __init__(self, family, space, **more):
        self.family, self.dir = family, os.path.join(home, family)
        space = {"type": "lm", "depth": [2, 2], "width": [16], "ffn": {"swiglu": {"ratio": [1]}}, **space}
        if family != "none":
            space["family"] = family
        job = {"name": family, "data": {"train": "text.txt", "context": 32}, "space": space, "objectives": ["valid_loss", "params"], "train": {"batch": 2, "lr": 2e-2},
               "fidelity": {"tokens": 2560}, "budget": {"evaluations": 1}, **more}
        r = Run(write_json(os.path.join(home, family + ".json"), job), self.dir)
        same((r.wait(), r.stderr()), (0, ""), "a search in family %s" % family)
        self.said = r.stdout()
        self.base = os.path.join(home, family + "-base")
        same(taut("export", "1", "--dir", self.dir, "-o", self.base).returncode, 0, "its weights as they are")
        self.ours = tensors(os.path.join(self.base, "model.safetensors"))
        self.arch = json.load(open(os.path.join(self.base, "arch.json")))

    def export(self, *args, **more):
        return taut("export", "1", "--dir", self.dir, "--format", "hf", *args, **more)

    def check(self, name, want_files, model_type, config, *args):
        """The folder; its config has at least these keys."""
        self.out = os.path.join(home, "%s-%s" % (self.family, name))
        r = self.export("-o", self.out, "--json", *args)
        same((r.returncode, r.stderr), (0, ""), "export of %s as %s" % (self.family, name))
        x = json.loads(r.stdout)
        same((x["class"], sorted(os.path.basename(p) for p in x["files"])), (name, sorted(want_files)), "--json says what it wrote")
        same(sorted(os.listdir(self.out)), sorted(want_files + ["model.safetensors"]), "and no more than that")
        c = json.load(open(os.path.join(self.out, "config.json")))
        a = self.arch
        same((c["architectures"], c["model_type"], c["vocab_size"], c["hidden_size"], c["max_position_embeddings"], c["tie_word_embeddings"]),
             ([name], model_type, a["vocab"], a["width"], a["context"], a.get("tie_embeddings", True)), "config.json says whose it is")
        same({k: c.get(k, "missing") for k in config}, config, "and what the class asks for")
        same([c[k + "_token_id"] for k in ("bos", "eos", "pad")], [None] * 3, "no token means anything but its byte")
        self.theirs = tensors(os.path.join(self.out, "model.safetensors"))
        same(sum(len(t[1]) for t in self.theirs.values()), x["weights"]["params"], "as many numbers as it says")

    def renamed(self, names):
        """Ours under their names, by regular expressions; a name without one stays."""
        out = {}
        for k, v in self.ours.items():
            for a, b in names:
                k, n = re.subn("^%s$" % a, b, k)
                if n:
                    break
            out[k] = v
        same(self.theirs, out, "the tensors are ours, under their names")


FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
OWN = FILES + ["configuration_taut.py", "modeling_taut.py"]
ATTENDS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32}
LLAMA = {"num_hidden_layers": 2, **ATTENDS, "rms_norm_eps": 1e-5, "rope_theta": 500, "rope_parameters": {"rope_type": "default", "rope_theta": 500}}

# ---- llama ----

s = Search("llama", {"mixer": {"attention": {**ATTENTION, "window": [0, 8]}, "none": {}}, "tie_embeddings": [False], "rope_theta": [500]})
ok("family 'llama' takes away: every layer has the same mixer; every layer has the same ffn; " in s.said and "attention.window is 0 (not 8); " in s.said
   and "no mixer 'none'; " in s.said, "run says what the family takes away")
s.check("LlamaForCausalLM", FILES, "llama", {**LLAMA, "attention_bias": False, "mlp_bias": False})
s.renamed([])
r = taut("space", os.path.join(home, "llama.json"), "--json")
ok("attention.window is 0 (not 8)" in json.loads(r.stdout)["taken"], "space says it as well")

t = json.load(open(os.path.join(s.out, "tokenizer.json")))
v = t["model"]["vocab"]
same((t["model"]["type"], t["model"]["merges"], sorted(v.values())), ("BPE", [], list(range(256))), "the tokenizer has a token for each byte")
ok(all(v[chr(b)] == b for b in range(33, 127)) and v["Ġ"] == 32 and v["Ċ"] == 10 and v["Ā"] == 0 and v["ÿ"] == 255 and v["Ń"] == 173 and v["ł"] == 160, "its id is the byte")
same(json.load(open(os.path.join(s.out, "tokenizer_config.json")))["model_max_length"], 32, "its longest text is the context")

stamp = {f: os.stat(os.path.join(s.out, f)).st_ino for f in os.listdir(s.out)}
same(s.export("-o", s.out).returncode, 0, "once more")
same({f: os.stat(os.path.join(s.out, f)).st_ino for f in os.listdir(s.out)}, stamp, "leaves what is the same alone")
bad(s.export("-o", s.out, "--family", "any"), 2, ["config.json", "there already", "--force"], "another family's files are not replaced")
same({f: os.stat(os.path.join(s.out, f)).st_ino for f in os.listdir(s.out)}, stamp, "nor any of them")
bad(s.export("-o", s.out + "2", "--family", "lama"), 2, ["lama", "llama"], "a family nobody knows")
bad(s.export("-o", s.out + "2", "--family", "qwen3"), 2, ["trial 1", "layers[0].mixer.qk_norm", "'qwen3' holds true only", "--family any"], "a family that does not hold it")
bad(taut("export", "1", "--dir", s.dir, "--family", "llama"), 2, ["--family", "--format hf"], "a family without the format")
ok(not os.path.exists(s.out + "2"), "and nothing is made")
s.check("TautForCausalLM", OWN, "taut", {"arch": s.arch, "norm_eps": 1e-5, "auto_map": {"AutoConfig": "configuration_taut.TautConfig",
                                                                                       "AutoModelForCausalLM": "modeling_taut.TautForCausalLM"}}, "--family", "any")
s.renamed([])
src = os.path.join(os.environ.get("TAUT_SRC", "."), "cli/hf")
for f in ("configuration_taut.py", "modeling_taut.py"):
    text = open(os.path.join(s.out, f)).read()
    same(text, open(os.path.join(src, f)).read(), "%s is the one of this version" % f)
    compile(text, f, "exec")
r = s.export("--family", "any", cwd=home)
ok(r.returncode == 0 and "--family llama" in r.stdout and sorted(os.listdir(os.path.join(home, "trial-1-hf"))) == sorted(OWN + ["model.safetensors"]),
   "without -o: a folder trial-N-hf; and it says that a class holds it")

# ---- qwen3 ----

s = Search("qwen3", {"mixer": {"attention": ATTENTION}, "rope_theta": [500]})
s.check("Qwen3ForCausalLM", FILES, "qwen3", LLAMA)
s.renamed([])
ok("model.layers.1.self_attn.q_norm.weight" in s.theirs and "lm_head.weight" not in s.theirs, "with norms of q and k; a tied head is not written twice")

# ---- lfm2 ----

s = Search("lfm2", {"depth": [4, 4], "mixer": {"attention": ATTENTION, "short_conv": {"conv": [4]}}, "rope_theta": [500]})
kinds = [l["mixer"]["type"] for l in s.arch["layers"]]
same(sorted(set(kinds)), ["attention", "short_conv"], "both types of mixers")
s.check("Lfm2ForCausalLM", FILES, "lfm2", {**ATTENDS, "num_hidden_layers": 4, "layer_types": ["conv" if k == "short_conv" else "full_attention" for k in kinds], "conv_L_cache": 4,
                                            "conv_bias": False, "block_auto_adjust_ff_dim": False, "norm_eps": 1e-5, "rope_theta": 500})
s.renamed([(r"model\.norm\.weight", "model.embedding_norm.weight"), (r"(.*)\.input_layernorm\.weight", r"\1.operator_norm.weight"),
           (r"(.*)\.post_attention_layernorm\.weight", r"\1.ffn_norm.weight"), (r"(.*)\.self_attn\.o_proj\.weight", r"\1.self_attn.out_proj.weight"),
           (r"(.*)\.self_attn\.([qk])_norm\.weight", r"\1.self_attn.\2_layernorm.weight"), (r"(.*)\.mlp\.gate_proj\.weight", r"\1.feed_forward.w1.weight"),
           (r"(.*)\.mlp\.up_proj\.weight", r"\1.feed_forward.w3.weight"), (r"(.*)\.mlp\.down_proj\.weight", r"\1.feed_forward.w2.weight")])

# ---- granite_hybrid: matrices joined, experts for each expert ----

MAMBA = {"expand": [2], "head_dim": [8], "state": [8], "groups": [2]}
s = Search("granite_hybrid", {"depth": [4, 4], "mixer": {"attention": ATTENTION, "mamba2": MAMBA}, "ffn": {"moe": {"experts": [3], "active": [2], "ratio": [1], "shared": [0]}}})
kinds = [l["mixer"]["type"] for l in s.arch["layers"]]
same(sorted(set(kinds)), ["attention", "mamba2"], "both types of mixers")
s.check("GraniteMoeHybridForCausalLM", FILES, "granitemoehybrid", {
    **ATTENDS, "num_hidden_layers": 4, "layer_types": ["linear_attention" if k == "mamba2" else "full_attention" for k in kinds], "position_embedding_type": "rope",
    "attention_multiplier": 1 / math.sqrt(8), "num_local_experts": 3, "num_experts_per_tok": 2, "shared_intermediate_size": 0, "mamba_expand": 2, "mamba_d_head": 8, "mamba_n_heads": 4,
    "mamba_n_groups": 2, "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_conv_bias": True, "mamba_proj_bias": False})
for i in range(4):
    gate, up = (s.ours["model.layers.%d.mlp.experts.%s_proj" % (i, n)] for n in ("gate", "up"))
    n = 32 * 16
    same(s.theirs["model.layers.%d.block_sparse_moe.experts.gate_up_proj" % i],
         ([3, 64, 16], sum((gate[1][e * n:(e + 1) * n] + up[1][e * n:(e + 1) * n] for e in range(3)), ())), "layer %d: each expert's gate, then its up" % i)
    same(s.theirs["model.layers.%d.shared_mlp.input_linear.weight" % i], ([0, 16], ()), "and shared experts of no width")

# ---- nemotron_h: each part a block ----

s = Search("nemotron_h", {"depth": [4, 4], "mixer": {"attention": ATTENTION, "mamba2": MAMBA}, "ffn": {"mlp": {"ratio": [1]}, "none": {}}})
parts = [(i, l[r]["type"], r) for i, l in enumerate(s.arch["layers"]) for r in ("mixer", "ffn") if l[r]["type"] != "none"]
word = {"attention": "full_attention", "mamba2": "linear_attention", "mlp": "mlp"}
s.check("NemotronHForCausalLM", FILES, "nemotron_h", {"layers_block_type": [word[t] for _, t, _ in parts], "mlp_hidden_act": "relu2", "use_cache": True, "mamba_num_heads": 4, "conv_kernel": 4})
s.renamed([(r"model\.embed_tokens\.weight", "model.embeddings.weight"), (r"model\.norm\.weight", "model.norm_f.weight")] +
          [(r"model\.layers\.%d\.%s_layernorm\.weight" % (i, "input" if r == "mixer" else "post_attention"), "model.layers.%d.norm.weight" % b) for b, (i, t, r) in enumerate(parts)] +
          [(r"model\.layers\.%d\.%s\.(.*)" % (i, {"attention": "self_attn", "mamba2": "mamba", "mlp": "mlp"}[t]), r"model.layers.%d.mixer.\1" % b) for b, (i, t, r) in enumerate(parts)])

# ---- qwen3_next: rows by key head, taps one below the other, norms around 0 ----

DELTA = {"heads": [4], "key_ratio": [2], "head_dim": [2], "value_dim": [3], "conv": [3]}
s = Search("qwen3_next", {"depth": [5, 5], "mixer": {"attention": {**ATTENTION, "head_dim": [44], "rope_dim": [30]}, "gated_delta": DELTA},
                          "ffn": {"swiglu": {"ratio": [1]}, "moe": {"experts": [3], "active": [2], "ratio": [1], "shared": [2]}}, "rope_theta": [500]})
kinds = [tuple(l[r]["type"] for r in ("mixer", "ffn")) for l in s.arch["layers"]]
same(sorted({t for k in kinds for t in k}), ["attention", "gated_delta", "moe", "swiglu"], "every type")
s.check("Qwen3NextForCausalLM", FILES, "qwen3_next", {
    **ATTENDS, "head_dim": 44, "num_hidden_layers": 5, "layer_types": ["linear_attention" if m == "gated_delta" else "full_attention" for m, _ in kinds],
    "rms_norm_eps": 1e-5, "attention_bias": False, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 2, "linear_value_head_dim": 3,
    "linear_conv_kernel_dim": 3, "mlp_only_layers": [i for i, (_, f) in enumerate(kinds) if f == "swiglu"], "decoder_sparse_step": 1, "num_experts": 3, "num_experts_per_tok": 2,
    "norm_topk_prob": True, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64})
rope = json.load(open(os.path.join(s.out, "config.json")))["rope_parameters"]
same((rope["rope_theta"], int(44 * rope["partial_rotary_factor"])), (500, 30), "RoPE on part of each head, as the class counts them")
rest = dict(s.theirs)
less = lambda t: (t[0], struct.unpack("<%df" % len(t[1]), struct.pack("<%df" % len(t[1]), *[x - 1 for x in t[1]])))
for i, (mixer, ffn) in enumerate(kinds):
    at = "model.layers.%d." % i
    ours = {k[len(at):]: v for k, v in s.ours.items() if k.startswith(at)}
    same(all(rest.pop(at + n) == less(ours[n]) for n in ours if n.endswith(("layernorm.weight", "q_norm.weight", "k_norm.weight"))), True, "layer %d: norms less 1" % i)
    if mixer == "gated_delta":
        row = lambda name, r: ours["linear_attn." + name][1][r * 16:(r + 1) * 16]
        rows = [row("in_proj_" + n, r) for g in range(2) for n, k in (("q.weight", 2), ("k.weight", 2), ("v.weight", 6), ("z.weight", 6)) for r in range(g * k, (g + 1) * k)]
        same(rest.pop(at + "linear_attn.in_proj_qkvz.weight"), ([32, 16], sum(rows, ())), "q, k, v, z of a key head, then of the next")
        rows = [row("in_proj_" + n + ".weight", r) for g in range(2) for n in "ba" for r in range(g * 2, (g + 1) * 2)]
        same(rest.pop(at + "linear_attn.in_proj_ba.weight"), ([8, 16], sum(rows, ())), "b, a likewise")
        same(rest.pop(at + "linear_attn.conv1d.weight"), ([20, 1, 3], sum((ours["linear_attn.conv1d_%s.weight" % n][1] for n in "qkv"), ())), "taps of q, k, v")
        same([rest.pop(at + "linear_attn." + n) for n in ("A_log", "dt_bias", "norm.weight", "out_proj.weight")],
             [ours["linear_attn." + n] for n in ("A_log", "dt_bias", "norm.weight", "out_proj.weight")], "the rest, and the norm within, as they are")
    if ffn == "moe":
        gate, up, n = ours["mlp.experts.gate_proj"][1], ours["mlp.experts.up_proj"][1], 32 * 16
        same(rest.pop(at + "mlp.experts.gate_up_proj"), ([3, 64, 16], sum((gate[e * n:(e + 1) * n] + up[e * n:(e + 1) * n] for e in range(3)), ())), "each expert's gate, then its up")
        same([rest.pop(at + "mlp.shared_expert.%s_proj.weight" % n) for n in ("gate", "up", "down")],
             [ours["mlp.shared_experts.%s_proj.weight" % n] for n in ("gate", "up", "down")], "the shared expert")
same(rest.pop("model.norm.weight"), less(s.ours["model.norm.weight"]), "the last norm")
same(rest, {k: s.ours[k] for k in rest}, "what is left has its own name")

# ---- without a family; numbers in place of text ----

with open(os.path.join(home, "shard.bin"), "wb") as f:
    f.write(struct.pack("<4000H", *[i * i % 50 for i in range(4000)]))
s = Search("none", {"mixer": {"attention": {**ATTENTION, "window": [8]}}, "ffn": {"swiglu": {"ratio": [1], "rank": [4]}}},
           data={"train": "shard.bin", "tokenizer": {"vocab": 50}, "context": 32})
r = s.export("-o", os.path.join(home, "numbers"))
ok(r.returncode == 0 and "no tokenizer" in r.stdout and "trust_remote_code" in r.stdout and "--family" not in r.stdout, "a trial of shards: its own modelling file, and no tokenizer, which is said")
same(sorted(os.listdir(os.path.join(home, "numbers"))), sorted(["config.json", "generation_config.json", "configuration_taut.py", "modeling_taut.py", "model.safetensors"]), "nor written")
bad(s.export("-o", os.path.join(home, "no"), "--family", "llama"), 2, ["layers[0].mixer.window", "--family any"], "no llama")
bad(s.export("-o", os.path.join(home, "text.txt")), 2, ["text.txt"], "a folder in what is no folder")

done()
