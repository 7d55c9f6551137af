package eval

import (
	"fmt"
	"slices"
	"strings"

	"rag-retrieval-go/mteb"
)

// DifferingLengths says in a line to how many tokens the texts of each report were cut, by the names of their files. It is empty if all have
// the same limits, or only one has any: reports of earlier versions, and scores without a model, have none.
func DifferingLengths(names []string, reports []mteb.Report) string {
	var found []mteb.Lengths
	var list []string
	for i, r := range reports {
		if r.Lengths != nil {
			found, list = append(found, *r.Lengths), append(list, names[i]+" "+describeLengths(*r.Lengths))
		}
	}
	if len(slices.Compact(found)) < 2 {
		return ""
	}
	return "texts were cut at different lengths, which changes scores too: " + strings.Join(list, ", ")
}

func describeLengths(x mteb.Lengths) string {
	if x.MaxLen > 0 {
		return fmt.Sprintf("pairs at %d tokens", x.MaxLen)
	}
	return fmt.Sprintf("queries at %d and passages at %d tokens", x.QueryMaxLen, x.PassageMaxLen)
}
