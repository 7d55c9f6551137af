package tokenizer

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const smallBert = "../finetune/testdata/bert"

// editedBert opens smallBert with a changed tokenizer.json and some entries more.
func editedBert(t *testing.T, change func(file map[string]any)) *Tokenizer {
	t.Helper()
	b, err := fromVocabulary(smallBert)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	vocab := file["model"].(map[string]any)["vocab"].(map[string]any)
	for _, entry := range []string{"中", "文", "##文", "，", "。", "hello", "Hello", "store", "##as", "é", "naive", "слово", "##1"} {
		if vocab[entry] == nil {
			vocab[entry] = len(vocab)
		}
	}
	change(file)
	if b, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	tok, err := parse(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

// bertTokenizers are tokenizers of BERT's steps: the real one if it is set up, a cased one, and one that does not take Chinese
// characters apart.
func bertTokenizers(t *testing.T) map[string]*Tokenizer {
	normalizer := func(key string, value any) *Tokenizer {
		return editedBert(t, func(file map[string]any) { file["normalizer"].(map[string]any)[key] = value })
	}
	out := map[string]*Tokenizer{
		"small": open(t, smallBert), "larger": normalizer("lowercase", true), "letters": open(t, "../embedding/testdata/tiny"),
		"cased": normalizer("lowercase", false), "accents": normalizer("strip_accents", false), "chinese": normalizer("handle_chinese_chars", false),
	}
	const real = "../../.rag-retrieval/models/all-MiniLM-L6-v2"
	if _, err := os.Stat(real); err == nil {
		out["real"] = open(t, real)
	}
	for name, tok := range out {
		if tok.words == nil {
			t.Fatalf("%s: the library would do all", name)
		}
	}
	return out
}

// equalsLibrary compares the first room tokens with the library's, for many a room.
func equalsLibrary(t *testing.T, name string, tok *Tokenizer, text string) {
	t.Helper()
	whole := tok.t.EncodeWithOptions(text, false).IDs
	for _, room := range []int{0, 1, 2, 5, 17, 126, 1 << 30} {
		if got, want := tok.tokens(text, room), whole[:min(room, len(whole))]; !slices.Equal(got, want) {
			t.Fatalf("%s, %q, %d tokens: %v, the library has %v", name, text, room, got, want)
		}
	}
}

// bertPieces are joined into texts: words, every class of characters, and what stands at the edge of one.
var bertPieces = append([]string{
	"Hello", "world", "STORE", "obj.As", "x", "0", "2026", "a1b2", "##ab", "#", "_", "don't", "e-mail", strings.Repeat("q", 100), strings.Repeat("q", 101),
	"\x01", "\x0b", "\x0c", "\x1f", "\x7f", "\u0085", "\u00ad", "\u200b", "\ufeff", "\u2028", "\u3000", "İ", "ß", "ſ", "K", "Å", "ﬁ", "Ⅷ", "ø", "Ж", "слово",
	"中", "文", "\u4e00", "\u9fa5", "\u9fa6", "\u3400", "\u4db5", "\u4db6", "\U00020000", "\uf900", "々", "あ", "한", "。", "，", "！", "？", "：", "；", "（", "）", "《", "》", "「", "」",
	"『", "』", "【", "】", "“", "”", "‘", "’", "—", "…", "·", "、", "～", "Ａ", "１", "€", "→", "½", "[CLS", "[UNK]", "\r", "\r\n", "中文 text。", "naïve café ",
}, pieces...)

// A tokenizer of BERT's steps gives the library's tokens, whatever the text is made of.
func TestWordPieceEqualsTheLibrary(t *testing.T) {
	for name, tok := range bertTokenizers(t) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 500 {
			var b strings.Builder
			for range r.IntN(14) {
				b.WriteString(bertPieces[r.IntN(len(bertPieces))])
				if r.IntN(3) == 0 {
					b.WriteByte(' ')
				}
			}
			equalsLibrary(t, name, tok, b.String())
		}
	}
}

// Every character of Unicode to the end of its first plane and beyond, alone and within a word, has the library's tokens.
func TestWordPieceOfEveryCharacter(t *testing.T) {
	tok := open(t, smallBert)
	var b strings.Builder
	for c := rune(1); c < 0x12000; c++ {
		if c >= 0xd800 && c < 0xe000 {
			continue
		}
		b.WriteString("ab" + string(c) + "ab " + string(c) + " ")
		if c%64 == 0 {
			text := b.String()
			if got, want := tok.tokens(text, 1<<30), tok.t.EncodeWithOptions(text, false).IDs; !slices.Equal(got, want) {
				t.Fatalf("up to %U: %v, the library has %v", c, got, want)
			}
			b.Reset()
		}
	}
}

// Lines of this repository's files, which are of code and of prose, have the library's tokens.
func TestWordPieceOfRealLines(t *testing.T) {
	toks := bertTokenizers(t)
	for _, path := range []string{"../README.md", "wordpiece.go"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			for name, tok := range toks {
				equalsLibrary(t, name, tok, lines.Text())
			}
		}
	}
}

// Only tokenizers whose every step is known are taken.
func TestWordPieceOfOtherTokenizers(t *testing.T) {
	set := func(key, field string, value any) func(map[string]any) {
		return func(file map[string]any) { file[key].(map[string]any)[field] = value }
	}
	for name, change := range map[string]func(map[string]any){
		"a step before":      func(file map[string]any) { file["normalizer"] = map[string]any{"type": "NFC"} },
		"another split":      func(file map[string]any) { file["pre_tokenizer"] = map[string]any{"type": "WhitespaceSplit"} },
		"text is not clean":  set("normalizer", "clean_text", false),
		"a normalized token": func(file map[string]any) { add(file, "ab", false) },
	} {
		if tok := editedBert(t, change); tok.words != nil {
			t.Errorf("%s: the library is not asked", name)
		}
	}
	for _, dir := range []string{"../encoder/testdata/modernbert", "../finetune/testdata/xlmr"} {
		if open(t, dir).words != nil {
			t.Errorf("%s: the library is not asked", dir)
		}
	}
}

func FuzzWordPiece(f *testing.F) {
	tok, err := Open(smallBert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Hello, 中文 naïve")
	f.Fuzz(func(t *testing.T, text string) {
		text = sanitize(text)
		equalsLibrary(t, "small", tok, text)
		if len(tok.tokens(text, 1<<30)) > 0 && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsSpace(r) }) < 0 {
			t.Errorf("%q: white space has tokens", text)
		}
	})
}

// BenchmarkBert tokenizes a file of code: the library alone, and with what is done here.
func BenchmarkBert(b *testing.B) {
	const model = "../../.rag-retrieval/models/all-MiniLM-L6-v2"
	if _, err := os.Stat(model); err != nil {
		b.Skip("the model is not set up: scripts/setup.sh")
	}
	source, err := os.ReadFile("../data/data.go")
	if err != nil {
		b.Fatal(err)
	}
	tok, err := Open(model)
	if err != nil {
		b.Fatal(err)
	}
	defer tok.Close()
	text := string(source)
	for name, words := range map[string]*wordPiece{"library": nil, "here": tok.words} {
		b.Run(name, func(b *testing.B) {
			tok.words = words
			n := 0
			for range b.N {
				n += len(tok.tokens(text, 1<<20))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/token")
		})
	}
}
