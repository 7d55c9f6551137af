#!/usr/bin/env bash
# Runs the test programs of ortrain/kernels on an emulated CPU with AVX-512, AVX512-BF16 and AMX: for machines that lack these units.
# It shows whether instructions are used rightly, and nothing about speed.
#
#   BOCHS_SOURCE=FOLDER KERNEL_IMAGE=VMLINUZ ./scripts/kernels/emulate.sh [--timeout SECONDS] [TEST [ARGUMENT ...]]
#
# TEST is the name of a program, as gemm_test. Without one, units.c is run, which has to find all units, and then every
# ortrain/kernels/testdata/*_test.c. README.md beside this file says where Bochs and the kernel come from.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernels=$here/../../ortrain/kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(--timeout 7200)
if [ "${1-}" = --timeout ]; then options=("$1" "${2:?--timeout needs seconds}"); shift 2; fi

# The kernels without ort_*.c, which need ONNX Runtime. A test may bring its own copy of a file: the linker takes the others from the library.
library() {
  local c objects=()
  for c in "$kernels"/*.c; do
    [[ $(basename "$c") != ort_* ]] || continue
    objects+=("$work/$(basename "$c" .c).o")
    "${CC:-cc}" -std=gnu11 -O2 -c -o "${objects[-1]}" "$c"
  done
  ar rc "$work/kernels.a" "${objects[@]}"
}

# try SOURCE [ARGUMENT ...] compiles one program and runs it on the emulated CPU.
try() {
  local name start=$SECONDS
  name=$(basename "$1" .c)
  "${CC:-cc}" -std=gnu11 -O2 -static -I"$kernels" -o "$work/$name" "$1" "$work/kernels.a" -lm -lpthread
  shift
  printf '== %s\n' "$name $*"
  "$here/machine.sh" "${options[@]}" "$work/$name" "$@" || { failed+=" $name (status $?)"; }
  printf '(%s s)\n' $((SECONDS - start))
}

failed=
library
if [ $# -gt 0 ]; then
  name=$1; shift
  try "$kernels/testdata/$name.c" "$@"
else
  try "$here/units.c"
  for source in "$kernels"/testdata/*_test.c; do
    [ ! -e "$source" ] || try "$source"
  done
fi
[ -z "$failed" ] || { printf 'failed:%s\n' "$failed" >&2; exit 1; }
