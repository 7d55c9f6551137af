package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// job is the ranks that do a command together: those that mpirun started, or this process only. They run the command in step,
// each with the same files and options. Only rank 0 prints and writes.
type job struct{ dist.Comm }

// onRanks makes an action one of all ranks. An error of one rank must come to all of them (dist.Agree) before the next
// collective operation.
func onRanks(action func(c *cli.Context, j job) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		comm, err := dist.Connect()
		if err != nil {
			return err
		}
		if comm.Size() == 1 {
			return action(c, job{comm})
		}
		return job{comm}.run(func(j job) error { return action(c, j) })
	}
}

// run runs an action in step with the other ranks.
func (j job) run(action func(j job) error) error {
	show := func() {}
	if !j.first() {
		show = mute()
	}
	err := j.agree(j.compare("it was started in another way", startOf()))
	if err == nil {
		err = j.agree(action(j))
	}
	show()
	return dist.Leave(j.Comm, err)
}

// mute drops what this process prints, besides messages, until show is called.
func mute() (show func()) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return func() {}
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	return func() {
		os.Stdout, os.Stderr = stdout, stderr
		null.Close()
	}
}

// first says whether this process prints and writes.
func (j job) first() bool { return j.Rank() == 0 }

// agree makes an error of one rank an error of all, and so an interruption or a mistake in how the program was called.
func (j job) agree(err error) error { return dist.Agree(j, err, context.Canceled, errUsage) }

// inTurn calls f on rank 0 and then on the others: what rank 0 fetches into the cache, they find there.
func (j job) inTurn(f func() error) error {
	var err error
	if j.first() {
		err = f()
	}
	if err := j.agree(err); err != nil {
		return err
	}
	if !j.first() {
		err = f()
	}
	return j.agree(err)
}

// inStep calls f, which ends in the same way on all ranks. What they all have to say is printed once.
func (j job) inStep(f func() error) error {
	if j.Size() == 1 {
		return f()
	}
	messages.prepare(j)
	err := f()
	return errors.Join(err, messages.shareLines(j))
}

// fromFirst calls f on rank 0, and gives all ranks what it returned.
func fromFirst[T any](j job, f func() (T, error)) (x T, err error) {
	if j.Size() == 1 {
		return f()
	}
	var b []byte
	if j.first() {
		if x, err = f(); err == nil {
			b, err = json.Marshal(x)
		}
	}
	if err := j.agree(err); err != nil {
		return x, err
	}
	all, err := j.AllGather(b)
	if err != nil || j.first() {
		return x, err
	}
	return x, json.Unmarshal(all[0], &x)
}

// compare returns an error on the ranks that have another value than rank 0.
func (j job) compare(problem string, mine map[string]string) error {
	all, err := dist.GatherJSON(j, mine)
	if err != nil {
		return err
	}
	first := all[0]
	var differ []string
	for name, x := range mine {
		if first[name] != x {
			differ = append(differ, fmt.Sprintf("%s is %s, of rank 0 %s", name, orText(x, "absent"), orText(first[name], "absent")))
		}
	}
	for name, x := range first {
		if _, ok := mine[name]; !ok {
			differ = append(differ, fmt.Sprintf("%s is absent, of rank 0 %s", name, x))
		}
	}
	if differ == nil {
		return nil
	}
	return fmt.Errorf("%s: %s", problem, strings.Join(differ, "; "))
}

// startOf is what all ranks must have in common from the start.
func startOf() map[string]string {
	library, _ := runtime.Version()
	return map[string]string{"the command": strings.Join(os.Args[1:], " "), "the program": version, "ONNX Runtime": library}
}

// open opens a model, the same on all ranks.
func (j job) open(c *cli.Context, ref string, o retriever.Options) (m *retriever.Model, err error) {
	if j.Size() == 1 {
		return openWith(c, ref, o)
	}
	err = j.inStep(func() error {
		m, err = j.openShared(c, ref, o)
		return err
	})
	return m, err
}

// shareHost gives each rank its share of its host's cores, and a GPU, where the flags name none.
func (j job) shareHost(c *cli.Context, o retriever.Options) (retriever.Options, error) {
	if j.Size() == 1 {
		return o, nil
	}
	places, err := dist.Places(j)
	if err != nil {
		return o, err
	}
	if o.Threads == 0 {
		o.Threads = dist.Threads(places, j.Rank())
	}
	if !c.IsSet("device-id") {
		o.DeviceID = j.LocalRank()
	}
	return o, nil
}

// openShared opens a model whose work several ranks share.
func (j job) openShared(c *cli.Context, ref string, o retriever.Options) (*retriever.Model, error) {
	o, err := j.shareHost(c, o)
	if err != nil {
		return nil, err
	}
	o.Ranks = dist.NewDealer(j)
	if resolve.Remote(ref) {
		if _, err := fromFirst(j, func() (string, error) { return resolver().Model(c.Context, ref) }); err != nil {
			return nil, err
		}
	}
	m, err := openWith(c, ref, o)
	if err := j.agree(err); err != nil {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
		return nil, err
	}
	err = j.compare("it computes in another way (--mixed-precision no, or "+kernels.Variable+", makes all ranks alike)", map[string]string{"the precision": m.Info().Precision})
	if err := j.agree(err); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := j.agree(j.sameModel(c.Context, m)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// sameModel returns an error if the files of this rank's model are not those of rank 0's.
func (j job) sameModel(ctx context.Context, m *retriever.Model) error {
	found, err := checksumsOf(ctx, m)
	if err := j.agree(err); err != nil {
		return err
	}
	return j.compare("its model is another one", found)
}

// checksumsOf returns the checksums of a model's files, by their names within its folder.
func checksumsOf(ctx context.Context, m *retriever.Model) (map[string]string, error) {
	cache, err := runtime.InHome("indices")
	if err != nil {
		cache = "" // then no checksums are kept
	}
	found := map[string]string{}
	dir := m.Info().Dir
	files, err := m.Files()
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		sum, err := data.HashFile(ctx, name, cache)
		if err != nil {
			return nil, err
		}
		if inside, err := filepath.Rel(dir, name); err == nil { // the model may be in different places
			name = inside
		}
		found[name] = sum.String()
	}
	return found, nil
}

// contentOf is a hash of a model's files, which stays the same where they are copied.
func contentOf(ctx context.Context, m *retriever.Model) (string, error) {
	sums, err := checksumsOf(ctx, m)
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(h, "%q %s\n", name, sums[name])
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// stdio are rank 0's input and output, for all ranks.
type stdio struct {
	*dist.Stdio
	first bool
}

func (j job) stdio() stdio { return stdio{dist.NewStdio(j), j.first()} }

// open opens files, or takes stdin where there are none. Only rank 0 opens them.
func (s stdio) open(j job, paths []string) ([]input, error) {
	if len(paths) == 0 {
		return []input{{s.Reader(os.Stdin), io.NopCloser(nil), "stdin"}}, nil
	}
	var out []input
	var failed error
	for _, path := range paths {
		in := input{nil, io.NopCloser(nil), path}
		if s.first && failed == nil {
			var f *os.File
			if f, failed = os.Open(path); failed == nil {
				in.Closer = f
			}
			in.Reader = f
		}
		in.Reader = s.Reader(in.Reader)
		out = append(out, in)
	}
	if err := j.agree(failed); err != nil {
		return nil, errors.Join(err, closeAll(out))
	}
	return out, nil
}
