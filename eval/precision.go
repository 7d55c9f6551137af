package eval

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rag-retrieval-go/mteb"
)

// precisionOf names how the products behind a report were computed: fp32, int8, bf16-amx and so on. It is empty where that is not
// known: reports of earlier versions do not name it, and scores without a model have none.
func precisionOf(r mteb.Report) string {
	if r.Precision == "" && slices.ContainsFunc(r.Results, func(x mteb.Result) bool { return x.Int8 != nil }) {
		return "int8"
	}
	return r.Precision
}

// typeOf is a precision without the unit that computed it: bf16-amx and bf16-avx512 both are bf16.
func typeOf(precision string) string {
	kind, _, _ := strings.Cut(precision, "-")
	return kind
}

// withoutModel are the kinds of reports that have no precision.
var withoutModel = []string{"", "bm25", "scores", "run"}

// differ says whether results in these precisions are to be compared with care. An unknown one beside fp32 only counts as fp32.
func differ(precisions []string) bool {
	found := slices.Compact(slices.Sorted(slices.Values(precisions)))
	return len(found) > 1 && !slices.Equal(found, []string{"", "fp32"})
}

// DifferingPrecisions says in a line which precisions the reports are in, by the names of their files. It is empty if all are in the
// same one.
func DifferingPrecisions(names []string, reports []mteb.Report) string {
	var found, list []string
	for i, r := range reports {
		if slices.Contains(withoutModel, r.Kind) {
			continue
		}
		p := precisionOf(r)
		found, list = append(found, p), append(list, fmt.Sprintf("%s is in %s", names[i], cmp.Or(p, "an unknown one")))
	}
	if !differ(found) {
		return ""
	}
	return "the precisions differ, which changes scores too: " + strings.Join(list, ", ")
}

// labelled adds the precisions to the models' names, where comparisons have several.
func labelled(all []Comparison) []Comparison {
	var found []string
	for _, c := range all {
		found = append(found, c.FromPrecision, c.ToPrecision)
	}
	if !differ(found) {
		return all
	}
	label := func(model *string, precision string) {
		if precision != "" {
			*model += " in " + precision
		}
	}
	all = slices.Clone(all)
	for i := range all {
		label(&all[i].From, all[i].FromPrecision)
		label(&all[i].To, all[i].ToPrecision)
	}
	return all
}
