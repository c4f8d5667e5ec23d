#!/bin/sh
# Which room may include which (docs: the house's table). TAP.
#
# What a room may include brings along what that room may include in turn: a header of model/ shows tensors of kernels/.
# Besides: jansson stays out of kernels/, model/ and all of base/ but its JSON reader, directly and through other headers;
# sqlite3.h belongs to db/; uv.h to wire/ and the three programs.
src=${TAUT_SRC:-.}
rooms='base kernels searchspace wire model db proxies controller evaluator cli'

# violations DIR: one line for each, "room: file: what".
violations() {
    (cd "$1" && for r in $rooms; do
        [ -d "$r" ] && find "$r" -type f \( -name '*.c' -o -name '*.h' -o -name '*.def' -o -name '*.cu' -o -name '*.cuh' \)
    done | LC_ALL=C sort | while IFS= read -r f; do
        sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\([<"]\)\([^>"]*\)[>"].*/\1 \2/p' "$f" | sed "s|^|$f |"
    done) | LC_ALL=C awk '
    function fail(file, what) { split(file, part, "/"); print part[1] ": " file ": " what }
    function allow(room, list,   n, a, i, b) {
        may[room, room] = may[room, "base"] = 1
        n = split(list, a, " ")
        for (i = 1; i <= n; i++) {
            may[room, a[i]] = 1
            for (b in known) if (may[a[i], b]) may[room, b] = 1
        }
        known[room] = 1
    }
    # Whether file reaches jansson through quoted includes; remembers the way in via[].
    function reaches(file,   n, a, i) {
        if (file in seen) return seen[file]
        seen[file] = 0
        n = split(quoted[file], a, " ")
        if (bare_jansson[file]) { via[file] = "jansson.h"; return seen[file] = 1 }
        for (i = 1; i <= n; i++) if (reaches(a[i])) { via[file] = a[i]; return seen[file] = 1 }
        return 0
    }
    BEGIN {
        # in the order of the floors, each after what it names
        allow("base", ""); allow("kernels", ""); allow("searchspace", ""); allow("wire", "")
        allow("model", "kernels searchspace"); allow("db", "searchspace"); allow("proxies", "model")
        allow("controller", "db wire searchspace"); allow("evaluator", "proxies model wire")
        allow("cli", "wire searchspace kernels model evaluator")
    }
    {
        file = $1; kind = $2; name = $3
        split(file, part, "/"); room = part[1]
        files[file] = 1
        if (name ~ /\.\./) fail(file, "climbs: " name)
        if (name == "sqlite3.h" && room != "db") fail(file, "sqlite3.h")
        if (name == "sqlite3ext.h" && room != "db") fail(file, "sqlite3ext.h")
        if (name == "uv.h" && room !~ /^(wire|controller|evaluator|cli)$/) fail(file, "uv.h")
        if (name == "jansson.h") bare_jansson[file] = 1
        if (kind == "\"" && name != "config.h") {
            if (name !~ /\//) { dir = file; sub(/[^\/]*$/, "", dir); name = dir name }
            quoted[file] = quoted[file] " " name
            split(name, to, "/")
            if (!may[room, to[1]]) fail(file, name)
        }
    }
    END {
        for (file in files) {
            split(file, part, "/")
            apart = part[1] == "kernels" || part[1] == "model" || (part[1] == "base" && file !~ /^base\/json\.[ch]$/)
            if (apart && reaches(file)) fail(file, "jansson by way of " via[file])
        }
    }' | LC_ALL=C sort -u
}

n=0
bad=0
result() { # result STATUS TEXT
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; bad=1; fi
}

# The check itself first: a small house with one wrong include of each sort.
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
for r in $rooms; do mkdir "$t/$r"; done
echo '#include <jansson.h>' >"$t/base/json.h"
echo '#include "base/json.h"' >"$t/searchspace/arch_json.h"
echo '#include "model/model.h"' >"$t/evaluator/fine.c"
echo '#include "kernels/device.h"' >>"$t/evaluator/fine.c"
echo '#include <uv.h>' >"$t/wire/fine.c"
echo '#include <sqlite3.h>' >"$t/db/fine.c"
echo '#include "base/json.h"' >"$t/base/log.c"
echo '#include "searchspace/arch_json.h"' >"$t/model/stack.c"
echo '  #  include "searchspace/arch.h"' >"$t/kernels/gemm.c"
echo '#include "db/db.h"' >"$t/cli/front.c"
echo '#include <sqlite3.h>' >"$t/controller/server.c"
echo '#include <uv.h>' >"$t/proxies/synflow.c"
echo '#include "../db/db.h"' >"$t/wire/rpc.c"
echo '#include "tests/tap.h"' >"$t/db/trial.c"
want='base: base/log.c: jansson by way of base/json.h
cli: cli/front.c: db/db.h
controller: controller/server.c: sqlite3.h
db: db/trial.c: tests/tap.h
kernels: kernels/gemm.c: searchspace/arch.h
model: model/stack.c: jansson by way of searchspace/arch_json.h
proxies: proxies/synflow.c: uv.h
wire: wire/rpc.c: ../db/db.h
wire: wire/rpc.c: climbs: ../db/db.h'
got=$(violations "$t")
[ "$got" = "$want" ]
result $? "the check finds each sort of wrong include, and no other"
[ "$got" = "$want" ] || echo "$got" | sed 's/^/#   /'

[ -f "$src/base/status.h" ]
result $? "the sources are where they are looked for"
found=$(violations "$src")
for r in $rooms; do
    mine=$(echo "$found" | grep "^$r: ")
    [ -z "$mine" ]
    result $? "$r/ includes what it may"
    [ -z "$mine" ] || echo "$mine" | sed 's/^/#   /'
done
echo "1..$n"
exit $bad
