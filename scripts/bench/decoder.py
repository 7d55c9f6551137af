#!/usr/bin/env python3
"""Fine-tuning all parameters of a decoder of Qwen3-0.6B's shape (random weights) beside transformers: same rows, batches and settings.

    go run ./scripts/large --make qwen3-0.6b --dir DIR            # 2.4 GB
    python scripts/bench/decoder.py --model DIR/qwen3-0.6b [--batch 4] [--length 128] [--steps 4] [--runs 2]

Both sides train an embedding model by the last token's state: batches of --batch pairs of a query and a passage of --length tokens each,
in-batch negatives, AdamW, fp32, layers computed again in the backward pass (gradient checkpointing), no dropout, 2 threads. The peer is a
PyTorch loop over transformers' Qwen3Model with its own attention (SDPA), fused AdamW, and queries and passages in one pass. One process runs
at a time, and waits until 16 GB of memory are free. The first step is not measured. Prints tokens/s of the later ones and the peak
memory of each process (ours saves the model too), then the medians and the ratios; and the first step's loss of each side, which is to
be the same. Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, random, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "../../bin/rag-retrieval")
LR, T, WARM = 1e-5, 0.02, 1
ROOM = 16e9  # bytes of free memory that a process waits for


def word(i):
    """The words of scripts/large's vocabulary, each a token."""
    out = ""
    while i > 0 or len(out) < 3:
        out, i = out + chr(ord("a") + i % 26), i // 26
    return out


def make_rows(path, count, length, seed):
    draw = random.Random(seed)
    text = lambda: " ".join(word(draw.randrange(4, 150000)) for _ in range(length))
    with open(path, "w") as f:
        for _ in range(count):
            f.write(json.dumps({"query": text(), "pos": [text()]}) + "\n")


def peer(folder, rows_file, batch, length, out):
    """The Python side; runs in a process of its own."""
    import torch, torch.nn.functional as F
    from transformers import AutoModel, PreTrainedTokenizerFast
    torch.set_num_threads(2)
    rows = [json.loads(x) for x in open(rows_file)]
    tok = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), pad_token="<pad>", padding_side="right")
    m = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    m.config.use_cache = False
    m.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    groups = [{"params": [p for p in m.parameters() if p.dim() > 1], "weight_decay": 0.01}, {"params": [p for p in m.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups, lr=LR, fused=True)
    seen, times, losses = [], [time.perf_counter()], []
    for at in range(0, len(rows), batch):
        some = rows[at:at + batch]
        x = tok([r["query"] for r in some] + [r["pos"][0] for r in some], padding=True, truncation=True, max_length=length, return_tensors="pt")
        mask = x["attention_mask"]
        states = m(input_ids=x["input_ids"], attention_mask=mask).last_hidden_state
        v = F.normalize(states[torch.arange(len(mask)), mask.sum(1) - 1], dim=-1)
        loss = F.cross_entropy(v[:len(some)] @ v[len(some):].T / T, torch.arange(len(some)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step(), opt.zero_grad()
        seen.append(int(mask.sum())), times.append(time.perf_counter()), losses.append(float(loss.detach()))
        print(f"peer: step {len(seen)}: loss {losses[-1]:.4f}, {times[-1] - times[-2]:.1f} s", file=sys.stderr, flush=True)
    json.dump({"tokens": sum(seen[WARM:]), "seconds": times[-1] - times[WARM], "loss": losses[0]}, open(out, "w"))


def wait_for_memory():
    if not os.path.exists("/proc/meminfo"):
        return
    while True:
        free = {k: int(v.split()[0]) * 1024 for k, v in (line.split(":") for line in open("/proc/meminfo"))}["MemAvailable"]
        if free > ROOM:
            return
        print(f"waiting: {free / 1e9:.1f} GB of memory are free", file=sys.stderr, flush=True)
        time.sleep(20)


def child(command):
    """Runs a command; gives its own peak memory in MiB."""
    wait_for_memory()
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def run_peer(a, rows, work, seed):
    out = os.path.join(work, "peer.json")
    memory = child([sys.executable, os.path.abspath(__file__), "--model", a.model, "--batch", str(a.batch), "--length", str(a.length), "--peer", rows, out])
    r = json.load(open(out))
    return {"tokens_per_s": r["tokens"] / r["seconds"], "MiB": memory, "tokens": r["tokens"], "loss": r["loss"]}


def run_ours(a, rows, work, seed):
    out = os.path.join(work, "run")
    memory = child([PROGRAM, "train", "embedding", "--model", a.model, "--train-dataset", rows, "--output-dir", out, "--epochs", "1", "--batch-size", str(a.batch),
                    "--lr", str(LR), "--lr-schedule", "constant", "--warmup-proportion", "0", "--temperature", str(T), "--shuffle=false", "--threads", "2",
                    "--query-max-len", str(a.length), "--passage-max-len", str(a.length), "--gradient-checkpointing", "--log-interval", "1"])
    steps = [json.loads(x) for x in open(os.path.join(out, "metrics.jsonl"))]
    shutil.rmtree(out)
    tokens = sum(s["tokens"] for s in steps[WARM:])
    return {"tokens_per_s": tokens / (steps[-1]["seconds"] - steps[WARM - 1]["seconds"]), "MiB": memory, "tokens": tokens, "loss": steps[0]["loss"]}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True)
    ap.add_argument("--batch", type=int, default=4)
    ap.add_argument("--length", type=int, default=128)
    ap.add_argument("--steps", type=int, default=4, help="steps of each run, of which the first is not measured")
    ap.add_argument("--runs", type=int, default=2)
    ap.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if a.peer:
        return peer(a.model, a.peer[0], a.batch, a.length, a.peer[1])
    print("command: python", " ".join(sys.argv))
    print("versions:", platform.python_version(), {n: importlib.metadata.version(n) for n in ("torch", "transformers")}, "| cores:", os.cpu_count())
    found = {"peer": [], "ours": []}
    for seed in range(1, a.runs + 1):
        with tempfile.TemporaryDirectory() as work:
            rows = os.path.join(work, "rows.jsonl")
            make_rows(rows, a.steps * a.batch, a.length, seed)
            for side in ("peer", "ours") if seed % 2 else ("ours", "peer"):
                found[side].append({"peer": run_peer, "ours": run_ours}[side](a, rows, work, seed))
                print(f"run {seed} {side}:", "  ".join(f"{k} {v:.4g}" if k in ("loss", "tokens_per_s") else f"{k} {v:.0f}" for k, v in found[side][-1].items()),
                      f" load {os.getloadavg()[1]:.1f}", flush=True)
    pairs = list(zip(found["ours"], found["peer"]))
    for key, what in (("tokens_per_s", "tokens/s"), ("MiB", "peak memory, MiB")):
        ours, peers = (statistics.median(x[key] for x in found[s]) for s in ("ours", "peer"))
        print(f"{what}, medians: ours {ours:.4g}, transformers {peers:.4g}; median of paired ratios {statistics.median(o[key] / p[key] for o, p in pairs):.2f}")


if __name__ == "__main__":
    main()
