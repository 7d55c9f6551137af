package serve

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// seeds are a body that is right for each route that has one.
var seeds = map[string]string{
	"/v1/embeddings": `{"model":"embed","input":["the a","er"],"encoding_format":"float","dimensions":4,"input_type":"query","truncate_prompt_tokens":-1,"user":"u"}`,
	"/embeddings":    `{"input":[[2,5,3],"a"]}`,
	"/pooling":       `{"model":"colbert","input":["the a"],"encoding_format":"float"}`,
	"/v2/rerank":     `{"model":"rerank","query":"a","documents":["b",{"text":"c"}],"top_n":1,"max_tokens_per_doc":3}`,
	"/v1/rerank":     `{"model":"rerank","query":"a","documents":["b","c"],"return_documents":true,"raw_scores":true}`,
	"/rerank":        `{"query":"a","texts":["b","c"],"return_text":true,"truncate":false,"truncation_direction":"Right"}`,
	"/embed":         `{"inputs":["a",[2,5,3]],"truncate":true,"truncation_direction":"Left","normalize":true,"dimensions":3}`,
	"/similarity":    `{"inputs":{"source_sentence":"a","sentences":["b"]},"parameters":{"truncate":true,"prompt_name":"query"}}`,
	"/tokenize":      `{"inputs":["a b"],"add_special_tokens":false,"prompt_name":"document"}`,
	"/":              `{"inputs":{"source_sentence":"a","sentences":["b"]}}`,
	"/page/matches":  `{"model":"colbert","query":"a","document":"b"}`,
}

// strange are values that clients send by mistake.
var strange = []string{
	`null`, `true`, `0`, `-1`, `1.5`, `1e400`, `9223372036854775808`, `""`, `"\u0000"`, `"\ud800"`, `"🤷 中 ` + "\xff" + `"`, `[]`, `[null]`, `[[]]`, `[[[1]]]`, `[1,"a"]`, `{}`, `{"text":null}`,
	`"` + strings.Repeat("a ", 900) + `"`, `[` + strings.Repeat(`"a",`, 40) + `"a"]`, strings.Repeat("[", 300) + strings.Repeat("]", 300),
}

// mutated is a body with one of its values changed, a field left out, added or named otherwise, or its bytes cut or changed.
func mutated(r *rand.Rand, body string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &fields) != nil {
		return body
	}
	keys := slices.Sorted(maps.Keys(fields))
	key, value := keys[r.IntN(len(keys))], strange[r.IntN(len(strange))]
	switch r.IntN(6) {
	case 0:
		delete(fields, key)
	case 1:
		fields[strings.ToUpper(key)+"x"] = fields[key]
	case 2: // bytes
		b := []byte(body)
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		return string(b[:1+r.IntN(len(b))])
	default:
		return strings.Replace(body, string(fields[key]), value, 1)
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return body
	}
	return string(b)
}

// Whatever a body is, the answer is a result or the client's mistake, in the form that openapi.yaml has, and the log has no failure. Another
// client's answers stay the same meanwhile.
func TestMalformedBodies(t *testing.T) {
	_, h, l := local(t, Options{MaxTexts: 30}, "embed", "colbert", "rerank")
	const question = `{"query": "the a", "documents": ["er", "b"], "raw_scores": true}`
	scores := func() string {
		body := ask(h, "POST", "/v1/rerank", question).Body.String()
		return body[strings.Index(body, `"results"`):]
	}
	want := scores()
	r := rand.New(rand.NewPCG(1, 2))
	statuses := map[int]int{}
	for _, route := range slices.Sorted(maps.Keys(seeds)) {
		seed := seeds[route]
		if w := ask(h, "POST", route, seed); w.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", route, seed, w.Code, w.Body)
		}
		for range 60 {
			body := mutated(r, seed)
			w := ask(h, "POST", route, body)
			if statuses[w.Code/100]++; w.Code >= 500 || w.Code == http.StatusFailedDependency || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %q: %d %s", route, body, w.Code, w.Body)
			}
		}
		if got := scores(); got != want {
			t.Errorf("after %s another client gets %s, want %s", route, got, want)
		}
	}
	if statuses[4] < 200 || statuses[2] < 50 {
		t.Errorf("answers by status: %v", statuses)
	}
	if strings.Contains(l.String(), `"level":"ERROR"`) {
		t.Error(l)
	}
}

// FuzzBodies is the same by Go's own fuzzing: go test -fuzz FuzzBodies ./models/serve.
func FuzzBodies(f *testing.F) {
	routes := slices.Sorted(maps.Keys(seeds))
	for i, route := range routes {
		f.Add(i, seeds[route])
	}
	var models []*Model
	for name, folder := range folders {
		m, err := OpenModel(f.Context(), name, folder, retriever.Options{Threads: 1})
		if err != nil {
			f.Fatal(err)
		}
		models = append(models, m)
	}
	s, err := New(models, Options{MaxTexts: 30})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, route int, body string) {
		path := routes[((route%len(routes))+len(routes))%len(routes)]
		if w := ask(checked(t, s.Handler()), "POST", path, body); w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Error(fmt.Sprint(w.Code), w.Body)
		}
	})
}
