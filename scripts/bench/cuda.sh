#!/usr/bin/env bash
# Checks in one run everything that only a machine with an NVIDIA GPU can: set-up, the fixtures on CUDA against PyTorch's numbers, and
# fine-tuning beside sentence-transformers. Prints tables. Needs a GPU with 16 GB, and the network.
#
#   ./scripts/bench/cuda.sh [MODEL]      # default: bert-base-uncased, from the hub
#
#   PROVIDER=cpu   does the same on the CPU, without the fixtures, which test.sh checks there
#   PYTHON         a Python that has scripts/fixtures/requirements.txt; default: one is set up here
#   BENCH_PRECISIONS "bf16 fp16 no"   BENCH_LENGTHS 128,256,512   BENCH_BATCH 64   BENCH_STEPS 60   BENCH_RUNS 3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
model=${1:-bert-base-uncased}
provider=${PROVIDER:-cuda}
batch=${BENCH_BATCH:-64} steps=${BENCH_STEPS:-60}
. scripts/setup/home.sh
work=$RAG_RETRIEVAL_HOME/bench-cuda
case $provider in
  cuda) ./scripts/setup.sh --cuda ;;
  cpu) ./scripts/setup.sh ;;
  *) echo "cuda.sh: PROVIDER is $provider, want cuda or cpu" >&2; exit 2 ;;
esac
. scripts/setup/path.sh
bin/rag-retrieval doctor
if [ "$provider" = cuda ]; then
  echo "== the fixtures on CUDA: every gradient and ten losses of every loss, in fp32, fp16 and bf16"
  RAG_RETRIEVAL_TEST_PROVIDER=cuda go test -count=1 ./ortrain/runtime ./models/finetune ./cmd/rag-retrieval
fi
mkdir -p "$work"
python=${PYTHON:-$work/venv/bin/python}
if [ -z "${PYTHON:-}" ]; then
  [ -x "$python" ] || python3 -m venv "$work/venv"
  "$python" -m pip install -q -r scripts/fixtures/requirements.txt
fi
# Each run takes steps x batch rows; a file of an earlier call may have fewer.
rows=$((steps * batch))
if [ ! -f "$work/data/train.jsonl" ] || [ "$(wc -l <"$work/data/train.jsonl")" -lt $rows ]; then
  go run ./scripts/godocpairs --train-rows $rows --out "$work/data"
fi
if [ ! -d "$model" ]; then # one copy of the model, for both sides
  folder=$work/models/$(basename "$model")
  [ -f "$folder/config.json" ] || "$python" -c 'import sys; from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=["*.json", "*.txt", "*.model", "model*.safetensors"])' "$model" "$folder"
  model=$folder
fi
for precision in ${BENCH_PRECISIONS:-bf16 fp16 no}; do
  "$python" scripts/bench/cuda.py --data "$work/data" --model "$model" --precision "$precision" --provider "$provider" \
    --peer-device "$provider" --lengths "${BENCH_LENGTHS:-128,256,512}" --batch "$batch" --steps "$steps" --runs "${BENCH_RUNS:-3}"
done
