#!/usr/bin/env bash
# Sends malformed requests to `rag-retrieval serve`, made by schemathesis from the OpenAPI file that the server gives, while another
# client asks the same questions again and again. Fails if a request gets a 500, a response is not as the file says, the log has a panic
# or a failure, the other client gets another answer than at first, or fewer than 2,000 requests were sent. Not in CI: it takes minutes.
#
#   go build -o bin/rag-retrieval ./cmd/rag-retrieval
#   PYTHON=VENV/bin/python ./scripts/serve/fuzz.sh [EXAMPLES [SEED]]
#
# EXAMPLES are those of each operation (default 200). Versions: scripts/serve/fuzz-requirements.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3} examples=${1:-200} seed=${2:-1}
failed=0 work=$(mktemp -d) st=$(cd "$(dirname "$(command -v "${PYTHON:-python3}")")" && pwd)/st
server= client=
cleanup() {
  for p in $client $server; do kill "$p" 2>/dev/null && wait "$p" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
bin/rag-retrieval serve --listen "127.0.0.1:$port" --log-level info --model embed=models/embedding/testdata/tiny \
  --model rerank=models/finetune/testdata/bert-reranker --model colbert=models/colbert/testdata/pylate 2>"$work/log" &
server=$!
for _ in $(seq 300); do curl -sf "$url/ready" >/dev/null && break; kill -0 $server; sleep 0.2; done

"$python" scripts/serve/fuzz_client.py "$url" "$work/stop" & client=$!
(cd "$work" && "$st" run "$url/openapi.json" --url "$url" --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --mode negative --workers 4 --phases coverage,fuzzing --max-examples "$examples" --seed "$seed" --continue-on-failure --request-timeout 60 --suppress-health-check all --no-color) | tail -"${TAIL:-60}" || failed=1
touch "$work/stop"
wait "$client" || failed=1
client=
kill -TERM $server; wait $server || { echo "the server ended with $?" >&2; exit 1; }
server=
"$python" - "$work/log" <<'PY'
import collections, json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
requests = [x for x in lines if x["msg"] == "request"]
statuses = collections.Counter(x["status"] for x in requests)
bad = [x for x in lines if x["level"] == "ERROR" or x["msg"] == "panic"]
print("requests", len(requests), "by status", dict(sorted(statuses.items())))
for x in bad[:5]:
    print(x)
malformed = sum(n for s, n in statuses.items() if 400 <= s < 500)
if bad or malformed < 2000:
    sys.exit(f"{len(bad)} errors in the log, {malformed} malformed requests, want none and at least 2000")
PY
exit $failed
