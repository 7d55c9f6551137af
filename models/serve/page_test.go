package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The page in a browser. The models are tiny ones with random weights: what is checked is what the page makes of the server's answers.
func TestPage(t *testing.T) {
	b := browser(t)
	url := serving(t, Options{}, "colbert", "embed", "rerank")
	for _, c := range []struct {
		name string
		test func(t *testing.T, b context.Context, url string)
	}{
		{"rank", pageRanks}, {"two models", pageShowsTwoModels}, {"heat map", pageShowsMatches}, {"matrix", pageShowsMatrix}, {"files", pageReadsFiles},
		{"wrong files", pageNamesWrongRows}, {"dropped file", pageReadsDroppedFiles}, {"passages", pageSplitsPassages}, {"keyboard", pageWorksWithKeys},
		{"phone", pageFitsPhones}, {"contrast", pageHasContrast}, {"no HTML of texts", pageShowsTextsAsTexts}, {"key", pageAsksForKey}, {"errors", pageTellsErrors},
		{"reload", pageKeepsState}, {"curl", pageShowsCurl}, {"cancel", pageCancels}, {"load", pageShowsLoad}, {"thousand", pageTakesThousandPassages}, {"media", pageHeedsMedia},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b, url) })
	}
}

// rerankOf is the order in which a model ranks passages, and their scores.
func rerankOf(t *testing.T, url, model, query string, passages ...string) (order []string, scores []float64) {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"model": model, "query": query, "documents": passages})
	_, out := post(t, url+"/rerank", string(body))
	for _, r := range out["results"].([]any) {
		x := r.(map[string]any)
		order, scores = append(order, passages[int(x["index"].(float64))]), append(scores, x["relevance_score"].(float64))
	}
	return order, scores
}

// choose chooses the models.
func (x *tab) choose(a, b string) {
	x.Helper()
	x.until(`document.querySelector("#model-a").value`)
	for id, v := range map[string]string{"model-a": a, "model-b": b} {
		eval[bool](x, `(() => { const e = document.getElementById(%q); e.value = %q; return e.dispatchEvent(new Event("input", { bubbles: true })) })()`, id, v)
	}
}

func pageRanks(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.until(`document.querySelectorAll(".intro tbody tr").length === 3`)
	passages := []string{"the a", "er b c d", "a the er", "the"}
	for _, model := range []string{"colbert", "embed", "rerank"} {
		x.choose(model, "")
		x.rank("the er", passages...)
		want, scores := rerankOf(t, url, model, "the er", passages...)
		if got := x.texts("a"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", model, got, want)
		}
		shown := eval[[]float64](x, `[...document.querySelectorAll(".score")].map((e) => Number(e.textContent))`)
		for i := range scores {
			if math.Abs(shown[i]-scores[i]) > 5e-5 {
				t.Errorf("%s: score %v, want %v", model, shown[i], scores[i])
			}
		}
		widths := eval[[]float64](x, `[...document.querySelectorAll(".fill")].map((e) => Number(e.style.getPropertyValue("--to")))`)
		if len(widths) != 4 || !slices.IsSortedFunc(widths, func(a, b float64) int { return cmp.Compare(b, a) }) {
			t.Errorf("%s: bars %v", model, widths)
		}
		equal(x, true, `/\d m?s · \d+ tokens/.test([...document.querySelectorAll(".facts span")].map((e) => e.textContent).join(" · "))`)
		equal(x, true, `document.querySelector("#live").textContent.startsWith(%q)`, model+" ranked 4 passages.")
	}
	x.choose("colbert", "")
	x.click("#sample")
	x.until(`document.querySelectorAll(".row").length === 10`)
	equal(x, 3, `document.querySelectorAll(".row .positive").length`)
	x.until(`![...document.querySelectorAll(".whole")].some((e) => e.offsetWidth)`)
	x.rank("the", strings.Repeat("er ", 400), "a")
	x.until(`[...document.querySelectorAll(".whole")].filter((e) => e.offsetWidth).length === 1`)
	x.click(".row .whole:not([hidden])")
	x.until(`document.querySelector(".row.open .text").offsetHeight > 100`)
}

func pageShowsTwoModels(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	passages := []string{"the a", "er b c d", "a the er", "the", "of the er er", "b"}
	x.choose("embed", "colbert")
	x.rank("the er", passages...)
	before, _ := rerankOf(t, url, "embed", "the er", passages...)
	after, _ := rerankOf(t, url, "colbert", "the er", passages...)
	if got := x.texts("a"); !slices.Equal(got, before) {
		t.Errorf("%q, want %q", got, before)
	}
	if got := x.texts("b"); !slices.Equal(got, after) {
		t.Errorf("%q, want %q", got, after)
	}
	moves := eval[[]string](x, `[...document.querySelectorAll(".column.b .move")].map((e) => e.textContent)`)
	for i, text := range after {
		want := "=same place"
		if by := slices.Index(before, text) - i; by > 0 {
			want = fmt.Sprintf("▲up %d", by)
		} else if by < 0 {
			want = fmt.Sprintf("▼down %d", -by)
		}
		if moves[i] != want {
			t.Errorf("%q moved %q, want %q", text, moves[i], want)
		}
	}
	x.until(`document.querySelectorAll(".slopes path").length === 6`)
	x.do(chromedp.Focus(chromedp.CSS(".column.a .row")))
	equal(x, 3, `document.querySelectorAll(".marked").length`) // both rows, and the line between them
	color := func(column string) string {
		return eval[string](x, `getComputedStyle(document.querySelector(".column.%s .fill")).backgroundColor`, column)
	}
	if color("a") == color("b") {
		t.Error("both models have the same colour")
	}
}

// The passage's text stands whole in the heat map, the best matches add up to the score, and a token of the query frames what it matches.
func pageShowsMatches(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.choose("colbert", "embed")
	passage := "the 密码 is er, 👩‍💻 e\u0301 A!"
	x.rank("the 密 er", passage)
	x.click(".column.a .tags button:last-child")
	x.until(`document.querySelector(".chip")`)
	text := eval[string](x, `[...document.querySelector(".passage p").childNodes].filter((e) => !e.classList?.contains("special")).map((e) => e.textContent).join("")`)
	if text != passage {
		t.Errorf("%q, want %q", text, passage)
	}
	equal(x, "👩‍💻", `[...document.querySelectorAll(".token")].map((e) => e.textContent).find((s) => s.includes("💻"))`)
	sum := eval[float64](x, `[...document.querySelectorAll(".chip small")].reduce((s, e) => s + Number(e.textContent), 0)`)
	if _, scores := rerankOf(t, url, "colbert", "the 密 er", passage); math.Abs(sum-scores[0]) > .005*12 {
		t.Errorf("the matches add up to %g, the score is %g", sum, scores[0])
	}
	m := matchesOf(t, url, "the 密 er", passage)
	for i, row := range m.Matches[:6] {
		eval[bool](x, `(document.querySelectorAll(".chip")[%d].focus(), true)`, i)
		best := slices.Index(row, slices.Max(row))
		equal(x, fmt.Sprintf("%.4f", row[best]), `document.querySelector(".detail").textContent.split(": ").at(-1)`)
		framed := eval[int](x, `document.querySelectorAll(".passage .framed").length`)
		if framed < 1 {
			t.Errorf("token %d of the query frames %d parts", i, framed)
		}
	}
	heats := eval[[]float64](x, `[...document.querySelectorAll(".passage .token:not(.idle)")].map((e) => Number(e.style.getPropertyValue("--heat")))`)
	if slices.Min(heats) != 0 || slices.Max(heats) != 1 {
		t.Errorf("shades %v", heats)
	}
	equal(x, true, `[...document.querySelectorAll(".passage .idle")].some((e) => e.textContent === ",")`) // PyLate's skip list
	x.press(kb.Escape)
	x.until(`!document.querySelector("dialog").open`)
	x.rank(strings.Repeat("the ", 30), strings.Repeat("er ", 100)+"end")
	x.click(".column.a .tags button:last-child")
	x.until(`document.querySelector(".passage .rest")?.textContent.endsWith("end") && document.querySelector(".matches .facts").textContent.includes("longer than the model reads")`)
}

func pageShowsMatrix(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.choose("colbert", "")
	x.rank("the er", "a the, er")
	x.click(".tags button:last-child")
	x.until(`document.querySelector(".chip")`)
	x.click(`.choice button:last-child`)
	m := matchesOf(t, url, "the er", "a the, er")
	equal(x, len(m.Matches)*len(m.Matches[0]), `document.querySelectorAll("td[data-i]").length`)
	equal(x, len(m.Matches), `document.querySelectorAll("td.framed").length`)
	equal(x, "Matrix", `document.activeElement.textContent`)
	eval[bool](x, `document.querySelector('td[data-i="1"][data-j="2"]').dispatchEvent(new PointerEvent("pointerover", { bubbles: true }))`)
	equal(x, fmt.Sprintf("%.4f", m.Matches[1][2]), `document.querySelector(".detail").textContent.split(": ").at(-1)`)
}

// upload gives a file to the page.
func (x *tab) upload(name, content string) {
	x.Helper()
	path := filepath.Join(x.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		x.Fatal(err)
	}
	x.until(`document.querySelector("#model-a").value`)
	x.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{path}))
}

func pageReadsFiles(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	code := "func a() {\n\n\tthe()\n}"
	row, _ := json.Marshal(map[string]any{"query": "the", "pos": code, "neg": []string{"b c", "er"}})
	x.upload("train.jsonl", string(row)+"\n"+`{"query": "of", "documents": ["d", {"text": "e"}]}`+"\n\n"+`{"query": "er", "pos": ["a"], "neg": []}`+"\n")
	x.until(`document.querySelectorAll(".column.a .row").length === 3`)
	equal(x, "the", `document.querySelector("#query").value`)
	equal(x, 1, `document.querySelectorAll(".column.a .positive").length`)
	equal(x, code, `document.querySelector(".column.a .positive").closest(".row").querySelector(".text").textContent`)
	equal(x, 3, `document.querySelectorAll("#example option").length`)
	equal(x, "train.jsonl: 3 rows", `document.querySelector("#file-name").textContent`)
	x.click("#next")
	x.until(`document.querySelectorAll(".column.a .row").length === 2 && document.querySelector("#query").value === "of"`)
	equal(x, 0, `document.querySelectorAll(".positive").length`)
	x.click("#next")
	x.until(`document.querySelectorAll(".column.a .row").length === 1`)
	equal(x, true, `document.querySelector("#next").disabled`)
	x.upload("texts.jsonl", `{"text": "a b"}`+"\r\n"+`{"text": "er"}`)
	x.until(`document.querySelectorAll(".column.a .row").length === 2 && document.querySelector("#query").value === "er"`) // the query stays
	x.upload("long.jsonl", strings.Repeat(`{"query": "b", "pos": "a"}`+"\n", 1200))
	x.until(`document.querySelector("#file-name").textContent === "long.jsonl: the first 1,000 rows"`)
	x.ranked()
}

func pageNamesWrongRows(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	for content, want := range map[string]string{
		"{\"text\": \"a\"}\n{\"text\"": "rows.jsonl:2: not JSON", `{"query": "a"}`: `rows.jsonl:1: want {"text"}`, `{"query": "a", "pos": [3]}`: "rows.jsonl:1: a document is 3", "\n": "rows.jsonl has no rows",
		"[1]": "rows.jsonl:1: want", "null": "rows.jsonl:1: want",
	} {
		x.upload("rows.jsonl", content)
		x.until(`document.querySelector("#message").textContent.includes(%q)`, want)
	}
}

func pageReadsDroppedFiles(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.until(`document.querySelector("#model-a").value`)
	equal(x, true, `(() => {
		const d = new DataTransfer();
		d.items.add(new File(['{"query": "the", "pos": "a", "neg": ["b", "er"]}'], "dropped.jsonl"));
		const send = (name) => document.querySelector("#passages").dispatchEvent(new DragEvent(name, { dataTransfer: d, bubbles: true, cancelable: true }));
		return !send("dragover") && document.querySelector("#drop").classList.contains("over") && !send("drop") && !document.querySelector("#drop").classList.contains("over");
	})()`)
	x.until(`document.querySelectorAll(".column.a .row").length === 3`)
	equal(x, "dropped.jsonl: 1 row", `document.querySelector("#file-name").textContent`)
}

// Passages are split as they were meant, and join writes what split reads.
func pageSplitsPassages(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	for text, want := range map[string][]string{
		"a\nb\n": {"a", "b"}, "a\nb\n\nc": {"a\nb", "c"}, "\n\na\nb": {"a", "b"}, "a\r\n\r\nb\r\nc": {"a", "b\nc"}, "a\n\nb\n---\nc": {"a\n\nb", "c"}, "": {}, " \n\t\n": {},
		"{\"text\": \"a\\n\\nb\"}\n{\"text\": \"c\"}": {"a\n\nb", "c"}, "{ a }\n{ b }": {"{ a }", "{ b }"}, "  a\n  b\n\n\tc\n": {"  a\n  b", "\tc"},
	} {
		quoted, _ := json.Marshal(text)
		got := eval[[]string](x, `import("/page/input.js").then((m) => m.split(%s).passages)`, quoted)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, passages := range [][]string{{"a"}, {"a", "b"}, {"a\nb"}, {"a\n\nb", "c"}, {"a\n---\n\nb", "c"}, {"---"}, {"{\"text\": 1}"}, {"  a", "\tb\n\n\nc"}} {
		quoted, _ := json.Marshal(passages)
		got := eval[[]string](x, `import("/page/input.js").then((m) => m.split(m.join(%s)).passages)`, quoted)
		if !slices.Equal(got, passages) {
			t.Errorf("%q became %q", passages, got)
		}
	}
}
