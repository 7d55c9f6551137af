#!/usr/bin/env bash
# Runs the tests of --provider openvino on a CPU that is not Intel's. Its plug-in refuses such CPUs, though OpenVINO itself computes on
# them: here ONNX Runtime says that they are Intel's. For tests of this project only. Linux x86-64 with gcc; setup.sh --openvino first.
#
#   ./scripts/openvino/anycpu.sh [COMMAND ...]      # default: the tests; or a command, such as bin/rag-retrieval encode …
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/setup/home.sh
library=$RAG_RETRIEVAL_HOME/anycpu.so
gcc -O1 -Wall -Wextra -shared -fPIC -I.rag-retrieval/include scripts/openvino/anycpu.c -o "$library.$$" -ldl
mv "$library.$$" "$library"
[ $# -gt 0 ] || set -- go test ./models/retriever ./cmd/rag-retrieval -run OpenVINO -count=1 -v
LD_PRELOAD=$library exec "$@"
