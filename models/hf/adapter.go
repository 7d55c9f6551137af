package hf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"rag-retrieval-go/internal/lowrank"
	"rag-retrieval-go/internal/safetensors"
)

// Files of a PEFT folder: an adapter (LoRA) for a base model that is elsewhere.
const (
	AdapterConfigFile = "adapter_config.json"
	AdapterFile       = "adapter_model.safetensors"
	AdapterTorchFile  = "adapter_model.bin"
)

// Values of AdapterConfig.TaskType: the class of transformers that the adapter is for.
const (
	FeatureExtraction      = "FEATURE_EXTRACTION" // AutoModel, the bare encoder
	SequenceClassification = "SEQ_CLS"            // AutoModelForSequenceClassification
	CausalLM               = "CAUSAL_LM"          // AutoModelForCausalLM
)

// The endings of the names of an adapter's tensors, after the module's name, as in PEFT.
const (
	LoraA = ".lora_A.weight" // [rank, in]
	LoraB = ".lora_B.weight" // [out, rank]
)

// AdapterConfig is what adapter_config.json says of a LoRA adapter, as PEFT writes it.
type AdapterConfig struct {
	Path     string // of the file, for messages
	Base     string // the base model: a folder or a hub id
	Revision string // of the base on the hub; empty: its main branch
	TaskType string // such as SequenceClassification; empty: not said
	Rank     int64
	Alpha    float64
	Dropout  float64
	RSLoRA   bool     // the scale is alpha/√rank, in place of alpha/rank
	Targets  []string // the names of adapted modules; one regular expression if TargetPattern
	// TargetPattern says that Targets is a regular expression, or "all-linear".
	TargetPattern bool
	ranks, alphas []modulePattern
}

// modulePattern is an entry of rank_pattern or alpha_pattern.
type modulePattern struct {
	of    *regexp.Regexp
	value float64
}

// refusedAdapterKeys are keys of adapter_config.json that change what is computed in ways that are not computed here, unless they are
// null, false or empty.
var refusedAdapterKeys = []string{
	"alora_invocation_tokens", "arrow_config", "fan_in_fan_out", "kasa_config", "layer_replication", "lora_bias", "megatron_config",
	"monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
}

// harmlessAdapterKeys are keys that change nothing once an adapter is trained. The tensors say which modules are adapted.
var harmlessAdapterKeys = []string{
	"auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform",
	"loftq_config", "lora_ga_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size", "runtime_config", "velora_config",
}

// changedBases are beginnings of init_lora_weights that change the base's weights when PEFT loads the adapter.
var changedBases = []string{"pissa", "olora", "corda", "loftq", "lora_ga"}

// ReadAdapterConfig reads the adapter_config.json of a folder. What PEFT would compute and this program does not is an error that names
// the key.
func ReadAdapterConfig(dir string) (AdapterConfig, error) {
	c := AdapterConfig{Path: Origin(filepath.Join(dir, AdapterConfigFile))}
	var file map[string]json.RawMessage
	if err := ReadJSON(c.Path, &file); err != nil {
		return c, err
	}
	if err := c.read(file); err != nil {
		return c, fmt.Errorf("%s: %w", c.Path, err)
	}
	return c, nil
}

func (c *AdapterConfig) read(file map[string]json.RawMessage) error {
	var kind, bias, init any
	var ranks, alphas json.RawMessage
	c.Rank, c.Alpha = 8, 8
	fields := map[string]any{
		"peft_type": &kind, "bias": &bias, "init_lora_weights": &init, "rank_pattern": &ranks, "alpha_pattern": &alphas,
		"base_model_name_or_path": &c.Base, "revision": &c.Revision, "task_type": &c.TaskType, "r": &c.Rank, "lora_alpha": &c.Alpha,
		"lora_dropout": &c.Dropout, "use_rslora": &c.RSLoRA, "target_modules": (*Strings)(&c.Targets),
	}
	for _, key := range slices.Sorted(maps.Keys(file)) {
		to, known := fields[key]
		switch {
		case slices.Contains(harmlessAdapterKeys, key) || string(file[key]) == "null":
		case !known && isEmptyJSON(file[key]):
		case slices.Contains(refusedAdapterKeys, key):
			return fmt.Errorf("%s is %s, which is not computed here", key, shortJSON(file[key]))
		case !known:
			return fmt.Errorf("%s is %s: this key of PEFT is not known here, and may change what is computed", key, shortJSON(file[key]))
		default:
			if err := json.Unmarshal(file[key], to); err != nil {
				return fmt.Errorf("%s is %s: %w", key, shortJSON(file[key]), err)
			}
		}
	}
	c.TargetPattern = bytes.HasPrefix(bytes.TrimSpace(file["target_modules"]), []byte(`"`))
	if err := c.check(kind, bias, init); err != nil {
		return err
	}
	var err error
	if c.ranks, err = readPatterns("rank_pattern", ranks); err == nil {
		c.alphas, err = readPatterns("alpha_pattern", alphas)
	}
	return err
}

func (c *AdapterConfig) check(kind, bias, init any) error {
	switch {
	case kind != "LORA":
		return fmt.Errorf("peft_type is %v, want LORA", kind)
	case bias != nil && bias != "none":
		return fmt.Errorf("bias is %v, want none: adapted biases are not read", bias)
	case c.Base == "":
		return fmt.Errorf("base_model_name_or_path is not there, which says which model the adapter is for")
	case c.Rank <= 0:
		return fmt.Errorf("r is %d, want a positive number", c.Rank)
	}
	if s, ok := init.(string); ok {
		for _, prefix := range changedBases {
			if strings.HasPrefix(strings.ToLower(s), prefix) {
				return fmt.Errorf("init_lora_weights is %s, which changes the base's weights: save the adapter with PEFT's path_initial_model_for_weight_conversion, as one for the base as it is", s)
			}
		}
	}
	return nil
}

// Describe says in a line what the adapter is, and of which base where that is known.
func (c AdapterConfig) Describe() string {
	scale := "alpha / rank"
	if c.RSLoRA {
		scale = "alpha / √rank"
	}
	of := ""
	if c.Base != "" {
		of = " for " + c.Base
	}
	out := fmt.Sprintf("LoRA of rank %d and alpha %g (scale %s)%s, on %s", c.Rank, c.Alpha, scale, of, strings.Join(c.Targets, ", "))
	if c.HasPatterns() {
		out += ", with rank_pattern or alpha_pattern"
	}
	return out
}

// HasPatterns reports whether modules have ranks or factors of their own.
func (c AdapterConfig) HasPatterns() bool { return len(c.ranks)+len(c.alphas) > 0 }

// WriteAdapter writes an adapter's config and tensors into a folder, as PEFT does. The tensors have the names of modules, with which the
// class of transformers names them. saved are the modules whose own weights are among the tensors.
func WriteAdapter(dir string, c AdapterConfig, saved []string, tensors []safetensors.Tensor) error {
	var revision, modules any
	if c.Revision != "" {
		revision = c.Revision
	}
	if len(saved) > 0 {
		modules = saved
	}
	err := WriteJSON(filepath.Join(dir, AdapterConfigFile), map[string]any{
		"peft_type": "LORA", "task_type": c.TaskType, "base_model_name_or_path": c.Base, "revision": revision, "inference_mode": true, "auto_mapping": nil,
		"r": c.Rank, "lora_alpha": c.Alpha, "lora_dropout": c.Dropout, "use_rslora": c.RSLoRA, "target_modules": c.Targets, "modules_to_save": modules,
		"rank_pattern": map[string]any{}, "alpha_pattern": map[string]any{}, "exclude_modules": nil, "layers_to_transform": nil, "layers_pattern": nil,
		"bias": "none", "fan_in_fan_out": false, "init_lora_weights": true, "use_dora": false,
	})
	if err != nil {
		return err
	}
	out := slices.Clone(tensors)
	for i := range out {
		out[i].Name = adapterPrefix + out[i].Name
	}
	return WriteWeights(filepath.Join(dir, AdapterFile), nil, out)
}

// scale is the factor of a module's product lora_B·lora_A of a rank. It fails if rank_pattern or r say another rank.
func (c AdapterConfig) scale(module string, rank int64) (float64, error) {
	want, alpha := c.Rank, c.Alpha
	if v, ok := match(c.ranks, module); ok {
		want = int64(v)
	}
	if v, ok := match(c.alphas, module); ok {
		alpha = v
	}
	if rank != want {
		return 0, fmt.Errorf("module %q has rank %d, %s says %d", module, rank, AdapterConfigFile, want)
	}
	return lowrank.Scale(alpha, rank, c.RSLoRA), nil
}

// match returns the value of the first pattern that a module's path matches as a whole or behind a dot.
func match(patterns []modulePattern, module string) (float64, bool) {
	for _, p := range patterns {
		if p.of.MatchString(module) {
			return p.value, true
		}
	}
	return 0, false
}

// readPatterns reads an object of regular expressions and numbers. Their order counts.
func readPatterns(key string, raw json.RawMessage) (out []modulePattern, err error) {
	if isEmptyJSON(raw) {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s is %s, want an object", key, shortJSON(raw))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		p := modulePattern{}
		if err := d.Decode(&p.value); err != nil {
			return nil, fmt.Errorf("%s: %v: %w", key, name, err)
		}
		if p.of, err = regexp.Compile(fmt.Sprintf(`^(.*\.)?(%v)$`, name)); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// isEmptyJSON reports whether a value is absent, null, false or empty.
func isEmptyJSON(raw json.RawMessage) bool {
	return slices.Contains([]string{"", "null", "false", `""`, "[]", "{}"}, string(bytes.TrimSpace(raw)))
}

// shortJSON is a value in a message.
func shortJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	if b.Len() > 60 {
		return b.String()[:60] + "…"
	}
	return b.String()
}

// IsAdapter reports whether a folder is a PEFT folder.
func IsAdapter(dir string) (bool, error) { return Exists(filepath.Join(dir, AdapterConfigFile)) }
