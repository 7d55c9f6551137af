#!/usr/bin/env bash
# The tests that take minutes: whole reranking sets, compared with mteb's numbers. They need the golden files, which are not in this
# repository, in a folder shared/ beside the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/setup.sh
. scripts/setup/path.sh
RAG_RETRIEVAL_LONG=1 go test -count=1 -timeout 60m -v -run WholeSets ./eval
