"""The client beside the fuzzing: asks the same questions until the file STOP is there, and fails if an answer changes.

    python fuzz_client.py URL STOP
"""
import json, os, sys, time, urllib.request

url, stop = sys.argv[1:]
QUESTIONS = [
    ("/v1/embeddings", {"model": "embed", "input": ["the a", "er b c"]}),
    ("/rerank", {"query": "the a", "texts": ["er", "b", "the er"], "raw_scores": True}),
    ("/pooling", {"model": "colbert", "input": "the er"}),
]


def numbers(x):
    if isinstance(x, dict):
        return [n for k, v in sorted(x.items()) if k not in ("id", "created") for n in numbers(v)]
    if isinstance(x, list):
        return [n for v in x for n in numbers(v)]
    return [x] if isinstance(x, (int, float)) else []


def ask(path, body):
    r = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=120) as f:  # a status other than 200 raises
        return numbers(json.load(f))


want = [ask(*q) for q in QUESTIONS]
n = 0
while not os.path.exists(stop):
    for q, w in zip(QUESTIONS, want):
        got = ask(*q)
        assert len(got) == len(w) and max(abs(a - b) for a, b in zip(got, w)) <= 1e-6, (q, got, w)
        n += 1
    time.sleep(0.05)
print(f"the other client: {n} answers, all as the first ones")
