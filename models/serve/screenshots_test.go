package serve

import (
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"rag-retrieval-go/models/retriever"
)

var (
	screenshots      = flag.String("screenshots", "", "write pictures of the page into this folder")
	screenshotModels = flag.String("screenshot-models", "", "the models in the pictures: NAME=MODEL,NAME=MODEL")
)

// TestScreenshots takes pictures of the page, to look at. scripts/serve/screenshots.sh calls it.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("takes pictures only with -screenshots FOLDER -screenshot-models NAME=MODEL,…")
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
	dark := media("prefers-color-scheme", "dark")
	for _, p := range []struct {
		name          string
		width, height int64
		before        []chromedp.Action[chromedp.Void]
		show          func(x *tab)
	}{
		{"empty", 1280, 800, nil, func(x *tab) {}},
		{"two-light", 1440, 900, nil, func(x *tab) { x.click("#sample"); x.ranked() }},
		{"two-dark", 1440, 900, []chromedp.Action[chromedp.Void]{dark}, func(x *tab) { x.click("#sample"); x.ranked() }},
		{"phone", 390, 844, nil, func(x *tab) { x.click("#sample"); x.ranked() }},
		{"phone-dark", 390, 844, []chromedp.Action[chromedp.Void]{dark}, func(x *tab) { x.click("#sample"); x.ranked() }},
	} {
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
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), result, 0o644); err != nil {
		x.Fatal(err)
	}
}
