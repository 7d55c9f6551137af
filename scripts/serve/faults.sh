#!/usr/bin/env bash
# Faults against a real server: clients that send and read slowly, cut connections, send broken bodies; models that are replaced, cut
# short and taken away, with SIGHUP; a log on a full disk. Clients that behave ask all the time, and their answers must be right.
#
#   ./scripts/serve/faults.sh [SECONDS]      # default 60
#
# It needs scripts/setup.sh with the small model. The full disk is a small tmpfs and needs root; without it /dev/full takes its place.
# It prints what the clients counted, what the log has, and the server's memory before and after.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
work=$(mktemp -d "${TMPDIR:-/tmp}/rag-retrieval-faults.XXXXXX")
server=''
clean() {
  [ -z "$server" ] || { kill -9 "$server" && wait "$server"; } 2>/dev/null || true
  umount "$work/disk" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
fail() { echo "faults.sh: $*" >&2; exit 1; }
model=.rag-retrieval/models/all-MiniLM-L6-v2
[ -f $model/model.safetensors ] || fail "no $model: run scripts/setup.sh"
go build -o "$work/rag-retrieval" ./cmd/rag-retrieval
go build -o "$work/faults" ./scripts/serve/faults
cp -rL $model "$work/embed"
cp -rL $model "$work/victim"

# start LOG: starts the server on a free port.
start() {
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$work/rag-retrieval" serve --model embed="$work/embed" --model victim="$work/victim" --listen 127.0.0.1:"$port" 2>"$1" &
  server=$!
  for _ in $(seq 200); do
    (exec 3<>/dev/tcp/127.0.0.1/"$port") 2>/dev/null && return
    sleep 0.1
  done
  fail "the server did not start"
}
memory() { awk '/^VmRSS/ {print int($2 / 1024) " MB"}' "/proc/$server/status"; }
stop() {
  kill -TERM "$server"
  wait "$server" || fail "the server ended with $?"
  server=''
}
# ask MODEL STATUS: asks a model until the answer has the status, for at most 10 s.
ask() {
  for _ in $(seq 100); do
    got=$(python3 - "$port" "$1" <<'P'
import sys, urllib.request, urllib.error
r = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/v1/embeddings", b'{"model": "%s", "input": "a"}' % sys.argv[2].encode(), {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(r).status)
except urllib.error.HTTPError as e:
    print(e.code)
P
    )
    [ "$got" = "$2" ] && return
    sleep 0.1
  done
  fail "$1 answers with $got, want $2"
}

echo "== clients and models, $seconds s"
start "$work/log"
before=$(memory)
"$work/faults" --url http://127.0.0.1:"$port" --model embed --seconds "$seconds" &
clients=$!
for ((end = SECONDS + seconds - 5; SECONDS < end; )); do
  cp -rL $model "$work/new" # embed is replaced while it is asked
  mv "$work/embed" "$work/old"
  mv "$work/new" "$work/embed"
  rm -rf "$work/old"
  : >"$work/victim/model.safetensors" # victim is written over, as nobody should
  ask victim 500
  cp $model/model.safetensors "$work/victim/"
  kill -HUP $server
  ask victim 200
  rm -rf "$work/victim"
  kill -HUP $server
  sleep 1
  ask victim 200
  cp -rL $model "$work/victim"
  kill -HUP $server
  sleep 2
done
wait $clients || fail "the clients failed"
echo "memory: $before, $(memory) at the end"
stop
python3 - "$work/log" <<'P'
import collections, json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
statuses = collections.Counter(x["status"] for x in lines if x["msg"] == "request")
others = collections.Counter(x["msg"] for x in lines if x["msg"] != "request")
print("log:", dict(sorted(statuses.items())), dict(others))
bad = [x for x in lines if x["msg"] == "panic" or x.get("status", 0) >= 500 and not x.get("error")]
if bad:
    sys.exit(f"faults.sh: {len(bad)} panics or errors without a reason, such as {bad[0]}")
P

echo "== a log on a full disk"
log=/dev/full
mkdir "$work/disk"
if mount -t tmpfs -o size=16k tmpfs "$work/disk" 2>/dev/null; then log=$work/disk/log; fi
start "$log"
"$work/faults" --url http://127.0.0.1:"$port" --model embed --seconds 10 >/dev/null || fail "the clients failed"
[ "$log" = /dev/full ] || df --output=pcent "$work/disk" | grep -q 100% || fail "the disk did not fill up"
stop
echo "no fault was found"
