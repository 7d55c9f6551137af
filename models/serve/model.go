package serve

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
)

// Model is a model that is served under a name.
type Model struct {
	Name        string
	m           *retriever.Model
	batchTokens int            // of a batch that requests share
	users       sync.WaitGroup // the requests that use it
	runs        observer

	publicID    string // its id on the hub, or where it comes from the server's disk its name: clients learn no path
	fingerprint string // of its files and options when it was opened
}

// runsAtOnce is how many runs of all models go on at once. A run has all threads, and half of them if it begins beside another.
const runsAtOnce = 2

// cores is the gate of all models of the process, since they share its cores.
var cores = scoring.NewGate(runsAtOnce)

// OpenModel opens a model to serve. Its requests share batches of at most o.BatchTokens tokens; o.Queue is not
// read.
func OpenModel(ctx context.Context, name, ref string, o retriever.Options) (*Model, error) {
	served := &Model{Name: name, publicID: name}
	if resolve.Remote(ref) {
		served.publicID = ref
	}
	o.Queue = &scoring.QueueOptions{BatchTokens: o.BatchTokens, Runs: runsAtOnce, Gate: cores, Observe: served.runs.observe}
	m, err := retriever.Open(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	fingerprint, err := m.Fingerprint("")
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	served.m, served.fingerprint, served.batchTokens = m, fingerprint, cmp.Or(o.BatchTokens, scoring.DefaultBatchTokens)
	return served, nil
}

// Changed tells whether the model's files are others than when it was opened, or cannot be read any more.
func (m *Model) Changed() bool {
	now, err := m.m.Fingerprint("")
	return err != nil || now != m.fingerprint
}

// Close frees the model.
func (m *Model) Close() error { return m.m.Close() }

// Load tells what waits for the model and runs in it now.
func (m *Model) Load() scoring.QueueLoad { return m.m.QueueLoad() }

// Kind is the model's kind.
func (m *Model) Kind() modelcard.Kind { return m.m.Info().Kind }

// scores scores documents for a query. refuseLong refuses pairs that are too long, instead of cutting them.
func (m *Model) scores(ctx context.Context, query string, documents []string, refuseLong bool) (scores []float32, err error) {
	queries := []retriever.Query{{Texts: []string{query}, Documents: documents}}
	err = m.m.Rank(ctx, queries, retriever.RankOptions{RefuseLong: refuseLong}, func(x []float32) error {
		scores = x
		return nil
	})
	var wrong *retriever.TextError
	if errors.As(err, &wrong) && errors.As(err, new(*retriever.LengthError)) { // its index is that of a text, and not that of a pair
		return nil, wrong.Err
	}
	return scores, err
}
