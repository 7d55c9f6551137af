package pgvector

import (
	"encoding/json"
	"fmt"
	"strings"

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
