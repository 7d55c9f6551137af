package reranker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/onnx"
)

// heads has the head of transformers' ...ForSequenceClassification for each model_type of an encoder. A new architecture needs an
// entry here and nothing else. The functions read what differs between models from config.json in dir.
var heads = map[string]func(dir string, c encoder.Config, t *tokenizer.Tokenizer) (head, error){
	"bert": fixed(head{
		class: "BertForSequenceClassification", dense: "pooler.dense", denseBias: true, pooler: true, activation: tanh,
		out: "classifier", outBias: true,
	}),
	"roberta":     fixed(robertaHead("RobertaForSequenceClassification", tanh)),
	"xlm-roberta": fixed(robertaHead("XLMRobertaForSequenceClassification", tanh)),
	"camembert":   fixed(robertaHead("CamembertForSequenceClassification", tanh)),
	"electra":     fixed(robertaHead("ElectraForSequenceClassification", gelu)),
	"distilbert": fixed(head{
		class: "DistilBertForSequenceClassification", dense: "pre_classifier", denseBias: true, activation: relu,
		out: "classifier", outBias: true,
	}),
	"modernbert": modernbertHead,
	"qwen3":      qwen3Head,
}

// headOf returns the head of the folder dir, whose encoder is c.
func headOf(dir string, c encoder.Config, t *tokenizer.Tokenizer) (head, error) {
	of, ok := heads[c.ModelType]
	if !ok {
		return head{}, fmt.Errorf("%s: rerankers of the architecture %s are not read here yet, want one of: %s", dir, c.ModelType, strings.Join(slices.Sorted(maps.Keys(heads)), ", "))
	}
	return of(dir, c, t)
}

type activation func(g *onnx.Graph, x *onnx.Value) *onnx.Value

func tanh(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Tanh(x) }
func relu(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Relu(x) }
func gelu(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Gelu(x) }
func silu(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Mul(x, g.Sigmoid(x)) }

// activations has the activations by transformers' names.
var activations = map[string]activation{"gelu": gelu, "relu": relu, "silu": silu, "tanh": tanh}

// fixed returns a function for a head that config.json does not change.
func fixed(h head) func(string, encoder.Config, *tokenizer.Tokenizer) (head, error) {
	return func(_ string, c encoder.Config, _ *tokenizer.Tokenizer) (head, error) {
		h.denseDeviation, h.outDeviation = c.InitializerRange, c.InitializerRange
		return h, nil
	}
}

func robertaHead(class string, act activation) head {
	return head{
		class: class, dropsBefore: true, dense: "classifier.dense", denseBias: true, activation: act,
		out: "classifier.out_proj", outBias: true,
	}
}

// modernbertHead returns the head of ModernBertForSequenceClassification. It pools the first token or the mean of all tokens and
// applies the prediction head of the masked language model, whose weights a base model already has.
func modernbertHead(dir string, c encoder.Config, _ *tokenizer.Tokenizer) (head, error) {
	path := filepath.Join(dir, "config.json")
	x := struct {
		Pooling    string  `json:"classifier_pooling"`
		Bias       bool    `json:"classifier_bias"`
		Activation string  `json:"classifier_activation"`
		Cutoff     float64 `json:"initializer_cutoff_factor"`
	}{Pooling: "cls", Activation: "gelu", Cutoff: 2}
	if err := c.Keys.Read(&x); err != nil {
		return head{}, fmt.Errorf("%s: %w", path, err)
	}
	pool, ok := map[string]pooling{"cls": firstToken, "mean": meanToken}[x.Pooling]
	if !ok {
		return head{}, fmt.Errorf("%s: classifier_pooling is %q, want cls or mean", path, x.Pooling)
	}
	act, ok := activations[x.Activation]
	if !ok {
		return head{}, fmt.Errorf("%s: classifier_activation is %q, want one of: %s", path, x.Activation, strings.Join(slices.Sorted(maps.Keys(activations)), ", "))
	}
	if !(x.Cutoff > 0) {
		return head{}, fmt.Errorf("%s: initializer_cutoff_factor is %g, want a positive number", path, x.Cutoff)
	}
	return head{
		class: "ModernBertForSequenceClassification", pool: pool,
		dense: "head.dense", denseBias: x.Bias, activation: act, norm: "head.norm", out: "classifier", outBias: true,
		denseDeviation: c.InitializerRange / math.Sqrt(2*float64(c.NumHiddenLayers)), outDeviation: 1 / math.Sqrt(float64(c.HiddenSize)),
		cutoffDeviation: x.Cutoff,
	}, nil
}

// qwen3Head returns the head of Qwen3ForSequenceClassification, a linear layer on the state of the last token (see lastToken). For a
// folder with the module LogitScore it returns the language model's own head.
func qwen3Head(dir string, c encoder.Config, t *tokenizer.Tokenizer) (head, error) {
	tokens, tied, err := logitScore(dir, c)
	if err != nil || tokens != nil {
		return head{class: "Qwen3ForCausalLM", pool: lastToken, tokens: tokens, untied: !tied}, err
	}
	h := head{
		class: "Qwen3ForSequenceClassification", pool: lastToken, out: "score", dropsNothing: true, outDeviation: c.InitializerRange,
	}
	var x struct {
		Pad           *int64   `json:"pad_token_id"`
		Architectures []string `json:"architectures"`
	}
	if err := c.Keys.Read(&x); err != nil {
		return h, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	if h.pad = x.Pad; h.pad == nil && !slices.Contains(x.Architectures, h.class) {
		h.pad, err = tokenOf(dir, "pad_token", t) // for a new head: without a padding token transformers scores no batches
	}
	return h, err
}

// endOfText is the key in tokenizer_config.json of the token that ends a text.
const endOfText = "eos_token"

// tokenOf returns the id of the special token that tokenizer_config.json names under key, or nil if it names none.
func tokenOf(dir, key string, t *tokenizer.Tokenizer) (*int64, error) {
	var c map[string]json.RawMessage
	if err := hf.ReadJSON(filepath.Join(dir, "tokenizer_config.json"), &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var token string
	var long struct{ Content string }
	if json.Unmarshal(c[key], &token) != nil && json.Unmarshal(c[key], &long) == nil {
		token = long.Content
	}
	if token == "" {
		return nil, nil
	}
	ids, err := t.Lookup(token)
	if id, ok := ids[token]; ok {
		return &id, err
	}
	return nil, err
}
