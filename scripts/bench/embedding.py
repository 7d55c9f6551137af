#!/usr/bin/env python3
"""Embedding fine-tuning beside sentence-transformers: same rows, batches, steps and settings, one after the other.

    python scripts/bench/embedding.py --data DIR [--steps 16] [--runs 3] [--quality]

DIR is what `go run ./scripts/godocpairs --out DIR` wrote. Each run shuffles the rows with another seed, trains both
sides on them in that order (dropout on, fp32, 2 threads) and prints real tokens/s after two warm-up steps, and peak
memory of training alone, then the medians and the ratios. With --quality both trained models are measured on DIR/test.jsonl by this project's
evaluator, and the means of MAP over the runs are printed.
Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, random, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.join(ROOT, "bin", "rag-retrieval")
BATCH, LENGTH, LR, T = 32, 128, 5e-5, 0.02
WARM = 2  # steps that are not measured: both sides' first ones allocate


def peer(model_dir, rows_file, out, seed, save, length):
    """sentence-transformers' own trainer; runs in a process of its own."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from transformers import TrainerCallback
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from torch.utils.data import SequentialSampler
    torch.set_num_threads(2)
    rows = [json.loads(x) for x in open(rows_file, encoding="utf-8")]
    model = SentenceTransformer(model_dir, device="cpu")
    model.max_seq_length = length
    seen = [0]
    model[0].register_forward_pre_hook(lambda _, a: seen.__setitem__(0, seen[0] + int(a[0]["attention_mask"].sum())))

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset, batch_size, drop_last, **_):
            return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == WARM:
                self.begun, self.seen = time.perf_counter(), seen[0]
            self.ended = time.perf_counter()

    with tempfile.TemporaryDirectory() as tmp:
        args = SentenceTransformerTrainingArguments(
            output_dir=tmp, num_train_epochs=1, per_device_train_batch_size=BATCH, learning_rate=LR, weight_decay=0.01,
            warmup_steps=0.1, lr_scheduler_type="cosine", use_cpu=True, fp16=False, bf16=False, seed=seed,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True)
        trainer = InOrder(model=model, args=args, loss=MultipleNegativesRankingLoss(model, scale=1 / T),
                          train_dataset=Dataset.from_dict({k: [r[k] for r in rows] for k in ("query", "pos")}))
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        seconds, tokens = clock.ended - clock.begun, seen[0] - clock.seen
    if save:
        model.save(save)
    json.dump({"tokens": tokens, "seconds": seconds}, open(out, "w"))


def child(command):
    """Runs a command; gives its own peak memory in MiB."""
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read().decode()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{err[-2000:]}")
    return usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def measure(model, test):
    out = subprocess.run([PROGRAM, "eval", "--model", model, "--data", test, "--format", "json", "--query-max-len", str(LENGTH),
                          "--passage-max-len", str(LENGTH), "--threads", "2"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["results"][0]["map"]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", default=os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2"))
    ap.add_argument("--steps", type=int, default=16, help="steps of each run; 0: all rows")
    ap.add_argument("--length", type=int, default=LENGTH, help="tokens of a text at most")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--quality", action="store_true")
    ap.add_argument("--peer", nargs=6, help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if a.peer:
        model, rows, out, seed, save, length = a.peer
        return peer(model, rows, out, int(seed), save, int(length))
    rows = open(os.path.join(a.data, "train.jsonl"), encoding="utf-8").read().splitlines()
    test = os.path.join(a.data, "test.jsonl")
    versions = {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers")}
    print("command: python", " ".join(sys.argv))
    print("versions:", platform.python_version(), versions, "| cores:", os.cpu_count())
    found = {"peer": [], "ours": []}
    for seed in range(1, a.runs + 1):
        work = tempfile.mkdtemp()
        chosen = rows[:]
        random.Random(seed).shuffle(chosen)
        chosen = chosen[:a.steps * BATCH] if a.steps else chosen[:len(chosen) // BATCH * BATCH]
        data = os.path.join(work, "rows.jsonl")
        open(data, "w", encoding="utf-8").write("\n".join(chosen) + "\n")
        out, save = os.path.join(work, "peer.json"), os.path.join(work, "peer-model") if a.quality else ""
        memory = child([sys.executable, os.path.abspath(__file__), "--data", a.data, "--peer", a.model, data, out, str(seed), save, str(a.length)])
        r = json.load(open(out))
        found["peer"].append({"tokens_per_s": r["tokens"] / r["seconds"], "MiB": memory, "tokens": r["tokens"]})
        run = os.path.join(work, "run")
        memory = child([PROGRAM, "train", "embedding", "--model", a.model, "--train-dataset", data, "--output-dir", run,
                        "--epochs", "1", "--batch-size", str(BATCH), "--lr", str(LR), "--temperature", str(T), "--shuffle=false",
                        "--seed", str(seed), "--query-max-len", str(a.length), "--passage-max-len", str(a.length), "--threads", "2"])
        steps = [json.loads(x) for x in open(os.path.join(run, "log.jsonl"))]
        tokens = sum(x["tokens"] for x in steps[WARM:])
        found["ours"].append({"tokens_per_s": tokens / (steps[-1]["seconds"] - steps[WARM - 1]["seconds"]), "MiB": memory, "tokens": tokens})
        if a.quality:
            found["peer"][-1]["map"] = measure(save, test)
            found["ours"][-1]["map"] = measure(os.path.join(run, "model"), test)
        for side in ("peer", "ours"):
            print(f"run {seed} {side}:", "  ".join(f"{k} {v:.4f}" if k == "map" else f"{k} {v:.0f}" for k, v in found[side][-1].items()), flush=True)
        shutil.rmtree(work)
    pairs = list(zip(found["ours"], found["peer"]))
    print(f"tokens/s, median of paired ratios (ours / sentence-transformers): {statistics.median(o['tokens_per_s'] / p['tokens_per_s'] for o, p in pairs):.2f}")
    print(f"peak memory, median of paired ratios: {statistics.median(o['MiB'] / p['MiB'] for o, p in pairs):.2f}")
    if a.quality:
        ours, peers = (statistics.mean(x["map"] for x in found[s]) for s in ("ours", "peer"))
        print(f"MAP, means: ours {100 * ours:.2f}, sentence-transformers {100 * peers:.2f}, difference {100 * (ours - peers):+.2f} points")


main()
