package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Nothing in a text, a file's name or a model's answer becomes an element of the page.
func pageShowsTextsAsTexts(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	eval[int](x, `window.hits = 0`)
	attacks := []string{`<img src=x onerror="hits++">`, `<script>hits++</script>`, `"><svg onload=hits++>`, `</textarea><img src=x onerror=hits++>`, `<style>body{display:none}</style>`}
	x.choose("embed", "colbert")
	x.rank(attacks[0], attacks...)
	x.click("details summary")
	if got := x.texts("a"); len(got) != len(attacks) || !slices.Contains(got, attacks[0]) {
		t.Errorf("%q", got)
	}
	x.click(".column.b .tags button:last-child")
	x.until(`document.querySelector(".chip")`)
	x.click(`.choice button:last-child`)
	x.press(kb.Escape)
	row, _ := json.Marshal(map[string]any{"query": attacks[0], "pos": attacks[1:]})
	x.upload("<img src=x onerror=hits++>.jsonl", string(row))
	x.until(`document.querySelectorAll(".column.a .row").length === 4`)
	x.upload("wrong<img src=x onerror=hits++>.jsonl", attacks[0])
	x.until(`document.querySelector("#message").textContent.includes("not JSON")`)
	eval[bool](x, `new Promise((f) => setTimeout(f, 50, true))`)
	equal(x, 0, `window.hits`)
	equal(x, 1, `document.images.length`) // the page's own
	equal(x, 1, `document.scripts.length`)
}

func pageAsksForKey(t *testing.T, b context.Context, _ string) {
	url := serving(t, Options{Keys: NewKeys("right-key")}, "embed")
	x := openTab(t, b, 1280, 800, url)
	x.until(`!document.querySelector("#key-row").hidden && document.activeElement.id === "key"`)
	equal(x, "The server wants an API key.", `document.querySelector("#message p").textContent`)
	x.press("wrong-key" + kb.Enter)
	x.until(`document.querySelector("#message").textContent.includes("does not know this API key")`)
	x.write("#key", "right-key")
	x.click("#key-use")
	x.until(`document.querySelector("#key-row").hidden && document.querySelector("#model-a").value === "embed"`)
	x.rank("the", "a", "b")
	equal(x, 2, `document.querySelectorAll(".row").length`)
	equal(x, true, `!JSON.stringify({ ...localStorage }).includes("right-key") && JSON.stringify({ ...sessionStorage }).includes("right-key")`)
	equal(x, true, `!document.querySelector("#commands").textContent.includes("right-key") && document.querySelector("#commands").textContent.includes("Bearer $API_KEY")`)
	x.do(chromedp.Reload())
	x.until(`document.querySelectorAll(".row").length === 2`) // the key and the texts are still there
}

// failing is a server whose /rerank fails as it is told, until the status is 0.
type failing struct {
	http.Handler
	status atomic.Int64
	body   atomic.Value
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status := int(f.status.Load()); status != 0 && r.URL.Path == "/rerank" {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, f.body.Load().(string))
		return
	}
	f.Handler.ServeHTTP(w, r)
}

func pageTellsErrors(t *testing.T, b context.Context, url string) {
	s, _ := started(t, Options{MaxBodyBytes: 2000, MaxTexts: 3}, "embed", "colbert")
	f := &failing{Handler: s.Handler()}
	h := httptest.NewServer(f)
	defer h.Close()
	x := openTab(t, b, 1280, 800, h.URL)
	x.until(`document.querySelector("#model-a").value`)
	x.click("#rank")
	x.until(`document.querySelector("#message").textContent.includes("Write a query first")`)
	shows := func(parts ...string) {
		t.Helper()
		x.ranked()
		for _, part := range parts {
			equal(x, true, `document.querySelector("#message[role=alert]").textContent.includes(%q)`, part)
		}
		equal(x, 0, `document.querySelectorAll(".row").length`)
	}
	x.rank("the", "a", strings.Repeat("b", 3000))
	shows("more than the server takes", "2000 bytes")
	x.rank("the", "a", "b", "c", "d")
	shows("the server", "documents")
	for status, want := range map[int][]string{
		429: {"as many requests as it takes", "too many", "Try again in 2 seconds."}, 504: {"longer than the server allows", "too many"}, 503: {"starting or stopping"},
		500: {"The server failed", "too many"}, 418: {"status 418", "too many"},
	} {
		for _, body := range []string{`{"error": "too many"}`, `{"error": {"message": "too many"}}`, `{"message": "too many", "detail": "too many"}`, `too many`} {
			f.body.Store(body)
			f.status.Store(int64(status))
			x.rank("the", "a", "b")
			shows(want...)
		}
	}
	f.status.Store(0)
	x.click("#message button")
	x.until(`document.querySelectorAll(".row").length === 2 && !document.querySelector("#message").textContent`)
	h.CloseClientConnections()
	h.Close()
	x.press(kb.Enter, chromedp.ModifierCtrl)
	x.until(`document.querySelector("#message").textContent.includes("Nothing answers at")`)
}

func pageKeepsState(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.choose("rerank", "embed")
	equal(x, false, `document.querySelector("#raw-row").hidden`)
	x.click("#raw")
	x.rank("the 密", "a", "👩‍💻 b")
	before := x.texts("b")
	x.do(chromedp.Reload())
	x.until(`document.querySelectorAll(".column.b .row").length === 2`)
	if after := x.texts("b"); !slices.Equal(before, after) {
		t.Errorf("%q became %q", before, after)
	}
	equal(x, "rerank embed true the 密", `[document.querySelector("#model-a").value, document.querySelector("#model-b").value, document.querySelector("#raw").checked, document.querySelector("#query").value].join(" ")`)
	equal(x, "", `location.hash + location.search`)                                                                                       // texts are in no address
	for _, kept := range []string{`{"query": 1, "passages": null, "positives": {}, "file": {"name": "x"}, "a": []}`, `[]`, `{`, `null`} { // an older page's
		eval[bool](x, `(localStorage.setItem("rag-retrieval-page", %q), true)`, kept)
		x.do(chromedp.Reload())
		x.until(`document.querySelector(".intro") && document.querySelector("#query").value === ""`)
	}
}

// The command gives in a shell what the page shows.
func pageShowsCurl(t *testing.T, b context.Context, url string) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl")
	}
	x := openTab(t, b, 1280, 800, url)
	x.choose("colbert", "")
	x.rank(`it's "the" $HOME \ 密`, `a 'b' $(touch x)`, "er `date` \\n 👩‍💻")
	x.click("details summary")
	command := eval[string](x, `document.querySelector("#commands code").textContent`)
	out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command, "curl ", curl+" -s ", 1)).Output()
	var body struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}
	if err != nil || json.Unmarshal(out, &body) != nil || len(body.Results) != 2 {
		t.Fatalf("%s: %s %v", command, out, err)
	}
	equal(x, fmt.Sprintf("%.4f", body.Results[0].Score), `document.querySelector(".score").textContent`)
	x.click("#commands button")
	x.until(`["Copied", "Press Ctrl+C"].includes(document.querySelector("#commands button").textContent)`)
}

// A new request ends the one before it, and its answer is the one that is shown.
func pageCancels(t *testing.T, b context.Context, _ string) {
	s, _ := started(t, Options{}, "embed")
	inner := s.Handler()
	ended := make(chan error, 1)
	var first atomic.Bool
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/rerank" && first.CompareAndSwap(false, true) {
			_, _ = io.ReadAll(r.Body)
			select {
			case <-r.Context().Done():
				ended <- nil
			case <-time.After(20 * time.Second):
				ended <- fmt.Errorf("the first request was not ended")
			}
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer h.Close()
	x := openTab(t, b, 1280, 800, h.URL)
	x.until(`document.querySelector("#model-a").value`)
	x.write("#query", "first")
	x.write("#passages", "a\nb")
	x.press(kb.Enter, chromedp.ModifierCtrl)
	x.until(`document.querySelector(".column[aria-busy=true]")`)
	x.rank("second", "a", "b", "c")
	equal(x, 3, `document.querySelectorAll(".row").length`)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func pageShowsLoad(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.rank("the", "a", "b c d")
	x.do(chromedp.Reload())
	x.until(`document.querySelectorAll(".tile").length === 7`)
	equal(x, false, `document.querySelector("#load").hidden`)
	tiles := eval[map[string]string](x, `Object.fromEntries([...document.querySelectorAll(".tile")].map((e) => [e.querySelector(".name").textContent, e.querySelector("b").textContent]))`)
	for name, unit := range map[string]string{"Latency p50, p95": "s", "Memory": "MiB", "Padding saved": "%", "Tokens a batch": "", "Requests/s": ".", "In work": "", "Texts waiting": ""} {
		if !strings.Contains(tiles[name], unit) || tiles[name] == "" || tiles[name] == "–" {
			t.Errorf("%s is %q", name, tiles[name])
		}
	}
	text := `# HELP x a \"b\"
x{route="/rerank",model="a\"}b",le="0.1"} 4
rag_retrieval_request_duration_seconds_bucket{route="/rerank",model="",le="0.1"} 6
rag_retrieval_request_duration_seconds_bucket{route="/rerank",model="",le="0.2"} 10
rag_retrieval_request_duration_seconds_bucket{route="/rerank",model="",le="+Inf"} 10
rag_retrieval_request_duration_seconds_bucket{route="/metrics",model="",le="+Inf"} 100
rag_retrieval_requests_total{route="/metrics",model="",status="200"} 100
rag_retrieval_requests_total{route="/rerank",model="",status="200"} 10
`
	quoted, _ := json.Marshal(text)
	equal(x, "a\"}b 10 0.175", `import("/page/load.js").then((m) => { const s = m.sample(%s, 0); return [m.parse(%s)[0].labels.model, s.requests, m.quantile(0.9, s).toFixed(3)].join(" ") })`, quoted, quoted)
	equal(x, "undefined", `import("/page/load.js").then((m) => String(m.sample("", 0).memory))`)
}

func pageTakesThousandPassages(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	passages := make([]string, 1000)
	for i := range passages {
		passages[i] = fmt.Sprintf("the er %d %s", i, strings.Repeat("a ", i%7))
	}
	x.choose("embed", "colbert")
	x.rank("the er", passages...)
	equal(x, 100, `document.querySelectorAll(".row").length`)
	equal(x, "1,000 passages, one a line", `document.querySelector("#count").textContent`)
	equal(x, "Show 200 more of 950", `document.querySelector(".column.a .more").textContent`)
	x.click(".column.a .more")
	equal(x, 250, `document.querySelectorAll(".column.b .row").length`)
	equal(x, 50, `[...document.querySelectorAll(".column.a .row")].indexOf(document.activeElement)`)
}
