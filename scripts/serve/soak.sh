#!/usr/bin/env bash
# Overload: a server at twice its capacity, from outside.
#
#   scripts/serve/soak.sh --data DIR --embed MODEL --rerank MODEL --out DIR [--seconds 600]
#
# DIR of --data is what `go run ./scripts/godocpairs --out DIR` wrote. The capacity is measured first: requests/s of 16 clients that wait for
# their answers. Then twice as many requests a second come for --seconds, whether they are answered or not (vegeta, on 127.0.0.1), mixed:
# three embeddings to one rerank of 10 passages. Other clients cut their connection after 50 ms. The server takes as many requests at once as
# it answers in a second, so that its queue is a second long. The script fails unless every answer is 200 or 429, memory stays within a fifth
# of what it was after a tenth of the time, and a request that comes a second after the end is answered within a second.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=600
while [ $# -gt 0 ]; do
  case "$1" in
    --data) data=$2 ;; --embed) embed=$2 ;; --rerank) rerank=$2 ;; --out) out=$2 ;; --seconds) seconds=$2 ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
: "${data:?--data is missing}" "${embed:?--embed is missing}" "${rerank:?--rerank is missing}" "${out:?--out is missing}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
port=18300
[ -x "$out/vegeta" ] || GOBIN="$out" go install github.com/tsenart/vegeta/v12@v12.13.0
go build -o "$out/rag-retrieval" ./cmd/rag-retrieval

# One request a line: https://pkg.go.dev/github.com/tsenart/vegeta/v12/lib#Target
python3 - "$data/test.jsonl" "$port" > "$out/targets.json" <<'PY'
import base64, json, random, sys
rng, rows = random.Random(1), [json.loads(x) for x in open(sys.argv[1], encoding="utf-8")]
pool = [d for r in rows for d in r["positive"] + r["negative"]]
for i in range(512):
    row = rng.choice(rows)
    if i % 4 == 3:
        route, body = "/v1/rerank", {"query": row["query"], "documents": [d[:int(20 * 20 ** rng.random())] for d in rng.sample(pool, 10)]}
    else:
        route, body = "/v1/embeddings", {"input": [rng.choice([row["query"], row["positive"][0][:int(20 * 30 ** rng.random())]])]}
    print(json.dumps({"method": "POST", "url": f"http://127.0.0.1:{sys.argv[2]}{route}", "header": {"Content-Type": ["application/json"]},
                      "body": base64.b64encode(json.dumps(body).encode()).decode()}))
PY

start() { # requests at once
  "$out/rag-retrieval" serve --model "embed=$embed" --model "rerank=$rerank" --listen "127.0.0.1:$port" --max-concurrent-requests "$1" > "$out/server.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do curl -sf -o /dev/null "http://127.0.0.1:$port/health" && return; sleep 0.1; done
  tail "$out/server.log" >&2
  exit 1
}
stop() { kill "$server"; wait "$server"; }
attack() { "$out/vegeta" attack -format=json "-targets=$out/targets.json" -timeout=120s "$@"; }
rss() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$server/status"; }

start 512
attack -rate=0 -workers=16 -max-workers=16 -duration=5s > /dev/null # warm up
attack -rate=0 -workers=16 -max-workers=16 -duration=15s > "$out/capacity.bin"
capacity=$("$out/vegeta" report -type=json "$out/capacity.bin" | python3 -c 'import json, sys; print(max(1, round(json.load(sys.stdin)["throughput"])))')
stop
start "$capacity"
echo "capacity $capacity requests/s; now $((2 * capacity)) a second for $seconds s"

attack "-rate=$((2 * capacity))" -workers=64 -max-workers=4000 "-duration=${seconds}s" > "$out/soak.bin" &
load=$!
(while kill -0 "$load" 2> /dev/null; do # clients that go away
  curl -s -m 0.05 -o /dev/null "http://127.0.0.1:$port/v1/embeddings" -d '{"input": ["a client that cuts the connection", "and does not wait for the answer"]}' || true
  sleep 0.2
done) &
echo "| seconds | RSS, MiB |"
echo "| --- | --- |"
begun=$(date +%s)
for i in $(seq 0 10); do
  while [ $(($(date +%s) - begun)) -lt $((seconds * i / 10)) ]; do sleep 0.2; done
  memory[i]=$(rss)
  echo "| $((seconds * i / 10)) | ${memory[i]} |"
done
sleep 1
lone=$(curl -s -w '%{http_code} %{time_total}' -o /dev/null "http://127.0.0.1:$port/v1/embeddings" -d '{"input": "a request a second after the end"}')
wait "$load"
stop || { echo "the server ended with an error: $(tail -1 "$out/server.log")" >&2; exit 1; }
"$out/vegeta" report "$out/soak.bin"
echo "a second after the end: status and seconds $lone"
"$out/vegeta" report -type=json "$out/soak.bin" | python3 -c '
import json, sys
memory, (status, seconds), codes = [int(x) for x in sys.argv[1].split()], sys.argv[2].split(), json.load(sys.stdin)["status_codes"]
wrong = []
if set(codes) - {"200", "429"} or "200" not in codes: wrong.append(f"status codes {codes}, want 200 and 429 only")
if max(memory[1:]) > 1.2 * memory[1]: wrong.append(f"memory grew from {memory[1]} to {max(memory)} MiB")
if status != "200" or float(seconds) > 1: wrong.append(f"the request after the end got {status} in {seconds} s")
sys.exit("; ".join(wrong) or 0)' "${memory[*]}" "$lone"
echo "passed"
