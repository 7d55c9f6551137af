package scoring

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"rag-retrieval-go/models/encoder"
)

// Ranks of a job share the batches of a call: every rank calls with the same texts, in the same order, and gets every value.
// The batches are those of one rank, so that a value does not depend on the number of ranks, not even in its last bit, and
// that no text is encoded twice.

// Carrier brings values from one rank to another as numbers. Row is what the value was made of, which every rank has.
type Carrier[V any] struct {
	Numbers func(value V) []float32
	Value   func(row encoder.Row, numbers []float32) V
}

// Vectors is the Carrier of vectors.
var Vectors = Carrier[[]float32]{
	Numbers: func(v []float32) []float32 { return v },
	Value:   func(_ encoder.Row, v []float32) []float32 { return v },
}

// single is the Carrier of scores.
var single = Carrier[float32]{
	Numbers: func(x float32) []float32 { return []float32{x} },
	Value: func(_ encoder.Row, numbers []float32) float32 {
		if len(numbers) != 1 {
			return float32(math.NaN())
		}
		return numbers[0]
	},
}

// runShared is run where ranks share the batches.
func (x batching[V]) runShared(ctx context.Context, rows []encoder.Row, batches [][]int, done func(rows []int)) ([]V, error) {
	costs := make([]float64, len(batches))
	for i, batch := range batches {
		costs[i] = float64(max(1, len(batch)*len(rows[batch[0]].IDs))) // its padded tokens: the first row is the longest
	}
	own, reported := 0, 0
	report := func(n int) {
		for ; reported < min(n, len(batches)); reported++ {
			done(batches[reported])
		}
	}
	results, err := x.ranks.Deal(ctx, costs, func(i int) ([]byte, error) {
		values, err := x.forward(encoder.Pick(rows, batches[i]))
		if err != nil {
			return nil, err
		}
		own++
		report(own * x.ranks.Comm().Size())
		var out []byte
		for _, v := range values {
			out = appendNumbers(out, x.carrier.Numbers(v))
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	report(len(batches))
	out := make([]V, len(rows))
	for i, b := range results {
		for _, row := range batches[i] {
			var numbers []float32
			if numbers, b, err = cutNumbers(b); err != nil {
				return nil, err
			}
			out[row] = x.carrier.Value(rows[row], numbers)
		}
	}
	return out, nil
}

// appendNumbers appends the numbers' count, and each number in 4 bytes.
func appendNumbers(b []byte, numbers []float32) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(numbers)))
	for _, x := range numbers {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// cutNumbers cuts what appendNumbers has appended off the beginning.
func cutNumbers(b []byte) (numbers []float32, rest []byte, err error) {
	if len(b) < 4 || (len(b)-4)/4 < int(binary.LittleEndian.Uint32(b)) {
		return nil, nil, fmt.Errorf("another rank's values are cut short")
	}
	numbers = make([]float32, binary.LittleEndian.Uint32(b))
	b = b[4:]
	for i := range numbers {
		numbers[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return numbers, b[4*len(numbers):], nil
}
