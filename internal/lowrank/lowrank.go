// Package lowrank adds products of two narrow matrices to a large one, as a LoRA adapter is merged into a weight.
package lowrank

import (
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

// addRow adds scale·b·A to one row.
func addRow(row, b, a []float32, scale float64) {
	for r, x := range b {
		x := float32(float64(x) * scale)
		of := a[r*len(row):][:len(row)]
		for i := range row {
			row[i] += x * of[i]
		}
	}
}
