"""check-gpu on the GPU that is none: its Makefile's list against the tree, and its bench, small."""
import glob
import os
import subprocess
import sys

SRC, BUILD = os.environ.get("TAUT_SRC", "."), os.environ.get("TAUT_BUILD", ".")
sys.path.insert(0, os.path.join(SRC, "tests/controller"))
from taut_wire import done, ok, same

r = subprocess.run(["make", "-s", "-f", os.path.join(os.path.abspath(SRC), "bench/gpu/Makefile"), "list", "EMULATE=1"], capture_output=True, text=True)
listed = set(r.stdout.split())
tree = {os.path.relpath(f, SRC) for p in ("base/*.c", "kernels/*.c", "kernels/ref/*.c", "kernels/cpu/*.c", "kernels/cuda/*.cu", "model/*.c", "searchspace/families/*.c", "tests/kernels/test_*.c")
        for f in glob.glob(os.path.join(SRC, p))}
# JSON's reader; the CPU alone; and of searchspace/ what reads no JSON, which the bench links or does not
left_out = {"base/json.c", "tests/kernels/test_device.c", "tests/kernels/test_limits.c", "tests/kernels/test_ref.c"}
same(sorted(tree - listed - left_out), [], "bench/gpu/Makefile lists every file that there is")
same(sorted(f for f in listed if not os.path.exists(os.path.join(SRC, f))), [], "and none that is not there")

bench = os.path.join(BUILD, "tests/cudahost/bench_gpu")
if os.path.exists(bench):
    r = subprocess.run([bench, "--quick"], capture_output=True, text=True)
    rows = [line.split("\t") for line in r.stdout.splitlines()]
    same((r.returncode, r.stderr, {len(x) for x in rows}), (0, "", {5}), "the bench runs, a line each")
    names = [x[0] for x in rows]
    ok(names[0] == "device" and rows[0][1] == "cudahost" and len(set(names)) == len(names) and
       {"limit.copy", "rmsnorm", "adamw", "attention.k64.t64", "attention_bwd.k128.t64", "ssd.bf16", "gla_bwd.bf16", "train.llama124m", "train.experts", "decode.llama124m.int8"} <= set(names),
       "of the card, and of every part")
    ok(all(float(x[1]) > 0 for x in rows[1:]), "with a figure")
    r = subprocess.run([bench, "--quick", "decode"], capture_output=True, text=True)
    same(sorted({x.split(".")[0] for x in r.stdout.split() if x.startswith(("decode.", "train.", "attention."))}), ["decode"], "a part alone")
    r = subprocess.run([bench], capture_output=True, text=True, env=dict(os.environ, CUDAHOST_CARD="0:9:13000"))
    same((r.returncode, r.stderr), (77, "no GPU to measure: NVIDIA's driver sees no GPU (CUDA_VISIBLE_DEVICES may hide it)\n"), "no GPU: said, and exit status 77")
done()
