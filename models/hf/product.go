package hf

import (
	"runtime"
	"sync"
)

// addProduct adds the product of b [rows, rank] and a [rank, columns] to w [rows, columns], on all cores.
func addProduct(w, b, a []float32, rows, rank, columns int) {
	workers := min(runtime.GOMAXPROCS(0), rows)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for row := i * rows / workers; row < (i+1)*rows/workers; row++ {
				addRow(w[row*columns:(row+1)*columns], b[row*rank:(row+1)*rank], a)
			}
		})
	}
	all.Wait()
}

// addRow adds the product of the row vector b [rank] and a [rank, len(w)] to w. Four rows of a at once: w is then read and written a
// quarter as often.
func addRow(w, b, a []float32) {
	n, k := len(w), 0
	for ; k+4 <= len(b); k += 4 {
		b0, b1, b2, b3 := b[k], b[k+1], b[k+2], b[k+3]
		a0, a1, a2, a3 := a[k*n:(k+1)*n], a[(k+1)*n:(k+2)*n], a[(k+2)*n:(k+3)*n], a[(k+3)*n:(k+4)*n]
		for j := range w {
			w[j] += b0*a0[j] + b1*a1[j] + b2*a2[j] + b3*a3[j]
		}
	}
	for ; k < len(b); k++ {
		for j, x := range a[k*n : (k+1)*n] {
			w[j] += b[k] * x
		}
	}
}
