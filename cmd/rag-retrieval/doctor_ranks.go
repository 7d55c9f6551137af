package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// rankReport is what doctor finds in one rank of a job.
type rankReport struct {
	finetune.Versions
	MPI   string `json:"mpi"`
	CUDA  bool   `json:"cuda"` // the GPU with the number of the local rank works
	GPUs  int    `json:"gpus"`
	BF16  string `json:"bf16"`  // the precision of train in this rank, by itself
	Fault string `json:"fault"` // what does not work; "" if all does
}

// doctorOfRanks shows, in rank 0, a row for each host of the job that this process is a rank of. It fails if a rank does not
// compute, or differs from rank 0 so that train would refuse it.
func doctorOfRanks() error {
	comm, err := dist.Connect()
	if err != nil {
		return err
	}
	places, err := dist.Places(comm)
	if err != nil {
		return err
	}
	reports, err := dist.GatherJSON(comm, examineRank(comm))
	if err != nil {
		return err
	}
	rank := comm.Rank()
	if err := comm.Close(); err != nil || rank > 0 {
		return err
	}
	if err := printHosts(places, reports); err != nil {
		return err
	}
	return compareRanks(places, reports)
}

// examineRank finds out what works in this rank.
func examineRank(comm dist.Comm) rankReport {
	r := rankReport{MPI: dist.Version(comm), Versions: finetune.Versions{Program: version}, BF16: bf16OfRank()}
	if err := runtime.Load(""); err != nil {
		r.Fault = err.Error()
		return r
	}
	r.Runtime, _ = runtime.Version()
	if err := tryRuntime(runtime.Options{Threads: 1}); err != nil {
		r.Fault = err.Error()
		return r
	}
	gpu := runtime.Options{Provider: runtime.CUDA, DeviceID: comm.LocalRank(), Threads: 1}
	if _, _, err := runtime.Resolve(gpu.Provider, gpu.DeviceID); err == nil {
		r.CUDA = tryRuntime(gpu) == nil
		r.GPUs, _ = runtime.GPUs()
	}
	return r
}

// printHosts prints a row for each host; several, if its ranks differ.
func printHosts(places []dist.Place, reports []rankReport) error {
	type key struct {
		host string
		rankReport
	}
	ranks := map[key][]int{}
	var keys []key
	for i, r := range reports {
		k := key{places[i].Host, r}
		if ranks[k] == nil {
			keys = append(keys, k)
		}
		ranks[k] = append(ranks[k], i)
	}
	var rows [][]string
	for _, k := range keys {
		var local []int
		for _, r := range ranks[k] {
			local = append(local, places[r].LocalRank)
		}
		first := ranks[k][0]
		gpu := "none"
		if k.CUDA {
			gpu = fmt.Sprintf("GPU %s of %d", spans(local), k.GPUs)
		}
		rows = append(rows, []string{k.host, spans(ranks[k]), spans(local), fmt.Sprint(dist.HostCores(places, first)),
			fmt.Sprint(dist.Threads(places, first)), k.Program, k.Runtime, k.MPI, k.BF16, gpu})
	}
	header := []string{"host", "ranks", "local ranks", "cores", "threads of a rank", "program", "ONNX Runtime", "MPI", "train in", "CUDA"}
	return eval.WriteTable(os.Stdout, "table", header, rows)
}

// compareRanks prints what is wrong in a rank, and what train does not refuse but the user should know. It returns an error
// if train would refuse the job.
func compareRanks(places []dist.Place, reports []rankReport) error {
	var wrong []string
	name := func(rank int) string { return fmt.Sprintf("rank %d on %s", rank, places[rank].Host) }
	for i, r := range reports {
		switch d := r.Differences(reports[0].Versions); {
		case r.Fault != "":
			wrong = append(wrong, fmt.Sprintf("%s: %s", name(i), r.Fault))
		case len(d) > 0 && reports[0].Fault == "":
			wrong = append(wrong, fmt.Sprintf("%s differs from rank 0: %s", name(i), strings.Join(d, "; ")))
		}
		if r.MPI != reports[0].MPI {
			fmt.Printf("%s has %s, rank 0 %s\n", name(i), r.MPI, reports[0].MPI)
		}
		if n := len(dist.RanksOfHost(places, i)); places[i].LocalRank == 0 && n > dist.HostCores(places, i) {
			fmt.Printf("%s: %d ranks share %d cores: start fewer, or see how mpirun binds them\n", places[i].Host, n, dist.HostCores(places, i))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("this job cannot train: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// spans writes numbers in ascending order, and neighbours as a span: 0-3, 8.
func spans(numbers []int) string {
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	var out []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if j == i {
			out = append(out, fmt.Sprint(numbers[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		}
		i = j + 1
	}
	return strings.Join(out, ", ")
}
