#!/usr/bin/env bash
# Downloads ONNX Runtime's CUDA build, and the NVIDIA libraries that it loads, into the cache folder, without root. Prints the
# path of ONNX Runtime's library. setup.sh --cuda calls it. Linux x86-64.
#
#   ./scripts/cuda/fetch.sh [12|13] [--no-nvidia] [--dry-run]
#
# Without a number, the driver decides: CUDA 13 where it supports that, else 12.
#   --no-nvidia   the machine has CUDA's and cuDNN's libraries where the loader finds them
#   --dry-run     say what would be downloaded, and where to
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh --cuda: $*"; exit 1; }

version='' nvidia=yes dry=no
for a in "$@"; do
  case $a in
    12 | 13) version=$a ;;
    --no-nvidia) nvidia=no ;;
    --dry-run) dry=yes ;;
    *) die "unknown argument $a: want 12, 13, --no-nvidia or --dry-run" ;;
  esac
done
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "ONNX Runtime's CUDA wheels are for Linux x86-64, this is $(uname -s) $(uname -m)"

# The driver says which CUDA it can run.
if [ -z "$version" ]; then
  command -v nvidia-smi >/dev/null 2>&1 || die "no NVIDIA driver here (nvidia-smi is missing): install it, or name CUDA's version: --cuda=12 or --cuda=13"
  report=$(nvidia-smi 2>&1) || die "nvidia-smi fails: $(printf %s "$report" | head -1)"
  driver=$(printf '%s\n' "$report" | sed -nE 's/.*CUDA[A-Za-z ]* Version: *([0-9]+)\..*/\1/p' | head -1)
  [ -n "$driver" ] || die "nvidia-smi does not say which CUDA the driver runs; name it: --cuda=12 or --cuda=13"
  [ "$driver" -ge 12 ] || die "the driver runs CUDA $driver, want 12 or newer: update the driver"
  version=$((driver >= 13 ? 13 : 12))
  say "the driver runs CUDA $driver: taking the libraries of CUDA $version"
fi

list=cuda$version.txt
ort_version=$(sed -nE 's/^onnxruntime-gpu==([^ ]+) .*/\1/p' "$list")
. ../setup/home.sh
dir=$RAG_RETRIEVAL_HOME/onnxruntime-gpu-$ort_version-cuda$version-linux-x86_64
library=$dir/libonnxruntime.so

work=''
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
# fetch LINES FOLDER: downloads and unpacks the wheels of these lines of the list.
fetch() {
  printf '%s\n' "$1" > "$work/wheels.txt"
  platforms=()
  for p in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${p}_x86_64"); done
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312 --abi none \
    "${platforms[@]}" --platform manylinux2014_x86_64 -d "$work/wheels" -r "$work/wheels.txt" ||
    die "the download failed; run it again"
  for w in "$work"/wheels/*.whl; do python3 -m zipfile -e "$w" "$2" && rm "$w"; done
}
# part NAME LINES TARGET: succeeds if the part is missing and must be fetched now, and prints that.
missing() {
  [ -e "$3" ] && return 1
  say "$([ $dry = yes ] && echo 'would download' || echo downloading) $1 to $3:"
  say "$(printf '%s\n' "$2" | sed -E 's/ --hash=[^ ]+ */ /; s/^/  /')"
  [ $dry = no ] || return 1
  mkdir -p "$RAG_RETRIEVAL_HOME"
  [ -n "$work" ] || work=$(mktemp -d "$RAG_RETRIEVAL_HOME/.cuda.XXXXXX")
}

lines=$(grep '^onnxruntime-gpu' "$list")
if missing "ONNX Runtime" "$lines" "$dir"; then
  fetch "$lines" "$work/ort"
  mkdir "$work/done"
  mv "$work"/ort/onnxruntime/capi/libonnxruntime.so.* "$work/done/libonnxruntime.so"
  mv "$work"/ort/onnxruntime/capi/libonnxruntime_providers_{cuda,shared}.so "$work/done/"
  mv "$work/done" "$dir"
fi
lines=$(grep '^nvidia-' "$list")
if [ $nvidia = yes ] && missing "NVIDIA's libraries" "$lines" "$dir/nvidia"; then
  fetch "$lines" "$work/nvidia-files"
  mkdir "$work/nvidia"
  find "$work/nvidia-files" -name 'lib*.so*' -exec mv {} "$work/nvidia/" \;
  mv "$work/nvidia" "$dir/nvidia"
fi
printf '%s\n' "$library"
