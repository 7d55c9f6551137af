package retriever

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"rag-retrieval-go/internal/stamp"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
)

// Info is what a model is, and how it was opened. What a kind does not have is left out.
type Info struct {
	Ref          string         `json:"model"`  // as Open was given it
	Dir          string         `json:"folder"` // of its configs and tokenizer
	Kind         modelcard.Kind `json:"kind"`
	Architecture string         `json:"architecture"` // config.json's model_type, or "onnx"
	// Dimension is the length of a vector. An ONNX file may not tell it.
	Dimension  int64  `json:"dimension,omitempty"`
	Pooling    string `json:"pooling,omitempty"`
	Similarity string `json:"similarity,omitempty"` // cosine, maxsim (the sum over a query's tokens) or meanmaxsim
	// Lengths in tokens, as they hold: of queries and passages, or of a reranker's pairs.
	QueryMaxLen   int `json:"query_max_len,omitempty"`
	PassageMaxLen int `json:"passage_max_len,omitempty"`
	MaxLen        int `json:"max_len,omitempty"`
	// What stands around texts, with {} in the text's place.
	QueryFormat    string `json:"query_format"`
	DocumentFormat string `json:"document_format"`
	Seq            string `json:"seq,omitempty"`           // of a decoder's pairs, see prompt.Formats
	SpecialToken   string `json:"special_token,omitempty"` // likewise
	Provider       string `json:"provider"`                // that computes
	Int8           bool   `json:"int8,omitempty"`
	// Precision names how products are computed: fp32, int8, bf16-amx, bf16-avx512 and so on, or int8+bf16-amx.
	Precision string `json:"precision"`
	// BF16 is the unit of the CPU that computes them in bfloat16, or empty.
	BF16     kernels.Unit `json:"-"`
	LongDocs string       `json:"long_docs"`
}

// Info tells what the model is.
func (m *Model) Info() Info { return m.info }

// Files lists the files that the model's vectors and scores depend on. Others in a working folder, such as data and results, are
// not among them.
func (m *Model) Files() ([]string, error) {
	files, err := hf.Files(m.info.Dir)
	if err != nil || !onnxfile.Is(m.info.Ref) {
		return files, err
	}
	external, err := onnx.ExternalFiles(m.info.Ref)
	return append(append(files, m.info.Ref), external...), err
}

// Fingerprint stands for everything that the model's scores depend on besides the data: the program's version, the model's
// files as they are now, and the options that change scores. What was computed under one fingerprint goes on under the same one.
func (m *Model) Fingerprint(version string) (string, error) {
	o, h := m.options, sha256.New()
	fmt.Fprintln(h, version, m.info.Ref, m.info.Kind, o.Int8)
	for _, x := range []struct {
		option string
		value  any
	}{
		{"query-max-len", o.QueryMaxLen}, {"passage-max-len", o.PassageMaxLen}, {"max-len", o.MaxLen}, {"long-docs", o.LongDocs},
		{"padding-competes", o.PaddingCompetes}, {"provider", o.Provider},
	} {
		fmt.Fprintln(h, x.option, x.value)
	}
	for _, p := range []*string{o.QueryPrompt, o.PassagePrompt} {
		if p != nil {
			fmt.Fprintf(h, "%q", *p)
		}
		fmt.Fprintln(h)
	}
	if o.BatchTokens != 0 { // what was stored before this option keeps its fingerprint
		fmt.Fprintln(h, "training-lengths", false, "batch-tokens", o.BatchTokens)
	}
	if m.info.BF16 != kernels.None { // as before
		fmt.Fprintln(h, "bf16", m.info.BF16)
	}
	files, err := m.Files()
	if err != nil {
		return "", err
	}
	for _, path := range files {
		now, err := stamp.OfPath(path) // of what a link points to
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, path, now)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
