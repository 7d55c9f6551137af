#!/usr/bin/env bash
# Trains all parameters, adapters of two ranks, and all but the embeddings and the first half of the layers, for one epoch of the
# demo's data each and over several seeds, and prints one table of the models on the test queries. The data are the demo's.
#
#   ./scripts/recipes/lora.sh --out DIR [--seeds 3] [--model DIR]
#
# DIR keeps the data and the models: a second call goes on with what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out='' seeds=3 model=.rag-retrieval/models/all-MiniLM-L6-v2
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' scripts/recipes/lora.sh; exit 0 ;;
    --out) out=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --model) model=$2; shift 2 ;;
    *) echo "lora.sh: unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { echo 'lora.sh: want --out DIR' >&2; exit 2; }
./scripts/setup.sh
. scripts/setup/path.sh
[ -e "$out/data/test.jsonl" ] || go run ./scripts/godocpairs --out "$out/data"

models=(--model "$model")
train() { # NAME SEED FLAGS...
  local run=$out/$1-seed$2 seed=$2
  shift 2
  models+=(--model "$run/model")
  [ -e "$run/model" ] && return
  rm -rf "$run" # of a training that was stopped
  bin/rag-retrieval train embedding --model "$model" --train-dataset "$out/data/train.jsonl" --output-dir "$run" \
    --epochs 1 --query-max-len 64 --passage-max-len 128 --seed "$seed" "$@"
}
for seed in $(seq "$seeds"); do
  train all "$seed" --lr 5e-5
  train lora8 "$seed" --lora-rank 8 --lr 5e-4
  train lora64 "$seed" --lora-rank 64 --lr 5e-4
  train freeze "$seed" --freeze embeddings,layers:3 --lr 5e-5
done
bin/rag-retrieval eval "${models[@]}" --data "$out/data/test.jsonl"
du -sk "${models[@]:1:1}" "$out"/*-seed1/model | sed 's/^\([0-9]*\)/\1 KiB/'
