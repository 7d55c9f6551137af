#!/usr/bin/env bash
# Tests that the README names everything that is needed. It makes a bare Debian (debootstrap's minbase, git, certificates) and runs
# the README's two commands in it on the checkout's last commit, as root and as an ordinary user. As root, setup.sh installs what
# is missing. As a user, the first try must name one command; root then runs it. Needs root and debootstrap.
#
#   ./scripts/bare.sh [bookworm|trixie] [--as root|user] [--quick]     # default: trixie, both
#
#   --quick   only the demo, on few rows: shows whether set-up, training and evaluation work
#
# The system lies in a temporary folder in TMPDIR (250 MB, 4 GB at the end) and is removed. It gets this machine's settings for
# proxies, registries and certificates. The run takes up to an hour on 2 cores; with --quick a quarter of that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '%s\n' "== $*"; }
die() { printf 'bare.sh: %s\n' "$*" >&2; exit 1; }

suite=trixie who='root user' quick=no
while [ $# -gt 0 ]; do
  case $1 in
    bookworm | trixie) suite=$1 ;;
    --as) who=${2:-}; shift; case $who in root | user) ;; *) die "--as wants root or user" ;; esac ;;
    --quick) quick=yes ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' scripts/bare.sh; exit 0 ;;
    *) die "unknown argument $1; see --help" ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || die "debootstrap and chroot need root"
command -v debootstrap >/dev/null 2>&1 || die "debootstrap is missing: apt-get install debootstrap"
# Mounts are visible only in here. The system removes them when this process ends, however it ends.
[ -n "${BARE_UNSHARED:-}" ] || BARE_UNSHARED=1 exec unshare --mount --pid --fork --kill-child scripts/bare.sh "$suite" \
  $([ "$who" = 'root user' ] || echo "--as $who") $([ $quick = no ] || echo --quick)
[ -z "$(git status --porcelain)" ] || say "note: what is not committed is not tried"

work=$(mktemp -d "${TMPDIR:-/tmp}/rag-retrieval-bare.XXXXXX")
system=''
clean() {
  for d in proc sys dev; do umount -l "$work"/*/"$d" 2>/dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'say "bare.sh: line $LINENO failed: $BASH_COMMAND"' ERR

# If this machine is a Debian, the mirror that it takes its packages from.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 2>/dev/null | sed -n 's/^Debian //p' | grep -v security | head -1) || true
say "debootstrap $suite"
debootstrap --variant=minbase --include=ca-certificates,git "$suite" "$work/base" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 ||
  { tail -5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }

# in_system COMMAND ...: runs COMMAND as the system's root, with an empty environment.
in_system() {
  chroot "$system" env -i ${variables[@]+"${variables[@]}"} PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 HOME=/root "$@"
}
# carry: copies this machine's access to the network: names, certificates, and the settings of apt, pip, cargo and go.
carry() {
  local f
  cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
  cp -R /usr/local/share/ca-certificates/. "$system/usr/local/share/ca-certificates/" 2>/dev/null || true
  in_system update-ca-certificates >/dev/null 2>&1 || die "update-ca-certificates failed"
  apt-config dump 2>/dev/null | grep '^Acquire::' >"$system/etc/apt/apt.conf.d/90host" || true
  for f in "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" "${CARGO_HTTP_CAINFO:-}"; do
    if [ -f "$f" ] && [ ! -e "$system$f" ]; then
      mkdir -p "$(dirname "$system$f")"
      cp "$f" "$system$f"
    fi
  done
  for f in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
    [ ! -f "$f" ] || cat "$f" >>"$system/etc/pip.conf"
  done
  f=${CARGO_HOME:-$HOME/.cargo}/config.toml
  [ ! -f "$f" ] || { mkdir -p "$system/.cargo" && cp "$f" "$system/.cargo/"; } # cargo reads it from every folder above
}
variables=()
for v in $(compgen -e | grep -iE '^(https?_proxy|no_proxy|all_proxy|ssl_cert_(file|dir)|pip_(index_url|extra_index_url|cert|default_timeout|proxy|trusted_host)|cargo_(http|net|registries|source)_.*|goproxy|gosumdb|gonosumdb|gonoproxy|goprivate|goinsecure)$'); do
  variables+=("$v=${!v}")
done
# The go command here may have another default proxy than setup.sh uses where there is no go command.
if [ -z "${GOPROXY:-}" ] && command -v go >/dev/null 2>&1; then variables+=("GOPROXY=$(go env GOPROXY)"); fi

# start NAME: makes a copy of the bare system with a checkout that belongs to user NAME.
start() {
  system=$work/$1
  cp -a "$work/base" "$system"
  carry
  mount -t proc proc "$system/proc"
  mount --rbind /dev "$system/dev"
  mount -t sysfs -o ro sysfs "$system/sys" 2>/dev/null || true
  home=/root
  if [ "$1" != root ]; then
    home=/home/$1
    in_system useradd --create-home --shell /bin/bash "$1"
  fi
  git clone --quiet --no-hardlinks . "$system$home/checkout"
  in_system chown -R "$1:" "$home"
}
# as NAME COMMAND: runs COMMAND in the checkout as user NAME.
as() {
  in_system setpriv --reuid "$1" --regid "$1" --init-groups env HOME="$home" USER="$1" bash -c "cd $home/checkout && $2"
}
# both NAME: runs the README's commands as user NAME.
both() {
  say "$suite, $1: ./scripts/demo.sh"
  as "$1" "./scripts/demo.sh $([ $quick = no ] || echo --train-rows 64 --test-queries 20)"
  [ $quick = no ] || return 0
  say "$suite, $1: ./scripts/test.sh"
  as "$1" ./scripts/test.sh
}
stop() {
  umount -l "$system/proc" "$system/dev"
  umount -l "$system/sys" 2>/dev/null || true
  rm -rf --one-file-system "$system"
}

case $who in *root*)
  start root
  both root
  stop
  ;;
esac
case $who in *user*)
  start somebody
  say "$suite, user: ./scripts/demo.sh, which must name one command for root"
  if as somebody ./scripts/demo.sh 2>"$work/first"; then die "it passed on a bare system"; fi
  cat "$work/first"
  [ ! -e "$system$home/.cache" ] || die "something was downloaded before that"
  command=$(sed -n 's/^as root: //p' "$work/first")
  [ -n "$command" ] || die "it names no command for root"
  say "$suite, root: $command"
  in_system DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$work/packages.log" 2>&1 ||
    { tail -5 "$work/packages.log" >&2; die "that command fails"; }
  both somebody
  stop
  ;;
esac
say "$suite: passed as ${who/ / and as }"
