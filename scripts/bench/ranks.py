#!/usr/bin/env python3
"""Two ranks beside one rank with two threads, and beside torchrun: same rows, same batches of the whole job, in one run.

    python scripts/bench/ranks.py --data DIR [--kinds embedding,embedding-local,reranker] [--steps 12] [--runs 3] [--batch 64] [--length 128]
                                  [--bind core] [--json FILE]

DIR is what `go run ./scripts/godocpairs --train-negatives 4 --out DIR` wrote. Each run shuffles the rows with another seed and trains the same
model (all-MiniLM-L6-v2, fp32, dropout on) one after the other as
  1x1   one rank with one thread
  1x2   one rank with two threads
  2x1   two ranks with one thread each, by the mpirun that setup.sh --mpi links
  peer  torchrun with two processes of one thread each: DistributedDataParallel over gloo, sentence-transformers' trainer
Every other run goes through these in the opposite order. --batch is the batch of the whole job; each of two ranks has half of it. Kinds:
  embedding        in-batch negatives of both ranks (all_gather); the peer's MultipleNegativesRankingLoss with gather_across_devices
  embedding-local  in-batch negatives of each rank's own half (all_gather off); the peer without gather_across_devices
  reranker         pairs with labels, binary cross-entropy
Printed are real tokens/s of the whole job (without padding, counted by each side's own tokenizer, the same file) after two warm-up steps,
medians and paired ratios; the share of a step that two ranks spend in transfers, and in waiting for each other (see ortrain.Step);
and a Markdown table. --json also writes every run, for scripts/bench/scaling. --bind binds each rank to a core (MPICH's -bind-to).
Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh --mpi to have run, and two idle cores.
"""
import argparse, importlib.metadata, json, os, platform, random, shutil, statistics, subprocess, sys, tempfile

from finetune import LR, PROGRAM, ROOT, T, WARM, clock_of, in_order, settings

MPIRUN = os.path.join(ROOT, ".rag-retrieval", "lib", "mpirun")
KINDS = ("embedding", "embedding-local", "reranker")
SIDES = ("1x1", "1x2", "2x1", "peer")
GRADIENTS = 4 * 22_713_216  # bytes of all-MiniLM-L6-v2's parameters


def peer(kind, model_dir, rows_file, out, seed, batch, length):
    """One process of the Python side. torchrun has set the variables that join it to the other; each writes its own tokens."""
    import torch
    from datasets import Dataset
    torch.set_num_threads(1)
    rows = [json.loads(x) for x in open(rows_file, encoding="utf-8")]
    options = dict(ddp_backend="gloo", **settings(tempfile.mkdtemp(), seed, batch // int(os.environ["WORLD_SIZE"])))
    if kind == "reranker":
        from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer as Trainer, CrossEncoderTrainingArguments as Arguments
        from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
        model = CrossEncoder(model_dir, num_labels=1, device="cpu", max_length=length)
        options["ddp_find_unused_parameters"] = False  # all are used; DDP does not find the outputs in CrossEncoder's
        loss, keys = BinaryCrossEntropyLoss(model), {"query": "query", "passage": "content", "label": "label"}
    else:
        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer as Trainer, SentenceTransformerTrainingArguments as Arguments
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
        model = SentenceTransformer(model_dir, device="cpu")
        model.max_seq_length = length
        loss, keys = MultipleNegativesRankingLoss(model, scale=1 / T, gather_across_devices=kind == "embedding"), {"query": "query", "pos": "pos"}
    seen = [0]
    model[0].register_forward_pre_hook(lambda _, a: seen.__setitem__(0, seen[0] + int(a[0]["attention_mask"].sum())))
    trainer = in_order(Trainer)(model=model, args=Arguments(**options), loss=loss,
                                train_dataset=Dataset.from_dict({k: [r[v] for r in rows] for k, v in keys.items()}))
    clock = clock_of(seen)
    trainer.add_callback(clock)
    trainer.train()
    json.dump({"tokens": seen[0] - clock.seen, "seconds": clock.ended - clock.begun, "steps": trainer.state.global_step - WARM},
              open(f"{out}.{os.environ['RANK']}", "w"))


def run(command, env=None):
    p = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    if p.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{p.stderr[-3000:]}")


def run_peer(a, kind, rows, seed, work):
    out = os.path.join(work, "peer")
    run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", os.path.abspath(__file__), "--data", a.data,
         "--peer", kind, a.model, rows, out, str(seed), str(a.batch), str(a.length)], {"OMP_NUM_THREADS": "1"})
    ranks = [json.load(open(f"{out}.{r}")) for r in range(2)]
    seconds = max(r["seconds"] for r in ranks)
    tokens = sum(r["tokens"] for r in ranks)
    return {"tokens_per_s": tokens / seconds, "tokens": tokens, "step_seconds": seconds / ranks[0]["steps"]}


def run_ours(a, kind, rows, seed, work, ranks, threads):
    out = os.path.join(work, "run")
    launcher = [MPIRUN, "-n", str(ranks), *(["-bind-to", a.bind] if a.bind else [])] if ranks > 1 else []
    if kind == "reranker":
        own = ["--max-len", str(a.length), "--lr-schedule", "cosine"]
    else:
        own = ["--query-max-len", str(a.length), "--passage-max-len", str(a.length), "--temperature", str(T)]
        if ranks > 1:
            own.append("--all-gather=" + ("true" if kind == "embedding" else "false"))
    run([*launcher, PROGRAM, "train", kind.split("-")[0], "--model", a.model, "--train-dataset", rows, "--output-dir", out, "--epochs", "1",
         "--batch-size", str(a.batch // ranks), "--lr", str(LR), "--shuffle=false", "--seed", str(seed), "--threads", str(threads), *own])
    steps = [json.loads(x) for x in open(os.path.join(out, "metrics.jsonl"))]
    shutil.rmtree(out)
    counted = steps[WARM:]
    seconds, tokens = steps[-1]["seconds"] - steps[WARM - 1]["seconds"], sum(x["tokens"] for x in counted)
    found = {"tokens_per_s": tokens / seconds, "tokens": tokens, "step_seconds": seconds / len(counted),
             "tokens_of_steps": [x["tokens"] for x in counted]}
    if ranks > 1:  # a step's row has the times of the steps before it
        before = steps[-2]["seconds"] - steps[WARM - 1]["seconds"]
        for key in ("transfer", "waiting"):
            found[key] = (steps[-1][key + "_seconds"] - steps[WARM][key + "_seconds"]) / before
    return found


def chosen_rows(kind, rows, count):
    if kind == "reranker":
        rows = [{"query": r["query"], "content": r["neg"][0] if i % 2 else r["pos"], "label": 1.0 - i % 2} for i, r in enumerate(rows)]
    if len(rows) < count:
        sys.exit(f"{len(rows)} rows, want {count}: fewer --steps, or a smaller --batch")
    return rows[:count]


def one_run(a, kind, rows, number):
    """All sides on the same rows."""
    shuffled = rows[:]
    random.Random(number).shuffle(shuffled)
    found = {}
    with tempfile.TemporaryDirectory() as work:
        data = os.path.join(work, "rows.jsonl")
        with open(data, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in chosen_rows(kind, shuffled, a.steps * a.batch))
        for side in SIDES if number % 2 else SIDES[::-1]:
            if side == "peer":
                found[side] = run_peer(a, kind, data, number, work)
            else:
                ranks, threads = map(int, side.split("x"))
                found[side] = run_ours(a, kind, data, number, work, ranks, threads)
            print(f"{kind}, run {number}, {side}:", "  ".join(f"{k} {v:.4g}" for k, v in found[side].items() if not isinstance(v, list)),
                  f" load {os.getloadavg()[0]:.1f}", flush=True)
    if len({x["tokens"] for x in found.values()}) > 1:
        print("the sides counted different tokens:", {s: x["tokens"] for s, x in found.items()})
    return found


def table(found):
    rows = ["| training | 1 rank, 1 thread | 1 rank, 2 threads | 2 ranks, 1 thread each | torchrun, 2 processes | 2 ranks / 2 threads | 2 ranks / torchrun | in transfers | waiting |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for kind, runs in found.items():
        middle = lambda f: statistics.median(f(r) for r in runs)
        speed = [f"{middle(lambda r: r[s]['tokens_per_s']):,.0f}" for s in SIDES]
        ratios = [f"{middle(lambda r: r['2x1']['tokens_per_s'] / r[s]['tokens_per_s']):.2f}" for s in ("1x2", "peer")]
        shares = [f"{100 * middle(lambda r: r['2x1'][k]):.1f} %" for k in ("transfer", "waiting")]
        rows.append("| " + " | ".join([kind, *speed, *ratios, *shares]) + " |")
    return "\n".join(rows)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--kinds", default=",".join(KINDS))
    ap.add_argument("--model", default=os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2"))
    ap.add_argument("--steps", type=int, default=12, help="steps of each run, of which the first two are not measured; at least 4")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--batch", type=int, default=64, help="of the whole job")
    ap.add_argument("--length", type=int, default=128, help="tokens of a text, or of a pair, at most")
    ap.add_argument("--bind", help="what mpirun binds a rank to, such as core; default: the launcher's own choice")
    ap.add_argument("--json", help="file for every run's figures")
    ap.add_argument("--peer", nargs=7, help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if a.peer:
        kind, model, rows, out, seed, batch, length = a.peer
        return peer(kind, model, rows, out, int(seed), int(batch), int(length))
    kinds = a.kinds.split(",")
    if a.steps < WARM + 2 or a.batch % 2 or not set(kinds) <= set(KINDS):
        sys.exit(f"want at least {WARM + 2} steps, an even batch, and kinds of {', '.join(KINDS)}")
    rows = [json.loads(x) for x in open(os.path.join(a.data, "train.jsonl"), encoding="utf-8")]
    if "neg" not in rows[0]:
        sys.exit(f"{a.data}: no negatives; make the data with --train-negatives 4")
    versions = {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers")}
    print("command: python", " ".join(sys.argv))
    print("versions:", platform.python_version(), versions, "| cores:", os.cpu_count())
    found = {kind: [one_run(a, kind, rows, number) for number in range(1, a.runs + 1)] for kind in kinds}
    print(table(found))
    if a.json:
        json.dump({"command": " ".join(sys.argv), "versions": versions, "batch": a.batch, "length": a.length, "gradient_bytes": GRADIENTS,
                   "runs": found}, open(a.json, "w"), indent=1)


if __name__ == "__main__":
    main()
