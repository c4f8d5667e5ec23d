#!/bin/sh
# autogen.sh: makes searchspace/layers.mk from layers.def, then configure and Makefile.in. --layers: layers.mk alone.
cd "$(dirname "$0")" || exit 1
list() {
    printf '%s =' "$1"
    sed -n "s|^LAYER(\([a-z0-9_]*\)).*|$2/\1.c|p" searchspace/layers.def | tr '\n' ' ' | sed 's/^/ /; s/ $//'
    echo
}
{
    echo "# The files of each layer type; made by autogen.sh from layers.def."
    list layer_specs searchspace
    list layer_bodies model
} > searchspace/layers.mk || exit 1
[ "${1:-}" = --layers ] && exit 0
mkdir -p build-aux && exec autoreconf -fi
