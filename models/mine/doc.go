// Package mine finds hard negatives: passages that score high for a query although they do not answer it. It searches a corpus
// with a model or with BM25, keeps what the options let through, and writes training rows.
//
//	report, err := mine.Run(ctx, mine.Job{Rows: rows, Options: mine.Options{NumNegatives: 3, RelativeMargin: &margin}, …})
//
// The options mean what they mean in sentence-transformers' mine_hard_negatives (util/hard_negatives.py, version 6.2):
//
//   - Equal queries are one query with several positives. The corpus is the distinct texts of the given corpus, then the
//     positives that it does not have.
//   - The search finds RangeMax + P passages for each query, where P is the largest number of rows of any query. All but the
//     query's own positives are candidates. RangeMax is by default RangeMin + NumNegatives + P; it is RangeMin + 10·NumNegatives
//   - P with AbsoluteMargin, RelativeMargin or MaxScore, or with MinScore and a cross-encoder.
//   - A cross-encoder scores candidates and positives again, but only where one of the four limits is set.
//   - The margins are against the query's lowest positive p. AbsoluteMargin m drops a candidate if score + m > p, RelativeMargin
//     if score > p - |p|·m. MaxScore drops a score above it, MinScore one below it. A score at the limit stays. The limits
//     apply in this order; comparisons are in float32.
//   - Of the candidates that are left, best first, the first RangeMax count and the first RangeMin of these are skipped: RangeMin
//     applies after the limits.
//   - Top takes the first NumNegatives of the rest. Random draws as many, and takes all if there are fewer.
//   - IncludePositives leaves the query's positives among the candidates, with all their limits.
//   - A query with fewer negatives than wanted is kept with those, except in the format n-tuple, which drops it. A query without
//     negatives is dropped, except in the format labeled-pair, which writes its positives.
//
// This package differs in four ways. A passage that equals the query never is a negative. Random draws from a seed, and a query's
// draw does not depend on other queries. Candidates with equal scores stay in the corpus's order. Every query's fate is counted, see
// Report.
//
// A Set has the queries, and a Searcher finds documents: Vectors and BM25 those of the set, Indexed also those of an index in a folder
// or a database. Texts stay on disk: while a set is read, memory holds about 200 bytes for each text; afterwards it holds 8 bytes for
// each document, 50 for each query, and the texts of a few thousand queries at a time. On several ranks every one has all of this.
package mine
