package retriever

import (
	"fmt"
	"slices"
	"strings"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// What happens to passages that are too long.
const (
	Truncate  = "truncate"   // their beginning is read
	MaxWindow = "max-window" // the best score of their windows counts
)

// Options say how a model is opened. The zero value takes everything from the model, in fp32 on the CPU.
type Options struct {
	// Kind is what the model is used as. Empty: what its folder says of itself, or what an .onnx file's outputs show.
	Kind modelcard.Kind
	// Maximal lengths in tokens, special tokens included: of queries and passages, and of a reranker's pairs. 0: the model's own.
	// They hold for a model of the kind that reads them.
	QueryMaxLen, PassageMaxLen, MaxLen int
	// QueryPrompt and PassagePrompt stand before the texts of an embedding model in place of its own prompts. Nil: its own.
	QueryPrompt, PassagePrompt *string
	// LongDocs says what happens to passages that are too long when they are ranked: Truncate or MaxWindow. Empty: Truncate.
	LongDocs string
	// PaddingCompetes makes padding compete in ColBERT's MaxSim as a vector of zeros, as in RAG-Retrieval.
	PaddingCompetes bool

	// Int8 computes linear layers in 8-bit integers, on the CPU: faster, with scores close to those of fp32.
	Int8 bool
	// MixedPrecision is how matrix products are computed on the CPU or with OpenVINO: one of precision.Scoring. With Int8, it is about
	// the products that are not in 8-bit integers. Empty: precision.No.
	MixedPrecision string
	// Provider is runtime.CPU, runtime.CUDA, runtime.Auto: CUDA where it works, or runtime.OpenVINO. Empty: CPU.
	Provider string
	// DeviceID is the number of the GPU on CUDA.
	DeviceID int
	// Threads computes with so many threads; 0: one per core.
	Threads int
	// BatchTokens bounds a batch's padded tokens; 0: scoring.DefaultBatchTokens.
	BatchTokens int

	// Queue joins the batches of concurrent calls, for servers. Nil: each call runs its own.
	Queue *scoring.QueueOptions

	// Ranks share the work of every call if they are several: every rank opens the same model and makes the same calls, and all
	// get every result. Nil: this process does all.
	Ranks *dist.Dealer

	// Note hears what the user should know, one line each. It may be nil.
	Note func(line string)
	// Progress hears what is fetched from the hub. It may be nil.
	Progress resolve.Progress
}

// OptionError is about an option that is wrong for any model, or for this kind of model.
type OptionError struct {
	Format  string // of fmt, with a %s for each of Options
	Options []string
}

// Named is the error's text with the options' names as a caller's users know them: "int8" may be "--int8" to them.
func (e *OptionError) Named(name func(option string) string) string {
	names := make([]any, len(e.Options))
	for i, o := range e.Options {
		names[i] = name(o)
	}
	return fmt.Sprintf(e.Format, names...)
}

func (e *OptionError) Error() string { return e.Named(func(option string) string { return option }) }

func (o Options) withDefaults() Options {
	if o.LongDocs == "" {
		o.LongDocs = Truncate
	}
	if o.Provider == "" {
		o.Provider = runtime.CPU
	}
	o.MixedPrecision = precision.Normal(o.MixedPrecision)
	return o
}

// check says whether the options are right whatever the model.
func (o Options) check() error {
	if !slices.Contains(runtime.ScoringProviders, o.Provider) {
		return optionError("provider", "is %q, want one of %v", o.Provider, runtime.ScoringProviders)
	}
	if o.Int8 && (o.Provider == runtime.CUDA || o.Provider == runtime.OpenVINO) { // they have no kernels for int8 as this program writes it
		return &OptionError{Format: "%s is for the CPU: leave it out, or %s " + o.Provider, Options: []string{"int8", "provider"}}
	}
	if !slices.Contains(precision.Scoring, o.MixedPrecision) {
		return optionError("mixed_precision", "is %q, want one of %v", o.MixedPrecision, precision.Scoring)
	}
	if o.MixedPrecision == precision.BF16 && o.Provider == runtime.CUDA {
		return &OptionError{Format: "%s bf16 is for the CPU, scoring on cuda is in fp32: leave it out, or %s cuda", Options: []string{"mixed_precision", "provider"}}
	}
	if o.DeviceID < 0 {
		return optionError("device_id", "is %d, want at least 0", o.DeviceID)
	}
	if o.LongDocs != Truncate && o.LongDocs != MaxWindow {
		return optionError("long_docs", "is %q, want %s or %s", o.LongDocs, Truncate, MaxWindow)
	}
	return checkKind(o.Kind)
}

// checkKind says whether a kind is known, or left to the model.
func checkKind(k modelcard.Kind) error {
	if k == "" || slices.Contains(modelcard.Kinds, k) {
		return nil
	}
	var names []string
	for _, k := range modelcard.Kinds {
		names = append(names, string(k))
	}
	return optionError("kind", "is %q, want one of %s", k, strings.Join(names, ", "))
}

// KindOf is the kind that a folder's model is used as: the wanted one, or where that is empty what the folder says of itself.
func KindOf(dir string, wanted modelcard.Kind) (modelcard.Kind, error) {
	if wanted == "" {
		return modelcard.Detect(dir)
	}
	return wanted, checkKind(wanted)
}

func optionError(option, format string, args ...any) error {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "%", "%%")
	return &OptionError{Format: "%s " + text, Options: []string{option}}
}

// engine finds what computes.
func (o Options) engine() (scoring.Options, error) {
	provider := o.Provider
	if provider == runtime.Auto && (o.Int8 || o.MixedPrecision == precision.BF16) {
		provider = runtime.CPU
	}
	provider, reason, err := runtime.Resolve(provider, o.DeviceID)
	if err != nil {
		return scoring.Options{}, err
	}
	if reason != nil && o.Note != nil {
		o.Note(fmt.Sprintf("running on the CPU: %v", reason))
	}
	unit, err := o.unit(provider)
	if err != nil {
		return scoring.Options{}, err
	}
	return scoring.Options{
		Options: runtime.Options{Provider: provider, DeviceID: o.DeviceID, Threads: o.Threads, BF16: unit}, Int8: o.Int8, MaxWindow: o.LongDocs == MaxWindow, BatchTokens: o.BatchTokens,
		Ranks: o.Ranks, Concurrent: o.Queue != nil && o.Queue.Runs > 1,
	}, nil
}
