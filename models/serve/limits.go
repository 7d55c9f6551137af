package serve

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// bodiesPerSlot is how many bodies may be read for each request that may be in work.
const bodiesPerSlot = 2

// admit takes a slot for a request, and returns what gives it back. Where none is free the error is a 429, and the header says when to
// come again.
func (s *Server) admit(w http.ResponseWriter) (done func(), err error) {
	select {
	case s.slots <- struct{}{}:
		s.pace.begin(time.Now(), len(s.slots))
		return func() {
			<-s.slots
			s.pace.end(time.Now())
		}, nil
	default:
		return nil, s.full(w)
	}
}

// full is the error of a request for which there is no slot.
func (s *Server) full(w http.ResponseWriter) error {
	w.Header().Set("Retry-After", strconv.Itoa(s.pace.retryAfter(len(s.slots))))
	return &Error{Status: http.StatusTooManyRequests, Kind: overloaded, Message: "the server has as many requests as it takes; try again"}
}

// pace estimates how fast requests end.
type pace struct {
	mu       sync.Mutex
	last     time.Time // when one ended last, or began when none was in work
	interval float64   // seconds between two ends while there is work: a running mean
}

// paceShare is the weight of the newest interval in the mean: requests end several at once, where they shared a batch.
const paceShare = 1.0 / 32

// begin notes that a request began, after which so many are in work.
func (p *pace) begin(now time.Time, inWork int) {
	if inWork == 1 {
		p.mu.Lock()
		p.last = now
		p.mu.Unlock()
	}
}

func (p *pace) end(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sample := now.Sub(p.last).Seconds()
	if p.last = now; p.interval == 0 {
		p.interval = sample
		return
	}
	p.interval += paceShare * (sample - p.interval)
}

// maxRetryAfter is the longest time in seconds that a client is told to wait.
const maxRetryAfter = 60

// retryAfter is in how many seconds the requests in work will have ended.
func (p *pace) retryAfter(inWork int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(math.Ceil(min(maxRetryAfter, max(1, p.interval*float64(inWork)))))
}
