"""taut-evaluator on the GPU that is none (tests/cudahost): a trial of every sort of layer trained there, out of device memory, and a card that is lost in the middle of a step."""
import os
import sys

SRC = os.environ.get("TAUT_SRC", ".")
sys.path[:0] = [os.path.join(SRC, "tests/controller"), os.path.join(SRC, "tests/evaluator")]
import fake
from fake import BUILD, Fake, HANG, Worker, arch, finish, lease, prose, put, spec
from taut_wire import done, ok, same

CPU, CUDA = fake.EVALUATOR, os.path.join(BUILD, "tests/cudahost/taut-evaluator")
if not os.path.exists(CUDA):
    print("built without a C++ compiler: no device to test")
    sys.exit(77)
put("text.txt", prose(20000))
DATA = spec(fake.path("text.txt"))
STEPS = 6
SMALL = arch(16, layers=[
    {"mixer": {"type": "attention", "heads": 2, "kv_heads": 1, "head_dim": 8}, "ffn": {"type": "swiglu", "hidden": 24}},
    {"mixer": {"type": "mamba2", "expand": 2, "head_dim": 8, "state": 8}, "ffn": {"type": "moe", "experts": 4, "active": 2, "hidden": 16}}])


def trial(program, *args, env=None, metrics=("valid_bpb",), leases=1, dies=False):
    """What an evaluator reports of so many leases, its log, how it ended."""
    fake.EVALUATOR = program
    f = Fake()
    w = Worker(f, *args, env=env, work="work-%d" % trial.n)
    trial.n += 1
    r = f.registers.get(timeout=HANG)
    reports = []
    for i in range(leases):
        f.leases.put(lease(i + 1, DATA, steps=STEPS, metrics=metrics, arch=SMALL))
        if dies:
            break
        reports.append(f.reported())
    else:
        w.p.terminate()
    rc = w.end()
    if dies and not f.reports.empty():
        reports.append(f.reported())
    f.down()
    return r, reports, w.said(), rc


trial.n = 0
_, own, _, _ = trial(CPU)
cpu = own[0]["metrics"]["valid_bpb"]
r, reports, said, rc = trial(CUDA, "--device", "cuda:0", metrics=("valid_bpb", "train_bytes"), leases=2)
same((r["device"]["kind"], r["device"]["isa"], r["device"]["precisions"]), ("cuda", "sm_90", ["bf16", "f32"]), "it says that it is a GPU")
same([x["status"] for x in reports], ["ok", "ok"], "trials are trained on it")
bpb = [x["metrics"]["valid_bpb"] for x in reports]
ok(bpb[0] == bpb[1], "to the same bits, twice")
ok(abs(bpb[0] - cpu) < 1e-3, "to what the CPU trains: %.5f, %.5f" % (bpb[0], cpu))
ok(reports[0]["metrics"]["train_bytes"] > 0, "its memory is counted")
same(rc, 0, "and it ends when told to")

_, reports, said, rc = trial(CUDA, "--device", "cuda:0", env={"CUDAHOST_FAIL": "cudaGraphLaunch:2:700"}, dies=True)
same((reports, rc), ([], 1), "a card lost in the middle of a step: nothing is said of the trial, which the closed connection gives back, and the evaluator leaves")
ok("cuda:0 is lost" in said and "Start the evaluator again" in said, "and says why: %s" % said.strip().splitlines()[-1:])
_, reports, said, rc = trial(CUDA, "--device", "cuda:0")
same((reports[0]["status"], reports[0]["metrics"]["valid_bpb"], rc), ("ok", bpb[0], 0), "another one trains it to the same bits")

_, reports, said, rc = trial(CUDA, "--device", "cuda:0", env={"CUDAHOST_FAIL": "cudaMalloc:4:2"}, leases=2)
same(([x["status"] for x in reports], rc), (["failed", "ok"], 0), "out of device memory: that trial's failure, and the next one is trained")
ok("memory" in reports[0]["error"], "which says so: %s" % reports[0]["error"])

nvml = {"TAUT_NVML": os.path.join(BUILD, "tests/evaluator/fake_nvml.so"), "FAKE_NVML": "300 1000 1755 61 2"}
if not nvml["TAUT_NVML"].startswith("/"):
    nvml["TAUT_NVML"] = os.path.abspath(nvml["TAUT_NVML"])
r, reports, said, rc = trial(CUDA, "--device", "cuda:0", env=nvml, metrics=("train_joules", "decode_ms@16"))
m = reports[0]["metrics"]
ok("train_joules" in r["provides"] and m["train_joules"] > 0, "energy is the card's own: %.1f J" % m["train_joules"])
same((m["decode_ms@16"]["disturbed"], m["decode_ms@16"]["converged"]), (1, False), "a clock under 75 % of its default, others on the card: every sample was disturbed, and that is said")
ok("GPU at 1000 of 1755 MHz, 61 C, 300 W, driver 580.65.06" in said and "2 other processes on the GPU" in said, "and in the log, with the card's state")
finish()
done()
