#!/usr/bin/env python3
"""LoRA beside its Python peer on a model of Qwen3-0.6B's shape with random weights: same rows, batches, steps and settings, alternating.

    python scripts/bench/lora.py --data DATA --out DIR [--rank 16] [--batch 4] [--length 128] [--steps 6] [--runs 2]

DATA is what `go run ./scripts/godocpairs --out DATA` wrote. DIR/qwen3-0.6b is made once (2.4 GB): 28 layers, hidden 1024, 16 heads over 8
key-value heads of 128, intermediate 3072, 151,936 tied embeddings, the last token's state, and the tokenizer of all-MiniLM-L6-v2, whose
30,522 tokens are the embeddings' first rows.
The peer is sentence-transformers' trainer with peft: LoraConfig of the same rank on every linear layer, alpha twice the rank, no dropout,
MultipleNegativesRankingLoss. Both sides train in fp32 with 2 threads, the base frozen, no gradient checkpointing. Two warm-up steps are not
measured. Prints real tokens/s and the peak memory of each process (ours saves the adapter too), then the ratios. The first step's loss is
to be the same on both sides.
Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, random, shutil, statistics, sys, tempfile
import finetune

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENIZER = os.path.join(finetune.ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2")


def make_model(folder):
    """Writes the model folder as sentence-transformers does."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer, Qwen3Config, Qwen3Model
    torch.manual_seed(1)
    tok = AutoTokenizer.from_pretrained(TOKENIZER)
    config = Qwen3Config(vocab_size=151936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
                         intermediate_size=3072, tie_word_embeddings=True, pad_token_id=tok.pad_token_id, bos_token_id=tok.cls_token_id,
                         eos_token_id=tok.sep_token_id, max_position_embeddings=32768, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as work:
        Qwen3Model(config).save_pretrained(os.path.join(work, "base"))
        tok.save_pretrained(os.path.join(work, "base"))
        t = Transformer(os.path.join(work, "base"), max_seq_length=512)
        made = os.path.join(work, "made")
        SentenceTransformer(modules=[t, Pooling(1024, "lasttoken"), Normalize()], device="cpu").save_pretrained(made, create_model_card=False)
        os.rename(made, folder)


def peer(a, rows_file, out, seed):
    """The Python side; runs in a process of its own."""
    import torch
    from peft import LoraConfig
    torch.set_num_threads(2)
    rows = [json.loads(x) for x in open(rows_file, encoding="utf-8")]
    padded, losses = [], []

    def prepare(model, loss):
        model.add_adapter(LoraConfig(task_type="FEATURE_EXTRACTION", r=a.rank, lora_alpha=2 * a.rank, lora_dropout=0.0, target_modules=TARGETS))
        model[0].register_forward_pre_hook(lambda _, x: padded.append(x[0]["attention_mask"].numel()))
        loss.register_forward_hook(lambda _, x, y: losses.append(float(y.detach() if torch.is_tensor(y) else sum(y.values()).detach())))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"peer: {trained} of {sum(p.numel() for p in model.parameters())} parameters are trained", file=sys.stderr)

    warm, seconds, tokens = finetune.peer_embedding(a.model, rows, seed, "", a.length, a.batch, prepare)
    steps = len(rows) // a.batch
    json.dump({"tokens": tokens - warm, "seconds": seconds, "losses": losses, "real_tokens_per_step": tokens / steps, "padded_tokens_per_step": sum(padded) / steps}, open(out, "w"))


def run_peer(a, rows, work, seed):
    out = os.path.join(work, "peer.json")
    memory = finetune.child([sys.executable, os.path.abspath(__file__), "--data", a.data, "--out", a.out, "--rank", str(a.rank), "--batch", str(a.batch),
                             "--length", str(a.length), "--peer", rows, out, str(seed)])
    r = json.load(open(out))
    return {"tokens_per_s": r["tokens"] / r["seconds"], "MiB": memory, "loss": r["losses"][0], "tokens a step": r["real_tokens_per_step"],
            "padded": r["padded_tokens_per_step"]}


def run_ours(a, rows, work, seed):
    found, loss = finetune.ours("embedding", a.model, rows, os.path.join(work, "run"), seed, a.length, a.batch, "--lora-rank", str(a.rank), "--mixed-precision", "no")
    return {"tokens_per_s": found["tokens_per_s"], "MiB": found["MiB"], "loss": loss}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", required=True, help="folder of the model")
    ap.add_argument("--rank", type=int, default=16)
    ap.add_argument("--batch", type=int, default=4)
    ap.add_argument("--length", type=int, default=128)
    ap.add_argument("--steps", type=int, default=6, help="steps of each run, of which the first two are not measured")
    ap.add_argument("--runs", type=int, default=2)
    ap.add_argument("--side", choices=["peer", "ours"], help="only this side")
    ap.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    a.model = os.path.join(os.path.abspath(a.out), "qwen3-0.6b")
    if a.peer:
        rows, out, seed = a.peer
        return peer(a, rows, out, int(seed))
    print("command: python", " ".join(sys.argv))
    print("versions:", platform.python_version(), {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers", "peft")}, "| cores:", os.cpu_count())
    if not os.path.exists(a.model):
        os.makedirs(a.out, exist_ok=True)
        make_model(a.model)
    rows = [json.loads(x) for x in open(os.path.join(a.data, "train.jsonl"), encoding="utf-8")]
    found = {"peer": [], "ours": []}
    for seed in range(1, a.runs + 1):
        with tempfile.TemporaryDirectory() as work:
            data = os.path.join(work, "rows.jsonl")
            with open(data, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in random.Random(seed).sample(rows, a.steps * a.batch))
            for side in [a.side] if a.side else ("peer", "ours") if seed % 2 else ("ours", "peer"):
                found[side].append({"peer": run_peer, "ours": run_ours}[side](a, data, work, seed))
                print(f"run {seed} {side}:", "  ".join(f"{k} {v:.4g}" if k == "loss" else f"{k} {v:.1f}" for k, v in found[side][-1].items()),
                      f" load {os.getloadavg()[1]:.1f}", flush=True)
    for side in [a.side] if a.side else ("ours", "peer"):
        print(f"{side}, medians:", ", ".join(f"{name} {statistics.median(x[k] for x in found[side]):.0f}" for k, name in (("tokens_per_s", "tokens/s"), ("MiB", "MiB"))))
    if not a.side:
        finetune.ratios(found)


if __name__ == "__main__":
    main()
