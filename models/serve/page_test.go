package serve

import (
	"encoding/json"
	"slices"
	"testing"
)

// The page in a browser. The models are tiny ones with random weights: what is checked is what the page makes of the server's answers.
func TestPage(t *testing.T) {
	b := browser(t)
	url := serving(t, Options{}, "colbert", "embed", "rerank")
	t.Run("rank", func(t *testing.T) {
		x := openTab(t, b, 1280, 800, url)
		passages := []string{"the a", "er b c d", "a the er", "the"}
		x.rank("the er", passages...)
		body, _ := json.Marshal(map[string]any{"model": "colbert", "query": "the er", "documents": passages})
		_, out := post(t, url+"/rerank", string(body))
		var want []string
		for _, r := range out["results"].([]any) {
			want = append(want, passages[int(r.(map[string]any)["index"].(float64))])
		}
		if got := x.texts("a"); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		equal(x, 4, `document.querySelectorAll(".fill").length`)
	})
	t.Run("sample", func(t *testing.T) {
		x := openTab(t, b, 1280, 800, url)
		x.until(`document.querySelector("#model-a").value`)
		x.click("#sample")
		x.ranked()
		equal(x, 10, `document.querySelectorAll(".row").length`)
		equal(x, 3, `document.querySelectorAll(".positive").length`)
	})
}
