package dist

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Collective operations of MPI wait for ever for a rank that is silent: its host lost the network or stopped, or the rank
// died and the launcher did not end the others. So every rank has a thread that exchanges heartbeats, whatever the rank itself
// does: ranks 1, 2, … send to rank 0, and rank 0 to all of them. A rank that hears nothing for too long ends its process.
//
//	rank 1 ─┐            ┌─> rank 1
//	rank 2 ─┼─> rank 0 ──┼─> rank 2
//	rank 3 ─┘            └─> rank 3

// SilenceVariable is the environment variable with the seconds after which a silent rank ends the job, or one that does not
// come to its start; 20 if it is not set.
const SilenceVariable = "RAG_RETRIEVAL_SILENCE"

// beatsPerSilence is how many heartbeats a silent rank has missed. They are counted, not timed: a process that was itself
// stopped for a while has not heard the others either, and that is not their silence.
const beatsPerSilence = 20

// abortTime is how long ending the job by MPI may take. Across a broken network it does not return.
const abortTime = 3 * time.Second

// silence is the time after which a rank counts as silent.
func silence() (time.Duration, error) {
	text := os.Getenv(SilenceVariable)
	if text == "" {
		return 20 * time.Second, nil
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || x < 1 || x > 1e6 {
		return 0, fmt.Errorf("%s is %q, want seconds, at least 1", SilenceVariable, text)
	}
	return time.Duration(x * float64(time.Second)), nil
}

// The kinds of heartbeats.
const (
	beatAlive = iota
	beatEnd   // of rank 0, which ends the job and says why
)

// heartbeat is a rank's exchange of heartbeats.
type heartbeat struct {
	m        *mpi
	limit    time.Duration // of silence
	interval time.Duration // between heartbeats
	hosts    []string      // of the ranks
	missed   []int         // by rank: heartbeats since its last one
	heard    []time.Time   // by rank: when its last one came

	stop, stopped chan struct{}

	mutex sync.Mutex
	note  string // see Comm.Note
	words []byte // memory of the process that prints the last words; nil without one
}

// startHeartbeat starts the exchange. Every rank calls it. words is what rr_words_start returned.
func startHeartbeat(m *mpi, limit time.Duration, words *C.char) (*heartbeat, error) {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	all, err := m.AllGather([]byte(name))
	if err != nil {
		return nil, err
	}
	h := &heartbeat{
		m: m, limit: limit, interval: limit / beatsPerSilence, missed: make([]int, m.size), heard: make([]time.Time, m.size),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	for rank, host := range all {
		h.hosts = append(h.hosts, string(host))
		h.heard[rank] = time.Now()
	}
	if words != nil {
		h.words = unsafe.Slice((*byte)(unsafe.Pointer(words)), C.rr_words_size)
	}
	h.setNote("")
	if !m.threads {
		if m.rank == 0 {
			fmt.Fprintf(os.Stderr, "%s allows no second thread: where a rank falls silent, the others wait for it\n", m.version)
		}
		close(h.stopped)
		return h, nil
	}
	go h.run()
	return h, nil
}

// setNote sets the note, and with it what is printed of this rank if it dies.
func (h *heartbeat) setNote(note string) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.note = note; h.words != nil {
		text := h.name(h.m.rank) + fmt.Sprintf(" (process %d) died", os.Getpid())
		n := copy(h.words[:len(h.words)-2], withNote(text, note))
		copy(h.words[n:], "\n\x00")
	}
}

func (h *heartbeat) getNote() string {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.note
}

func withNote(reason, note string) string {
	if note == "" {
		return reason
	}
	return reason + "; " + note
}

// name names a rank.
func (h *heartbeat) name(rank int) string {
	return fmt.Sprintf("rank %d of %d on host %s", rank, h.m.size, h.hosts[rank])
}

// peers are the ranks that this one sends to and hears from.
func (h *heartbeat) peers() (from, to int) {
	if h.m.rank == 0 {
		return 1, h.m.size
	}
	return 0, 1
}

// run exchanges heartbeats until stop is closed.
func (h *heartbeat) run() {
	runtime.LockOSThread()
	defer close(h.stopped)
	tick := time.NewTicker(h.interval)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			h.finish()
			return
		case <-tick.C:
			h.send(beatAlive)
			h.listen()
			h.judge()
		}
	}
}

// finish ends the exchange on all ranks. What is under way must be received before MPI ends.
func (h *heartbeat) finish() {
	for {
		h.listen()
		var done C.int
		if err := h.m.check("MPI_Ibarrier", C.rr_mpi_call_end_beats(h.m.f, &done)); err != nil || done != 0 {
			return // an error shows in MPI_Finalize
		}
		time.Sleep(time.Millisecond)
	}
}

// close ends the exchange. All ranks are at their end: if one does not reach it now, the timer ends the process.
func (h *heartbeat) close() *time.Timer {
	late := time.AfterFunc(h.limit, func() { h.end("MPI does not come to its end") })
	if h.m.threads {
		close(h.stop)
	}
	<-h.stopped
	C.rr_words_end()
	return late
}

// send sends a heartbeat to every peer that has received the last one.
func (h *heartbeat) send(kind C.int) {
	from, to := h.peers()
	for rank := from; rank < to; rank++ {
		_ = C.rr_mpi_call_beat(h.m.f, C.int(rank), kind) // after an error, the rank will be silent
	}
}

// listen receives what has come.
func (h *heartbeat) listen() {
	for {
		var from, kind C.int
		if code := C.rr_mpi_call_hear(h.m.f, &from, &kind); code != 0 || from < 0 {
			return
		}
		if kind == beatEnd {
			h.m.Abort(1)
		}
		h.missed[from], h.heard[from] = 0, time.Now()
	}
}

// judge ends the job if a peer has been silent for too long.
func (h *heartbeat) judge() {
	silent := -1
	var others []string
	from, to := h.peers()
	for rank := from; rank < to; rank++ {
		h.missed[rank]++
	}
	for rank := from; rank < to; rank++ {
		switch {
		case silent < 0 && h.missed[rank] > beatsPerSilence:
			silent = rank
		case h.missed[rank] > beatsPerSilence/2:
			others = append(others, fmt.Sprintf("%d on %s", rank, h.hosts[rank]))
		}
	}
	if silent < 0 {
		return
	}
	if h.m.rank == 0 {
		h.send(beatEnd)
	}
	if h.m.rank != h.speaker(silent) {
		time.Sleep(2*h.interval + time.Second/2) // the speaker comes first
		h.m.Abort(1)
	}
	reason := fmt.Sprintf("%s has been silent for %v, since %s", h.name(silent), time.Since(h.heard[silent]).Round(time.Second),
		h.heard[silent].UTC().Format("15:04:05 UTC"))
	if len(others) > 0 {
		reason += ", and rank " + strings.Join(others, ", ")
	}
	h.end(reason + ": all ranks end")
}

// speaker is the rank that says why the job ends: rank 0, or where that one is silent, the first other rank of each host.
func (h *heartbeat) speaker(silent int) int {
	if silent > 0 {
		return 0
	}
	for rank := 1; rank < h.m.size; rank++ {
		if h.hosts[rank] == h.hosts[h.m.rank] {
			return rank
		}
	}
	return h.m.rank
}

// lost ends the job after an operation failed: a rank is gone. Heartbeats find out which one.
func (h *heartbeat) lost(err error) {
	if h.m.threads {
		time.Sleep(h.limit + 2*h.interval)
	}
	h.end(fmt.Sprintf("%s: %v", h.name(h.m.rank), err))
}

// end prints why the job ends, and ends it.
func (h *heartbeat) end(reason string) {
	fmt.Fprintln(os.Stderr, "rag-retrieval: "+withNote(reason, h.getNote()))
	time.Sleep(300 * time.Millisecond) // for the launcher to read it before it ends all ranks
	h.m.Abort(1)
}
