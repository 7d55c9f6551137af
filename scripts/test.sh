#!/usr/bin/env bash
# Sets everything up and runs every check: format, vet, staticcheck, tests. More arguments go to go test.
#
#   ./scripts/test.sh [-race] [-run NAME] [-v]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/setup.sh --mpi --postgres
. scripts/setup/path.sh

step() { printf '== %s\n' "$*"; }
step gofmt
bad=$(gofmt -l cmd eval internal models mteb ortrain scripts)
[ -z "$bad" ] || { printf 'not formatted:\n%s\n' "$bad" >&2; exit 1; }
step shell scripts
for f in scripts/*.sh scripts/*/*.sh .ci/run; do [ ! -e "$f" ] || bash -n "$f"; done
step go vet
go vet ./...
step staticcheck
go tool staticcheck ./...
step go test
go test -timeout 30m "$@" ./...  # the default of 10 minutes is short for the largest package on a busy machine
step gate
./scripts/gate.sh
