package encoder

import "fmt"

// The entries of layer_types.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// layeredParameters is rope_parameters of an architecture whose layers with a window have rotary positions of their own.
type layeredParameters struct {
	Full    *ropeParameters `json:"full_attention"`
	Sliding *ropeParameters `json:"sliding_attention"`
}

// set sets each layer's window and rotation. The bases are those where the keys have no rope_theta.
func (p layeredParameters) set(c *Config, types []string, window int64, fullBase, slidingBase float64) (err error) {
	if c.Blocks.Windows, err = windows(types, c.NumHiddenLayers, window); err != nil {
		return err
	}
	full, err := p.Full.rotation("rope_parameters.full_attention", fullBase, c.MaxPositionEmbeddings)
	if err != nil {
		return err
	}
	sliding, err := p.Sliding.rotation("rope_parameters.sliding_attention", slidingBase, c.MaxPositionEmbeddings)
	if err != nil {
		return err
	}
	for _, w := range c.Blocks.Windows {
		by := sliding
		if w == NoWindow {
			by = full
		}
		c.Blocks.Rotary = append(c.Blocks.Rotary, by)
	}
	return nil
}

// windows reads layer_types: window for sliding attention, NoWindow for full attention.
func windows(types []string, layers int, window int64) ([]int64, error) {
	if len(types) != layers {
		return nil, fmt.Errorf("layer_types has %d entries for %d layers", len(types), layers)
	}
	out := make([]int64, layers)
	for i, t := range types {
		switch t {
		case fullAttention:
			out[i] = NoWindow
		case slidingAttention:
			out[i] = window
		default:
			return nil, fmt.Errorf("layer_types[%d] is %q, want %s or %s", i, t, fullAttention, slidingAttention)
		}
	}
	return out, nil
}
