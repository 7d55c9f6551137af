#!/usr/bin/env python3
"""Encoding and reranking beside the Python peers: the same texts and models, one after the other.

    python scripts/bench/scoring.py --data DIR --embedding FOLDER --reranker FOLDER [--runs 3] [--texts 2000]
        [--precision no|bf16|auto] [--peer-precision fp32|bf16]

DIR is what `go run ./scripts/godocpairs --out DIR` wrote. FOLDERs are models that this project saved, with model.onnx in
them. Texts are at most 256 tokens, 2 threads. --precision is this project's --mixed-precision; --peer-precision bf16 has sentence-transformers'
models in bfloat16 (ONNX Runtime's stays fp32). The peers: sentence-transformers' encode and CrossEncoder.predict (batches
of 32, sorted by length by themselves), and ONNX Runtime from Python on model.onnx, batches of 32 sorted by length and padded.
This project's time is the whole command's, its start and loading included; the peers' is without them, after a warm-up.
Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, statistics, subprocess, time
import numpy as np, onnxruntime, torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bin", "rag-retrieval")
LENGTH, BATCH = 256, 32
torch.set_num_threads(2)


def timed(f):
    begun = time.perf_counter()
    out = f()
    return time.perf_counter() - begun, out


def ours(command, rows):
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    out = subprocess.run([PROGRAM, *command, "--threads", "2"], input=text, capture_output=True, text=True, check=True).stdout
    return [json.loads(x) for x in out.splitlines()]


def on_onnxruntime(folder, output, first, second=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"), options)
    names = {i.name for i in session.get_inputs()}
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run():
        ids = tokenizer(first, second, truncation="only_second" if second else True, max_length=LENGTH)
        order = sorted(range(len(first)), key=lambda i: -len(ids["input_ids"][i]))
        out = [None] * len(first)
        for at in range(0, len(order), BATCH):
            picked = order[at:at + BATCH]
            batch = tokenizer.pad({k: [v[i] for i in picked] for k, v in ids.items()}, return_tensors="np")
            got = session.run([output], {k: v for k, v in batch.items() if k in names})[0]
            for i, x in zip(picked, got):
                out[i] = x
        return np.array(out)

    return run


def compare(name, runs, sides, peer, unit):
    seconds = {side: [] for side in sides}
    results = {}
    for side, f in sides.items():
        if not side.startswith("this project"):
            f()  # the peers' warm-up
    for _ in range(runs):
        for side, f in sides.items():
            s, results[side] = timed(f)
            seconds[side].append(s)
    first = next(iter(sides))
    for side, all_seconds in seconds.items():
        worst = float(np.abs(np.array(results[side], dtype=np.float64) - np.array(results[first], dtype=np.float64)).max())
        ratio = statistics.median(p / o for p, o in zip(all_seconds, seconds[first]))
        print(f"{name}, {side}: {unit / statistics.median(all_seconds):.1f}/s, {ratio:.2f} x the time of {first}, largest difference {worst:.1g}")
    ratio = statistics.median(p / o for p, o in zip(seconds[peer], seconds[first]))
    print(f"{name}/s, median of paired ratios (ours / peer): {ratio:.2f}")


def main():
    ap = argparse.ArgumentParser()
    for flag in ("--data", "--embedding", "--reranker"):
        ap.add_argument(flag, required=True)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--texts", type=int, default=2000)
    ap.add_argument("--precision", choices=("no", "bf16", "auto"), default="no", help="of this project: its --mixed-precision")
    ap.add_argument("--peer-precision", choices=("fp32", "bf16"), default="fp32")
    a = ap.parse_args()
    print("versions:", platform.python_version(), {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers", "onnxruntime")})
    texts = [json.loads(x)["pos"] for x in open(os.path.join(a.data, "train.jsonl"), encoding="utf-8")][:a.texts]
    model = SentenceTransformer(a.embedding, device="cpu")
    model.max_seq_length = LENGTH
    if a.peer_precision == "bf16":
        model.bfloat16()
    own = ("--mixed-precision", a.precision)
    print(f"precision: ours {a.precision}, peer {a.peer_precision}")

    def encoded(*flags):
        rows = ours(["encode", "--model", a.embedding, "--as", "passage", "--max-len", str(LENGTH), *flags], [{"text": t} for t in texts])
        return [r["embedding"] for r in rows]

    compare(f"{len(texts)} texts", a.runs, {
        "this project": lambda: encoded(*own),
        "this project, --int8": lambda: encoded("--int8", *own),
        "sentence-transformers": lambda: model.encode(texts, batch_size=BATCH, show_progress_bar=False),
        "ONNX Runtime, padded": on_onnxruntime(a.embedding, "sentence_embedding", texts),
    }, "sentence-transformers", len(texts))
    tests = [json.loads(x) for x in open(os.path.join(a.data, "test.jsonl"), encoding="utf-8")]
    pool = [d for r in tests for d in r["positive"] + r["negative"]]
    rows = [{"query": r["query"], "documents": pool[100 * i:100 * i + 100]} for i, r in enumerate(tests[:20])]
    pairs = [(r["query"], d) for r in rows for d in r["documents"]]
    cross = CrossEncoder(a.reranker, device="cpu", max_length=LENGTH)
    if a.peer_precision == "bf16":
        cross.bfloat16()
    padded = on_onnxruntime(a.reranker, "logits", [q for q, _ in pairs], [d for _, d in pairs])

    def reranked(*flags):
        return [s for r in ours(["rerank", "--model", a.reranker, "--max-len", str(LENGTH), *flags], rows) for s in r["scores"]]

    compare(f"{len(pairs)} pairs", a.runs, {
        "this project": lambda: reranked(*own),
        "this project, --int8": lambda: reranked("--int8", *own),
        "CrossEncoder": lambda: cross.predict(pairs, batch_size=BATCH, show_progress_bar=False, activation_fn=torch.nn.Identity()),
        "ONNX Runtime, padded": lambda: padded()[:, 0],
    }, "CrossEncoder", len(pairs))


main()
