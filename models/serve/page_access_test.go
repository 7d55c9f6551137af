package serve

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Everything is reached by Tab, in order, with a visible focus; Ctrl+Enter ranks, and the dialog gives the focus back.
func pageWorksWithKeys(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url)
	x.until(`document.querySelector("#model-a").value`)
	var ids []string
	for range 8 {
		x.press(kb.Tab)
		ids = append(ids, eval[string](x, `document.activeElement.id || document.activeElement.className`))
		equal(x, true, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 })()`)
	}
	if got := strings.Join(ids, " "); got != "skip query passages choose model-a model-b rank sample" {
		t.Errorf("the tab key goes to %s", got)
	}
	x.do(chromedp.Focus(chromedp.CSS("#sample")))
	x.press(kb.Enter)
	x.until(`document.querySelectorAll(".column.a .row").length === 10`)
	x.do(chromedp.Focus(chromedp.CSS("#query")))
	x.press("a", chromedp.ModifierCtrl)
	x.press("er the")
	x.press(kb.Enter, chromedp.ModifierCtrl)
	x.ranked()
	equal(x, "er the", `document.querySelector("#query").value`)
	x.do(chromedp.Focus(chromedp.CSS(".column.a .tags button:last-child")))
	x.press(kb.Enter)
	x.until(`document.querySelector(".chip")`)
	equal(x, true, `document.querySelector("dialog").contains(document.activeElement)`)
	x.do(chromedp.Focus(chromedp.CSS(".chip")))
	x.press(kb.ArrowRight + kb.ArrowRight)
	equal(x, 2, `[...document.querySelectorAll(".chip")].indexOf(document.activeElement)`)
	equal(x, true, `document.querySelector(".detail").textContent.includes("matches")`)
	x.press(" ")
	equal(x, "true", `document.activeElement.getAttribute("aria-pressed")`)
	x.press(kb.Home)
	equal(x, 0, `[...document.querySelectorAll(".chip")].indexOf(document.activeElement)`)
	x.press(kb.Escape)
	x.until(`!document.querySelector("dialog").open`)
	equal(x, "token matches", `document.activeElement.textContent`)
	unnamed := eval[[]string](x, `[...document.querySelectorAll("button, input, select, textarea, [tabindex='0']")].filter((e) => !e.closest("[hidden]") && !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)`)
	if len(unnamed) > 0 {
		t.Errorf("without a name: %q", unnamed)
	}
}

func pageFitsPhones(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 390, 844, url, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
	fits := func(what string) {
		t.Helper()
		if wide := eval[int](x, `Math.max(document.documentElement.scrollWidth, document.body.scrollWidth, document.querySelector("dialog").scrollWidth)`); wide > 390 {
			t.Errorf("%s: the page is %d pixels wide, on a screen of 390", what, wide)
		}
	}
	fits("empty")
	x.choose("embed", "colbert")
	x.rank(strings.Repeat("the", 60), strings.Repeat("er", 400), "a", "密码")
	fits("two models")
	equal(x, 1, `[...document.querySelectorAll(".column")].filter((e) => e.offsetWidth).length`) // one at a time
	x.click(".switch button:first-child")
	equal(x, true, `document.querySelector(".column.a").offsetWidth > 0 && !document.querySelector(".column.b").offsetWidth`)
	x.click(".switch button:last-child")
	x.click("details summary")
	fits("curl")
	x.click(".column.b .tags button:last-child")
	x.until(`document.querySelector(".chip")`)
	fits("heat map")
	x.click(`.choice button:last-child`)
	fits("matrix")
	small := eval[[]string](x, `[...document.querySelectorAll("button")].filter((e) => e.offsetWidth && e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)`)
	if len(small) > 0 {
		t.Errorf("too small to touch: %q", small)
	}
}

// contrasts is a script that gives every text whose contrast with what is behind it is less than WCAG's AA wants.
const contrasts = `(() => {
	const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = (css) => { // the canvas reads every form of colour
		context.clearRect(0, 0, 1, 1);
		context.fillStyle = css;
		context.fillRect(0, 0, 1, 1);
		const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
		return [r, g, b, a / 255];
	};
	const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
	const behind = (e) => {
		const own = rgba(getComputedStyle(e).backgroundColor);
		return own[3] === 1 || !e.parentElement ? over(own, [255, 255, 255, 1]) : over(own, behind(e.parentElement));
	};
	const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const out = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest("select, .hidden, noscript, :disabled")) continue;
		const back = behind(e), style = getComputedStyle(e);
		const ink = rgba(style.color);
		let opacity = 1;
		for (let p = e; p; p = p.parentElement) opacity *= getComputedStyle(p).opacity;
		ink[3] *= opacity;
		const [a, b] = [light(over(ink, back)), light(back)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) out.push(ratio.toFixed(2) + " " + e.className + ": " + e.textContent.slice(0, 40));
	}
	return out;
})()`

func pageHasContrast(t *testing.T, b context.Context, url string) {
	var grounds []string
	for _, scheme := range []string{"light", "dark"} {
		x := openTab(t, b, 1280, 800, url, media("prefers-color-scheme", scheme))
		check := func(what string) {
			t.Helper()
			if low := eval[[]string](x, "%s", contrasts); len(low) > 0 {
				t.Errorf("%s, %s: contrast below 4.5: %q", scheme, what, low)
			}
		}
		check("empty")
		x.choose("embed", "colbert")
		x.click("#sample")
		x.ranked()
		x.click("details summary")
		check("two models")
		x.do(chromedp.Focus(chromedp.CSS(".column.b .row")))
		check("a marked row")
		x.click(".column.b .tags button:last-child")
		x.until(`document.querySelector(".chip")`)
		check("heat map")
		x.click(".chip:nth-child(2)")
		check("heat map of a token")
		x.click(`.choice button:last-child`)
		check("matrix")
		x.press(kb.Escape)
		x.write("#query", "")
		x.click("#rank")
		x.until(`document.querySelector("#message").textContent.includes("Write a query")`)
		check("a message")
		grounds = append(grounds, eval[string](x, `getComputedStyle(document.body).backgroundColor`))
	}
	if grounds[0] == grounds[1] {
		t.Errorf("the page is %s in the light and in the dark", grounds[0])
	}
}

// mediaType has the page drawn for print, for example.
func mediaType(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: name})
		return err
	})
}

func pageHeedsMedia(t *testing.T, b context.Context, url string) {
	x := openTab(t, b, 1280, 800, url, media("prefers-reduced-motion", "reduce"))
	x.choose("embed", "")
	x.rank("the", "a", "b")
	equal(x, "0s", `getComputedStyle(document.querySelector(".fill")).transitionDuration`)
	x.do(media("prefers-reduced-motion", "no-preference"))
	equal(x, true, `getComputedStyle(document.querySelector(".fill")).transitionDuration !== "0s"`)
	x.do(mediaType("print"))
	equal(x, true, `document.querySelector(".actions").offsetWidth === 0 && document.querySelector(".row").offsetWidth > 0`)
}
