#!/bin/sh
# Installs the build into a prefix of its own, then builds and runs a program outside the tree against it.
#   run.sh BUILD SOURCE
set -eu
build=$1 source=$2
rm -rf "$build/package"
cmake --install "$build" --prefix "$build/package/prefix" > "$build/package-install.log"
cmake -S "$source/tests/package" -B "$build/package/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$build/package/prefix"
cmake --build "$build/package/build"
"$build/package/build/consumer" "$build/package/prefix/share/bit-axon/models/bit-axon-nano"
# The installed program finds the installed model.
cd / && "$build/package/prefix/bin/bit-axon" run --temperature 0 --max-tokens 8 "Hello"
