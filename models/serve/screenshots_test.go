package serve

import (
	"bytes"
	"context"
	"flag"
	"image/png"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
)

var (
	screenshots      = flag.String("screenshots", "", "write pictures of the page into this folder")
	screenshotModels = flag.String("screenshot-models", "", "the models in the pictures: NAME=MODEL,NAME=MODEL")
	screenshotRows   = flag.String("screenshot-rows", "", "JSONL file of rows with a query, for further pictures")
)

type picture struct {
	name          string
	width, height int64
	before        []chromedp.Action[chromedp.Void]
	show          func(x *tab)
}

// TestScreenshots takes pictures of the page, to look at. scripts/serve/screenshots.sh calls it.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("takes pictures only with -screenshots FOLDER -screenshot-models NAME=MODEL,…")
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	var models []*Model
	for _, x := range strings.Split(*screenshotModels, ",") {
		name, ref, _ := strings.Cut(x, "=")
		m, err := OpenModel(t.Context(), name, ref, retriever.Options{})
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	s, err := New(models, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); s.Close() })
	b := browser(t)
	dark := []chromedp.Action[chromedp.Void]{media("prefers-color-scheme", "dark")}
	choose := func(x *tab, a, b string) {
		x.choose(a, b)
		x.click("#sample")
		x.ranked()
	}
	names := []string{"", "", ""} // an embedding model, another one, a ColBERT model
	for _, m := range models {
		switch {
		case m.Kind() == modelcard.ColBERT:
			names[2] = m.Name
		case names[0] == "":
			names[0] = m.Name
		default:
			names[1] = m.Name
		}
	}
	two := func(x *tab) { choose(x, names[0], names[1]) }
	heat := func(x *tab) {
		choose(x, names[2], "")
		x.click(".row .tags button:last-child")
		x.until(`document.querySelector(".chip")`)
	}
	matrix := func(x *tab) {
		heat(x)
		x.click(".choice button:last-child")
	}
	word := func(x *tab) {
		heat(x)
		x.click(".chip:nth-child(6)")
	}
	failed := func(x *tab) {
		two(x)
		x.write("#query", strings.Repeat("long ", 500_000))
		x.click("#rank")
		x.ranked()
	}
	rows := func(a, b string) func(x *tab) {
		return func(x *tab) {
			x.choose(a, b)
			x.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{*screenshotRows}))
			x.until(`document.querySelector(".row")`)
			x.ranked()
		}
	}
	pictures := []picture{
		{"empty", 1280, 800, nil, func(x *tab) {}},
		{"empty-dark", 1280, 800, dark, func(x *tab) {}},
		{"two", 1280, 800, nil, two},
		{"two-dark", 1280, 800, dark, two},
		{"phone", 390, 844, nil, two},
		{"phone-dark", 390, 844, dark, two},
		{"heat", 1280, 800, nil, heat},
		{"heat-dark", 1280, 800, dark, heat},
		{"heat-word", 1280, 800, nil, word},
		{"heat-phone", 390, 844, nil, heat},
		{"matrix", 1280, 800, nil, matrix},
		{"matrix-dark", 1280, 800, dark, matrix},
		{"matrix-phone", 390, 844, nil, matrix},
		{"error", 1280, 800, nil, failed},
		{"tablet", 900, 1000, nil, two},
		{"notebook", 1100, 700, nil, two},
	}
	if *screenshotRows != "" {
		pictures = append(pictures, picture{"rows", 1440, 900, nil, rows(names[0], names[1])}, picture{"heat-rows", 1440, 900, nil, func(x *tab) {
			rows(names[2], "")(x)
			x.click(".row .tags button:last-child")
			x.until(`document.querySelector(".chip")`)
		}})
	}
	for _, p := range pictures {
		t.Run(p.name, func(t *testing.T) {
			x := openTab(t, b, p.width, p.height, h.URL, p.before...)
			x.until(`document.querySelector("#model-a").value`)
			p.show(x)
			x.picture(p.name, strings.HasPrefix(p.name, "phone"))
		})
	}
}

// picture writes what the tab shows, or with whole the whole page.
func (x *tab) picture(name string, whole bool) {
	x.Helper()
	eval[bool](x, `new Promise((f) => setTimeout(f, 400, true))`) // bars grow
	beyond := whole
	result, err := chromedp.Run(x.ctx, func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
		params := page.CaptureScreenshotParams{CaptureBeyondViewport: &beyond}
		if whole {
			m, err := cdp.Call(ctx, t, page.GetLayoutMetrics, cdp.Empty{})
			if err != nil {
				return nil, err
			}
			params.Clip = &page.Viewport{Width: m.CSSContentSize.Width, Height: m.CSSContentSize.Height, Scale: 1}
		}
		r, err := cdp.Call(ctx, t, page.CaptureScreenshot, params)
		return r.Data, err
	})
	if err != nil {
		x.Fatal(err)
	}
	f, err := os.Create(filepath.Join(*screenshots, name+".png"))
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	full, err := png.Decode(bytes.NewReader(result))
	if err != nil {
		x.Fatal(err)
	}
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(f, full); err != nil {
		x.Fatal(err)
	}
}
