#!/usr/bin/env python3
"""Has mteb's own OpenAI-compatible wrappers evaluate `rag-retrieval serve` on reranking sets, and compares with `rag-retrieval eval`: each
candidate's score, MAP and MRR@10 must be equal to 1e-6: scores beyond 1, of ColBERT models, to 1e-6 of themselves.

    go build -o bin/rag-retrieval ./cmd/rag-retrieval
    VENV/bin/python scripts/serve/check_mteb.py --data F.jsonl … [--queries N] [--embed MODEL] [--rerank MODEL] [--colbert MODEL]

Data are rows {"query", "positive", "negative"}; --queries takes the first N. Models: an embedding model, a reranker, a ColBERT model. Two
things are added to what the wrappers send: raw_scores for the reranker, because the sigmoids of large logits are equal, and
input_type for ColBERT, because a model may mark and expand queries. Versions: scripts/fixtures/requirements.txt.
"""
import argparse, importlib.metadata, json, os, subprocess, sys, tempfile
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients"))
import common
import mteb.abstasks.text.reranking as reranking
import numpy as np
import requests
from datasets import Dataset, DatasetDict
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.openai_wrappers import OpenAIAPIEncodeWrapper, OpenAIAPIRerankWrapper, OpenAIAPITokenEmbedWrapper

p = argparse.ArgumentParser(parents=[common.p])
p.add_argument("--data", action="append", required=True)
p.add_argument("--queries", type=int)
a = p.parse_args()


class Rerank(OpenAIAPIRerankWrapper):
    def _make_request(self, endpoint, payload):
        return super()._make_request(endpoint, {**payload, "raw_scores": True})


class TokenEmbed(OpenAIAPITokenEmbedWrapper):
    kind = "document"

    def _encode(self, inputs, *, prompt_type=None, **rest):
        self.kind = prompt_type.value
        out = super()._encode(inputs, prompt_type=prompt_type, **rest)
        # A model of meanmaxsim divides a query's score by the number of its vectors.
        return [x / len(x) for x in out] if self.mean and self.kind == "query" else out

    def _make_request(self, endpoint, payload):
        return super()._make_request(endpoint, {**payload, "input_type": self.kind})


def task_for(name, rows):
    metadata = TaskMetadata(
        name=name, description=name, reference=None, dataset={"path": "local/" + name, "revision": "1"}, type="Reranking", category="t2t",
        modalities=["text"], eval_splits=["test"], eval_langs=["cmn-Hans"], main_score="map_at_1000", date=None, domains=None,
        task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None)
    task = type(name, (reranking.AbsTaskReranking,), {"metadata": metadata})()
    reranking.OLD_FORMAT_RERANKING_TASKS.append(name)
    task.transform_old_dataset_format(DatasetDict({"test": Dataset.from_list(rows)}))
    return task


def theirs(model, name, rows):
    """mteb's metrics and scores, [query][candidate], positives first."""
    task = task_for(name, rows)
    with tempfile.TemporaryDirectory() as folder:
        reported = task.evaluate(model, "test", encode_kwargs={"batch_size": 32, "show_progress_bar": False}, prediction_folder=Path(folder))["default"]
        found = json.load(open(next(Path(folder).rglob("*predictions.json"))))["default"]["test"]
    scores = []
    for i, row in enumerate(rows):
        by_id = {kind: sorted((d, s) for d, s in found[f"test_query{i}"].items() if d.startswith(kind)) for kind in ("apositive", "negative")}
        assert [len(by_id["apositive"]), len(by_id["negative"])] == [len(row["positive"]), len(row["negative"])], by_id
        scores.append([s for kind in ("apositive", "negative") for _, s in by_id[kind]])
    return float(reported["map_at_1000"]), float(reported["mrr_at_10"]), scores  # mteb rounds MAP to 5 places, and eval by its rule too


def ours(model, path):
    with tempfile.TemporaryDirectory() as folder:
        report, scores = os.path.join(folder, "report.json"), os.path.join(folder, "scores.jsonl")
        subprocess.run([a.program, "eval", "--model", model, "--data", path, "--rule", "mteb-2", "--json", report, "--save-scores", scores], check=True, capture_output=True)
        r = json.load(open(report))["results"][0]
        return r["map"], r["mrr"], [json.loads(line)["scores"] for line in open(scores)]


print("mteb", importlib.metadata.version("mteb"))
print("| wrapper | set | queries | MAP by mteb | by eval | MRR@10 by mteb | by eval | largest difference of a score |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
failed = False
with common.server() as s, tempfile.TemporaryDirectory() as folder:
    TokenEmbed.mean = requests.post(s.url + "/page/matches", json={"query": "a", "document": "a"}).json()["similarity"] == "meanmaxsim"
    for path in a.data:
        name = os.path.basename(path).split(".")[0]
        rows = [json.loads(line) for line in open(path, encoding="utf-8")][: a.queries]
        cut = os.path.join(folder, name + ".jsonl")
        with open(cut, "w") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows)
        for model, wrapper in (
            (a.embed, OpenAIAPIEncodeWrapper(s.url, "embed", use_chat_template=False)),
            (a.rerank, Rerank(s.url, "rerank")),
            (a.colbert, TokenEmbed(s.url, "colbert", use_chat_template=False)),
        ):
            map_a, mrr_a, scores_a = theirs(wrapper, name, rows)
            map_b, mrr_b, scores_b = ours(model, cut)
            apart = max(float((np.abs(np.subtract(x, y)) / np.maximum(1, np.abs(y))).max()) for x, y in zip(scores_a, scores_b, strict=True))
            failed |= max(abs(map_a - map_b), abs(mrr_a - mrr_b), apart) > common.TOLERANCE
            print(f"| {type(wrapper).__bases__[0].__name__ if type(wrapper).__module__ == '__main__' else type(wrapper).__name__} | {name} | {len(rows)} | {map_a:.5f} | {map_b:.5f} | {mrr_a:.7f} | {mrr_b:.7f} | {apart:.2g} |", flush=True)
sys.exit("more than 1e-6 apart" if failed else 0)
