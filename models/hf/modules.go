package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// ModulesFile lists the modules of a sentence-transformers folder.
const ModulesFile = "modules.json"

// Module is an entry of ModulesFile.
type Module struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// Name returns the module's class without its package, such as "Pooling".
func (m Module) Name() string { return m.Type[strings.LastIndex(m.Type, ".")+1:] }

// Modules reads a folder's modules. They are nil if it has no ModulesFile.
func Modules(dir string) ([]Module, error) {
	var out []Module
	err := ReadJSON(filepath.Join(dir, ModulesFile), &out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return out, err
}

// CheckModules returns an error unless all modules are of the known classes and in the order of known. An unknown module
// must not be ignored, because sentence-transformers would run it.
func CheckModules(dir string, modules []Module, known ...string) error {
	last := -1
	for _, m := range modules {
		at := slices.Index(known, m.Name())
		path := filepath.Join(dir, ModulesFile)
		switch {
		case at < 0:
			return fmt.Errorf("%s: module %q is not supported, want %s", path, m.Type, strings.Join(known, ", "))
		case at < last:
			return fmt.Errorf("%s: module %q after a module %s is not supported", path, m.Type, known[last])
		case m.Path != "" && !filepath.IsLocal(m.Path):
			return fmt.Errorf("%s: the path %q of a module leads out of the folder", path, m.Path)
		case m.Name() == "Transformer" && m.Path != "":
			return fmt.Errorf("%s: the Transformer's path is %q, want the folder itself", path, m.Path)
		}
		last = at
	}
	return nil
}

// Activations maps the supported activations of a Dense module to torch's class names.
var Activations = map[string]string{
	"Identity": "torch.nn.modules.linear.Identity", "Tanh": "torch.nn.modules.activation.Tanh", "ReLU": "torch.nn.modules.activation.ReLU",
}

// Dense is the config of a Dense module.
type Dense struct {
	In, Out    int64
	Bias       bool
	Activation string // a key of Activations
	Residual   bool   // add the input to the output, through a linear layer if their widths differ
}

// ReadDense reads the config of the Dense module in a folder. The module must read the feature called input. activation is
// the default for a config without one, which depends on the program that wrote the folder.
func ReadDense(dir, input, activation string) (Dense, error) {
	path := filepath.Join(dir, "config.json")
	var c struct {
		In         int64   `json:"in_features"`
		Out        int64   `json:"out_features"`
		Bias       *bool   `json:"bias"`
		Activation string  `json:"activation_function"`
		Residual   bool    `json:"use_residual"`
		Input      *string `json:"module_input_name"`
		Output     *string `json:"module_output_name"`
	}
	if err := ReadJSON(path, &c); err != nil {
		return Dense{}, err
	}
	if c.Activation == "" {
		c.Activation = activation
	}
	d := Dense{c.In, c.Out, c.Bias == nil || *c.Bias, c.Activation[strings.LastIndex(c.Activation, ".")+1:], c.Residual}
	for key, name := range map[string]*string{"module_input_name": c.Input, "module_output_name": c.Output} {
		if name != nil && *name != input {
			return d, fmt.Errorf("%s: %s is %q, want %s", path, key, *name, input)
		}
	}
	switch {
	case d.In <= 0 || d.Out <= 0:
		return d, fmt.Errorf("%s: in_features %d and out_features %d, want positive numbers", path, d.In, d.Out)
	case Activations[d.Activation] == "":
		return d, fmt.Errorf("%s: activation_function is %q, want Identity, Tanh or ReLU", path, c.Activation)
	}
	return d, nil
}

// SentenceTransformersConfig holds the fields of config_sentence_transformers.json that are used here.
type SentenceTransformersConfig struct {
	ModelType  string `json:"model_type"`
	Similarity string `json:"similarity_fn_name"`
}

// ReadSentenceTransformersConfig reads config_sentence_transformers.json. Without the file, all fields are empty.
func ReadSentenceTransformersConfig(dir string) (t SentenceTransformersConfig, err error) {
	err = ReadJSON(filepath.Join(dir, "config_sentence_transformers.json"), &t)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	return t, err
}

// SentenceBertConfig holds the fields of sentence_bert_config.json that are used here: lengths and query expansion.
type SentenceBertConfig struct {
	MaxSeqLength   *int            `json:"max_seq_length"`
	LowerCase      bool            `json:"do_lower_case"`
	QueryLength    int             `json:"query_length"`
	DocumentLength int             `json:"document_length"`
	Expansion      *QueryExpansion `json:"query_expansion"`
}

// QueryExpansion pads ColBERT's queries with a token.
type QueryExpansion struct {
	Strategy string  `json:"strategy"` // "fixed" cuts longer queries, "min" does not
	Attend   bool    `json:"attend"`
	Token    *string `json:"token"`
	Length   int     `json:"length"`
}

// ReadSentenceBertConfig reads sentence_bert_config.json. Without the file, all fields are empty.
func ReadSentenceBertConfig(dir string) (b SentenceBertConfig, err error) {
	err = ReadJSON(filepath.Join(dir, "sentence_bert_config.json"), &b)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	return b, err
}

// ModelMaxLength returns model_max_length of a folder's tokenizer_config.json: the number of tokens to which transformers
// truncates by default. It is 0 if the folder sets no limit.
func ModelMaxLength(dir string) (int, error) {
	var c struct {
		Length float64 `json:"model_max_length"`
	}
	err := ReadJSON(filepath.Join(dir, "tokenizer_config.json"), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if c.Length < 1 || c.Length > 1e6 { // transformers writes 1e30 for no limit
		return 0, err
	}
	return int(c.Length), err
}

// Strings is a text or a list of texts in JSON.
type Strings []string

// UnmarshalJSON reads both forms.
func (s *Strings) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}
