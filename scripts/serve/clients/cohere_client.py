#!/usr/bin/env python3
"""The cohere client against `rag-retrieval serve`. Versions: requirements.txt."""
import cohere
import common

with common.server() as s:
    q, d = common.QUERY, common.DOCUMENTS
    c = cohere.ClientV2(api_key="none", base_url=s.url)
    raw = s.scores(q, d)
    want = [common.sigmoid(x) for x in raw]
    pairs = lambda r: [(x.index, x.relevance_score) for x in r.results]
    r = c.rerank(model="rerank", query=q, documents=d)
    s.ranked("v2.rerank", pairs(r), want)
    assert r.id and r.meta.api_version.version == "2" and r.meta.tokens.input_tokens > 0
    s.ranked("v2.rerank, top_n", pairs(c.rerank(model="rerank", query=q, documents=d, top_n=2)), want, 2)
    r = c.rerank(model="rerank", query=q, documents=d, request_options={"additional_body_parameters": {"raw_scores": True}})
    s.ranked("v2.rerank, raw_scores", pairs(r), raw)
    r = c.rerank(model="rerank", query=q, documents=["a b c d", "a b"], max_tokens_per_doc=2)
    s.same("v2.rerank, max_tokens_per_doc", [x.relevance_score for x in r.results], [common.sigmoid(s.scores(q, ["a b"])[0])] * 2)
    s.ranked("v2.rerank, an embedding model", pairs(c.rerank(model="embed", query=q, documents=d)), s.scores(q, d, common.ARGS.embed))
    v1 = cohere.Client(api_key="none", base_url=s.url)
    s.ranked("v1.rerank, documents as objects", pairs(v1.rerank(model="rerank", query=q, documents=[{"text": x} for x in d])), want)
    s.fails("NotFoundError", cohere.NotFoundError, "not served", lambda: c.rerank(model="absent", query=q, documents=d))
    s.fails("BadRequestError", cohere.BadRequestError, "top_n is 0", lambda: c.rerank(model="rerank", query=q, documents=d, top_n=0))
common.report(s, ("cohere", ""))
