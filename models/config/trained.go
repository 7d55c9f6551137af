package config

import (
	"fmt"
	"strconv"
	"strings"
)

// The parts of an encoder that freeze names.
const (
	frozenEmbeddings = "embeddings"
	frozenLayers     = "layers:"
)

// validateTrained checks the keys that say what is trained.
func (c Train) validateTrained() error {
	if _, _, err := c.Frozen(); err != nil {
		return err
	}
	if c.LoraRank > 0 {
		if len(c.Freeze) > 0 {
			return fmt.Errorf("freeze is %s, but with lora_rank the whole encoder is frozen: leave out one of them", c.Freeze)
		}
		return nil
	}
	for _, k := range []struct {
		key string
		set bool
	}{
		{"lora_alpha", c.LoraAlpha != 0}, {"lora_dropout", c.LoraDropout != 0}, {"lora_targets", len(c.LoraTargets) > 0},
		{"use_rslora", c.UseRSLora}, {"merge", c.Merge},
	} {
		if k.set {
			return fmt.Errorf("%s is set, but lora_rank is 0: there are no adapters", k.key)
		}
	}
	return nil
}

// Frozen returns what freeze says: whether the embeddings are frozen, and how many of the first layers.
func (c Train) Frozen() (embeddings bool, layers int, err error) {
	for _, part := range c.Freeze.Split() {
		n, isLayers := strings.CutPrefix(part, frozenLayers)
		switch {
		case part == frozenEmbeddings:
			embeddings = true
		case isLayers:
			if layers, err = strconv.Atoi(strings.TrimSpace(n)); err != nil || layers < 1 {
				return false, 0, fmt.Errorf("freeze has %q, want layers:N with a number of layers of at least 1", part)
			}
		default:
			return false, 0, fmt.Errorf("freeze has %q, want embeddings or layers:N", part)
		}
	}
	return embeddings, layers, nil
}

// Alpha returns lora_alpha or its default.
func (c Train) Alpha() float64 {
	if c.LoraAlpha == 0 {
		return 2 * float64(c.LoraRank)
	}
	return c.LoraAlpha
}
