package pgvector

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"rag-retrieval-go/models/index/pgvector/pgtest"
)

// A disk that fills up ends in one line, whether documents are being copied or indexed. With more room the job goes on.
func TestFullDisk(t *testing.T) {
	docs := madeUp(2100, 20)
	undisturbed := contents(t, built(t, docs, 96, HNSW))
	dir, size := pgtest.Dir(t), 1000
	mount := func(flags uintptr, kilobytes int) error {
		return syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("mode=0777,size=%dk", kilobytes))
	}
	if err := mount(0, size); err != nil {
		t.Skipf("cannot mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // a failing test's server may have files open
	server := pgtest.Start(t, pgtest.Dir(t))
	url := server.Database(t)
	place := filepath.Join(dir, "small")
	check(t, os.Mkdir(place, 0o700))
	server.Give(t, place)
	pgtest.Exec(t, url, fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", place))
	s := open(t, url+"&default_tablespace=small")
	full := map[string]int{}
	for full["done"] == 0 && size < 30000 {
		stage := "copying"
		b := buildOf(docs, 96, HNSW)
		b.Stage = func(what string) { stage = what }
		err := s.Build(t.Context(), b)
		if err == nil {
			stage = "done"
		} else {
			oneLine(t, stage, err, "the server's disk is full: could not extend file ", "run it again to go on")
		}
		full[stage]++
		size += 500
		check(t, mount(syscall.MS_REMOUNT, size))
	}
	if full["copying"] < 2 || full["joining the postings"]+full["indexing the vectors"] < 2 {
		t.Errorf("the disk was full while %v", full)
	}
	if got := contents(t, s); got != undisturbed {
		t.Errorf("%s\nwant %s", got, undisturbed)
	}
}
