#!/usr/bin/env bash
# Sets everything up and runs the main job: measures all-MiniLM-L6-v2 on doc-comment -> function retrieval over the
# Go installation that is already there, fine-tunes it, measures it again, and prints one table.
#
#   ./scripts/demo.sh [--out DIR] [--train-rows 2048] [--test-queries 400] [--model DIR]
#
# DIR (default: demo in the cache folder) gets the data, the run with the fine-tuned model, and result.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup/home.sh
./scripts/setup.sh
. scripts/setup/path.sh
exec go run ./scripts/demo --out "$RAG_RETRIEVAL_HOME/demo" "$@"
