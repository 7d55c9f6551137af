package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/daulet/tokenizers"
)

// Truncation says which text of a pair is cut if both together are too long. The names are transformers'.
type Truncation string

// OnlySecond cuts the second text, and the first only if it is too long by itself. LongestFirst cuts the longer text until
// both are equally long, then both.
const (
	OnlySecond   Truncation = "only_second"
	OnlyFirst    Truncation = "only_first"
	LongestFirst Truncation = "longest_first"
)

// EncodePair returns the token ids and token types of a pair of texts, at most maxLength of each. Special tokens are those
// of the tokenizer's post-processor, such as [CLS] first [SEP] second [SEP].
func (t *Tokenizer) EncodePair(first, second string, maxLength int, how Truncation) (ids, types []int64) {
	return t.EncodePairRemembering(nil, first, second, maxLength, how)
}

// EncodePairRemembering is EncodePair for one of many pairs with the same first text, whose tokens are taken from r or kept there.
func (t *Tokenizer) EncodePairRemembering(r *Remembered, first, second string, maxLength int, how Truncation) (ids, types []int64) {
	room := max(0, maxLength-t.pair.specialTokens())
	a, b := r.tokens(t, first, room+1), t.tokens(second, room+1)
	if how == LongestFirst && len(a) > room && len(b) > room {
		a, b = r.tokens(t, first, math.MaxInt32), t.tokens(second, math.MaxInt32) // to find out which one is longer
	}
	n, m := truncatedLengths(len(a), len(b), room, how)
	return t.pair.fill(a[:n], b[:m])
}

// PairWindows encodes a pair like EncodePair, but splits a second text that is too long into several overlapping windows
// instead of cutting it. Each window becomes a pair with the whole first text. before and after are put around the second
// text, and around each window. overlap returns the number of overlapping tokens for a window's length. If the first text
// leaves fewer than minWindow tokens for a window, the pair is cut by OnlySecond. r remembers the first text; it may be nil.
func (t *Tokenizer) PairWindows(r *Remembered, first, before, second, after string, maxLength, minWindow int, overlap func(window int) int) (ids, types [][]int64) {
	room := max(0, maxLength-t.pair.specialTokens())
	a := r.tokens(t, first, room+1)
	b := t.frame(before, second, after)
	window := room - len(a) - len(b.before) - len(b.after)
	if len(a)+b.length() <= room || window < max(1, minWindow) {
		i, k := t.EncodePairRemembering(r, first, before+second+after, maxLength, OnlySecond)
		return [][]int64{i}, [][]int64{k}
	}
	for _, part := range b.windows(window, overlap) {
		i, k := t.pair.fill(a, part)
		ids, types = append(ids, i), append(types, k)
	}
	return ids, types
}

// Windows encodes a text like Encode, but splits a text that is too long into several overlapping windows instead of
// cutting it. before and after are put around the text, and around each window. overlap returns the number of overlapping
// tokens for a window's length. If before and after leave no room for a window, all is cut as by Encode.
func (t *Tokenizer) Windows(before, text, after string, maxLength int, overlap func(window int) int) (ids [][]int64) {
	room := max(0, maxLength-t.single.specialTokens())
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

// framedTokens holds the tokens of a text and of the texts before and after it.
type framedTokens struct{ before, text, after []uint32 }

func (f framedTokens) length() int { return len(f.before) + len(f.text) + len(f.after) }

// windows splits the text's tokens into windows, each with the tokens before and after.
func (f framedTokens) windows(window int, overlap func(window int) int) [][]uint32 {
	out := cutWindows(f.text, window, overlap)
	for i, part := range out {
		out[i] = slices.Concat(f.before, part, f.after)
	}
	return out
}

// frame tokenizes a text together with the texts before and after it, as Encode does, and separates the tokens again. A
// token that spans a boundary, such as a word with the space before it, belongs to the text.
func (t *Tokenizer) frame(before, text, after string) framedTokens {
	if before == "" && after == "" {
		return framedTokens{text: t.tokens(text, math.MaxInt32)}
	}
	before, text, after = sanitize(before), sanitize(text), sanitize(after)
	e := t.t.EncodeWithOptions(before+text+after, false, tokenizers.WithReturnOffsets())
	first, last := 0, len(e.IDs)
	for first < last && e.Offsets[first][1] <= uint(len(before)) {
		first++
	}
	for last > first && e.Offsets[last-1][0] >= uint(len(before)+len(text)) {
		last--
	}
	return framedTokens{e.IDs[:first:first], e.IDs[first:last:last], e.IDs[last:]}
}

// cutWindows splits tokens into overlapping windows. There is always at least one.
func cutWindows(tokens []uint32, window int, overlap func(window int) int) (out [][]uint32) {
	for start := 0; ; start += window - overlap(window) {
		end := min(start+window, len(tokens))
		out = append(out, tokens[start:end])
		if end == len(tokens) {
			return out
		}
	}
}

// JoinPairs changes the layout of pairs to first + between + second + end. Each part is tokenized by itself, and there are
// no special tokens of the post-processor. EncodePair and PairWindows never cut between and end.
func (t *Tokenizer) JoinPairs(between, end string) {
	t.pair = template{{text: 'A'}, {ids: t.IDs(between)}, {text: 'B'}, {ids: t.IDs(end)}}
}

// HasPairs says whether the tokenizer's post-processor supports pairs of texts.
func (t *Tokenizer) HasPairs() bool {
	return slices.ContainsFunc(t.pair, func(p piece) bool { return p.text == 'B' })
}

// truncatedLengths reduces the lengths n and m of a pair to a total of room. Source: huggingface/tokenizers,
// truncate_encodings.
func truncatedLengths(n, m, room int, how Truncation) (int, int) {
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

// template is the order of texts and special tokens in a sequence.
type template []piece

// piece is a special token or the position of a text.
type piece struct {
	text   byte // 'A' or 'B' for a text, 0 for a special token
	ids    []int64
	typeID int64 // token type
}

func (t template) specialTokens() int {
	n := 0
	for _, p := range t {
		n += len(p.ids)
	}
	return n
}

func (t template) fill(a, b []uint32) (ids, types []int64) {
	n := t.specialTokens() + len(a) + len(b)
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
			types = append(types, p.typeID)
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
type templateItem struct {
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
	Single, Pair  []templateItem
	SpecialTokens map[string]struct{ IDs []int64 } `json:"special_tokens"`
	CLS, SEP      []json.RawMessage
	Processors    []postProcessor
}

// templates reads the templates of a single text and of a pair from a post-processor. If it adds no tokens, as in Qwen3's
// tokenizer, the template of a text is only the text, and that of a pair is one text after the other.
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
		pair = append(single[:1:1], piece{text: 'B', typeID: 1})
	}
	return single, pair, err
}

// templates returns nil for a post-processor that adds no tokens.
func (p postProcessor) templates() (single, pair template, err error) {
	switch p.Type {
	case "", "ByteLevel": // ByteLevel changes only offsets
		return nil, nil, nil
	case "TemplateProcessing":
		if single, err = p.read(p.Single); err != nil {
			return nil, nil, err
		}
		pair, err = p.read(p.Pair)
		return single, pair, err
	case "BertProcessing", "RobertaProcessing":
		return p.bertTemplates()
	case "Sequence":
		return p.sequence()
	}
	return nil, nil, fmt.Errorf("type is %q, want TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel or Sequence", p.Type)
}

// sequence reads a sequence of post-processors. At most one of them may add tokens.
func (p postProcessor) sequence() (single, pair template, err error) {
	for _, inner := range p.Processors {
		s, d, err := inner.templates()
		if err != nil {
			return nil, nil, err
		}
		if s != nil && single != nil {
			return nil, nil, fmt.Errorf("type is %q, with two processors that add tokens; want at most one", p.Type)
		}
		if s != nil {
			single, pair = s, d
		}
	}
	return single, pair, nil
}

func (p postProcessor) read(items []templateItem) (template, error) {
	var t template
	for _, x := range items {
		switch {
		case x.Sequence != nil && (x.Sequence.ID == "A" || x.Sequence.ID == "B"):
			t = append(t, piece{text: x.Sequence.ID[0], typeID: x.Sequence.TypeID})
		case x.SpecialToken != nil:
			ids := p.SpecialTokens[x.SpecialToken.ID].IDs
			if len(ids) == 0 {
				return nil, fmt.Errorf("special token %q has no id", x.SpecialToken.ID)
			}
			t = append(t, piece{ids: ids, typeID: x.SpecialToken.TypeID})
		}
	}
	return t, nil
}

// bertTemplates returns BERT's templates, [CLS] a [SEP] b [SEP] with types 0 and 1, or RoBERTa's, <s> a </s></s> b </s> with
// type 0 only.
func (p postProcessor) bertTemplates() (single, pair template, err error) {
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
	return single, append(single[:3:3], piece{text: 'B', typeID: 1}, piece{ids: ids[1], typeID: 1}), nil
}
