#!/usr/bin/env python3
"""Fine-tuning beside its Python peer: same rows, batches, steps and settings, one after the other.

    python scripts/bench/finetune.py --data DIR [--kind embedding|reranker|colbert] [--steps 16] [--runs 3] [--length 128] [--quality]
        [--precision auto|no|bf16] [--peer-precision fp32|bf16]

DIR is what `go run ./scripts/godocpairs --train-negatives 4 --out DIR` wrote. Each run shuffles the rows with another seed,
trains both sides on them in that order (dropout on, 2 threads) and prints real tokens/s after two warm-up steps, and
peak memory of training alone, then the medians and the ratios. The peers:
  embedding  sentence-transformers' trainer, MultipleNegativesRankingLoss, batches of 32 pairs
  reranker   sentence-transformers' CrossEncoderTrainer, BinaryCrossEntropyLoss, batches of 32 pairs, every other one a negative
  colbert    a PyTorch loop of RAG-Retrieval's ColBERT and loss, padded to the longest text, batches of 16 queries with one
             hard negative each
--precision is this project's --mixed-precision; the path that it took is printed. --peer-precision bf16 is the peer's autocast, bf16=True.
With --quality (embedding) both trained models are measured on DIR/test.jsonl by this project's evaluator, and the means of
MAP over the runs are printed.
Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, random, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.join(ROOT, "bin", "rag-retrieval")
BATCH = {"embedding": 32, "reranker": 32, "colbert": 16}
LENGTH, LR, T, DIM = 128, 5e-5, 0.02, 128
WARM = 2  # steps that are not measured: both sides' first ones allocate


def clock_of(seen, warm=WARM):
    """A callback that notes time and tokens after the warm-up steps and after the last one."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == warm:
                self.begun, self.seen = time.perf_counter(), seen[0]
            self.ended = time.perf_counter()

    return Clock()


def in_order(base):
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    class InOrder(base):
        def get_batch_sampler(self, dataset, batch_size, drop_last, **_):
            return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    return InOrder


def settings(tmp, seed, batch, bf16=False):
    return dict(output_dir=tmp, num_train_epochs=1, per_device_train_batch_size=batch, learning_rate=LR, weight_decay=0.01,
                warmup_steps=0.1, lr_scheduler_type="cosine", use_cpu=True, fp16=False, bf16=bf16, seed=seed,
                save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True)


def peer_embedding(model_dir, rows, seed, save, length, batch=BATCH["embedding"], prepare=lambda model, loss: None, bf16=False):
    """prepare changes the model, and may watch the loss, before training."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    model = SentenceTransformer(model_dir, device="cpu")
    model.max_seq_length = length
    seen = [0]
    model[0].register_forward_pre_hook(lambda _, a: seen.__setitem__(0, seen[0] + int(a[0]["attention_mask"].sum())))
    loss = MultipleNegativesRankingLoss(model, scale=1 / T)
    prepare(model, loss)
    with tempfile.TemporaryDirectory() as tmp:
        trainer = in_order(SentenceTransformerTrainer)(
            model=model, args=SentenceTransformerTrainingArguments(**settings(tmp, seed, batch, bf16)), loss=loss,
            train_dataset=Dataset.from_dict({k: [r[k] for r in rows] for k in ("query", "pos")}))
        clock = clock_of(seen)
        trainer.add_callback(clock)
        trainer.train()
    if save:
        model.save(save)  # encodes examples for the model card: after the measurement
    return clock.seen, clock.ended - clock.begun, seen[0]


def peer_reranker(model_dir, rows, seed, save, length, bf16=False):
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    model = CrossEncoder(model_dir, num_labels=1, device="cpu", max_length=length)
    seen = [0]
    model[0].register_forward_pre_hook(lambda _, a: seen.__setitem__(0, seen[0] + int(a[0]["attention_mask"].sum())))
    with tempfile.TemporaryDirectory() as tmp:
        trainer = in_order(CrossEncoderTrainer)(
            model=model, args=CrossEncoderTrainingArguments(**settings(tmp, seed, BATCH["reranker"], bf16)), loss=BinaryCrossEntropyLoss(model),
            train_dataset=Dataset.from_dict({"query": [r["query"] for r in rows], "passage": [r["content"] for r in rows], "label": [float(r["label"]) for r in rows]}))
        clock = clock_of(seen)
        trainer.add_callback(clock)
        trainer.train()
    return clock.seen, clock.ended - clock.begun, seen[0]


def peer_colbert(model_dir, rows, seed, save, length, bf16=False):
    import torch, torch.nn.functional as F
    from transformers import AutoModel, AutoTokenizer, get_cosine_schedule_with_warmup
    torch.manual_seed(seed)
    tok, m = AutoTokenizer.from_pretrained(model_dir), AutoModel.from_pretrained(model_dir).train()
    linear = torch.nn.Linear(m.config.hidden_size, DIM)
    named = list(m.named_parameters()) + list(linear.named_parameters())
    plain = lambda n: "bias" in n or "LayerNorm" in n
    opt = torch.optim.AdamW([{"params": [p for n, p in named if not plain(n)], "weight_decay": 0.01},
                             {"params": [p for n, p in named if plain(n)], "weight_decay": 0.0}], lr=LR)
    batch = BATCH["colbert"]
    steps = len(rows) // batch
    sched = get_cosine_schedule_with_warmup(opt, int(0.1 * steps + 0.999), steps)
    seen = 0

    def vectors(texts):
        nonlocal seen
        x = tok(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        seen += int(x["attention_mask"].sum())
        v = F.normalize(linear(m(**x).last_hidden_state[:, 1:]), dim=-1)
        return v, x["attention_mask"][:, 1:]

    for step in range(steps):
        if step == WARM:
            begun, before = time.perf_counter(), seen
        some = rows[step * batch:(step + 1) * batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            q, qm = vectors([r["query"] for r in some])
            p, pm = vectors([r["pos"] for r in some] + [r["neg"][0] for r in some])
            s = torch.einsum("qid,pjd->qpij", q, p).masked_fill(pm[None, :, None, :] == 0, -1e9).max(-1).values
            s = (s * qm[:, None]).sum(-1) / qm.sum(-1)[:, None]
            loss = F.cross_entropy(s / T, torch.arange(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        opt.step(), sched.step(), opt.zero_grad()
    return before, time.perf_counter() - begun, seen


def peer(kind, model_dir, rows_file, out, seed, save, length, bf16):
    """The Python side; runs in a process of its own."""
    import torch
    torch.set_num_threads(2)
    rows = [json.loads(x) for x in open(rows_file, encoding="utf-8")]
    warm, seconds, tokens = {"embedding": peer_embedding, "reranker": peer_reranker, "colbert": peer_colbert}[kind](model_dir, rows, seed, save, length, bf16=bf16)
    json.dump({"tokens": tokens - warm, "seconds": seconds}, open(out, "w"))


def chosen_rows(kind, rows, count):
    """As many rows as the steps need, in the form of the kind."""
    if kind == "reranker":
        pairs = [(r["query"], r["pos"], 1) if i % 2 == 0 else (r["query"], r["neg"][0], 0) for i, r in enumerate(rows)]
        rows = [{"query": q, "content": c, "label": y} for q, c, y in pairs]
    return rows[:count] if count else rows[:len(rows) // BATCH[kind] * BATCH[kind]]


def arguments(kind, length):
    both = ["--query-max-len", str(length), "--passage-max-len", str(length), "--temperature", str(T)]
    return {"embedding": both, "colbert": both + ["--neg-nums", "1", "--colbert-dim", str(DIM)],
            "reranker": ["--max-len", str(length), "--lr-schedule", "cosine"]}[kind]


def child(command):
    """Runs a command; gives its own peak memory in MiB."""
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read().decode()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{err[-2000:]}")
    return usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def ours(kind, model, data, run, seed, length, batch, *more):
    """The program's side: its tokens/s after the warm-up steps, peak memory and tokens, and the first step's loss."""
    memory = child([PROGRAM, "train", kind, "--model", model, "--train-dataset", data, "--output-dir", run, "--epochs", "1", "--batch-size", str(batch),
                    "--lr", str(LR), "--shuffle=false", "--seed", str(seed), "--threads", "2", *arguments(kind, length), *more])
    steps = [json.loads(x) for x in open(os.path.join(run, "metrics.jsonl"))]
    tokens = sum(x["tokens"] for x in steps[WARM:])
    return {"tokens_per_s": tokens / (steps[-1]["seconds"] - steps[WARM - 1]["seconds"]), "MiB": memory, "tokens": tokens}, steps[0]["loss"]


def path_of(run):
    """How a run of the program computed products, such as fp32 or bf16-amx."""
    return json.load(open(os.path.join(run, "train.json")))["precision"]


def ratios(found):
    pairs = list(zip(found["ours"], found["peer"]))
    print(f"tokens/s, median of paired ratios (ours / peer): {statistics.median(o['tokens_per_s'] / p['tokens_per_s'] for o, p in pairs):.2f}")
    print(f"peak memory, median of paired ratios: {statistics.median(o['MiB'] / p['MiB'] for o, p in pairs):.2f}")


def measure(model, test):
    out = subprocess.run([PROGRAM, "eval", "--model", model, "--data", test, "--format", "json", "--query-max-len", str(LENGTH),
                          "--passage-max-len", str(LENGTH), "--threads", "2"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["results"][0]["map"]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--kind", choices=sorted(BATCH), default="embedding")
    ap.add_argument("--model", default=os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2"))
    ap.add_argument("--steps", type=int, default=16, help="steps of each run; 0: all rows")
    ap.add_argument("--length", type=int, default=LENGTH, help="tokens of a text, or of a pair, at most")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--quality", action="store_true")
    ap.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto", help="of this project: its --mixed-precision")
    ap.add_argument("--peer-precision", choices=("fp32", "bf16"), default="fp32", help="bf16: autocast")
    ap.add_argument("--peer", nargs=6, help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if a.peer:
        model, rows, out, seed, save, length = a.peer
        return peer(a.kind, model, rows, out, int(seed), save, int(length), a.peer_precision == "bf16")
    rows = [json.loads(x) for x in open(os.path.join(a.data, "train.jsonl"), encoding="utf-8")]
    if a.kind != "embedding" and "neg" not in rows[0]:
        sys.exit(f"{a.data}: no negatives; make the data with --train-negatives 4")
    test, batch = os.path.join(a.data, "test.jsonl"), BATCH[a.kind]
    versions = {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers")}
    print("command: python", " ".join(sys.argv))
    print("versions:", platform.python_version(), versions, "| cores:", os.cpu_count())
    found = {"peer": [], "ours": []}
    for seed in range(1, a.runs + 1):
        work = tempfile.mkdtemp()
        shuffled = rows[:]
        random.Random(seed).shuffle(shuffled)
        data = os.path.join(work, "rows.jsonl")
        with open(data, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in chosen_rows(a.kind, shuffled, a.steps * batch))
        out, save = os.path.join(work, "peer.json"), os.path.join(work, "peer-model") if a.quality else ""
        memory = child([sys.executable, os.path.abspath(__file__), "--data", a.data, "--kind", a.kind, "--peer-precision", a.peer_precision, "--peer", a.model, data, out, str(seed), save, str(a.length)])
        r = json.load(open(out))
        found["peer"].append({"tokens_per_s": r["tokens"] / r["seconds"], "MiB": memory, "tokens": r["tokens"]})
        run = os.path.join(work, "run")
        found["ours"].append(ours(a.kind, a.model, data, run, seed, a.length, batch, "--mixed-precision", a.precision)[0])
        took = path_of(run)
        if a.quality:
            found["peer"][-1]["map"] = measure(save, test)
            found["ours"][-1]["map"] = measure(os.path.join(run, "model"), test)
        for side in ("peer", "ours"):
            print(f"run {seed} {side}:", "  ".join(f"{k} {v:.4f}" if k == "map" else f"{k} {v:.0f}" for k, v in found[side][-1].items()), flush=True)
        shutil.rmtree(work)
    print(f"precision: ours {took}, peer {a.peer_precision}")
    ratios(found)
    if a.quality:
        mine, peers = (statistics.mean(x["map"] for x in found[s]) for s in ("ours", "peer"))
        print(f"MAP, means: ours {100 * mine:.2f}, peer {100 * peers:.2f}, difference {100 * (mine - peers):+.2f} points")


if __name__ == "__main__":
    main()
