// Package lowrank adds products of two narrow matrices to a large one, as a LoRA adapter is merged into a weight.
package lowrank

import (
	"math"
	"runtime"
	"sync"
)

// Add adds scale·B·A to w [out, in], where b is B [out, rank] and a is A [rank, in]. All are row-major.
func Add(w, b, a []float32, rank int, scale float64) {
	if rank == 0 || len(a) == 0 {
		return
	}
	in, out := len(a)/rank, len(b)/rank
	workers := min(runtime.NumCPU(), out)
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for o := k * out / workers; o < (k+1)*out/workers; o++ {
				addRow(w[o*in:(o+1)*in], b[o*rank:(o+1)*rank], a, scale)
			}
		})
	}
	wg.Wait()
}

// addRow adds scale·b·A to one row. Four rows of A at once: the row is then read and written a quarter as often.
func addRow(row, b, a []float32, scale float64) {
	n, r := len(row), 0
	factor := func(r int) float32 { return float32(float64(b[r]) * scale) }
	for ; r+4 <= len(b); r += 4 {
		b0, b1, b2, b3 := factor(r), factor(r+1), factor(r+2), factor(r+3)
		a0, a1, a2, a3 := a[r*n:][:n], a[(r+1)*n:][:n], a[(r+2)*n:][:n], a[(r+3)*n:][:n]
		for i := range row {
			row[i] += b0*a0[i] + b1*a1[i] + b2*a2[i] + b3*a3[i]
		}
	}
	for ; r < len(b); r++ {
		x, of := factor(r), a[r*n:][:n]
		for i := range row {
			row[i] += x * of[i]
		}
	}
}

// Scale is the factor of b·a: alpha/rank, or alpha/√rank with rsLoRA (Kalajdzievski 2023).
func Scale(alpha float64, rank int64, rslora bool) float64 {
	if rslora {
		return alpha / math.Sqrt(float64(rank))
	}
	return alpha / float64(rank)
}
