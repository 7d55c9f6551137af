package encoder

import (
	"maps"
	"slices"
)

// architecture is what one file of this package says of a family of models: how its config.json is read, which blocks it
// is made of, and what its tensors are called. Adding one touches its own file and the list below.
type architecture struct {
	// read fills a Config from the keys of a config.json, with transformers' defaults for those that are absent.
	read func(k *Keys, c *Config) error
	// ignores are keys of the family's files that change nothing here, with the reason; others say ignores of keys.go.
	ignores map[string]string
	// prefix stands before the encoder's tensors inside a whole model.
	prefix string
	// offset says that positions count from the padding token's id plus one (fairseq's way).
	offset bool
	// names are the parameters' own names.
	names func() names
	// sources gives the checkpoint's tensors of a parameter, laid end to end; nil: one of the same name.
	sources func(param string) []string
}

// architectures are the families by their model_type.
var architectures = map[string]architecture{
	"bert": bert, "roberta": roberta, "xlm-roberta": roberta, "camembert": roberta, "electra": electra,
	"distilbert": distilbert, "modernbert": modernbert, "qwen3": qwen3,
}

// Architectures are the model types that this package reads.
var Architectures = slices.Sorted(maps.Keys(architectures))

func (c Config) architecture() architecture { return architectures[c.ModelType] }

// names are an encoder's parameters. Those of a layer have its number in place of the %d; a block that an architecture
// does not have needs no name.
type names struct {
	words, positions, types, embeddingNorm, finalNorm string
	layer                                             layerNames
}

// layerNames are a layer's parameters: either queryKeyValue, one product for all three, or query and keyValue, where a
// layer has fewer key-value heads.
type layerNames struct {
	queryKeyValue, query, keyValue, queryNorm, keyNorm string
	attentionOutput, attentionNorm                     string
	up, down, feedForwardNorm                          string // up holds the gate before the value where there is one
}
