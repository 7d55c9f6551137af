#!/usr/bin/env bash
# Kills real training runs (kill -9) at random moments, resumes them, and compares what they end with, byte for byte, with
# a run that was never stopped. A checkpoint is written after every step, so that most kills fall into one.
#
#   ./scripts/fault.sh [KILLS]      # default 75, a minute and a half
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kills=${1:-75}
./scripts/setup.sh --no-model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for i in $(seq 1000); do
  printf '{"query": "如何重置密码 number %d", "pos": "在设置页面点击忘记密码,按邮件里的链接重置 %d"}\n' "$i" "$i"
done > "$work/rows.jsonl"
run() { # output folder, further flags
  bin/rag-retrieval train embedding --model models/finetune/testdata/bert --train-dataset "$work/rows.jsonl" --output-dir "$@" \
    --lr 1e-3 --epochs 40 --batch-size 8 --query-max-len 14 --passage-max-len 16 --save-steps 1 --log-interval 100000 > "$work/log" 2>&1
}
run "$work/whole"
resume=() killed=0
while [ "$killed" -lt "$kills" ]; do
  run "$work/stopped" ${resume[@]+"${resume[@]}"} 2> /dev/null & pid=$!
  sleep "0.$((RANDOM % 60 + 15))"
  # The shell's child is the function; the program is its child.
  child=$(pgrep -P "$pid" || true)
  [ -n "$child" ] || { wait "$pid" || { tail -1 "$work/log"; exit 1; }; echo "the run ended after $killed kills"; break; }
  kill -9 "$child"
  wait "$pid" 2> /dev/null || true
  killed=$((killed + 1))
  if [ -d "$work/stopped/artifacts/checkpoint" ] || [ -d "$work/stopped/artifacts/checkpoint.old" ]; then
    resume=(--resume)
  else
    rm -rf "$work/stopped"
  fi
done
run "$work/stopped" ${resume[@]+"${resume[@]}"} || { tail -1 "$work/log"; exit 1; }
for f in artifacts/checkpoint/state.safetensors model/model.safetensors model/model.onnx; do
  cmp "$work/whole/$f" "$work/stopped/$f"
done
[ "$(wc -l < "$work/whole/log.jsonl")" = "$(wc -l < "$work/stopped/log.jsonl")" ] || { echo "the logs differ in their number of steps"; exit 1; }
echo "$killed kills: the same bytes, and each of $(wc -l < "$work/stopped/log.jsonl") steps logged once"
