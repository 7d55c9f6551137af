#!/usr/bin/env python3
"""`rag-retrieval serve` beside infinity-emb: the same models, requests and load, on the same machine, in turns.

    python scripts/bench/serve.py --data DIR --infinity PYTHON --out DIR [--quick] [--backends torch,optimum]

DIR of --data is what `go run ./scripts/godocpairs --out DIR` wrote. PYTHON is the interpreter of an environment with
scripts/bench/serve-requirements.txt. The load comes from vegeta (`go install github.com/tsenart/vegeta/v12@v12.13.0`, done here): so many
clients, each of which sends its next request when it has the last answer. Requests: /v1/embeddings with one text each, queries and
functions of mixed lengths, 20 to 600 characters; /rerank with one query and 50 passages of 20 to 200 characters. The embedding model is
all-MiniLM-L6-v2; the reranker is the same with a random head, which both sides load from the same folder. All servers of a route are up at
once, and those whose turn it is not are stopped (SIGSTOP). What is measured is kept in --out: a run that was cut off goes on. Takes a
quarter of an hour. Prints Markdown.
"""
import argparse, base64, http.client, json, os, platform, random, signal, subprocess, sys, time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
VEGETA = "github.com/tsenart/vegeta/v12@v12.13.0"
FIRST_PORT = 18200
PASSAGES = 50

# Run by infinity's Python: makes the reranker, and ONNX files for the optimum backend, as transformers' users export them.
MAKE = r"""
import sys, os, torch, transformers
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
base, out = sys.argv[1:]
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(base)
reranker = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, attn_implementation="eager")
torch.nn.init.normal_(reranker.classifier.weight, std=0.3)
types = reranker.bert.embeddings.token_type_embeddings.weight.data
types[1] = types[0]  # infinity's optimum backend drops the token types of rerankers
embedder = AutoModel.from_pretrained(base, attn_implementation="eager")
for name, model, output in (("embed", embedder, "last_hidden_state"), ("rerank", reranker, "logits")):
    model.eval()
    folder = os.path.join(out, name + "-onnx")
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    if name == "rerank":
        tokenizer.save_pretrained(os.path.join(out, name))
        model.save_pretrained(os.path.join(out, name))
    os.makedirs(os.path.join(folder, "onnx"), exist_ok=True)
    x = tokenizer(["a b", "c d e f"], ["g h", "i"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {n: {0: "batch", 1: "sequence"} for n in names}
    axes[output] = {0: "batch"} if output == "logits" else {0: "batch", 1: "sequence"}
    torch.onnx.export(model, tuple(x[n] for n in names), os.path.join(folder, "onnx", "model.onnx"), input_names=names, output_names=[output],
                      dynamic_axes=axes, opset_version=17, dynamo=False)
"""


def texts_of(data, count, rng):
    """Queries, and functions whose beginnings have 20 to 600 characters."""
    rows = [json.loads(x) for x in open(os.path.join(data, "test.jsonl"), encoding="utf-8")]
    out = []
    for r in rng.choices(rows, k=count):
        if rng.random() < 0.5:
            out.append(r["query"])
        else:
            out.append(r["positive"][0][: int(20 * 30 ** rng.random())])
    return out


def rerank_bodies(data, count, rng):
    rows = [json.loads(x) for x in open(os.path.join(data, "test.jsonl"), encoding="utf-8")]
    pool = [d for r in rows for d in r["positive"] + r["negative"]]
    return [
        {"model": "bench", "query": rng.choice(rows)["query"], "documents": [d[: int(20 * 10 ** rng.random())] for d in rng.sample(pool, PASSAGES)]}
        for _ in range(count)
    ]


class Server:
    def __init__(self, name, command, port, path, log, env=None):
        self.name, self.port, self.path = name, port, path
        self.process = subprocess.Popen(command, stdout=open(log, "wb"), stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.log = log

    def wait(self, seconds=180):
        for _ in range(seconds * 5):
            if self.process.poll() is not None:
                break
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                c.request("GET", "/health")
                if c.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        sys.exit(f"{self.name} did not start:\n" + open(self.log, errors="replace").read()[-2000:])

    def ask(self, body):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request("POST", self.path, json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        text = r.read()
        if r.status != 200:
            sys.exit(f"{self.name} answered {r.status}: {text[:300]}")
        return json.loads(text)

    def pause(self, on):
        os.killpg(self.process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def peak(self):
        """The most memory so far, of the process and its children, in MiB."""
        pids, total = [self.process.pid], 0
        while pids:
            pid = pids.pop()
            try:
                total += next(int(x.split()[1]) for x in open(f"/proc/{pid}/status") if x.startswith("VmHWM"))
                pids += [int(x) for t in os.listdir(f"/proc/{pid}/task") for x in open(f"/proc/{pid}/task/{t}/children").read().split()]
            except (OSError, StopIteration):
                pass
        return total / 1024

    def stop(self):
        self.pause(False)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def attack(vegeta, server, bodies, clients, seconds, out):
    targets = os.path.join(out, f"targets-{server.port}.json")
    with open(targets, "w") as f:
        for b in bodies:
            f.write(json.dumps({"method": "POST", "url": f"http://127.0.0.1:{server.port}{server.path}",
                                "header": {"Content-Type": ["application/json"]}, "body": base64.b64encode(json.dumps(b).encode()).decode()}) + "\n")
    results = targets + ".bin"
    subprocess.run([vegeta, "attack", "-format=json", f"-targets={targets}", "-rate=0", f"-workers={clients}", f"-max-workers={clients}",
                    f"-connections={clients}", f"-duration={seconds}s", "-timeout=600s", f"-output={results}"], check=True, env={**os.environ, "GOMAXPROCS": "1"})
    r = json.loads(subprocess.run([vegeta, "report", "-type=json", results], check=True, capture_output=True).stdout)
    if r["success"] != 1:
        sys.exit(f"{server.name} failed at {clients} clients: {r['status_codes']}, {r['errors'][:3]}")
    ms = {k: r["latencies"][k] / 1e6 for k in ("50th", "95th", "99th")}
    return {"requests": r["requests"], "rps": r["throughput"], "p50": ms["50th"], "p95": ms["95th"], "p99": ms["99th"]}


def numbers(route, answer):
    if route == "embeddings":
        return [x for d in sorted(answer["data"], key=lambda d: d["index"]) for x in d["embedding"]]
    return [x["relevance_score"] for x in sorted(answer["results"], key=lambda d: d["index"])]


def servers_of(route, a, model, onnx):
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    path, out = {"embeddings": "/embeddings", "rerank": "/rerank"}[route], []
    ours = [os.path.join(ROOT, "bin", "rag-retrieval"), "serve", "--model", f"bench={model}", "--listen", f"127.0.0.1:{FIRST_PORT}"]
    out.append(Server("rag-retrieval", ours + (["--int8"] if a.int8 else []), FIRST_PORT, "/v1/embeddings" if route == "embeddings" else "/rerank", os.path.join(a.out, f"{route}-ours.log")))
    for i, backend in enumerate(a.backends.split(",") if a.backends else []):
        port = FIRST_PORT + 1 + i
        command = [a.infinity, "-c", "from infinity_emb.cli import cli; cli()", "v2", "--model-id", model if backend == "torch" else onnx, "--engine", backend, "--device", "cpu",
                   "--dtype", "float32", "--served-model-name", "bench", "--host", "127.0.0.1", "--port", str(port), "--no-model-warmup", "--log-level", "error", "--pooling-method", "mean"]
        out.append(Server(f"infinity, {backend}", command, port, path, os.path.join(a.out, f"{route}-{backend}.log"), env))
    for s in out:
        s.wait()
    return out


def measure(route, a, vegeta, state, save):
    cells = [(c, r) for r in range(a.rounds) for c in a.clients]
    names = ["rag-retrieval"] + [f"infinity, {b}" for b in (a.backends.split(",") if a.backends else [])]
    if all(f"{route}|{n}|{c}|{r}" in state["cells"] for n in names for c, r in cells):
        return
    rng = random.Random(1)
    if route == "embeddings":
        bodies = [{"model": "bench", "input": [t]} for t in texts_of(a.data, 1024, rng)]
        model, onnx = a.model, os.path.join(a.out, "embed-onnx")
    else:
        bodies = rerank_bodies(a.data, 64, rng)
        model, onnx = os.path.join(a.out, "rerank"), os.path.join(a.out, "rerank-onnx")
    servers = servers_of(route, a, model, onnx)
    try:
        first = None
        for s in servers:
            got = [x for b in bodies[:8] for x in numbers(route, s.ask(b))]
            first = first or got
            state["difference"][f"{route}|{s.name}"] = worst = max(abs(x - y) for x, y in zip(got, first))
            if worst > 1e-4 and not a.int8 or len(got) != len(first):
                sys.exit(f"{route}: {s.name} differs from {servers[0].name} by {worst}")
            s.pause(True)
        for clients, r in cells:
            for s in servers[r % len(servers):] + servers[: r % len(servers)]:
                key = f"{route}|{s.name}|{clients}|{r}"
                if key in state["cells"]:
                    continue
                s.pause(False)
                attack(vegeta, s, bodies, 1, 1 if a.quick else 2, a.out)  # warm
                state["cells"][key] = attack(vegeta, s, bodies, clients, a.seconds, a.out)
                state["memory"][f"{route}|{s.name}"] = max(s.peak(), state["memory"].get(f"{route}|{s.name}", 0))
                s.pause(True)
                save()
                print(key, {k: round(v, 1) for k, v in state["cells"][key].items()}, file=sys.stderr)
    finally:
        for s in servers:
            s.stop()


def median(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def report(a, state):
    names = ["rag-retrieval"] + [f"infinity, {b}" for b in (a.backends.split(",") if a.backends else [])]
    print("| route | clients | server | requests/s | ratio | p50 ms | p95 ms | p99 ms | p99, ratio | peak MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for route in a.routes.split(","):
        for c in a.clients:
            for n in names:
                runs = [[state["cells"][f"{route}|{x}|{c}|{r}"] for r in range(a.rounds)] for x in (names[0], n)]
                m = {k: median([x[k] for x in runs[1]]) for k in ("rps", "p50", "p95", "p99")}
                rps = median([o["rps"] / p["rps"] for o, p in zip(*runs)])
                p99 = median([o["p99"] / p["p99"] for o, p in zip(*runs)])
                ratios = ("", "") if n == names[0] else (f"{rps:.2f}", f"{p99:.2f}")
                print(f"| {route} | {c} | {n} | {m['rps']:.1f} | {ratios[0]} | {m['p50']:.0f} | {m['p95']:.0f} | {m['p99']:.0f} | {ratios[1]} | {state['memory'][f'{route}|{n}']:.0f} |")
    print(f"\nRatios are this project / the peer: requests/s higher is better, p99 lower. {a.rounds} rounds of {a.seconds} s, medians; peak memory over all of a route.")
    print("Largest differences of vectors and scores:", {k: f"{v:.1g}" for k, v in state["difference"].items() if not k.endswith("rag-retrieval")})
    print("Versions:", state["versions"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--data", "--infinity", "--out"):
        p.add_argument(flag, required=True)
    p.add_argument("--model", default=os.path.join(ROOT, ".rag-retrieval", "models", "all-MiniLM-L6-v2"))
    p.add_argument("--backends", default="torch,optimum", help="of infinity; empty: this project only")
    p.add_argument("--routes", default="embeddings,rerank")
    p.add_argument("--clients", default="1,8,64")
    p.add_argument("--seconds", type=int, default=10)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--int8", action="store_true", help="this project with --int8; vectors and scores then differ")
    p.add_argument("--quick", action="store_true", help="one round of 3 s, at 1 and 8 clients")
    a = p.parse_args()
    if a.quick:
        a.seconds, a.rounds, a.clients = 3, 1, "1,8"
    a.clients = [int(x) for x in a.clients.split(",")]
    a.out = os.path.abspath(a.out)
    os.makedirs(a.out, exist_ok=True)
    vegeta = os.path.join(a.out, "vegeta")
    if not os.path.exists(vegeta):
        subprocess.run(["go", "install", VEGETA], check=True, env={**os.environ, "GOBIN": a.out}, cwd=ROOT)
    if not os.path.exists(os.path.join(a.out, "rerank-onnx", "onnx", "model.onnx")):
        subprocess.run([a.infinity, "-c", MAKE, a.model, a.out], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    results = os.path.join(a.out, "results.json")
    settings = {"seconds": a.seconds, "int8": a.int8}
    state = json.load(open(results)) if os.path.exists(results) else {}
    if state.get("settings") != settings:
        state = {"settings": settings, "cells": {}, "memory": {}, "difference": {}}
    versions = "import importlib.metadata as m; print({n: m.version(n) for n in ('infinity-emb', 'torch', 'transformers', 'sentence-transformers', 'optimum', 'onnxruntime')})"
    state["versions"] = subprocess.run([a.infinity, "-c", versions], check=True, capture_output=True, text=True).stdout.strip() + f", vegeta {VEGETA.split('@')[1]}, {platform.machine()}, {os.cpu_count()} cores"

    def save():
        with open(results + ".new", "w") as f:
            json.dump(state, f, indent=1)
        os.replace(results + ".new", results)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the finally clauses, which stop the servers
    for route in a.routes.split(","):
        measure(route, a, vegeta, state, save)
    report(a, state)


main()
