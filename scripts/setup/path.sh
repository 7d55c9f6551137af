# Sourced, in the checkout's root: puts the Go that setup.sh fetched before the machine's own, which was missing or too old.
if [ -x .rag-retrieval/go/bin/go ]; then
  PATH=$PWD/.rag-retrieval/go/bin:$PATH
  export PATH
  unset GOROOT
fi
