#!/usr/bin/env bash
# Everything that a machine with an NVIDIA GPU can check, in one run: setup, the fixtures against PyTorch's numbers on CUDA,
# and fine-tuning beside sentence-transformers. Prints tables. Needs a GPU with 16 GB, and the network.
#
#   ./scripts/bench/cuda.sh [MODEL]      # default: bert-base-uncased, from the hub
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
model=${1:-bert-base-uncased}
work=${RAG_RETRIEVAL_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/rag-retrieval}/bench-cuda
./scripts/setup.sh --cuda
. scripts/setup/path.sh
bin/rag-retrieval doctor
echo "== the fixtures on CUDA: every gradient and ten losses of every loss, in fp32, fp16 and bf16"
RAG_RETRIEVAL_TEST_PROVIDER=cuda go test -count=1 ./ortrain/runtime ./models/finetune ./cmd/rag-retrieval
mkdir -p "$work"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q -r scripts/fixtures/requirements.txt
[ -f "$work/data/train.jsonl" ] || go run ./scripts/godocpairs --out "$work/data"
if [ ! -d "$model" ]; then # one copy of the model, for both sides
  folder=$work/models/$(basename "$model")
  [ -f "$folder/config.json" ] || "$work/venv/bin/python" -c 'import sys; from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=["*.json", "*.txt", "*.model", "model*.safetensors"])' "$model" "$folder"
  model=$folder
fi
for precision in bf16 fp16 no; do
  "$work/venv/bin/python" scripts/bench/cuda.py --data "$work/data" --model "$model" --precision "$precision"
done
