package dist

import (
	"fmt"
	"os"
	"runtime"
)

// Place says where a rank runs.
type Place struct {
	Host      string `json:"host"`
	LocalRank int    `json:"local_rank"`
	Cores     []int  `json:"cores"` // the numbers of the cores that the launcher lets the rank use
}

// Places returns the place of every rank. Every rank calls it.
func Places(c Comm) ([]Place, error) {
	host, err := os.Hostname()
	if err != nil {
		host = fmt.Sprintf("unknown (%v)", err)
	}
	cores := usableCores()
	if n := runtime.GOMAXPROCS(0); n < len(cores) { // a container's limit of processor time
		cores = cores[:n]
	}
	return GatherJSON(c, Place{Host: host, LocalRank: c.LocalRank(), Cores: cores})
}

// RanksOfHost returns the ranks that run on the same host as one of them, in order.
func RanksOfHost(places []Place, rank int) []int {
	var out []int
	for i, p := range places {
		if p.Host == places[rank].Host {
			out = append(out, i)
		}
	}
	return out
}

// HostCores returns how many cores the ranks of a rank's host may use together.
func HostCores(places []Place, rank int) int {
	cores := map[int]bool{}
	for _, r := range RanksOfHost(places, rank) {
		for _, core := range places[r].Cores {
			cores[core] = true
		}
	}
	return len(cores)
}

// Threads returns how many threads a rank can run without taking other ranks' cores: all of its own if the launcher binds each
// rank to different cores, its share of the host's otherwise. It is at least 1.
func Threads(places []Place, rank int) int {
	share := HostCores(places, rank) / len(RanksOfHost(places, rank))
	return max(1, min(len(places[rank].Cores), share))
}

// countedCores numbers the cores of a system that does not say which of them a process may use.
func countedCores() []int {
	out := make([]int, runtime.NumCPU())
	for i := range out {
		out[i] = i
	}
	return out
}
