#!/usr/bin/env python3
"""Fine-tuning on a GPU beside sentence-transformers: same rows, batches, order and settings, one after the other.

    python scripts/bench/cuda.py --data DIR --model MODEL [--precision bf16] [--lengths 128,256,512] [--batch 64] [--steps 60] [--runs 3]

DIR is what `go run ./scripts/godocpairs --out DIR` wrote; MODEL is a folder or, for both sides, in the hub's cache. The peer
trains with torch's SDPA attention in the same precision. Prints a Markdown table of real tokens/s after the warm-up steps
and of the GPU memory that each process took at most, medians of the runs, with the versions. cuda.sh does all of it.
"""
import argparse, importlib.metadata, json, os, random, shutil, statistics, subprocess, sys, tempfile, time

from finetune import LR, PROGRAM, T, clock_of, in_order

WARM = 10  # steps that are not measured: allocators settle
PEER_PRECISION = {"no": {}, "bf16": {"bf16": True}, "fp16": {"fp16": True}}


def peer(a):
    """The Python side; runs in a process of its own."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    rows = [json.loads(x) for x in open(a.rows, encoding="utf-8")]
    model = SentenceTransformer(a.model, device=a.peer_device, model_kwargs={"attn_implementation": "sdpa"})
    model.max_seq_length = a.length
    seen = [0]
    model[0].register_forward_pre_hook(lambda _, x: seen.__setitem__(0, seen[0] + int(x[0]["attention_mask"].sum())))
    with tempfile.TemporaryDirectory() as tmp:
        trainer = in_order(SentenceTransformerTrainer)(
            model=model, loss=MultipleNegativesRankingLoss(model, scale=1 / T),
            args=SentenceTransformerTrainingArguments(
                output_dir=tmp, num_train_epochs=1, per_device_train_batch_size=a.batch, learning_rate=LR, weight_decay=0.01,
                warmup_steps=0.1, lr_scheduler_type="cosine", use_cpu=a.peer_device == "cpu", save_strategy="no",
                logging_strategy="no", report_to="none", disable_tqdm=True, **PEER_PRECISION[a.precision]),
            train_dataset=Dataset.from_dict({k: [r[k] for r in rows] for k in ("query", "pos")}))
        clock = clock_of(seen, WARM)
        trainer.add_callback(clock)
        trainer.train()
    json.dump({"tokens": seen[0] - clock.seen, "seconds": clock.ended - clock.begun}, open(a.out, "w"))


def gpu_memory(pid):
    """MiB that a process holds on the GPUs; 0 where nvidia-smi does not say."""
    try:
        out = subprocess.run(["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
                             capture_output=True, text=True).stdout
    except FileNotFoundError:
        return 0
    return sum(int(mib) for p, mib in (line.split(",") for line in out.splitlines() if line.count(",") == 1)
               if int(p) == pid and mib.strip().isdigit())


def child(command):
    """Runs a command; gives the GPU memory that it held at most."""
    with tempfile.TemporaryFile() as err:
        p, most = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err), 0
        while p.poll() is None:
            most = max(most, gpu_memory(p.pid))
            time.sleep(0.2)
        if p.returncode:
            err.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{err.read().decode()[-2000:]}")
    return most


def ours(a, data, run, length, seed):
    memory = child([PROGRAM, "train", "embedding", "--model", a.model, "--train-dataset", data, "--output-dir", run, "--epochs", "1",
                    "--batch-size", str(a.batch), "--lr", str(LR), "--shuffle=false", "--seed", str(seed), "--temperature", str(T),
                    "--query-max-len", str(length), "--passage-max-len", str(length), "--provider", a.provider,
                    "--mixed-precision", a.precision])
    steps = [json.loads(x) for x in open(os.path.join(run, "metrics.jsonl"))]
    tokens = sum(x["tokens"] for x in steps[WARM:])
    return {"tokens_per_s": tokens / (steps[-1]["seconds"] - steps[WARM - 1]["seconds"]), "MiB": memory}


def theirs(a, data, out, length):
    memory = child([sys.executable, os.path.abspath(__file__), "--data", a.data, "--model", a.model, "--precision", a.precision,
                    "--batch", str(a.batch), "--peer-device", a.peer_device, "--rows", data, "--out", out, "--length", str(length)])
    r = json.load(open(out))
    return {"tokens_per_s": r["tokens"] / r["seconds"], "MiB": memory}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--precision", choices=sorted(PEER_PRECISION), default="bf16")
    ap.add_argument("--lengths", default="128,256,512")
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--steps", type=int, default=60)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--provider", default="cuda", help="of this project's side")
    ap.add_argument("--peer-device", default="cuda")
    for hidden in ("--rows", "--out"):
        ap.add_argument(hidden, help=argparse.SUPPRESS)
    ap.add_argument("--length", type=int, help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.rows:
        return peer(a)
    if a.steps <= WARM:
        sys.exit(f"--steps is {a.steps}, want more than the {WARM} that are not measured")
    rows = [json.loads(x) for x in open(os.path.join(a.data, "train.jsonl"), encoding="utf-8")]
    if len(rows) < a.steps * a.batch:
        sys.exit(f"{a.data}: {len(rows)} rows, want {a.steps * a.batch} for {a.steps} steps of {a.batch}")
    versions = {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers")}
    print("command: python", " ".join(sys.argv))
    print("versions:", subprocess.run([PROGRAM, "version"], capture_output=True, text=True).stdout.split("\n")[0], versions)
    print(f"\n| {a.precision}, batches of {a.batch} | this project, tokens/s | sentence-transformers | ratio | GPU memory, GB | sentence-transformers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for length in (int(x) for x in a.lengths.split(",")):
        found = []
        for seed in range(1, a.runs + 1):
            work = tempfile.mkdtemp()
            some = rows[:]
            random.Random(seed).shuffle(some)
            data = os.path.join(work, "rows.jsonl")
            with open(data, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in some[:a.steps * a.batch])
            found.append((ours(a, data, os.path.join(work, "run"), length, seed), theirs(a, data, os.path.join(work, "peer.json"), length)))
            shutil.rmtree(work)
        mid = lambda f: statistics.median(f(o, p) for o, p in found)
        print(f"| at most {length} tokens | {mid(lambda o, p: o['tokens_per_s']):.0f} | {mid(lambda o, p: p['tokens_per_s']):.0f} "
              f"| {mid(lambda o, p: o['tokens_per_s'] / p['tokens_per_s']):.2f} | {mid(lambda o, p: o['MiB']) / 1024:.2f} "
              f"| {mid(lambda o, p: p['MiB']) / 1024:.2f} |", flush=True)


if __name__ == "__main__":
    main()
