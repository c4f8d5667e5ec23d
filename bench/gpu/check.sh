#!/bin/sh
# check.sh [--sanitize | --quick]: builds (bench/gpu/Makefile) and runs the CUDA device's ladder of tests, then its bench with PyTorch beside it where that is.
# O: where to build. Exit status: 0, 1 where a test or the build failed, 77 where there is no GPU.
mode=${1:-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
O=${O:-build-gpu} PYTHON3=${PYTHON3:-python3}
# looked for before anything is built: compiling for the card that is here needs one
if [ -z "${EMULATE:-}" ] && [ ! -e /dev/nvidiactl ] && ! nvidia-smi -L >/dev/null 2>&1; then
    echo "no GPU here: no /dev/nvidiactl, and nvidia-smi finds none"
    exit 77
fi
mkdir -p "$O"
if ! make -j "$(nproc)" -f "$TOP/bench/gpu/Makefile" O="$O" ${NVCC:+NVCC="$NVCC"} ${EMULATE:+EMULATE="$EMULATE"} build >"$O/build.log" 2>&1; then
    grep -n -i -A 4 error "$O/build.log" | head -n 20
    echo "the build failed; all of it: $O/build.log"
    exit 1
fi
why=$("$O/bench_gpu" --probe 2>&1 >/dev/null)
if [ $? -eq 77 ]; then echo "$why"; exit 77; fi
export CUDA_LAUNCH_BLOCKING=1 # the tests look at memory that host and device share as soon as an op returns
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pass=0 fail=0 broken=''

ladder() { # what to put before each program
    for t in "$O"/test_*; do
        case $t in *.d | *.o) continue ;; esac
        "$@" "$t" >"$work/log" 2>&1
        rc=$?
        ok=$(grep -c '^ok ' "$work/log") bad=$(grep -c '^not ok ' "$work/log")
        if [ $rc -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
        pass=$((pass + ok)) fail=$((fail + bad))
        printf '%-24s %5d passed%s\n' "$(basename "$t")" "$ok" "$([ "$bad" -gt 0 ] && echo ", $bad FAILED (exit status $rc)")"
        if [ "$bad" -gt 0 ]; then
            broken="$broken $(basename "$t")"
            { grep '^not ok' "$work/log" || tail -n 12 "$work/log"; } | head -n 12 | sed 's/^/    /'
        fi
    done
}

if [ "$mode" = --sanitize ]; then
    for tool in memcheck racecheck synccheck; do
        echo "== $tool"
        ladder compute-sanitizer --tool $tool --error-exitcode 9
    done
    echo "$pass passed, $fail failed"
    [ $fail -eq 0 ]
    exit
fi
ladder env
unset CUDA_LAUNCH_BLOCKING
[ "$mode" = --quick ] && quick=--quick || quick=''
"$O/bench_gpu" $quick --weights "$work" >"$work/own" || { echo "bench_gpu failed"; fail=$((fail + 1)); }
: >"$work/torch"
if [ -z "$quick" ] && "$PYTHON3" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    "$PYTHON3" "$TOP/bench/gpu/torch_gpu.py" "$work" "$TOP/cli/bench_torch.py" >"$work/torch" || echo "torch_gpu.py failed"
else
    echo "no torch with CUDA here: nothing to compare with"
fi
echo
awk -F '\t' -v torch="$work/torch" '
    BEGIN { while ((getline line < torch) > 0) { split(line, f, "\t"); peer[f[1]] = f[2] } }
    $1 == "device" { printf "%s, %s, %s\n%-26s %12s %-9s %6s %7s %12s %7s %7s\n", $2, $3, $4, "", "taut", "", "share", "wanted", "torch", "ratio", "wanted"; next }
    { want = $1 == "train.llama124m" ? 1.15 : $1 ~ /^train\./ ? 2 : $1 ~ /^attention/ ? 0.9 : ""
      ratio = $1 in peer && peer[$1] > 0 ? sprintf("%.2f", $3 == "us" || $3 == "ms" ? peer[$1] / $2 : $2 / peer[$1]) : ""
      printf "%-26s %12s %-9s %6s %7s %12s %7s %7s\n", $1, $2, $3, $4 == "-" ? "" : $4, $5 == "-" ? "" : $5, $1 in peer ? peer[$1] : "", ratio, ratio == "" ? "" : want }' "$work/own"
echo "$pass passed, $fail failed$([ -n "$broken" ] && echo ":$broken")"
[ $fail -eq 0 ]
