#!/usr/bin/env python3
"""Checks `rag-retrieval serve` with the clients of the APIs that it answers: vectors, scores and order must be those that
`rag-retrieval encode` and `rag-retrieval rerank` print, to 1e-6. Each check starts and ends a server of its own.

    go build -o bin/rag-retrieval ./cmd/rag-retrieval
    VENV/bin/python scripts/serve/clients/run.py [--embed MODEL] [--rerank MODEL] [--program FILE]

Prints a table, and ends with 1 if a call failed. Versions: requirements.txt.
"""
import json, os, subprocess, sys

here = os.path.dirname(os.path.abspath(__file__))
rows, failed = [], False
for script in ("openai", "cohere", "huggingface", "langchain", "llamaindex"):
    out = subprocess.run([sys.executable, os.path.join(here, script + "_client.py"), *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if out.returncode:
        failed = True
        sys.stderr.write(out.stderr)
        rows.append((script, "", "", "failed: " + (out.stderr.strip().splitlines() or ["no message"])[-1]))
        continue
    rows += [(x["client"], x["version"], x["calls"], "equal to 1e-6") for x in map(json.loads, out.stdout.splitlines())]
print("| client | version | calls | result |\n| --- | --- | ---: | --- |")
for r in rows:
    print("| %s | %s | %s | %s |" % r)
sys.exit(failed)
