#!/usr/bin/env bash
# Connects the program to MPI: compiles ortrain/dist/shim/rr_mpi.c with the mpicc in PATH and puts the library, and an mpirun
# that starts the same MPI's programs, into .rag-retrieval/lib. Where there is no mpicc, MPICH is downloaded into the cache
# folder, which needs no root. setup.sh --mpi calls it.
#
#   ./scripts/setup/mpi.sh
#
#   MPICC    the compiler wrapper of the MPI to use, in place of the mpicc in PATH
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
. scripts/setup/home.sh
say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh --mpi: $*"; exit 1; }

MPICH_VERSION=5.0.2
case $(uname -s)-$(uname -m) in
  Linux-x86_64) wheel=manylinux_2_28_x86_64 ;;
  Linux-aarch64 | Linux-arm64) wheel=manylinux_2_28_aarch64 ;;
  Darwin-arm64) wheel=macosx_11_0_arm64 ;;
  *) wheel=none ;;
esac
work=$(mktemp -d "$RAG_RETRIEVAL_HOME/.setup-mpi.XXXXXX")
trap 'rm -rf "$work"' EXIT

mpicc=${MPICC:-$(command -v mpicc || true)}
if [ -n "${MPICC:-}" ]; then
  mpicc=$(command -v "$MPICC") || die "MPICC is $MPICC, which is no program"
fi
if [ -z "$mpicc" ]; then
  [ $wheel != none ] || die "there is no mpicc in PATH, and no MPICH to download for $(uname -s) $(uname -m): install an MPI"
  mpich=$RAG_RETRIEVAL_HOME/mpich-$MPICH_VERSION-$wheel
  if [ ! -x "$mpich/bin/mpicc" ]; then
    say "there is no mpicc in PATH: downloading MPICH $MPICH_VERSION"
    python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --platform $wheel --implementation py --python-version 3 \
      -d "$work/wheel" -r scripts/setup/mpi-requirements.txt || die "could not download MPICH; run setup.sh --mpi again, or install an MPI"
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/files"
    chmod +x "$work"/files/*.data/data/bin/*
    rm -rf "$mpich"
    mv "$work"/files/*.data/data "$mpich"
  fi
  mpicc=$mpich/bin/mpicc
fi

# mpirun must be that of the library: another one starts ranks that do not find each other.
bin=$(cd "$(dirname "$mpicc")" && pwd)
mpirun=$bin/mpirun
[ -x "$mpirun" ] || mpirun=$(command -v mpirun || true)
mkdir -p "$root/.rag-retrieval/lib"
flags=()
lib=$(cd "$bin/../lib" 2>/dev/null && pwd || true)
case $lib in "$RAG_RETRIEVAL_HOME"/*) flags+=("-Wl,-rpath,$lib") ;; esac # the loader does not look into the cache folder
"$mpicc" -O2 -Wall -shared -fPIC ortrain/dist/shim/rr_mpi.c -o "$work/librr_mpi.so" ${flags[@]+"${flags[@]}"} ||
  die "$mpicc could not compile ortrain/dist/shim/rr_mpi.c"
mv "$work/librr_mpi.so" "$root/.rag-retrieval/lib/librr_mpi.so"
if [ -n "$mpirun" ]; then
  # A script and not a link: MPICH's looks for its other parts beside itself.
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$mpirun" >"$work/mpirun"
  chmod +x "$work/mpirun"
  mv "$work/mpirun" "$root/.rag-retrieval/lib/mpirun"
  say "MPI: $mpicc; start ranks with $mpirun, or .rag-retrieval/lib/mpirun"
else
  rm -f "$root/.rag-retrieval/lib/mpirun"
  say "MPI: $mpicc; there is no mpirun here: start ranks with the cluster's own, such as srun"
fi
