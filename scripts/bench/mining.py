#!/usr/bin/env python3
"""Mining hard negatives beside sentence-transformers: the same rows, model and options, one after the other.

    python scripts/bench/mining.py --data DIR [--runs 3] [--length 256] [--rows 2048]

DIR is what `go run ./scripts/godocpairs --out DIR` wrote. Both sides mine 3 negatives with relative_margin 0.05 on 2 threads in
fp32, and write rows of the format n-tuple with scores; the peer is mine_hard_negatives with its defaults (batches of 32, sorted by
length; matrix product and topk). Each side is a process of its own. Printed are the medians of
  seconds  this project's whole command. Of the peer the whole process, and its call only: model loaded, imports done, the file not
           written yet
  memory   the peak of the resident memory of the process and its children
and how many of the rows are equal, and how many of the negatives. This project's --int8 is measured too. Versions: scripts/fixtures/requirements.txt; needs scripts/setup.sh to have run.
"""
import argparse, importlib.metadata, json, os, platform, statistics, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.join(ROOT, "bin", "rag-retrieval")
MODEL = os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2")
MARGIN, NEGATIVES = 0.05, 3


def peer(rows, out, length):
    """The Python side; runs in a process of its own."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives
    torch.set_num_threads(2)
    pairs = [json.loads(x) for x in open(rows, encoding="utf-8")]
    data = Dataset.from_dict({"query": [r["query"] for r in pairs], "positive": [r["pos"] for r in pairs]})
    model = SentenceTransformer(MODEL, device="cpu")
    model.max_seq_length = length
    begun = time.perf_counter()
    mined = mine_hard_negatives(data, model, relative_margin=MARGIN, num_negatives=NEGATIVES, output_format="n-tuple", output_scores=True, verbose=False)
    seconds = time.perf_counter() - begun
    with open(out, "w", encoding="utf-8") as f:
        for r in mined:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    print(seconds)


def resident(pid):
    """Resident bytes of a process and its children."""
    try:
        with open(f"/proc/{pid}/statm") as f:
            total = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                total += sum(resident(int(child)) for child in f.read().split())
        return total
    except (OSError, IndexError):
        return 0


def measured(command):
    """Runs a command: seconds, peak bytes of its processes, what it printed."""
    begun = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.05):
            peak[0] = max(peak[0], resident(p.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out = p.stdout.read()
    code = p.wait()
    seconds = time.perf_counter() - begun
    ended.set()
    watcher.join()
    if code != 0:
        sys.exit(f"{' '.join(command)}: exit code {code}")
    return seconds, peak[0], out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--length", type=int, default=256)
    ap.add_argument("--rows", type=int, default=2048)
    ap.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.peer:
        return peer(*a.peer, a.length)
    print("versions:", platform.python_version(), {n: importlib.metadata.version(n) for n in ("torch", "transformers", "sentence-transformers")})
    sides = ("ours", "int8", "peer")
    whole, call, memory = {s: [] for s in sides}, [], {s: [] for s in sides}
    with tempfile.TemporaryDirectory() as tmp:
        rows = os.path.join(tmp, "rows.jsonl")
        with open(os.path.join(a.data, "train.jsonl"), encoding="utf-8") as f, open(rows, "w", encoding="utf-8") as to:
            to.writelines(f.readlines()[:a.rows])
        outs = {side: os.path.join(tmp, side + ".jsonl") for side in whole}
        commands = {
            "ours": [PROGRAM, "mine", "--model", MODEL, "--train-dataset", rows, "--output", outs["ours"], "--num-negatives", str(NEGATIVES),
                     "--relative-margin", str(MARGIN), "--output-format", "n-tuple", "--output-scores", "--threads", "2",
                     "--query-max-len", str(a.length), "--passage-max-len", str(a.length)],
            "peer": [sys.executable, os.path.abspath(__file__), "--data", a.data, "--length", str(a.length), "--peer", rows, outs["peer"]],
        }
        commands["int8"] = [outs["int8"] if x == outs["ours"] else x for x in commands["ours"]] + ["--int8"]
        for run in range(a.runs):
            for side in sides if run % 2 == 0 else sides[::-1]:
                seconds, peak, out = measured(commands[side])
                whole[side].append(seconds), memory[side].append(peak)
                if side == "peer":
                    call.append(float(out.split()[-1]))
                print(f"run {run + 1}, {side}: {seconds:.1f} s, {peak / 1e6:.0f} MB" + (f", the call {call[-1]:.1f} s" if side == "peer" else ""), flush=True)
        mined = {side: [json.loads(x) for x in open(path, encoding="utf-8")] for side, path in outs.items()}
    of = {side: {(r["query"], r["positive"]): [r[f"negative_{i + 1}"] for i in range(NEGATIVES)] for r in rs} for side, rs in mined.items()}
    median = statistics.median
    print(f"{a.rows} rows, {a.length} tokens; sentence-transformers: the call {median(call):.1f} s, the process {median(whole['peer']):.1f} s, "
          f"{median(memory['peer']) / 1e6:.0f} MB, {len(of['peer'])} rows")
    for side, name in (("ours", "this project"), ("int8", "this project, --int8")):
        equal = sum(of[side].get(k) == v for k, v in of["peer"].items())
        shared = sum(len(set(v) & set(of[side].get(k, []))) for k, v in of["peer"].items())
        print(f"{name}: {median(whole[side]):.1f} s, {median(memory[side]) / 1e6:.0f} MB; the peer's call takes "
              f"{median(p / o for p, o in zip(call, whole[side])):.2f} x as long, its process {median(p / o for p, o in zip(whole['peer'], whole[side])):.2f} x, and has "
              f"{median(memory['peer']) / median(memory[side]):.1f} x the memory; {len(of[side])} rows, {equal} of the peer's equal, "
              f"{shared / NEGATIVES / max(1, len(of['peer'])):.1%} of its negatives")


main()
