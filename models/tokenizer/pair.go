package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/daulet/tokenizers"
)

// Truncation says which text of a pair is cut where both together are too long. The names are transformers'.
type Truncation string

// OnlySecond cuts the second text, and the first only where it leaves no room for the second. LongestFirst cuts the
// longer one, then both alike.
const (
	OnlySecond   Truncation = "only_second"
	OnlyFirst    Truncation = "only_first"
	LongestFirst Truncation = "longest_first"
)

// EncodePair gives the token ids of two texts in one sequence, laid out as the tokenizer's post-processor says, with
// each token's type, at most maxLength of them.
func (t *Tokenizer) EncodePair(first, second string, maxLength int, how Truncation) (ids, types []int64) {
	room := max(0, maxLength-t.pair.specials())
	a, b := t.tokens(first, room+1), t.tokens(second, room+1)
	if how == LongestFirst && len(a) > room && len(b) > room {
		a, b = t.tokens(first, math.MaxInt32), t.tokens(second, math.MaxInt32) // which one is the longer?
	}
	n, m := cut(len(a), len(b), room, how)
	return t.pair.fill(a[:n], b[:m])
}

// PairWindows is EncodePair for a second text that is too long: instead of being cut, it is laid out in windows that
// overlap by as many tokens as overlap gives for a window's length, each beside the whole first text. before and after
// stand around the second text, and around each window. Where the first text leaves fewer than least tokens for a window,
// the pair is cut as OnlySecond does.
func (t *Tokenizer) PairWindows(first, before, second, after string, maxLength, least int, overlap func(window int) int) (ids, types [][]int64) {
	room := max(0, maxLength-t.pair.specials())
	a := t.tokens(first, room+1)
	b := t.frame(before, second, after)
	window := room - len(a) - len(b.before) - len(b.after)
	if len(a)+b.length() <= room || window < max(1, least) {
		i, k := t.EncodePair(first, before+second+after, maxLength, OnlySecond)
		return [][]int64{i}, [][]int64{k}
	}
	for _, part := range b.windows(window, overlap) {
		i, k := t.pair.fill(a, part)
		ids, types = append(ids, i), append(types, k)
	}
	return ids, types
}

// Windows is Encode for a text that is too long: instead of being cut, it is laid out in windows that overlap by as many
// tokens as overlap gives for a window's length. before and after stand around the text, and around each window; where
// they leave no room for it, everything is cut as Encode does.
func (t *Tokenizer) Windows(before, text, after string, maxLength int, overlap func(window int) int) (ids [][]int64) {
	room := max(0, maxLength-t.single.specials())
	x := t.frame(before, text, after)
	window := room - len(x.before) - len(x.after)
	if x.length() <= room || window < 1 {
		return [][]int64{t.Encode(before+text+after, maxLength)}
	}
	for _, part := range x.windows(window, overlap) {
		i, _ := t.single.fill(part, nil)
		ids = append(ids, i)
	}
	return ids
}

// framed are the tokens of a text and of what stands around it.
type framed struct{ before, text, after []uint32 }

func (f framed) length() int { return len(f.before) + len(f.text) + len(f.after) }

// windows cuts the text's tokens; each window keeps what stands around.
func (f framed) windows(window int, overlap func(window int) int) [][]uint32 {
	out := cutWindows(f.text, window, overlap)
	for i, part := range out {
		out[i] = slices.Concat(f.before, part, f.after)
	}
	return out
}

// frame tokenizes a text together with what stands around it, as Encode does, and tells the tokens apart: one that reaches
// into the text, as a word with the space before it, is the text's.
func (t *Tokenizer) frame(before, text, after string) framed {
	if before == "" && after == "" {
		return framed{text: t.tokens(text, math.MaxInt32)}
	}
	before, text, after = clean(before), clean(text), clean(after)
	e := t.t.EncodeWithOptions(before+text+after, false, tokenizers.WithReturnOffsets())
	first, last := 0, len(e.IDs)
	for first < last && e.Offsets[first][1] <= uint(len(before)) {
		first++
	}
	for last > first && e.Offsets[last-1][0] >= uint(len(before)+len(text)) {
		last--
	}
	return framed{e.IDs[:first:first], e.IDs[first:last:last], e.IDs[last:]}
}

// cutWindows cuts tokens into windows of a length that overlap; there is one at least.
func cutWindows(tokens []uint32, window int, overlap func(window int) int) (out [][]uint32) {
	for start := 0; ; start += window - overlap(window) {
		end := min(start+window, len(tokens))
		out = append(out, tokens[start:end])
		if end == len(tokens) {
			return out
		}
	}
}

// JoinPairs lays out pairs from now on as first + between + second + end, each tokenized by itself and without the special
// tokens of the post-processor. EncodePair and PairWindows never cut between and end.
func (t *Tokenizer) JoinPairs(between, end string) {
	t.pair = template{{text: 'A'}, {ids: t.IDs(between)}, {text: 'B'}, {ids: t.IDs(end)}}
}

// HasPairs says whether the tokenizer knows how two texts lie in one sequence.
func (t *Tokenizer) HasPairs() bool {
	return slices.ContainsFunc(t.pair, func(p piece) bool { return p.text == 'B' })
}

// cut shortens two lengths to a total of room. Source: huggingface/tokenizers, truncate_encodings.
func cut(n, m, room int, how Truncation) (int, int) {
	if n+m <= room {
		return n, m
	}
	switch how {
	case OnlySecond:
		n = min(n, room)
		return n, room - n
	case OnlyFirst:
		m = min(m, room)
		return room - m, m
	}
	short := min(n, m)
	long := max(short, room-short)
	if short+long > room {
		short, long = room/2, room/2+room%2
	}
	if n > m {
		return long, short
	}
	return short, long
}

// template is how texts and special tokens lie in a sequence.
type template []piece

// piece is a special token or the place of a text.
type piece struct {
	text byte // 'A' or 'B'; 0: a special token
	ids  []int64
	kind int64 // token type
}

func (t template) specials() int {
	n := 0
	for _, p := range t {
		n += len(p.ids)
	}
	return n
}

func (t template) fill(a, b []uint32) (ids, types []int64) {
	n := t.specials() + len(a) + len(b)
	ids, types = make([]int64, 0, n), make([]int64, 0, n)
	for _, p := range t {
		switch p.text {
		case 'A':
			ids = appendIDs(ids, a)
		case 'B':
			ids = appendIDs(ids, b)
		default:
			ids = append(ids, p.ids...)
		}
		for len(types) < len(ids) {
			types = append(types, p.kind)
		}
	}
	return ids, types
}

func appendIDs(to []int64, ids []uint32) []int64 {
	for _, id := range ids {
		to = append(to, int64(id))
	}
	return to
}

// item is an entry of a TemplateProcessing post-processor.
type item struct {
	SpecialToken *struct {
		ID     string
		TypeID int64 `json:"type_id"`
	}
	Sequence *struct {
		ID     string
		TypeID int64 `json:"type_id"`
	}
}

type postProcessor struct {
	Type          string
	Single, Pair  []item
	SpecialTokens map[string]struct{ IDs []int64 } `json:"special_tokens"`
	CLS, SEP      []json.RawMessage
	Processors    []postProcessor
}

// templates reads a post-processor: how a single text and a pair lie between special tokens. Without one that adds tokens, as
// in Qwen3's own tokenizer, a text stands alone, and the second text of a pair follows the first.
func templates(raw json.RawMessage) (single, pair template, err error) {
	var p postProcessor
	if raw != nil {
		err = json.Unmarshal(raw, &p)
	}
	if err == nil {
		single, pair, err = p.templates()
	}
	if err == nil && single == nil {
		single = template{{text: 'A'}}
		pair = append(single[:1:1], piece{text: 'B', kind: 1})
	}
	return single, pair, err
}

// templates gives nil for a post-processor that adds no tokens.
func (p postProcessor) templates() (single, pair template, err error) {
	switch p.Type {
	case "", "ByteLevel": // the latter only moves offsets
		return nil, nil, nil
	case "TemplateProcessing":
		if single, err = p.read(p.Single); err != nil {
			return nil, nil, err
		}
		pair, err = p.read(p.Pair)
		return single, pair, err
	case "BertProcessing", "RobertaProcessing":
		return p.fixed()
	case "Sequence":
		return p.sequence()
	}
	return nil, nil, fmt.Errorf("of type %q, want TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel or Sequence", p.Type)
}

// sequence reads post-processors of which one at most adds tokens.
func (p postProcessor) sequence() (single, pair template, err error) {
	for _, inner := range p.Processors {
		s, d, err := inner.templates()
		if err != nil {
			return nil, nil, err
		}
		if s != nil && single != nil {
			return nil, nil, fmt.Errorf("of type %q, with two processors that add tokens", p.Type)
		}
		if s != nil {
			single, pair = s, d
		}
	}
	return single, pair, nil
}

func (p postProcessor) read(items []item) (template, error) {
	var t template
	for _, x := range items {
		switch {
		case x.Sequence != nil && (x.Sequence.ID == "A" || x.Sequence.ID == "B"):
			t = append(t, piece{text: x.Sequence.ID[0], kind: x.Sequence.TypeID})
		case x.SpecialToken != nil:
			ids := p.SpecialTokens[x.SpecialToken.ID].IDs
			if len(ids) == 0 {
				return nil, fmt.Errorf("special token %q has no id", x.SpecialToken.ID)
			}
			t = append(t, piece{ids: ids, kind: x.SpecialToken.TypeID})
		}
	}
	return t, nil
}

// fixed is BERT's layout, [CLS] a [SEP] b [SEP] with types 0 and 1, or RoBERTa's, <s> a </s></s> b </s>, all of type 0.
func (p postProcessor) fixed() (single, pair template, err error) {
	var ids [2][]int64
	for i, raw := range [][]json.RawMessage{p.CLS, p.SEP} {
		var id int64
		if len(raw) != 2 || json.Unmarshal(raw[1], &id) != nil {
			return nil, nil, fmt.Errorf("want [token, id] for cls and sep")
		}
		ids[i] = []int64{id}
	}
	cls, sep := piece{ids: ids[0]}, piece{ids: ids[1]}
	single = template{cls, {text: 'A'}, sep}
	if strings.HasPrefix(p.Type, "Roberta") {
		return single, append(single[:3:3], sep, piece{text: 'B'}, sep), nil
	}
	return single, append(single[:3:3], piece{text: 'B', kind: 1}, piece{ids: ids[1], kind: 1}), nil
}
