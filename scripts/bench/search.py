#!/usr/bin/env python3
"""Exact search beside faiss: the same vectors and queries, one after the other.

    python scripts/bench/search.py --dir DIR [--documents 1000000] [--dimension 384] [--queries 1000] [--k 10 100 1000] [--runs 3]

DIR gets random vectors of length one (documents x dimension x 4 bytes), unless it has them. Each side is a process of its own with 2
threads: index.Exact over the memory-mapped file, and faiss.IndexFlatIP over the same vectors in memory. Printed are the medians of
the seconds of the search, the peaks of resident memory, and how many of the documents found differ. An environment that makes
OpenBLAS slower (OPENBLAS_CORETYPE) is taken away from faiss. Versions: scripts/fixtures/requirements.txt.
"""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def peer(folder, k):
    """faiss's side; runs in a process of its own."""
    import resource, time
    import faiss, numpy
    faiss.omp_set_num_threads(2)
    vectors = numpy.load(os.path.join(folder, "vectors.npy"), mmap_mode="r")
    queries = numpy.load(os.path.join(folder, "queries", "vectors.npy"))
    index = faiss.IndexFlatIP(vectors.shape[1])
    for start in range(0, len(vectors), 65536):
        index.add(numpy.ascontiguousarray(vectors[start:start + 65536]))
    begun = time.perf_counter()
    scores, documents = index.search(queries, k)
    seconds = time.perf_counter() - begun
    numpy.savez(os.path.join(folder, "peer.npz"), scores=scores, documents=documents)
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "version": faiss.__version__}))


def row(command):
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout)


def differing(folder):
    """How many of the documents found are not the same, and the largest difference of scores at a place."""
    import numpy
    theirs = numpy.load(os.path.join(folder, "peer.npz"))
    ours = json.load(open(os.path.join(folder, "hits.json")))
    different, largest = 0, 0.0
    for hits, scores, documents in zip(ours, theirs["scores"], theirs["documents"]):
        different += len({h["Document"] for h in hits} ^ set(documents.tolist())) // 2
        largest = max(largest, max(abs(h["Score"] - float(s)) for h, s in zip(hits, scores)))
    return different, largest


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", required=True)
    p.add_argument("--documents", type=int, default=1_000_000)
    p.add_argument("--dimension", type=int, default=384)
    p.add_argument("--queries", type=int, default=1000)
    p.add_argument("--k", type=int, nargs="+", default=[10, 100, 1000])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer:
        return peer(a.dir, a.peer)
    with tempfile.TemporaryDirectory() as work:
        program = os.path.join(work, "search")
        subprocess.run(["go", "build", "-o", program, "./scripts/bench/search"], check=True, cwd=ROOT)
        made = row([program, "make", "-dir", a.dir, "-documents", str(a.documents), "-dimension", str(a.dimension), "-queries", str(a.queries)])
        size = os.path.getsize(os.path.join(a.dir, "vectors.npy"))
        print(f"{a.documents} vectors of {a.dimension} numbers, {size / 1e9:.2f} GB on disk; made with {made['peak_bytes'] / 1e9:.2f} GB of memory")
        for k in a.k:
            ours, theirs = [], []
            for _ in range(a.runs):
                ours.append(row([program, "search", "-dir", a.dir, "-k", str(k)]))
                theirs.append(row([sys.executable, os.path.abspath(__file__), "--dir", a.dir, "--peer", str(k)]))
            x, y = (statistics.median(r["seconds"] for r in rows) for rows in (ours, theirs))
            different, largest = differing(a.dir)
            print(f"k {k}: {x:.2f} s, faiss {theirs[0]['version']} {y:.2f} s, ratio {y / x:.2f} ("
                  + " ".join(f"{t['seconds'] / o['seconds']:.2f}" for o, t in zip(ours, theirs))
                  + f"); memory {max(r['peak_bytes'] for r in ours) / 1e9:.2f} GB, faiss {max(r['peak_bytes'] for r in theirs) / 1e9:.2f} GB; "
                  f"{different} of {a.queries * k} documents differ, scores by {largest:.1e} at most", flush=True)
    print(platform.processor() or platform.machine(), f"{os.cpu_count()} cores")


main()
