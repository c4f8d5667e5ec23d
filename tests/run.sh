#!/bin/sh
# run.sh PROGRAM...: runs TAP programs (built, or *.sh / *.py beside the sources), shows what failed, ends with "N passed, N failed".
# A program that exits non-zero without a failed line, or whose plan does not match, counts as one failure. Exit 77: skipped.
pass=0; fail=0; skip=0
log=$(mktemp)
# what else runs on this machine neither waits for the tests nor is waited for
TAUT_LOCKS=$(mktemp -d); export TAUT_LOCKS
trap 'rm -rf "$log" "$TAUT_LOCKS"' EXIT
for t in "$@"; do
    p=$TAUT_BUILD/$t
    [ -f "$p" ] || p=$TAUT_SRC/$t
    case $t in
    *.py) "${PYTHON3:-python3}" "$p" >"$log" 2>&1 ;;
    *.sh) sh "$p" >"$log" 2>&1 ;;
    *) "$p" >"$log" 2>&1 ;;
    esac
    rc=$?
    if [ $rc -eq 77 ]; then
        skip=$((skip + 1)); printf '%-44s skipped: %s\n' "$t" "$(tail -n 1 "$log")"; continue
    fi
    ok=$(grep -c '^ok ' "$log"); bad=$(grep -c '^not ok ' "$log"); sk=$(grep -c '^ok .*# SKIP' "$log")
    plan=$(sed -n 's/^1\.\.\([0-9][0-9]*\).*/\1/p' "$log" | tail -n 1)
    if [ $bad -eq 0 ] && { [ $rc -ne 0 ] || [ "${plan:--1}" -ne $((ok + bad)) ]; }; then
        bad=1; crash=1
    else
        crash=
    fi
    ok=$((ok - sk)); pass=$((pass + ok)); fail=$((fail + bad)); skip=$((skip + sk))
    printf '%-44s %5d passed%s\n' "$t" "$ok" "$([ $bad -gt 0 ] && printf ', %d FAILED' "$bad")"
    if [ $bad -gt 0 ]; then
        if [ -n "$crash" ]; then
            printf '    exit status %d, plan %s, last lines:\n' $rc "${plan:-none}"; tail -n 30 "$log" | sed 's/^/    /'
        else
            grep -A3 '^not ok' "$log" | head -n 60 | sed 's/^/    /'
        fi
    fi
done
if [ $skip -gt 0 ]; then printf '%d passed, %d failed, %d skipped\n' $pass $fail $skip
else printf '%d passed, %d failed\n' $pass $fail; fi
[ $fail -eq 0 ] && [ $pass -gt 0 ]
