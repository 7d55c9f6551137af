#!/usr/bin/env python3
"""bf16 beside fp32: the quality of one epoch, the same rows, seeds and settings.

    python scripts/bench/precision.py --data DATA --out DIR [--kind embedding|colbert|reranker] [--seeds 3] [--train-rows 2048]

DATA is what `go run ./scripts/godocpairs --out DATA --train-negatives 4` wrote; the settings are those of the bench README's section on
quality. Every model is evaluated in fp32, and the models trained in bf16 also in bf16. Prints MAP and the last loss of each run, the means,
and the mean of the differences seed by seed. bf16 takes the unit that RAG_RETRIEVAL_BF16 names, or the CPU's own.
DIR keeps each run; a run that is there is not made anew. Python's standard library only; needs scripts/setup.sh and bin/rag-retrieval.
"""
import argparse, json, os, statistics, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "bin", "rag-retrieval")
SETTINGS = {
    "embedding": ["--lr", "5e-5", "--query-max-len", "128", "--passage-max-len", "128"],
    "colbert": ["--neg-nums", "1", "--colbert-dim", "128", "--batch-size", "16", "--lr", "5e-5", "--query-max-len", "64", "--passage-max-len", "128"],
    "reranker": ["--loss-type", "listwise_ce", "--batch-size", "8", "--train-group-size", "5", "--max-len", "128", "--lr", "1e-4", "--lr-schedule", "linear"],
}
SCORING = {"embedding": ["--query-max-len", "128", "--passage-max-len", "128"], "colbert": [], "reranker": []}


def run(*command):
    done = subprocess.run([PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def train(a, seed, precision):
    """Trains where the run's folder has no train.json; gives the folder."""
    rows = os.path.join(a.out, f"train-{a.train_rows}.jsonl")
    with open(os.path.join(a.data, "train.jsonl"), encoding="utf-8") as f, open(rows, "w", encoding="utf-8") as to:
        to.writelines(line for _, line in zip(range(a.train_rows), f))
    folder = os.path.join(a.out, f"{a.kind}-{a.train_rows}-{precision}-{seed}")
    if not os.path.exists(os.path.join(folder, "train.json")):
        run("train", a.kind, "--model", a.model, "--train-dataset", rows, "--output-dir", folder, "--epochs", "1", "--seed", str(seed),
            "--mixed-precision", precision, *SETTINGS[a.kind])
    return folder


def measure(a, folder, precision):
    return json.loads(run("eval", "--model", os.path.join(folder, "model"), "--data", os.path.join(a.data, "test.jsonl"), "--format", "json",
                          "--mixed-precision", precision, *SCORING[a.kind]))["results"][0]["map"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--kind", choices=sorted(SETTINGS), default="embedding")
    ap.add_argument("--model", default=os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2"))
    ap.add_argument("--seeds", type=int, default=3)
    ap.add_argument("--train-rows", type=int, default=2048)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    found = []
    print("| seed | trained | last loss | MAP, scored in fp32 | scored in bf16 |\n| --- | --- | --- | --- | --- |", flush=True)
    for seed in range(1, a.seeds + 1):
        row = {}
        for precision in ("no", "bf16"):
            folder = train(a, seed, precision)
            loss = json.loads(open(os.path.join(folder, "metrics.jsonl")).readlines()[-1])["loss"]
            took = json.load(open(os.path.join(folder, "train.json")))["precision"]
            row[precision] = measure(a, folder, "no")
            scored = ""
            if precision == "bf16":
                row["scored"] = measure(a, folder, "bf16")
                scored = f"{100 * row['scored']:.2f}"
            print(f"| {seed} | {took} | {loss:.4f} | {100 * row[precision]:.2f} | {scored} |", flush=True)
        found.append(row)
    mean = {k: statistics.mean(100 * r[k] for r in found) for k in found[0]}
    print(f"MAP, means of {a.seeds} seeds: fp32 {mean['no']:.2f}, bf16 {mean['bf16']:.2f}, difference {mean['bf16'] - mean['no']:+.2f} points; "
          f"bf16 scored in bf16 {mean['scored']:.2f}")


if __name__ == "__main__":
    main()
