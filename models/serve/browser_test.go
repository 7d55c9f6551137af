package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium finds the browser of the page's tests: $CHROMIUM, or a name on the path.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Skip("no browser to show the page in: set CHROMIUM, or put chromium or google-chrome on the path")
	return ""
}

// browser starts a headless browser that asks nothing of the network by itself. It ends with the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options, chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.DisableGPU,
		chromedp.NoSandbox, // containers of CI may have no user namespaces
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel) // and waits until the browser has ended
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// tab is a tab of its own: no other one's storage, its own size and colour scheme.
type tab struct {
	*testing.T
	ctx context.Context
}

// openTab opens an address in a new tab of a size in pixels. What its scripts throw, and what the page's policy refuses, fails the test.
func openTab(t *testing.T, browser context.Context, width, height int64, url string, before ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first action
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 60*time.Second)
	t.Cleanup(cancel)
	messages := chromedp.Console(ctx)
	watched := make(chan struct{})
	t.Cleanup(func() { cancel(); <-watched })
	go func() {
		defer close(watched)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Source == "security" || m.Type == chromedp.ConsoleError && m.Source != "network" {
				t.Errorf("the page: %s", m)
			}
		}
	}()
	x := &tab{T: t, ctx: ctx}
	x.do(chromedp.EmulateViewport(width, height))
	x.do(before...)
	x.do(chromedp.Navigate(url))
	return x
}

// media sets features that style sheets ask for, such as prefers-color-scheme.
func media(name, value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
		return err
	})
}

func (x *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	x.Helper()
	if err := chromedp.Do(x.ctx, actions...); err != nil {
		x.Fatal(err)
	}
}

// eval computes an expression of the page.
func eval[V any](x *tab, format string, args ...any) V {
	x.Helper()
	v, err := chromedp.Run(x.ctx, chromedp.Evaluate[V](fmt.Sprintf(format, args...), chromedp.EvalAwaitPromise))
	if err != nil {
		x.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
	return v
}

// until waits for an expression of the page to be true.
func (x *tab) until(format string, args ...any) {
	x.Helper()
	expression := fmt.Sprintf("Boolean(%s)", fmt.Sprintf(format, args...))
	for start := time.Now(); !eval[bool](x, "%s", expression); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			x.Fatalf("waited for %s; the page shows %.1500q", expression, eval[string](x, "document.body.innerText"))
		}
	}
}

// equal compares what an expression of the page gives.
func equal[V comparable](x *tab, want V, format string, args ...any) {
	x.Helper()
	if got := eval[V](x, format, args...); got != want {
		x.Errorf("%s: %v, want %v", fmt.Sprintf(format, args...), got, want)
	}
}

// click clicks the first element that a CSS selector names, with the mouse.
func (x *tab) click(selector string) {
	x.Helper()
	x.do(chromedp.Click(chromedp.CSS(selector)))
}

// press presses keys, with Ctrl for example, wherever the focus is.
func (x *tab) press(keys string, modifiers ...chromedp.Modifier) {
	x.Helper()
	x.do(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

// write puts a text into a field in place of what is there.
func (x *tab) write(selector, text string) {
	x.Helper()
	quoted, _ := json.Marshal(text)
	eval[bool](x, `(() => { const e = document.querySelector(%q); e.focus(); e.value = %s; return e.dispatchEvent(new InputEvent("input", { bubbles: true })) })()`, selector, quoted)
}

// rank writes a query and passages, ranks by Ctrl+Enter, and waits for all columns.
func (x *tab) rank(query string, passages ...string) {
	x.Helper()
	x.until(`document.querySelector("#model-a").value`)
	x.write("#query", query)
	x.write("#passages", strings.Join(passages, "\n"))
	x.press(kb.Enter, chromedp.ModifierCtrl)
	x.ranked()
}

// ranked waits until the page shows all answers, or an error.
func (x *tab) ranked() {
	x.Helper()
	x.until(`document.querySelector(".column, #message .note") && !document.querySelector("#rank[aria-busy]")`)
}

// texts are the passages of a column, best first.
func (x *tab) texts(column string) []string {
	x.Helper()
	return eval[[]string](x, `[...document.querySelectorAll(".column.%s .text")].map((e) => e.textContent)`, column)
}
