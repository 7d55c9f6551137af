-- A collection is a corpus with its vectors. Its rows lie in tables of its own, whose names end with its number:
--   documents_N       document, id, title, text, metadata, embedding
--   postings_N        term, block, frequency, documents, weights
--   chunk_postings_N  term, start (the chunk's first document), documents, counts, lengths: until all documents are written
CREATE TABLE rag_retrieval.collections (
    number      serial PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    model       text NOT NULL,              -- as it was opened
    fingerprint text NOT NULL,              -- of everything besides the corpus that vectors depend on
    cut         integer NOT NULL,           -- vectors were cut to this dimension; 0: they are whole
    dimension   integer NOT NULL,           -- of the vectors
    corpus      text NOT NULL,              -- SHA-256 of all documents
    documents   integer NOT NULL,           -- of the corpus
    written     integer NOT NULL DEFAULT 0, -- of them, in order
    terms       bigint NOT NULL DEFAULT 0,  -- of the written documents, for BM25's mean length
    ann         text NOT NULL,              -- hnsw or exact
    complete    boolean NOT NULL DEFAULT false,
    made        timestamptz NOT NULL DEFAULT now()
);

-- array_cat as an aggregate: joins the postings of chunks.
CREATE AGGREGATE rag_retrieval.joined(integer[]) (sfunc = array_cat, stype = integer[], initcond = '{}');
