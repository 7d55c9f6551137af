package pgvector

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rag-retrieval-go/models/index"
)

// filterSQL returns a filter as a condition in SQL on the column metadata, with the arguments that it adds to args. Each is a
// containment, for which there is an index.
func filterSQL(f index.Filter, args []any) (string, []any) {
	var all []string
	for _, c := range f {
		var either []string
		for _, value := range c.Alternatives() {
			b, err := json.Marshal(map[string]json.RawMessage{c.Field: value})
			if err != nil { // cannot be: texts and numbers have JSON
				continue
			}
			args = append(args, string(b))
			either = append(either, fmt.Sprintf("metadata @> $%d::jsonb", len(args)))
		}
		all = append(all, "("+strings.Join(either, " OR ")+")")
	}
	return strings.Join(all, " AND "), args
}

// Fields lists the fields of the documents' metadata, sorted. It reads all documents.
func (s *Store) Fields(ctx context.Context) ([]string, error) {
	if !s.collection.Complete {
		return nil, s.notComplete()
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(`SELECT DISTINCT jsonb_object_keys(metadata) FROM rag_retrieval.%s`, s.collection.documentsTable()))
	if err != nil {
		return nil, s.address.explain(err)
	}
	fields, err := pgx.CollectRows(rows, pgx.RowTo[string])
	slices.Sort(fields) // by bytes, whatever the database's collation
	return fields, s.address.explain(err)
}
