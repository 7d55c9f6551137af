package colbert

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
)

// Rules are what the ColBERT implementations do differently. RAG-Retrieval's are the zero value with Mean.
type Rules struct {
	Mean      bool // the sum over a query's tokens is divided by their number
	KeepFirst bool // [CLS] counts
	// Query and Passage are marker tokens after [CLS]; -1 or 0: none.
	QueryMarker, PassageMarker int64
	// Expansion is the length to which queries are filled up with mask tokens; 0: not at all.
	Expansion int
	Mask      int64          // the mask token
	Attend    bool           // other tokens attend to the expansion's
	Skip      map[int64]bool // tokens of passages that do not count
}

// pylateConfig is what PyLate writes into config_sentence_transformers.json.
type pylateConfig struct {
	QueryPrefix    *string  `json:"query_prefix"`
	DocumentPrefix *string  `json:"document_prefix"`
	QueryLength    int      `json:"query_length"`
	DocumentLength int      `json:"document_length"`
	Expand         *bool    `json:"do_query_expansion"`
	Attend         bool     `json:"attend_to_expansion_tokens"`
	Skiplist       []string `json:"skiplist_words"`
}

// readRules reads PyLate's rules, or those that sentence-transformers' mask module tells.
func (m *Model) readRules() error {
	var c pylateConfig
	err := hf.ReadJSON(filepath.Join(m.Dir, "config_sentence_transformers.json"), &c)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.QueryPrefix == nil || c.DocumentPrefix == nil {
		return nil
	}
	m.Rules = Rules{KeepFirst: true, Attend: c.Attend, Skip: map[int64]bool{}}
	for _, x := range []struct {
		text string
		to   *int64
	}{{*c.QueryPrefix, &m.Rules.QueryMarker}, {*c.DocumentPrefix, &m.Rules.PassageMarker}} {
		if *x.to, err = m.tokenID(x.text); err != nil {
			return err
		}
	}
	for _, word := range c.Skiplist {
		if id, err := m.tokenID(word); err == nil {
			m.Rules.Skip[id] = true
		}
	}
	m.QueryMaxLen, m.PassageMaxLen = 32, 180 // PyLate's own
	if c.QueryLength > 0 {
		m.QueryMaxLen = c.QueryLength
	}
	if c.DocumentLength > 0 {
		m.PassageMaxLen = c.DocumentLength
	}
	if c.Expand != nil && !*c.Expand {
		return nil
	}
	m.Rules.Expansion = m.QueryMaxLen
	m.Rules.Mask, err = m.tokenID("[MASK]")
	return err
}

// tokenID is the id of a text that is one token.
func (m *Model) tokenID(text string) (int64, error) {
	ids := m.Tokenizer.Encode(text, m.Tokenizer.Specials()+2)
	if len(ids) != m.Tokenizer.Specials()+1 {
		return 0, fmt.Errorf("%s: %q is not one token", m.Dir, text)
	}
	return ids[1], nil
}

// rows makes a text's tokens, see scoring.Rows, with marker and expansion: every path to the model goes through it. A text
// of which no token counts is an error.
func (m *Model) rows(x prompt.Text, maxLen int, windows bool) ([]encoder.Row, error) {
	marker, room := m.Rules.PassageMarker, maxLen
	if x.Query {
		marker = m.Rules.QueryMarker
	}
	if marker > 0 {
		room--
	}
	rows, err := scoring.Rows(m.Tokenizer, m.Formats, x, room, windows)
	for i := range rows {
		if marker > 0 {
			rows[i].IDs = slices.Insert(rows[i].IDs, 1, marker)
		}
		if x.Query {
			m.expand(&rows[i], maxLen)
		}
		if len(m.counted(rows[i], !x.Query)) == 0 {
			return nil, fmt.Errorf("%s has no token that counts", x)
		}
	}
	return rows, err
}

// row is rows without windows.
func (m *Model) row(x prompt.Text, maxLen int) (encoder.Row, error) {
	rows, err := m.rows(x, maxLen, false)
	if err != nil {
		return encoder.Row{}, err
	}
	return rows[0], nil
}

// expand fills a query up with mask tokens.
func (m *Model) expand(r *encoder.Row, maxLen int) {
	n := min(m.Rules.Expansion, maxLen) - len(r.IDs)
	if n <= 0 {
		return
	}
	r.IDs = append(r.IDs, slices.Repeat([]int64{m.Rules.Mask}, n)...)
	if !m.Rules.Attend {
		r.Unseen = n
	}
}

// counted says which tokens of a row count in MaxSim.
func (m *Model) counted(r encoder.Row, passage bool) []int {
	var out []int
	for i, id := range r.IDs {
		if i == 0 && !m.Rules.KeepFirst || passage && m.Rules.Skip[id] {
			continue
		}
		out = append(out, i)
	}
	return out
}

// checkLengths says whether texts of n tokens fit the model.
func (m *Model) checkLengths(key string, n int) error {
	low, high := m.Tokenizer.Specials()+2, m.Encoder.MaxLength()
	if n < low || n > high {
		return fmt.Errorf("%s is %d, want %d to %d for the model %s", key, n, low, high, m.Dir)
	}
	return nil
}
