package ortrain

import (
	"time"

	"rag-retrieval-go/ortrain/dist"
)

// timedComm is a Comm that measures how long this rank is in collective operations: transfers, and waiting for ranks that come
// later.
type timedComm struct {
	dist.Comm
	spent time.Duration // since the last call of take
}

func (c *timedComm) measure() func() {
	begun := time.Now()
	return func() { c.spent += time.Since(begun) }
}

// take returns the time since the last call.
func (c *timedComm) take() time.Duration {
	spent := c.spent
	c.spent = 0
	return spent
}

func (c *timedComm) AllReduce(values []float32, op dist.Op) error {
	defer c.measure()()
	return c.Comm.AllReduce(values, op)
}

func (c *timedComm) AllReduce64(values []float64, op dist.Op) error {
	defer c.measure()()
	return c.Comm.AllReduce64(values, op)
}

func (c *timedComm) AllGather(mine []byte) ([][]byte, error) {
	defer c.measure()()
	return c.Comm.AllGather(mine)
}

func (c *timedComm) ReduceScatter(values []float32, counts []int) error {
	defer c.measure()()
	return c.Comm.ReduceScatter(values, counts)
}

func (c *timedComm) AllGatherParts(values []float32, counts []int) error {
	defer c.measure()()
	return c.Comm.AllGatherParts(values, counts)
}

func (c *timedComm) Broadcast(values []float32) error {
	defer c.measure()()
	return c.Comm.Broadcast(values)
}

func (c *timedComm) Barrier() error {
	defer c.measure()()
	return c.Comm.Barrier()
}

// addCollectiveTime adds a step's times in collective operations, one for each rank, to the run's. The last rank to reach each
// operation waits for none: its time is the transfer, and what the others spent more is waiting.
func (t *Trainer) addCollectiveTime(seconds []float64) {
	least, sum := seconds[0], 0.0
	for _, s := range seconds {
		least, sum = min(least, s), sum+s
	}
	t.transfer += least
	t.waiting += sum/float64(len(seconds)) - least
}
