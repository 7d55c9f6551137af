#!/usr/bin/env python3
"""LlamaIndex's embedding and reranker classes against `rag-retrieval serve`. Versions: requirements.txt."""
import asyncio
import common
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as TEIRerank

with common.server() as s:
    want, texts, q, d = s.vectors(common.TEXTS), common.TEXTS, common.QUERY, common.DOCUMENTS
    lines = s.vectors([t.replace("\n", " ") for t in texts])
    e = OpenAILikeEmbedding(model_name="embed", api_base=s.url + "/v1", api_key="none")
    s.same("OpenAILikeEmbedding.get_text_embedding_batch", e.get_text_embedding_batch(texts), lines)
    s.same("OpenAILikeEmbedding.get_query_embedding", e.get_query_embedding(texts[0]), want[0])
    s.same("OpenAILikeEmbedding.aget_text_embedding_batch", asyncio.run(e.aget_text_embedding_batch(texts)), lines)
    t = TextEmbeddingsInference(model_name="embed", base_url=s.url)
    s.same("TextEmbeddingsInference.get_text_embedding_batch", t.get_text_embedding_batch(texts), s.vectors([x.strip() for x in texts]))
    s.same("TextEmbeddingsInference.get_query_embedding", t.get_query_embedding(texts[0]), want[0])

    scores = [common.sigmoid(x) for x in s.scores(q, d)]
    nodes = lambda: [NodeWithScore(node=TextNode(text=x, id_=str(i)), score=0) for i, x in enumerate(d)]
    for name, r in {
        "CohereRerank": CohereRerank(model="rerank", api_key="none", base_url=s.url, top_n=3),
        "JinaRerank": JinaRerank(model="rerank", api_key="none", base_url=s.url + "/v1", top_n=3),
        "TEIRerank": TEIRerank(base_url=s.url, top_n=3),
    }.items():
        found = r.postprocess_nodes(nodes(), query_bundle=QueryBundle(q))
        s.ranked(f"{name}.postprocess_nodes", [(int(x.node.id_), x.score) for x in found], scores, 3)
common.report(s, ("llama-index-embeddings-openai-like", "OpenAI"), ("llama-index-embeddings-text-embeddings-inference", "TextEmbeddings"),
              ("llama-index-postprocessor-cohere-rerank", "Cohere"), ("llama-index-postprocessor-jinaai-rerank", "Jina"), ("llama-index-postprocessor-tei-rerank", "TEI"))
