#!/usr/bin/env bash
# The tests that take minutes: whole reranking sets against mteb's numbers. Needs the golden numbers beside the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/setup.sh
. scripts/setup/path.sh
RAG_RETRIEVAL_LONG=1 go test -count=1 -timeout 60m -v -run WholeSets ./eval
