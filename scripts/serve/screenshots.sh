#!/usr/bin/env bash
# Pictures of the server's page, to look at before a release and for README.md: light and dark, on a phone, a heat map, errors.
#
#   scripts/serve/screenshots.sh OUT NAME=MODEL,NAME=MODEL [ROWS.jsonl]
#   scripts/serve/screenshots.sh out base=models/all-MiniLM-L6-v2,tuned=out/model,colbert=out-colbert/model
#
# Give two embedding models and a ColBERT model. ROWS.jsonl has rows with a query: two more pictures show the first one. Chromium or
# Chrome is found on the path, or named by CHROMIUM.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,8p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
out=$(realpath "$1")
models=
IFS=, read -ra pairs <<<"$2"
for pair in "${pairs[@]}"; do
  ref=${pair#*=}
  if [ -e "$ref" ]; then ref=$(realpath "$ref"); fi
  models+="${models:+,}${pair%%=*}=$ref"
done
rows=${3:+$(realpath "$3")}
cd "$(dirname "$0")/../.."
go test ./models/serve -count=1 -run '^TestScreenshots$' -screenshots "$out" -screenshot-models "$models" -screenshot-rows "$rows"
ls -l "$out"
