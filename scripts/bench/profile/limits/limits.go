// Package limits measures what this machine can do at most: floating-point operations of its units, and bytes moved.
package limits

/*
#include "limits.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"time"
)

// repeats is how often a rate is measured. The highest counts, since another process can only lower it.
const repeats = 5

var units = map[string]C.int{"fp32": C.LIMITS_FLOAT32, "bf16-portable": C.LIMITS_FLOAT32, "bf16-avx512": C.LIMITS_AVX512, "bf16-amx": C.LIMITS_AMX}

// FLOPs returns the floating-point operations per second of the unit that a precision computes with, such as "fp32" or "bf16-amx" (the names
// in train.json), on some threads. Portable bfloat16 is computed in float32.
func FLOPs(precision string, threads int) (float64, error) {
	unit, known := units[precision]
	if !known || C.limits_multiply(unit, 1) == 0 {
		return 0, fmt.Errorf("this CPU or this compiler has no unit for %s", precision)
	}
	rounds := C.long(4e6)
	return best(threads, func(int) float64 { return float64(C.limits_multiply(unit, rounds)) }), nil
}

// BytesPerSecond returns how many bytes per second some threads read and write together, where they use `size` bytes over and over: two parts
// are read for one that is written. A small size stays in caches.
func BytesPerSecond(size, threads int) float64 {
	n := max(size/threads/12/16*16, 16) // floats of an array
	arrays := make([][3][]float32, threads)
	for i := range arrays {
		for j := range arrays[i] {
			arrays[i][j] = make([]float32, n)
			for k := range arrays[i][j] {
				arrays[i][j][k] = 1
			}
		}
	}
	rounds := max(256<<20/(n*12*threads), 1)
	return best(threads, func(i int) float64 {
		x := &arrays[i]
		C.limits_move((*C.float)(&x[0][0]), (*C.float)(&x[1][0]), (*C.float)(&x[2][0]), C.long(n), C.long(rounds))
		return float64(rounds) * float64(n) * 12
	})
}

// best runs work on some threads at once and returns the highest sum of its results per second.
func best(threads int, work func(thread int) float64) float64 {
	highest := 0.0
	for range repeats {
		done := make([]float64, threads)
		var group sync.WaitGroup
		begun := time.Now()
		for i := range threads {
			group.Go(func() { done[i] = work(i) })
		}
		group.Wait()
		seconds, sum := time.Since(begun).Seconds(), 0.0
		for _, x := range done {
			sum += x
		}
		highest = max(highest, sum/seconds)
	}
	return highest
}
