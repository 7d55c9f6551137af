package retriever_test

import (
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/kernels"
)

// What computes the products is what mixed_precision asks for and the CPU or the environment variable has. It is told, and makes another
// fingerprint.
func TestPrecisions(t *testing.T) {
	ref := saved(t, modelcard.Embedding)
	auto := kernels.None.Precision()
	if u, err := kernels.Choices(false); err == nil && len(u) > 0 {
		auto = u[0].Precision()
	}
	for _, c := range []struct {
		variable  string
		o         retriever.Options
		precision string
	}{
		{"", retriever.Options{}, "fp32"},
		{"", retriever.Options{MixedPrecision: "no"}, "fp32"},
		{"", retriever.Options{MixedPrecision: "auto"}, auto},
		{"portable", retriever.Options{}, "fp32"},
		{"portable", retriever.Options{MixedPrecision: "auto"}, "bf16-portable"},
		{"portable", retriever.Options{MixedPrecision: "bf16"}, "bf16-portable"},
		{"portable", retriever.Options{MixedPrecision: "bf16", Provider: "auto"}, "bf16-portable"},
		{"portable", retriever.Options{MixedPrecision: "bf16", Int8: true}, "int8+bf16-portable"},
		{"portable", retriever.Options{Int8: true}, "int8"},
	} {
		t.Setenv(kernels.Variable, c.variable)
		m := open(t, ref, c.o)
		if got := m.Info().Precision; got != c.precision {
			t.Errorf("%s %+v: %s, want %s", c.variable, c.o, got, c.precision)
		}
		plain := open(t, ref, retriever.Options{Int8: c.o.Int8, Provider: c.o.Provider})
		one, err := m.Fingerprint("1")
		check(t, err)
		other, err := plain.Fingerprint("1")
		check(t, err)
		if same := c.precision == "fp32" || c.precision == "int8"; same != (one == other) {
			t.Errorf("%+v: the fingerprint of fp32: %v, want %v", c.o, one == other, same)
		}
		t.Setenv(kernels.Variable, "")
	}
}

// A unit that is not here is an error only where it would be used; without a unit, bf16 is fp32, and the user is told.
func TestMissingUnit(t *testing.T) {
	ref := saved(t, modelcard.Embedding)
	t.Setenv(kernels.Variable, "pancake")
	check(t, open(t, ref, retriever.Options{}).Close())
	if _, err := retriever.Open(t.Context(), ref, retriever.Options{MixedPrecision: "bf16"}); err == nil || !strings.Contains(err.Error(), `RAG_RETRIEVAL_BF16 is "pancake", want amx`) {
		t.Error(err)
	}
	t.Setenv(kernels.Variable, "")
	if len(kernels.Present(true)) > 0 {
		t.Skip("this CPU has a bf16 unit")
	}
	var notes []string
	m := open(t, ref, retriever.Options{MixedPrecision: "bf16", Note: func(line string) { notes = append(notes, line) }})
	if m.Info().Precision != "fp32" || len(notes) != 1 || !strings.HasPrefix(notes[0], "mixed_precision: this CPU has no bf16 unit") {
		t.Errorf("%s, %q", m.Info().Precision, notes)
	}
}
