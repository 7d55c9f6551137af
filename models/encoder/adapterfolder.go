package encoder

import (
	"slices"
	"strings"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
)

// AdapterConfig is what a PEFT folder says of the encoder's adapters. The caller adds the base and the task.
func (c Config) AdapterConfig() hf.AdapterConfig {
	return hf.AdapterConfig{Rank: c.LoRA.Rank, Alpha: c.LoRA.Alpha, Dropout: c.LoRA.Dropout, RSLoRA: c.LoRA.RSLoRA, Targets: c.targetNames()}
}

// AdapterTensors returns the adapters' tensors, with a prefix before the names of their modules.
func (c Config) AdapterTensors(l *flat.Layout, parameters []float32, prefix string) ([]safetensors.Tensor, error) {
	var params []flat.Param
	for _, p := range c.Params() {
		if hf.IsMatrix(p) {
			params = append(params, p)
		}
	}
	return hf.FromLayout(l, parameters, params, func(name string) []string { return []string{prefix + name} })
}

// otherLinears are linear layers outside the encoder's layers, which PEFT would adapt too if a target's name were the end of theirs.
var otherLinears = []string{"pooler.dense", "classifier.dense", "classifier.out_proj", "head.dense", "dense", "embeddings_project", "classifier", "score", "lm_head"}

// Targets are LoRA's targets by which exactly those linear layers of the encoder's layers are adapted that are among an adapter's modules. The
// others, such as a head's, are left out.
func (c Config) Targets(modules []string) []string {
	var of LoRA
	all := true
	for _, linear := range c.linearLayers() {
		for _, m := range c.modules(linear) {
			is := slices.ContainsFunc(c.adapterNames(m+".weight"), func(way []string) bool {
				return len(way) == 1 && slices.Contains(modules, strings.TrimSuffix(way[0], ".weight"))
			})
			if is {
				of.Targets = append(of.Targets, m)
			}
			all = all && is
		}
	}
	if all {
		return []string{AllLinear}
	}
	c.LoRA = &of
	return c.targetNames()
}

// targetNames are the adapted modules as PEFT's target_modules: the shortest ends of their names with which no other linear layer's name ends.
func (c Config) targetNames() (out []string) {
	adapted, others := []string{}, otherLinears
	for _, linear := range c.linearLayers() {
		for _, m := range c.modules(linear) {
			if c.LoRA.targets(m) {
				adapted = append(adapted, m)
			} else {
				others = append(slices.Clip(others), m)
			}
		}
	}
	for _, m := range adapted {
		if name := shortestEnd(m, others); !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// shortestEnd is the shortest end of a dotted name that is not an end of others.
func shortestEnd(name string, others []string) string {
	for at := len(name); ; {
		at = strings.LastIndex(name[:at], ".")
		end := name[at+1:]
		if at < 0 || !slices.ContainsFunc(others, func(o string) bool { return o == end || strings.HasSuffix(o, "."+end) }) {
			return end
		}
	}
}
