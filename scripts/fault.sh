#!/usr/bin/env bash
# Kills training runs (kill -9) at random moments and resumes them. In the end their files must equal, byte for byte, those of a
# run that was never stopped. A checkpoint is written after every step, so that most kills hit the writing of one. As root, the
# runs write to a small file system, which is full for every fifth run.
#
#   ./scripts/fault.sh [KILLS]      # default 75, two minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kills=${1:-75}
./scripts/setup.sh --no-model
. scripts/setup/path.sh
work=$(mktemp -d)
trap 'umount "$work/small" 2> /dev/null || true; rm -rf "$work"' EXIT
small="" stopped="$work/stopped" fills=0
mkdir "$work/small"
if mount -t tmpfs -o size=8m tmpfs "$work/small" 2> /dev/null; then
  small="$work/small" stopped="$work/small/stopped"
else
  echo "no small file system can be mounted here (needs root): disks that fill up are left out"
fi
for i in $(seq 1000); do
  printf '{"query": "如何重置密码 number %d", "pos": "在设置页面点击忘记密码,按邮件里的链接重置 %d"}\n' "$i" "$i"
done > "$work/rows.jsonl"
run() { # output folder, further flags
  bin/rag-retrieval train embedding --model models/finetune/testdata/bert --train-dataset "$work/rows.jsonl" --output-dir "$@" \
    --lr 1e-3 --epochs 60 --batch-size 8 --query-max-len 14 --passage-max-len 16 --save-steps 1 --log-interval 100000 > "$work/log" 2>&1
}
run "$work/whole"
resume=() killed=0
while [ "$killed" -lt "$kills" ]; do
  if [ -n "$small" ] && [ "${#resume[@]}" -gt 0 ] && [ $((killed % 5)) -eq 4 ]; then
    head -c 8m /dev/zero > "$small/filler" 2> /dev/null || true
    if run "$stopped" --resume 2> /dev/null; then echo "a run ended well on a full disk"; exit 1; fi
    grep -q "no space left on device" "$work/log" || { tail -1 "$work/log"; exit 1; }
    rm "$small/filler"
    fills=$((fills + 1))
  fi
  run "$stopped" ${resume[@]+"${resume[@]}"} 2> /dev/null & pid=$!
  sleep "0.$((RANDOM % 60 + 15))"
  # The shell's child is the function; the program is its child.
  child=$(pgrep -P "$pid" || true)
  [ -n "$child" ] || { wait "$pid" || { tail -1 "$work/log"; exit 1; }; echo "the run ended after $killed kills"; break; }
  kill -9 "$child"
  wait "$pid" 2> /dev/null || true
  killed=$((killed + 1))
  if compgen -G "$stopped/artifacts/checkpoint/step-????????" > /dev/null; then
    resume=(--resume)
  else
    rm -rf "$stopped"
  fi
done
run "$stopped" ${resume[@]+"${resume[@]}"} || { tail -1 "$work/log"; exit 1; }
last=$(cd "$work/whole" && ls -d artifacts/checkpoint/step-* | tail -1)
for f in "$last/state.safetensors" model/model.safetensors model/model.onnx; do
  cmp "$work/whole/$f" "$stopped/$f"
done
steps=$(wc -l < "$stopped/metrics.jsonl")
[ "$(wc -l < "$work/whole/metrics.jsonl")" = "$steps" ] || { echo "the logs differ in their number of steps"; exit 1; }
echo "$killed kills, $fills full disks: the same bytes, and each of $steps steps logged once"
