#!/usr/bin/env python3
"""make check-hf: against Hugging Face transformers, live. TAP.

Golden numbers: every generator of tests/golden is run again, and what it writes compared with what is kept. Families: a short search in each, every trial
exported, loaded by its class and by its own modelling file, logits compared with Taut's; tokenizer; generation.

TAUT_HF_PYTHON names a python3 that has torch, transformers, safetensors and numpy. Without it one is made in the build folder (hf-venv) by pip.
Arguments: families to look at ("golden": the golden numbers); all by default.
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

BUILD, SRC = os.environ["TAUT_BUILD"], os.environ["TAUT_SRC"]
NEEDS = ["torch", "transformers", "safetensors", "numpy"]


def right_python():
    """Goes on in a python that has what is needed."""
    if os.environ.get("TAUT_HF_INSIDE"):
        return
    python = os.environ.get("TAUT_HF_PYTHON")
    if not python:
        venv = os.path.join(BUILD, "hf-venv")
        python = os.path.join(venv, "bin", "python3")
        if not os.path.exists(os.path.join(venv, "ready")):
            print("# making", venv, flush=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDS], check=True)
            open(os.path.join(venv, "ready"), "w").close()
    # what is loaded lies in folders of our own, and so does the copy that transformers makes of a modelling file
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "TAUT_HF_INSIDE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "HF_HOME": home, "TAUT_LOCKS": os.path.join(home, "locks")}
        sys.exit(subprocess.run([python, os.path.abspath(__file__), *sys.argv[1:]], env=env).returncode)


right_python()

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
torch.set_num_threads(1)
count = failures = 0


def ok(good, what, detail=""):
    global count, failures
    count += 1
    failures += not good
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    if not good and detail:
        print("#", str(detail)[-2000:].replace("\n", "\n# "), flush=True)
    return good


def apart(got, want):
    """Largest difference over the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)) if want.size else 0.0


# ---- golden numbers ----

def golden():
    for maker in sorted(glob.glob(f"{SRC}/tests/golden/make_*.py")):
        name = os.path.basename(maker)
        with tempfile.TemporaryDirectory() as tmp:
            for f in glob.glob(f"{SRC}/tests/golden/*.py"):
                shutil.copy(f, tmp)
            run = subprocess.run([sys.executable, os.path.join(tmp, name)], capture_output=True, text=True)
            if not ok(run.returncode == 0, f"{name} runs", run.stderr):
                continue
            made = sorted(glob.glob(f"{tmp}/*.safetensors"))
            ok(made, f"{name} makes something")
            for path in made:
                kept = os.path.join(SRC, "tests/golden", os.path.basename(path))
                if not ok(os.path.exists(kept), f"{os.path.basename(path)} is kept"):
                    continue
                new, old = load_file(path), load_file(kept)
                worst = max((apart(new[k], old[k]), k) for k in new) if new.keys() == old.keys() else (float("inf"), "names")
                ok(worst[0] < 1e-5, f"{name}: {os.path.basename(path)}: {len(new)} tensors, apart by {worst[0]:.1e}", worst[1])


# ---- families ----

TRIALS = {"any": 8}  # elsewhere 4
MAMBA = {"expand": [1, 2], "head_dim": [8, 16], "state": [8, 16], "conv": [3, 4], "groups": [1, 2]}
ATTENTION = {"heads": [4], "kv_ratio": [1, 2], "head_dim": [8]}
DELTA = {"heads": [4], "key_ratio": [1, 2], "head_dim": [8], "value_dim": [8, 12], "conv": [1, 2, 4]}
SPACES = {
    "llama": {"mixer": {"attention": ATTENTION}, "ffn": {"swiglu": {"ratio": [1, 2]}}, "tie_embeddings": [True, False], "rope_theta": [500]},
    "qwen3": {"mixer": {"attention": ATTENTION}, "ffn": {"swiglu": {"ratio": [1, 2]}}, "tie_embeddings": [True, False]},
    "lfm2": {"mixer": {"attention": ATTENTION, "short_conv": {"conv": [2, 3, 4]}}, "ffn": {"swiglu": {"ratio": [1, 2]}}, "tie_embeddings": [True, False]},
    "granite_hybrid": {"mixer": {"attention": ATTENTION | {"rope": [True, False]}, "mamba2": MAMBA}, "ffn": {"swiglu": {"ratio": [1, 2]}},
                       "tie_embeddings": [True, False]},
    "granite_hybrid/moe": {"mixer": {"attention": ATTENTION, "mamba2": MAMBA}, "ffn": {"moe": {"experts": [4], "active": [2], "ratio": [1], "shared": [0, 1]}}},
    "nemotron_h": {"mixer": {"attention": ATTENTION, "mamba2": MAMBA, "none": {}},
                   "ffn": {"mlp": {"ratio": [1, 2]}, "moe": {"experts": [4], "active": [1, 2], "ratio": [1], "shared": [1, 2]}, "none": {}}},
    "qwen3_next": {"mixer": {"attention": ATTENTION | {"rope_dim": [0, 4, 6]}, "gated_delta": DELTA},
                   "ffn": {"swiglu": {"ratio": [1, 2]}, "moe": {"experts": [4], "active": [1, 2], "ratio": [1], "shared": [1, 2]}}, "tie_embeddings": [True, False]},
    "any": {"norm": ["rms", "layer"], "bias": [False, True], "mixer": {"attention": ATTENTION | {"window": [0, 7], "rope": [True, False], "qk_norm": [False, True], "gate": [False, True], "rope_dim": [0, 4], "share_kv": [False, True]},
                      "gated_delta": DELTA, "linear": {"heads": [2, 4], "head_dim": [8], "value_dim": [8, 12], "gate_rank": [4, 16]},
                      "short_conv": {"conv": [1, 3]}, "mamba2": MAMBA,
                      "mla": {"heads": [1, 4], "kv_rank": [6, 16], "rope_dim": [4], "head_dim": [8], "q_rank": [0, 5]}, "none": {}}, "ffn": {"swiglu": {"ratio": [1, 2], "rank": [0, 5]}, "mlp": {"ratio": [1], "act": ["relu2", "gelu"]}, "none": {},
                    "moe": {"experts": [1, 4], "active": [1, 2], "ratio": [1], "shared": [0, 1], "router": ["softmax", "sigmoid"], "act": ["swiglu", "relu2"], "shared_gate": [False, True]}},
            "tie_embeddings": [True, False]},
}


def taut(*args):
    run = subprocess.run([f"{BUILD}/taut", *args], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"taut {' '.join(args)}: {run.stderr}")
    return run.stdout


def taut_logits(base, tokens):
    out = subprocess.run([f"{BUILD}/tests/hf/logits", f"{base}/arch.json", f"{base}/model.safetensors", *map(str, tokens)], capture_output=True, text=True, check=True).stdout
    return np.array([[float(x) for x in line.split()] for line in out.splitlines()])


def check_model(folder, want, tokens, what):
    model, info = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True, dtype=torch.float32)
    model.eval()
    bad = {k: v for k, v in info.items() if v}
    ok(not bad, f"{what}: {type(model).__name__} takes every tensor, and nothing is missing", bad)
    with torch.no_grad():
        error = apart(model(input_ids=torch.tensor([tokens])).logits[0].numpy(), want)
        ok(error < 1e-4, f"{what}: logits apart by {error:.1e}")
        made = model.generate(torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens), dtype=torch.long), max_new_tokens=8, do_sample=False, pad_token_id=0)
        again = tokens + [int(model(input_ids=made[:, :n]).logits[0, -1].argmax()) for n in range(len(tokens), made.shape[1])]
    ok(made[0].tolist() == again, f"{what}: generates what its logits say", (made[0].tolist(), again))
    return error


def check_tokenizer(folder, what):
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    texts = ["", "Hello, world!\n", "  two  spaces\tand a tab", "naïve café 日本語 🙂", "def f(x):\n    return x  # \\u0000 \x00\x7f", "e\u0301 \u200b\ufeff"]
    bad = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if ids != list(text.encode()) or tokenizer.decode(ids) != text:
            bad.append((text, ids, tokenizer.decode(ids)))
    ok(not bad and len(tokenizer) == 256, f"{what}: {type(tokenizer).__name__}: ids are bytes, and texts come back", bad)


def family(name):
    trials = TRIALS.get(name, 4)
    with tempfile.TemporaryDirectory() as tmp:
        with open(f"{tmp}/corpus.txt", "w") as f:
            f.write("".join(open(p, errors="replace").read() for p in sorted(glob.glob(f"{SRC}/docs/*.md")))[:100000])
        job = {"data": {"train": "corpus.txt", "context": 48}, "space": {"type": "lm", "depth": [4, 6], "width": [32, 64], "family": name.split("/")[0], **SPACES[name]}, "objectives": ["valid_bpb", "params"],
               "train": {"batch": 4}, "fidelity": {"tokens": 12000}, "budget": {"evaluations": trials}}
        with open(f"{tmp}/job.json", "w") as f:
            json.dump(job, f)
        taut("run", f"{tmp}/job.json", "--dir", f"{tmp}/d", "-q")
        seen, worst = set(), 0.0
        tokens = torch.randint(256, (40,), generator=torch.Generator().manual_seed(3)).tolist()
        for trial in range(1, trials + 1):
            at, base = ["--dir", f"{tmp}/d"], f"{tmp}/base{trial}"
            taut("export", str(trial), *at, "-o", base)
            arch = json.load(open(f"{base}/arch.json"))
            seen |= {layer[role]["type"] for layer in arch["layers"] for role in layer}
            want = taut_logits(base, tokens)
            made = json.loads(taut("export", str(trial), *at, "--format", "hf", "-o", f"{tmp}/hf{trial}", "--json"))
            ok(made["family"] == name.split("/")[0], f"{name}: trial {trial} is exported as its job's family")
            worst = max(worst, check_model(f"{tmp}/hf{trial}", want, tokens, f"{name}: trial {trial}"))
            if name != "any":
                taut("export", str(trial), *at, "--format", "hf", "--family", "any", "-o", f"{tmp}/any{trial}")
                check_model(f"{tmp}/any{trial}", want, tokens, f"{name}: trial {trial} by its own file")
        offered = set(job["space"]["mixer"]) | set(job["space"]["ffn"])
        ok(seen == offered, f"{name}: every type was among them", (seen, offered))
        check_tokenizer(f"{tmp}/hf1", name)
        print(f"# {name}: worst logits apart by {worst:.1e}", flush=True)


chosen = sys.argv[1:] or ["golden", *SPACES]
for what in chosen:
    golden() if what == "golden" else family(what)
print(f"1..{count}")
sys.exit(failures > 0)
