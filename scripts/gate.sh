#!/usr/bin/env bash
# This project's own quality gate: compares MAP and MRR@10 of all-MiniLM-L6-v2 with scripts/gate/baseline.json. The data are
# functions of golang.org/x/tools at the version in go.mod (100 queries, 20 candidates each), so that they are the same everywhere.
#
#   ./scripts/gate.sh [--update]      # --update: write the baseline instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' scripts/gate.sh; exit 0 ;; esac
./scripts/setup.sh
. scripts/setup/path.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go mod download golang.org/x/tools
go run ./scripts/godocpairs --src "$(go list -m -f '{{.Dir}}' golang.org/x/tools)" --out "$work" --test-queries 100 --train-rows 1 >&2
mv "$work/test.jsonl" "$work/gofunctions.jsonl"
bin/rag-retrieval eval --model .rag-retrieval/models/all-MiniLM-L6-v2 --data "$work/gofunctions.jsonl" \
  --query-max-len 64 --passage-max-len 128 --json "$work/result.json" > "$work/table"
bin/rag-retrieval gate --baseline scripts/gate/baseline.json --max-drop 0.1 "$@" "$work/result.json"
