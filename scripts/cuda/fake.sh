#!/usr/bin/env bash
# Checks without a GPU what CUDA's execution provider would do: where each node of the training and scoring graphs runs, what
# is copied between host and device, and how device memory is bound. It downloads ONNX Runtime's CUDA build (260 MB) and
# NVIDIA's headers, and loads the provider against fake/fake.c, a CUDA runtime without a device. That runtime computes nothing,
# so no number is checked. Linux x86-64 with gcc.
#
#   ./scripts/cuda/fake.sh [COMMAND ...]      # default: the tests; or a command, such as bin/rag-retrieval train …
#
#   FAKE_CUDA_VERSION  12 or 13 (default): which of the builds that setup.sh --cuda installs
#   FAKE_CUDA_MEMORY   bytes of memory that the device has (default: unlimited)
#   FAKE_CUDA_DEVICES  how many devices there are (default: 1); FAKE_CUDA_ONLY: the only one whose memory may be used
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/setup/home.sh
version=${FAKE_CUDA_VERSION:-13}
ort=$(scripts/cuda/fetch.sh "$version" --no-nvidia)
provider=$(dirname "$ort")/libonnxruntime_providers_cuda.so
fake=$RAG_RETRIEVAL_HOME/fakecuda-$version
mkdir -p "$fake"
if [ ! -d "$fake/nvidia" ]; then
  work=$(mktemp -d "$fake/.headers.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --platform manylinux2014_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 \
    -d "$work" -r "scripts/cuda/headers$version.txt"
  for w in "$work"/*.whl; do python3 -m zipfile -e "$w" "$work/files"; done
  mv "$work/files/nvidia" "$fake/nvidia"
fi
include=()
for d in "$fake"/nvidia/*/include; do include+=(-I"$d"); done
gcc -O1 -Wall -Wextra -fPIC "${include[@]}" -c scripts/cuda/fake/fake.c -o "$fake/fake.o"
# Every other symbol that the provider needs becomes a function that does nothing and reports success.
{
  readelf -Ws --dyn-syms "$provider" | awk '$7 == "UND" {print $8}' | sed 's/@.*//' | grep -E '^(cu|__cuda|nv)'
  strings -n 6 "$provider" | grep -E '^(cudnn|cufft)[A-Z][A-Za-z0-9_]*$'
} | sort -u | comm -23 - <(nm "$fake/fake.o" | awk '$2 == "T" {print $3}' | sort) |
  awk '{print "int " $1 "(void) { return 0; }"}' > "$fake/rest.c"
gcc -w -fPIC -c "$fake/rest.c" -o "$fake/rest.o"
for name in libcuda.so.1 $(readelf -d "$provider" | grep -oE 'lib(cuda|cu(blas|blasLt|rand|fft|dnn))\.so\.[0-9]+'); do
  gcc -shared -Wl,-soname,"$name" -o "$fake/$name"
done
gcc -shared -Wl,-soname,"libcudart.so.$version" "$fake/fake.o" "$fake/rest.o" -o "$fake/libcudart.so.$version"
cp "$fake/libcudart.so.$version" "$fake/libcudnn.so.9" # looked up by name
export LD_LIBRARY_PATH=$fake RAG_RETRIEVAL_ORT_LIB=$ort RAG_RETRIEVAL_TEST_PROVIDER=fake
[ $# -eq 0 ] || exec "$@"
exec go test ./ortrain/runtime ./models/... ./cmd/... -run 'Device|Placement|Operators|OnCUDA' -count=1
