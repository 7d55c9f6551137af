package encoder

import (
	"maps"
	"slices"
)

// architecture is what one file of this package says about a family of models: how its config.json is read, which blocks it
// is made of, and what its tensors are called. A new one needs its own file and an entry in the list below.
type architecture struct {
	// read fills a Config from the keys of a config.json, with transformers' defaults for those that are absent.
	read func(k *Keys, c *Config) error
	// ignores has the keys of the family's config.json that change nothing here, each with the reason. Those of all families
	// are in keys.go.
	ignores map[string]string
	// offset says that positions count from the padding token's id plus one, as fairseq's do.
	offset bool
	// names gives the names of the parameters.
	names func() names
	// prefix stands before the names of the encoder's tensors in the checkpoint of a whole model.
	prefix string
	// spellings are the ways in which checkpoints name the tensors, the first for those that are written anew. None means that each
	// parameter is one tensor of the same name.
	spellings []spelling
}

// spelling gives the tensors of a checkpoint, without prefix, whose rows laid end to end are a parameter.
type spelling func(param string) []string

func sameName(param string) []string { return []string{param} }

// architectures has the families by model_type.
var architectures = map[string]architecture{
	"bert": bert, "roberta": roberta, "xlm-roberta": roberta, "camembert": roberta, "electra": electra,
	"distilbert": distilbert, "modernbert": modernbert, "gte": gte, "new": gteNew, "nomic_bert": nomicbert,
	"qwen2": qwen2, "qwen3": qwen3, "llama": llama, "mistral": mistral, "eurobert": eurobert, "gemma3_text": gemma3,
}

// Architectures are the model types that this package reads.
var Architectures = slices.Sorted(maps.Keys(architectures))

func (c Config) architecture() architecture { return architectures[c.ModelType] }

// names are the names of an encoder's parameters. The layer's number stands in place of %d. A block that an architecture does
// not have needs no name.
type names struct {
	words, positions, types, embeddingNorm, finalNorm string
	layer                                             layerNames
}

// layerNames are the names of a layer's parameters. A layer has either queryKeyValue, one projection for all three, or query
// and keyValue, where it has fewer key-value heads.
type layerNames struct {
	queryKeyValue, query, keyValue, queryNorm, keyNorm string
	attentionOutput, attentionNorm                     string
	up, down, feedForwardNorm                          string
	attentionOutputNorm, feedForwardOutputNorm         string // see Blocks.BranchNorm
}
