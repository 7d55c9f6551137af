// Package modelcard reads and writes the description of a model folder. Folders that this project saves are described by
// rag_retrieval.json. For other folders the package detects the kind of model from their files.
package modelcard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/hf"
)

// File is the file's name.
const File = "rag_retrieval.json"

// Kind is a kind of retrieval model.
type Kind string

// The kinds.
const (
	Embedding Kind = "embedding"
	ColBERT   Kind = "colbert"
	Reranker  Kind = "reranker"
)

// Kinds lists all kinds.
var Kinds = []Kind{Embedding, ColBERT, Reranker}

// Card is the content of rag_retrieval.json. Fields that do not apply to a kind are left out.
type Card struct {
	Kind          Kind    `json:"kind"`
	BaseModel     string  `json:"base_model"`
	Loss          string  `json:"loss,omitempty"`
	Pooling       string  `json:"pooling,omitempty"`
	Normalize     bool    `json:"normalize,omitempty"`
	Dim           int64   `json:"dim,omitempty"`
	QueryMaxLen   int     `json:"query_max_len,omitempty"`
	PassageMaxLen int     `json:"passage_max_len,omitempty"`
	MaxLen        int     `json:"max_len,omitempty"`
	Temperature   float64 `json:"temperature,omitempty"`
	// QueryFormat and DocumentFormat are set where sentence-transformers' prompts cannot express them.
	QueryFormat    string `json:"query_format,omitempty"`
	DocumentFormat string `json:"document_format,omitempty"`
	// Seq and SpecialToken lay out the pairs of a decoder, see prompt.Formats.
	Seq          string `json:"seq,omitempty"`
	SpecialToken string `json:"special_token,omitempty"`
	Steps        int    `json:"steps"`
	Version      string `json:"version"`
	// Adapter describes the LoRA adapter that the folder has in place of a whole model's weights.
	Adapter string `json:"adapter,omitempty"`
	// PadTokenID is the padding token of a decoder with a head, where the adapter's base names none: other programs have to be told.
	PadTokenID *int64 `json:"pad_token_id,omitempty"`

	Data       []string    `json:"train_dataset,omitempty"`
	Examples   int         `json:"examples,omitempty"`
	BatchSize  int         `json:"batch_size,omitempty"` // examples of a micro-batch of one rank
	Ranks      int         `json:"ranks,omitempty"`      // of the job; 0 means 1
	LR         float64     `json:"lr,omitempty"`
	Precision  string      `json:"precision,omitempty"` // of the encoder's products in training, such as fp32 or bf16-amx
	Validation *Validation `json:"validation,omitempty"`
}

// Validation holds the metrics of the model and of the base model on the validation data, as fractions.
type Validation struct {
	Data      []string `json:"val_dataset"`
	Queries   int      `json:"queries"`
	MAPBefore float64  `json:"map_before"`
	MRRBefore float64  `json:"mrr_before"`
	MAP       float64  `json:"map"`
	MRR       float64  `json:"mrr"`
}

// Read reads a folder's card. ok is false for folders that this project did not save.
func Read(dir string) (c Card, ok bool, err error) {
	path := filepath.Join(dir, File)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, false, fmt.Errorf("%s: %w", path, err)
	}
	return c, true, nil
}

// Write writes rag_retrieval.json and model_card.md into a folder.
func (c Card) Write(dir string) error {
	if err := hf.WriteJSON(filepath.Join(dir, File), c); err != nil {
		return err
	}
	return c.writeMarkdown(filepath.Join(dir, MarkdownFile))
}

// Detect returns the kind of a folder: the first that Detectable lists.
func Detect(dir string) (Kind, error) {
	kinds, err := Detectable(dir)
	if err != nil {
		return "", err
	}
	return kinds[0], nil
}

// Detectable lists the kinds that a folder can be used as. For a folder that this project saved it is the card's kind. BAAI/bge-m3
// is an embedding model with a ColBERT projection, so it can be used as both. A folder without any sign of its kind is used as an
// embedding model, as in sentence-transformers.
func Detectable(dir string) ([]Kind, error) {
	c, ok, err := Read(dir)
	if err != nil || ok {
		return []Kind{c.Kind}, err
	}
	modules, err := hf.Modules(dir)
	if err != nil {
		return nil, err
	}
	says, err := hf.ReadSentenceTransformersConfig(dir)
	if err != nil {
		return nil, err
	}
	switch says.ModelType {
	case "MultiVectorEncoder", "ColBERT":
		return []Kind{ColBERT}, nil
	case "CrossEncoder":
		return []Kind{Reranker}, nil
	case "", "SentenceTransformer":
	default:
		return nil, fmt.Errorf("%s: model_type is %q, want SentenceTransformer, MultiVectorEncoder, ColBERT or CrossEncoder", filepath.Join(dir, transformersFile), says.ModelType)
	}
	for _, m := range modules {
		if m.Name() == "LogitScore" { // a language model's
			return []Kind{Reranker}, nil
		}
		if m.Name() == "MultiVectorMask" || strings.HasPrefix(m.Type, "pylate.") {
			return []Kind{ColBERT}, nil
		}
	}
	var kinds []Kind
	if len(modules) > 0 {
		kinds = append(kinds, Embedding)
	}
	for _, name := range []string{"colbert_linear.pt", "colbert_linear.safetensors"} {
		if there, err := hf.Exists(filepath.Join(dir, name)); err != nil {
			return nil, err
		} else if there {
			return append(kinds, ColBERT), nil
		}
	}
	if len(kinds) > 0 {
		return kinds, nil
	}
	if adapter, err := hf.IsAdapter(dir); err != nil {
		return nil, err
	} else if adapter { // config.json is its base's
		c, err := hf.ReadAdapterConfig(dir)
		if err != nil {
			return nil, err
		}
		if c.TaskType == hf.SequenceClassification {
			return []Kind{Reranker}, nil
		}
	}
	var config struct {
		Architectures []string `json:"architectures"`
	}
	if err := hf.ReadJSON(filepath.Join(dir, "config.json"), &config); err != nil {
		return nil, err
	}
	for _, a := range config.Architectures {
		if strings.HasSuffix(a, "ForSequenceClassification") {
			return []Kind{Reranker}, nil
		}
	}
	return []Kind{Embedding}, nil
}

// Check fails if a folder cannot be used as a model of this kind.
func Check(dir string, want Kind) error {
	kinds, err := Detectable(dir)
	if err != nil {
		return err
	}
	if !slices.Contains(kinds, want) {
		return fmt.Errorf("%s is a model of kind %s, not %s", dir, kinds[0], want)
	}
	return nil
}
