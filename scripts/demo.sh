#!/usr/bin/env bash
# Sets everything up, then measures all-MiniLM-L6-v2, fine-tunes it, measures it again, and prints one table. The task is to find
# the functions of the Go installation by the first sentence of their doc comments.
#
#   ./scripts/demo.sh [--out DIR] [--train-rows 2048] [--test-queries 400] [--model DIR]
#
# DIR (default: demo in the cache folder) gets the data, the run with the fine-tuned model, and result.json. What an earlier demo left there
# is removed.
set -euo pipefail
from=$PWD arguments=() path=
for a in "$@"; do # folders are the caller's
  if [ -n "$path" ] && [ "${a#/}" = "$a" ]; then a=$from/$a; fi
  case "$a" in --out=/* | --model=/*) ;; --out=* | --model=*) a=${a%%=*}=$from/${a#*=} ;; esac
  case "$a" in --out | -out | --model | -model) path=1 ;; *) path= ;; esac
  arguments+=("$a")
done
set -- "${arguments[@]+"${arguments[@]}"}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,8s/^# \{0,1\}//p' scripts/demo.sh; exit 0 ;; esac
. scripts/setup/home.sh
./scripts/setup.sh
. scripts/setup/path.sh
exec go run ./scripts/demo --out "$RAG_RETRIEVAL_HOME/demo" "$@"
