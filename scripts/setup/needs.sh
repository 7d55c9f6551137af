#!/usr/bin/env bash
# Checks what setup.sh needs from the machine. Names everything that is missing or too old in one message. As root with apt, dnf or
# apk it then installs that; otherwise it fetches Go and prints the one command for the rest. Prints the folder of the Go that
# it fetched, or nothing where the machine's own is new enough. setup.sh calls it.
#
#   ./scripts/setup/needs.sh [--no-install] [--check] [cc] [cargo] [pip]     # Go is always needed
#
#   --no-install   only say what is missing: install no packages, fetch no Go
#   --check        say what is missing; the exit status is 1 if something is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./home.sh
say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh: $*"; exit 1; }

install=yes check=no parts=' '
for a in "$@"; do
  case $a in
    --no-install) install=no ;;
    --check) check=yes ;;
    cc | cargo | pip) parts="$parts$a " ;;
    *) die "needs.sh: unknown argument $a" ;;
  esac
done
go_wanted=$(sed -n 's/^go //p' ../../go.mod)
go_fetched=$(sed -n 's/^version //p' go.txt)
CARGO_WANTED=1.78 # the first that reads Cargo.lock's version 4
PIP_WANTED=20.3   # the first that takes several platforms
os=$(uname -s)
case $os-$(uname -m) in
  Linux-x86_64) platform=linux-amd64 ;;
  Linux-aarch64 | Linux-arm64) platform=linux-arm64 ;;
  Darwin-arm64) platform=darwin-arm64 ;;
  *) platform=none ;;
esac
go_dir=$RAG_RETRIEVAL_HOME/go-$go_fetched-$platform

# at_least HAVE WANT: succeeds if version HAVE is WANT or newer.
at_least() {
  local have=$1 want=$2 h w
  while [ -n "$want" ]; do
    h=${have%%.*} w=${want%%.*}
    [ "$h" = "$have" ] && have=0 || have=${have#*.}
    [ "$w" = "$want" ] && want='' || want=${want#*.}
    h=${h%%[!0-9]*}
    [ "${h:-0}" -eq "$w" ] || { [ "${h:-0}" -gt "$w" ]; return; }
  done
}

# The checks. Each adds what is missing to the message, and to the parts for which packages are installed.
lack() { missing="$missing"$'\n'"  $2" lacking="$lacking$1 "; }
# compiles COMMAND ...: succeeds if the compiler works. Debian's gcc without the C library's headers does not.
compiles() {
  local file works=yes
  file=$(mktemp)
  printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | "$@" -x c - -o "$file" 2>/dev/null || works=no
  rm -f "$file"
  [ $works = yes ]
}
need_cc() { # gcc (macOS: clang) is Go's choice, cc is cargo's
  local compiler=${CC:-gcc} c
  [ -n "${CC:-}" ] || [ "$os" != Darwin ] || compiler=clang
  for c in "$compiler" cc; do
    command -v "${c%% *}" >/dev/null 2>&1 || { lack cc "a C compiler, which links the program: there is no ${c%% *}"; return; }
    compiles $c || { lack cc "a C compiler, which links the program: $c cannot make a program (no C library to build with?)"; return; }
  done
}
need_cargo() {
  local version
  command -v cargo >/dev/null 2>&1 || { lack cargo "cargo $CARGO_WANTED or newer, which builds the tokenizer library: there is none"; return; }
  version=$(cargo --version 2>/dev/null | sed -nE 's/^cargo ([0-9.]+).*/\1/p') || true
  at_least "${version:-0}" "$CARGO_WANTED" ||
    lack cargo "cargo $CARGO_WANTED or newer, which builds the tokenizer library: $(command -v cargo) is ${version:-broken}"
}
need_python() {
  command -v python3 >/dev/null 2>&1 || lack python "python3, which downloads: there is none"
}
need_pip() {
  local version
  need_python
  case $lacking in *' python '*) lack pip "pip $PIP_WANTED or newer for it"; return ;; esac
  version=$(python3 -m pip --version 2>/dev/null | sed -nE 's/^pip ([0-9.]+).*/\1/p') || true
  [ -n "$version" ] || { lack pip "pip $PIP_WANTED or newer for $(command -v python3): there is none"; return; }
  at_least "$version" "$PIP_WANTED" || lack pip "pip $PIP_WANTED or newer for $(command -v python3), which has $version"
}
# need_go checks the version of Go. If it is too old, use_go is the Go that was fetched, now or earlier.
need_go() {
  local version=''
  old_go='' use_go=''
  if command -v go >/dev/null 2>&1; then
    version=$(GOTOOLCHAIN=local go version 2>/dev/null | sed -nE 's/^go version go([0-9.]+).*/\1/p') || true
    if at_least "${version:-0}" "$go_wanted"; then
      # A script that put a fetched Go first in PATH runs setup.sh again: that Go stays in use.
      [ ! "$(command -v go)" -ef ../../.rag-retrieval/go/bin/go ] || use_go=$(readlink ../../.rag-retrieval/go)
      return
    fi
    old_go="$(command -v go) is ${version:-broken}"
  fi
  use_go=$go_dir
  [ -x "$go_dir/bin/go" ] || old_go="Go $go_wanted or newer: ${old_go:-there is none}"
}
look() {
  missing='' lacking=' '
  need_go
  local p
  for p in cc cargo pip; do
    case $parts in *" $p "*) "need_$p" ;; esac
  done
  if [ -n "$use_go" ] && [ ! -x "$use_go/bin/go" ]; then
    missing=$'\n'"  $old_go$missing"
    case $parts in *' pip '*) ;; *) need_python ;; esac # which fetches Go
  fi
}

# packages MANAGER: prints the packages that contain the missing parts.
packages() {
  local p list='' codename
  codename=$(sed -nE 's/^VERSION_CODENAME="?([a-z]+)"?$/\1/p' "${OS_RELEASE:-/etc/os-release}" 2>/dev/null) || true
  for p in $lacking; do
    case $1-$p in
      apt-get-cc) list="$list gcc libc6-dev" ;;
      apk-cc) list="$list build-base" ;;
      *-cc) list="$list gcc" ;;
      # Debian 12's cargo is 1.65; it has a newer one beside it.
      apt-get-cargo) [ "$codename" = bookworm ] && list="$list cargo-web" || list="$list cargo" ;;
      brew-cargo) list="$list rust" ;;
      *-cargo) list="$list cargo" ;;
      *-python) list="$list python3" ;;
      apk-pip) list="$list py3-pip" ;;
      brew-pip) list="$list python3" ;;
      *-pip) list="$list python3-pip" ;;
    esac
  done
  printf %s "${list# }"
}
# command_for: prints the one command that installs the missing parts, or nothing if no package manager is known.
command_for() {
  local m
  for m in apt-get dnf apk brew; do
    command -v "$m" >/dev/null 2>&1 || continue
    case $m in
      apt-get) printf 'apt-get update && apt-get install -y --no-install-recommends %s' "$(packages $m)" ;;
      dnf) printf 'dnf install -y %s' "$(packages $m)" ;;
      apk) printf 'apk add %s' "$(packages $m)" ;;
      brew) printf 'brew install %s' "$(packages $m)" ;;
    esac
    return
  done
}

look
if [ -z "$missing" ]; then
  printf %s "$use_go"
  exit 0
fi
say "setup.sh: missing or too old on this machine:$missing"
command=''
[ "$lacking" = ' ' ] || command=$(command_for)
fetch_go=no
[ -z "$use_go" ] || [ -x "$use_go/bin/go" ] || fetch_go=yes
if [ "$lacking" != ' ' ]; then
  if [ $check = no ] && [ $install = yes ] && [ "$(id -u)" = 0 ] && [ -n "$command" ] && [ "${command#brew}" = "$command" ]; then
    say "installing, as root: $command"
    log=$(mktemp "${TMPDIR:-/tmp}/rag-retrieval-packages.XXXXXX")
    DEBIAN_FRONTEND=noninteractive ./logged.sh "$log" "the packages were not installed" sh -c "$command" || exit 1
    look
    [ "$lacking" = ' ' ] || die "still missing or too old after that:$missing"
  elif [ -n "$command" ]; then
    case $command in brew*) say "install them: $command" ;; *) say "as root: $command" ;; esac # brew refuses root
    say "then run this again$([ $fetch_go = no ] || [ $install = no ] || printf %s '; Go is fetched then, without root')"
    exit 1
  else
    die "no apt, dnf, apk or brew here: install these yourself, then run this again"
  fi
fi
if [ $fetch_go = yes ]; then
  [ $install = yes ] || die "install Go, or leave --no-install away: Go $go_fetched is then fetched into $go_dir"
  [ $platform != none ] || die "install Go"
  if [ $check = yes ]; then
    say "Go $go_fetched would be fetched into $go_dir (70 MB)"
    exit 1
  fi
  say "fetching Go $go_fetched into $go_dir (70 MB)"
  if [ -z "${GOPROXY:-}" ] && command -v go >/dev/null 2>&1; then # an old Go knows which proxy it is to ask
    GOPROXY=$(go env GOPROXY 2>/dev/null) && export GOPROXY || unset GOPROXY
  fi
  python3 go.py go.txt "$platform" "$go_dir" || exit 1
fi
printf %s "$use_go"
