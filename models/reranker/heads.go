package reranker

import (
	"cmp"
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
	"bert":        fixed(pooledHead("BertForSequenceClassification")),
	"roberta":     fixed(robertaHead("RobertaForSequenceClassification", tanh)),
	"xlm-roberta": fixed(robertaHead("XLMRobertaForSequenceClassification", tanh)),
	"camembert":   fixed(robertaHead("CamembertForSequenceClassification", tanh)),
	"electra":     fixed(robertaHead("ElectraForSequenceClassification", gelu)),
	"distilbert": fixed(head{
		class: "DistilBertForSequenceClassification", dense: "pre_classifier", denseBias: true, activation: relu,
		out: "classifier", outBias: true,
	}),
	"modernbert":  modernbertHead,
	"gte":         fixed(pooledHead("GteForSequenceClassification")),
	"new":         fixed(pooledHead("NewForSequenceClassification")),
	"nomic_bert":  fixed(pooledHead("NomicBertForSequenceClassification")),
	"eurobert":    eurobertHead,
	"qwen2":       decoderHead("Qwen2"),
	"qwen3":       decoderHead("Qwen3"),
	"llama":       decoderHead("Llama"),
	"mistral":     decoderHead("Mistral"),
	"gemma3_text": decoderHead("Gemma3Text"),
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

// pooledHead reads the first token through the encoder's own pooler.
func pooledHead(class string) head {
	return head{class: class, dense: "pooler.dense", denseBias: true, pooler: true, activation: tanh, out: "classifier", outBias: true}
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

// eurobertHead returns the head of EuroBertForSequenceClassification. It pools the first token, the mean of all tokens, or the mean of
// what the dense layer makes of each token.
func eurobertHead(dir string, c encoder.Config, _ *tokenizer.Tokenizer) (head, error) {
	x := struct {
		Pooling    string `json:"classifier_pooling"`
		OldPooling string `json:"clf_pooling"` // of the authors' own files
	}{}
	path := filepath.Join(dir, "config.json")
	if err := c.Keys.Read(&x); err != nil {
		return head{}, fmt.Errorf("%s: %w", path, err)
	}
	h := head{
		class: "EuroBertForSequenceClassification", dense: "dense", denseBias: true, activation: gelu, out: "classifier", outBias: true,
		dropsNothing: true, denseDeviation: c.InitializerRange, outDeviation: c.InitializerRange,
	}
	switch kind := cmp.Or(x.Pooling, x.OldPooling, "late"); kind {
	case "bos":
	case "mean":
		h.pool = meanToken
	case "late":
		h.pool, h.late = meanToken, true
	default:
		return h, fmt.Errorf("%s: classifier_pooling is %q, want bos, mean or late", path, kind)
	}
	return h, nil
}

// decoderHead returns a function for the head of a decoder's ...ForSequenceClassification, a linear layer on the state of the last token
// (see lastToken). For a folder with the module LogitScore it gives the language model's own head.
func decoderHead(family string) func(dir string, c encoder.Config, t *tokenizer.Tokenizer) (head, error) {
	return func(dir string, c encoder.Config, t *tokenizer.Tokenizer) (head, error) {
		tokens, tied, err := logitScore(dir, c)
		if err != nil || tokens != nil {
			return head{class: strings.TrimSuffix(family, "Text") + "ForCausalLM", pool: lastToken, tokens: tokens, untied: !tied}, err
		}
		h := head{
			class: family + "ForSequenceClassification", pool: lastToken, out: "score", dropsNothing: true, outDeviation: c.InitializerRange,
		}
		h.pad, err = padToken(dir, c, t, h.class)
		return h, err
	}
}

// padToken returns the id of the padding token that lastToken skips, or nil if the config names none.
func padToken(dir string, c encoder.Config, t *tokenizer.Tokenizer, class string) (*int64, error) {
	var x struct {
		Pad           *int64   `json:"pad_token_id"`
		Architectures []string `json:"architectures"`
	}
	if err := c.Keys.Read(&x); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	if x.Pad == nil && !slices.Contains(x.Architectures, class) {
		return tokenOf(dir, "pad_token", t) // for a new head: without a padding token transformers scores no batches
	}
	return x.Pad, nil
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
