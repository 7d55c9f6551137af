# Sourced by scripts in the checkout's root. If setup.sh fetched Go, because the machine's own was missing or too old, puts it
# first in PATH.
# shellcheck shell=sh
if [ -x .rag-retrieval/go/bin/go ]; then
  PATH=$PWD/.rag-retrieval/go/bin:$PATH
  export PATH
  unset GOROOT
fi
