#!/usr/bin/env bash
# Mines hard negatives, trains on them and measures what they are worth: in-batch negatives only, BM25's, mined ones, and mined ones
# that are filtered by a margin, each with the same number of steps, over several seeds. Prints a Markdown table of MAP (reranking)
# and nDCG@10 (retrieval): mean and sample standard deviation. The data are the demo's.
#
#   ./scripts/recipes/mining.sh --out DIR [--seeds 3] [--steps 40] [--batch-size 32] [--neg-nums 1] [--length 96]
#                               [--train-rows 2048] [--test-queries 400] [--model DIR]
#
# DIR keeps the data, the negatives and each arm's result: a second call goes on with what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case "${1:-}" in -h | --help) sed -n '2,9s/^# \{0,1\}//p' scripts/recipes/mining.sh; exit 0 ;; esac
./scripts/setup.sh
. scripts/setup/path.sh
exec go run ./scripts/recipes/mining "$@"
