#!/bin/sh
# autogen.sh: makes configure and Makefile.in from configure.ac and Makefile.am.
cd "$(dirname "$0")" && mkdir -p build-aux && exec autoreconf -fi
