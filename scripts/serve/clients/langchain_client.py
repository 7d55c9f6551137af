#!/usr/bin/env python3
"""LangChain's embedding and reranker classes against `rag-retrieval serve`. Versions: requirements.txt."""
import asyncio, os
import common
import openai
import langchain_community.document_compressors.jina_rerank as jina
from huggingface_hub import InferenceClient
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings

with common.server() as s:
    want, texts, q, d = s.vectors(common.TEXTS), common.TEXTS, common.QUERY, common.DOCUMENTS
    e = OpenAIEmbeddings(model="embed", base_url=s.url + "/v1", api_key="none", check_embedding_ctx_length=False)
    s.same("OpenAIEmbeddings.embed_documents", e.embed_documents(texts), want)
    s.same("OpenAIEmbeddings.embed_query", e.embed_query(texts[0]), want[0])
    s.same("OpenAIEmbeddings.aembed_documents", asyncio.run(e.aembed_documents(texts)), want)
    small = OpenAIEmbeddings(model="embed", base_url=s.url + "/v1", api_key="none", check_embedding_ctx_length=False, dimensions=64)
    s.same("OpenAIEmbeddings, dimensions", small.embed_documents(texts), common.cut(want, 64))

    # Without check_embedding_ctx_length=False the class sends ids of OpenAI's vocabulary. Those that this model's vocabulary does not have
    # are refused; the others are other words. tiktoken fetches its vocabulary from the network: ids of cl100k_base stand here for it.
    ids = [[265, 11159, 304, 2035], [64, 100_000]]
    c = openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0)
    s.fails("OpenAIEmbeddings' default, ids of OpenAI's vocabulary", openai.BadRequestError, "not in the model's vocabulary", lambda: c.embeddings.create(model="embed", input=ids))

    h = HuggingFaceEndpointEmbeddings(model="embed", huggingfacehub_api_token="none")
    h.client = InferenceClient(model=s.url)  # the class refuses a URL as its model
    s.same("HuggingFaceEndpointEmbeddings.embed_documents", h.embed_documents(texts), s.vectors([t.replace("\n", " ") for t in texts]))
    s.same("HuggingFaceEndpointEmbeddings.embed_query", h.embed_query(texts[0]), want[0])

    scores = [common.sigmoid(x) for x in s.scores(q, d)]
    documents = [Document(x, metadata={"at": i}) for i, x in enumerate(d)]
    pairs = lambda found: [(x.metadata["at"], x.metadata["relevance_score"]) for x in found]
    r = CohereRerank(model="rerank", cohere_api_key="none", base_url=s.url, top_n=3)
    s.ranked("CohereRerank.compress_documents", pairs(r.compress_documents(documents, q)), scores, 3)
    jina.JINA_API_URL = s.url + "/v1/rerank"  # a constant of the module
    r = jina.JinaRerank(model="rerank", jina_api_key="none", top_n=3)
    s.ranked("JinaRerank.compress_documents", pairs(r.compress_documents(documents, q)), scores, 3)
    s.fails("JinaRerank, the server's error", RuntimeError, "not served", lambda: jina.JinaRerank(model="absent", jina_api_key="none").compress_documents(documents, q))
common.report(s, ("langchain-openai", "OpenAI"), ("langchain-huggingface", "HuggingFace"), ("langchain-cohere", "Cohere"), ("langchain-community", "Jina"))
