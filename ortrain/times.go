package ortrain

import (
	"time"

	"golang.org/x/sys/unix"

	"rag-retrieval-go/ortrain/runtime"
)

// Times says where the time of a step went, in seconds. The step's time less Graph and Optimizer is what passes outside of kernels.
type Times struct {
	Graph     float64 // in the runs of the training graph, or of those of encoder and loss: forward and backward passes
	Optimizer float64 // in gradient accumulation, the gradient's norm and AdamW
	Waiting   float64 // waiting for the step's batches
	// Preparing is the processor time of making the step's batches: rows, tokens, packing. Another thread made them while earlier steps
	// computed. So it is no part of the step's time, but the kernels' threads did not have that processor meanwhile.
	Preparing float64
}

// since adds the time since begun to one of the step's times.
func since(to *float64, begun time.Time) { *to += time.Since(begun).Seconds() }

// runGraph runs a graph of the forward or backward pass.
func (t *Trainer) runGraph(b *runtime.Binding) error {
	defer since(&t.times.Graph, time.Now())
	return b.Run()
}

// threadTime is the processor time that the calling thread has had so far. It is 0 where the system does not tell it.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
