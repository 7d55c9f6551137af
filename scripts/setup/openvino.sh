#!/usr/bin/env bash
# Brings OpenVINO's execution provider for --provider openvino: downloads ONNX Runtime's plug-in into the cache folder, which needs no
# root, and links it as .rag-retrieval/lib/openvino. setup.sh --openvino calls this. Linux x86-64; the plug-in computes on Intel's CPUs
# only.
#
#   ./scripts/setup/openvino.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
. scripts/setup/home.sh
say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh --openvino: $*"; exit 1; }

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "OpenVINO's plug-in is for Linux x86-64, this is $(uname -s) $(uname -m)"
version=$(sed -nE 's/^onnxruntime-ep-openvino==([^ ]+) .*/\1/p' scripts/setup/openvino-requirements.txt)
folder=$RAG_RETRIEVAL_HOME/onnxruntime-ep-openvino-$version-linux-x86_64
if [ ! -d "$folder" ]; then
  mkdir -p "$RAG_RETRIEVAL_HOME"
  work=$(mktemp -d "$RAG_RETRIEVAL_HOME/.setup-openvino.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  say "downloading OpenVINO's plug-in $version (53 MB)"
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --platform manylinux_2_28_x86_64 \
    -d "$work/wheel" -r scripts/setup/openvino-requirements.txt || die "the download failed; run it again"
  python3 -m zipfile -e "$work"/wheel/*.whl "$work/files"
  # Not needed on a CPU: what is for GPUs and NPUs, and the plug-in under two more names.
  rm -f "$work"/files/onnxruntime_ep_openvino/{*_gpu_plugin.so,*_npu_plugin.so,cache.json,*_openvino_plugin.so.*,*.py}
  mv "$work/files/onnxruntime_ep_openvino" "$folder"
fi
mkdir -p "$root/.rag-retrieval/lib"
link=$root/.rag-retrieval/lib/openvino
[ "$(readlink "$link" 2>/dev/null)" = "$folder" ] || { rm -f "$link" && ln -s "$folder" "$link"; }
say "OpenVINO: $folder; rag-retrieval doctor says whether it computes here"
