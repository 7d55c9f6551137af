package serve

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// matchesOf asks POST /page/matches.
func matchesOf(t *testing.T, url, query, document string) matchesBody {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"query": query, "document": document})
	r, err := http.Post(url+"/page/matches", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var out matchesBody
	if err := json.NewDecoder(r.Body).Decode(&out); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", r.StatusCode, err)
	}
	return out
}

func countedTokens(l matchTokens) (n int) {
	for _, t := range l.Tokens {
		if t.Counted {
			n++
		}
	}
	return n
}

// The largest product of each token of the query adds up to the score of /rerank, with expansion, markers and skipped words.
func TestMatchesAddUpToTheScore(t *testing.T) {
	url := serving(t, Options{}, "colbert")
	for _, document := range []string{"the er, a!", "密码 is the 密, 👩‍💻", strings.Repeat("the er a b c d ", 200)} {
		x := matchesOf(t, url, "the 密码 er?", document)
		if len(x.Matches) != countedTokens(x.Query) {
			t.Fatalf("%d rows, %d tokens of the query count", len(x.Matches), countedTokens(x.Query))
		}
		sum := 0.0
		for _, row := range x.Matches {
			if len(row) != countedTokens(x.Document) {
				t.Fatalf("%d products, %d tokens of the document count", len(row), countedTokens(x.Document))
			}
			largest := math.Inf(-1)
			for _, p := range row {
				largest = max(largest, float64(p))
			}
			sum += largest
		}
		if x.Similarity == "meanmaxsim" {
			sum /= float64(len(x.Matches))
		}
		body, _ := json.Marshal(map[string]any{"query": "the 密码 er?", "documents": []string{document, "other"}, "raw_scores": true})
		_, out := post(t, url+"/rerank", string(body))
		for _, r := range out["results"].([]any) {
			if r := r.(map[string]any); r["index"] == 0.0 && (math.Abs(r["relevance_score"].(float64)-sum) > 1e-5 || math.Abs(float64(x.Score)-sum) > 1e-5) {
				t.Errorf("%.30q: the products add up to %g, score %g, /rerank gives %v", document, sum, x.Score, r)
			}
		}
		if cut := len(document) > 1000; x.Document.Cut != cut || x.Query.Cut {
			t.Errorf("%.30q: the document is cut: %v, the query: %v", document, x.Document.Cut, x.Query.Cut)
		}
	}
}

// Places are in characters of the text, whatever its language, and tokens that are not of the text have a role.
func TestPlacesOfMatches(t *testing.T) {
	url := serving(t, Options{}, "colbert")
	x := matchesOf(t, url, "the er", "the 密, 👩‍💻 a")
	text := []rune("the 密, 👩‍💻 a")
	var got, roles []string
	for _, p := range x.Document.Tokens {
		roles = append(roles, p.Role)
		if p.Role == "text" {
			s := string(text[p.Start:p.End])
			if got = append(got, s); s == "," && p.Counted {
				t.Error("the comma counts, and PyLate skips it")
			}
		}
	}
	if s := strings.Join(got, "|"); s != "t|h|e|密|,|👩‍💻|a" {
		t.Errorf("tokens %q", s)
	}
	if s := strings.Join(roles, " "); s != "special marker text text text text text text text special" {
		t.Errorf("roles %s", s)
	}
	last := x.Query.Tokens[len(x.Query.Tokens)-1]
	if last.Role != "expansion" || last.Text != "[MASK]" || last.Start != 0 || last.End != 0 {
		t.Errorf("the query ends with %+v", last)
	}
}

func TestMatchesErrors(t *testing.T) {
	url := serving(t, Options{}, "colbert", "embed") + "/page/matches"
	for body, want := range map[string]int{
		``: 400, `{"query": "a"}`: 400, `{"document": "a"}`: 400, `{"model": "embed", "query": "a", "document": "a"}`: 400, `{"model": "none", "query": "a", "document": "a"}`: 404,
		`{"query": 1, "document": "a"}`: 400,
	} {
		status, out := post(t, url, body)
		if status != want || out["error"] == nil || out["error_type"] == nil {
			t.Errorf("%s: %d %v, want %d", body, status, out, want)
		}
	}
}

// A token of a byte-level tokenizer may begin or end within a character.
func TestInCharacters(t *testing.T) {
	text := "a密b"
	for _, x := range []struct{ start, end, wantStart, wantEnd int }{{0, 1, 0, 1}, {1, 4, 1, 2}, {1, 3, 1, 2}, {3, 4, 1, 2}, {2, 3, 1, 2}, {4, 5, 2, 3}, {0, 5, 0, 3}, {2, 5, 1, 3}} {
		got := inCharacters(text, retriever.TokenList{Tokens: []retriever.Token{{Start: x.start, End: x.end}}}).Tokens[0]
		if got.Start != x.wantStart || got.End != x.wantEnd {
			t.Errorf("bytes %d to %d: characters %d to %d, want %d to %d", x.start, x.end, got.Start, got.End, x.wantStart, x.wantEnd)
		}
	}
}
