#!/usr/bin/env python3
"""The openai client against `rag-retrieval serve`. Versions: requirements.txt."""
import common
import openai

with common.server() as s:
    c = openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0)
    want, texts = s.vectors(common.TEXTS), common.TEXTS
    get = lambda **o: [d.embedding for d in c.embeddings.create(model="embed", **o).data]
    s.same("embeddings, base64 as the client asks by default", get(input=texts), want)
    s.same("embeddings, float", get(input=texts, encoding_format="float"), want)
    s.same("embeddings, one text, user", get(input=texts[0], user="someone"), want[0])
    s.same("embeddings, dimensions", get(input=texts, dimensions=64), common.cut(want, 64))
    tokens = c.post("../tokenize", body={"inputs": texts[:2]}, cast_to=object)
    ids = [[t["id"] for t in text] for text in tokens]
    s.same("embeddings, token ids", get(input=ids), want[:2])
    s.same("embeddings, one list of token ids", get(input=ids[0]), want[0])
    usage = c.embeddings.create(model="embed", input=texts[:2]).usage
    s.same("usage", [usage.prompt_tokens, usage.total_tokens], [sum(map(len, ids))] * 2)
    assert [m.id for m in c.models.list().data] == ["embed", "rerank", "colbert"]
    assert c.models.retrieve("rerank").owned_by == "rag-retrieval"
    s.calls += ["models.list", "models.retrieve"]
    e = s.fails("BadRequestError, dimensions", openai.BadRequestError, "dimensions is 9999", lambda: get(input="a", dimensions=9999))
    assert e.param == "dimensions" and e.type == "invalid_request_error", e.body
    e = s.fails("NotFoundError, model", openai.NotFoundError, "not served", lambda: c.embeddings.create(model="absent", input="a"))
    assert e.code == "model_not_found", e.body
    s.fails("BadRequestError, an id outside the vocabulary", openai.BadRequestError, "vocabulary", lambda: get(input=[10**9]))
    s.fails("NotFoundError, models.retrieve", openai.NotFoundError, "absent", lambda: c.models.retrieve("absent"))
common.report(s, ("openai", ""))
