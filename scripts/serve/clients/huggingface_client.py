#!/usr/bin/env python3
"""huggingface_hub's InferenceClient against the TEI routes of `rag-retrieval serve`. Versions: requirements.txt."""
import asyncio
import common
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

with common.server() as s:
    want, texts = s.vectors(common.TEXTS), common.TEXTS
    for path in ("", "/embed"):  # the client posts to its URL, whatever the task
        c = InferenceClient(model=s.url + path)
        s.same(f"feature_extraction by {path or '/'}", c.feature_extraction(texts), want)
    s.same("feature_extraction, one text", c.feature_extraction(texts[0]), want[0])
    s.same("feature_extraction, prompt_name, truncate, normalize", c.feature_extraction(texts, prompt_name="query", truncate=True, normalize=True), want)
    s.same("feature_extraction, dimensions", c.feature_extraction(texts, dimensions=64), common.cut(want, 64))
    end = texts[-1][-100:]
    s.same("feature_extraction, truncation_direction", c.feature_extraction("x " + texts[-1], truncation_direction="left"), c.feature_extraction(texts[-1], truncation_direction="left"))
    s.fails("HfHubHTTPError, truncate=False", HfHubHTTPError, "422", lambda: c.feature_extraction(texts[-1], truncate=False))
    cosines = [sum(a * b for a, b in zip(want[0], v)) for v in want[1:]]
    for path in ("", "/similarity"):
        s.same(f"sentence_similarity by {path or '/'}", InferenceClient(model=s.url + path).sentence_similarity(texts[0], texts[1:]), cosines)
    s.same("AsyncInferenceClient.feature_extraction", asyncio.run(AsyncInferenceClient(model=s.url).feature_extraction(texts)), want)
common.report(s, ("huggingface_hub", ""))
