# What quickstart and check share. Sourced, in the top folder.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# need_packages NAME...: installs those that are missing; without root or apt says which, and goes on: configure finds out whether they are there.
need_packages() {
    missing=''
    for p in "$@"; do installed "$p" || missing="$missing $p"; done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "no apt-get here; please see to it that these (by their Debian names) are installed:$missing"
        return 0
    fi
    sudo=''
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then sudo='sudo -n'
        else
            echo "not root; please install what is missing:  sudo apt-get install$missing"
            return 0
        fi
    fi
    echo "installing:$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! { DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing >"$log" 2>&1 ||
           { $sudo apt-get update >"$log" 2>&1 && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing >>"$log" 2>&1; }; }; then
        echo "apt-get could not install them; its last lines:"
        tail -n 5 "$log"
    fi
    rm -f "$log"
}

# build_in FOLDER [configure options]: configures where that is needed, and builds $targets, or all. What the compiler says goes to FOLDER/build.log, and is shown when it fails.
build_in() {
    folder=$1
    shift
    [ -x configure ] && [ configure -nt configure.ac ] && [ -f Makefile.in ] && [ -z "$(find . \( -name local.mk -o -name layers.def \) -newer Makefile.in | head -n 1)" ] || ./autogen.sh >/dev/null 2>&1 ||
        { ./autogen.sh; echo "autogen.sh failed: are autoconf, automake and pkg-config installed?"; exit 1; }
    mkdir -p "$folder"
    if [ ! -f "$folder/config.status" ] || [ configure -nt "$folder/config.status" ]; then
        (cd "$folder" && ../configure -q "$@")
    fi
    # shellcheck disable=SC2086
    make -C "$folder" -j"$(nproc)" ${targets:-all} >"$folder/build.log" 2>&1 || {
        grep -n -i -E -A 5 'error|No space|Killed' "$folder/build.log" | head -n 30
        echo "the build failed; all of it: $folder/build.log" >&2
        exit 1
    }
}

# find_text: a file of Perl's manual in English, wherever the distribution puts it. Fails with a line where there is none.
find_text() {
    f=''
    if command -v dpkg >/dev/null 2>&1; then f=$(dpkg -L perl-doc 2>/dev/null | grep '/perlfaq1\.pod$' | head -n 1); fi
    [ -n "$f" ] && [ -f "$f" ] || f=$(find /usr/share/perl /usr/share/perl5 /usr/lib/perl5 -name perlfaq1.pod 2>/dev/null | head -n 1)
    [ -n "$f" ] && [ -f "$f" ] || { echo "no English text here: install perl-doc, or name a folder of your own: TAUT_TEXT=FOLDER $0" >&2; return 1; }
    echo "$f"
}
