"""A server of this checkout for one check, and what the program itself computes for the same texts.

    with common.server() as s:
        s.url, s.vectors(texts), s.scores(query, documents)
"""
import argparse, contextlib, json, math, os, socket, subprocess, sys, time, urllib.request
from importlib.metadata import version

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
TOLERANCE = 1e-6
TEXTS = ["reverse a slice in place", "一种反转切片的方法", "sort.Slice sorts the slice x given the provided less function.",
         "naïve café 👩‍💻 \t tabs\nand lines", "a", "word " * 700]
QUERY = "how do I reverse a slice"
DOCUMENTS = ["func Reverse[S ~[]E, E any](s S)", "Sort sorts a slice of any ordered type.", "一种反转切片的方法", "Contains reports whether v is present in s.", "a"]

p = argparse.ArgumentParser(add_help=False)
p.add_argument("--program", default=os.path.join(ROOT, "bin", "rag-retrieval"))
p.add_argument("--embed", default=os.path.join(ROOT, ".rag-retrieval/models/all-MiniLM-L6-v2"))
p.add_argument("--rerank", default=os.path.join(ROOT, "models/finetune/testdata/bert-reranker"))
p.add_argument("--colbert", default=os.path.join(ROOT, "models/colbert/testdata/pylate"))
ARGS, _ = p.parse_known_args()


def lines(command, rows):
    """What a command prints for rows of JSON."""
    sent = "".join(json.dumps(r) + "\n" for r in rows)
    out = subprocess.run([ARGS.program] + command, input=sent, capture_output=True, text=True)
    if out.returncode:
        sys.exit(out.stderr)
    return [json.loads(line) for line in out.stdout.splitlines()]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class Server:
    def __init__(self, url):
        self.url, self.calls = url, []

    def vectors(self, texts):
        return [r["embedding"] for r in lines(["encode", "--model", ARGS.embed], [{"text": t} for t in texts])]

    def scores(self, query, documents, model=None):
        """The model's own scores: logits of a reranker."""
        return lines(["rerank", "--model", model or ARGS.rerank], [{"query": query, "documents": documents}])[0]["scores"]

    def same(self, call, got, want):
        """Notes that a call gave the numbers that it should have."""
        got, want = flat(got), flat(want)
        assert len(got) == len(want), f"{call}: {len(got)} numbers, want {len(want)}"
        worst = max(abs(a - b) for a, b in zip(got, want))
        assert worst <= TOLERANCE, f"{call}: {worst:.2g} apart"
        self.calls.append(call)

    def ranked(self, call, got, scores, top_n=None):
        """Notes that a call gave [(index, score)], best first, of these scores."""
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_n]
        assert [i for i, _ in got] == order, f"{call}: the order is {[i for i, _ in got]}, want {order}"
        self.same(call, [s for _, s in got], [scores[i] for i in order])

    def fails(self, call, error, words, f):
        """Notes that a call raises the client's own error, with what the server says."""
        try:
            f()
        except error as e:
            assert words in str(e), f"{call}: {e}"
            self.calls.append(call)
            return e
        raise AssertionError(f"{call}: no {error.__name__}")


def cut(vectors, n):
    """The first n numbers of each vector, as vectors of length one: what dimensions asks for."""
    return [[x / math.hypot(*v[:n]) for x in v[:n]] for v in vectors]


def flat(x):
    if hasattr(x, "tolist"):
        x = x.tolist()
    return [float(x)] if not isinstance(x, (list, tuple)) else [v for item in x for v in flat(item)]


@contextlib.contextmanager
def server(*flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    models = [f for name in ("embed", "rerank", "colbert") for f in ("--model", f"{name}={getattr(ARGS, name)}")]
    process = subprocess.Popen([ARGS.program, "serve", "--listen", address, "--log-level", "error", *models, *flags])
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/ready", timeout=1):
                break
            if process.poll() is not None:
                sys.exit("the server ended")
            time.sleep(0.1)
        else:
            sys.exit("the server was not ready within a minute")
        yield Server("http://" + address)
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        assert process.wait(60) == 0, "the server did not end with 0"


def report(s, *packages):
    """Prints the row of a check, for run.py."""
    for name, part in packages:
        calls = [c for c in s.calls if c.startswith(part)]
        print(json.dumps({"client": name, "version": version(name), "calls": len(calls), "names": calls}))
