package mine

import (
	"fmt"
	"slices"
)

// How negatives are chosen among the candidates.
const (
	Top    = "top"
	Random = "random"
)

// Strategies lists them.
var Strategies = []string{Top, Random}

// DefaultNegatives is sentence-transformers' num_negatives.
const DefaultNegatives = 3

// Options say which candidates become negatives; the names are those of sentence-transformers. See the package's comment.
type Options struct {
	RangeMin         int      `json:"range_min"`
	RangeMax         int      `json:"range_max,omitempty"` // 0: the default
	MaxScore         *float64 `json:"max_score,omitempty"` // nil: no limit, also of the next three
	MinScore         *float64 `json:"min_score,omitempty"`
	AbsoluteMargin   *float64 `json:"absolute_margin,omitempty"`
	RelativeMargin   *float64 `json:"relative_margin,omitempty"`
	NumNegatives     int      `json:"num_negatives"`
	SamplingStrategy string   `json:"sampling_strategy"` // Top or Random
	Seed             uint64   `json:"seed"`              // of Random
	IncludePositives bool     `json:"include_positives"`
	// Rescored says that a cross-encoder is given. It is used if CrossEncodes.
	Rescored bool `json:"cross_encoder"`
}

// limited says whether a limit other than MinScore is set.
func (o Options) limited() bool {
	return o.AbsoluteMargin != nil || o.RelativeMargin != nil || o.MaxScore != nil
}

// CrossEncodes says whether candidates are scored again by the cross-encoder.
func (o Options) CrossEncodes() bool { return o.Rescored && (o.limited() || o.MinScore != nil) }

// An OptionError is about an option that no data can satisfy. Option is its name in sentence-transformers.
type OptionError struct{ Option, Problem string }

func (e *OptionError) Error() string { return e.Option + " " + e.Problem }

func wrong(option, format string, args ...any) error {
	return &OptionError{option, fmt.Sprintf(format, args...)}
}

// Check says whether the options are right whatever the data.
func (o Options) Check() error {
	switch {
	case !slices.Contains(Strategies, o.SamplingStrategy):
		return wrong("sampling_strategy", "is %q, want one of %v", o.SamplingStrategy, Strategies)
	case o.NumNegatives < 1:
		return wrong("num_negatives", "is %d, want at least 1", o.NumNegatives)
	case o.RangeMin < 0:
		return wrong("range_min", "is %d, want at least 0", o.RangeMin)
	case o.RangeMax < 0:
		return wrong("range_max", "is %d, want at least 1", o.RangeMax)
	case o.RangeMax > 0 && o.RangeMax-o.RangeMin < o.NumNegatives:
		return wrong("range_max", "is %d: after range_min %d it leaves fewer than num_negatives %d", o.RangeMax, o.RangeMin, o.NumNegatives)
	case o.Rescored && !o.CrossEncodes():
		return wrong("cross_encoder", "is not used without absolute_margin, relative_margin, max_score or min_score")
	}
	for _, x := range []struct {
		option string
		value  *float64
	}{{"max_score", o.MaxScore}, {"min_score", o.MinScore}, {"absolute_margin", o.AbsoluteMargin}, {"relative_margin", o.RelativeMargin}} {
		if x.value != nil && *x.value != *x.value {
			return wrong(x.option, "is not a number")
		}
	}
	return nil
}

// withRange sets RangeMax to its default if it is 0. positives is the largest number of rows of any query.
func (o Options) withRange(positives int) Options {
	switch {
	case o.RangeMax > 0:
	case o.limited() || o.Rescored && o.MinScore != nil:
		o.RangeMax = o.RangeMin + 10*o.NumNegatives + positives
	default:
		o.RangeMax = o.RangeMin + o.NumNegatives + positives
	}
	return o
}
