package colbert

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
)

// Rules are the points in which implementations of ColBERT differ. For RAG-Retrieval only Mean is set, and KeepFirst where the
// tokenizer puts no [CLS] before a text, as Qwen3's.
type Rules struct {
	Mean      bool // a score is the mean over the query's tokens instead of the sum
	KeepFirst bool // the first token counts in MaxSim
	// QueryMarker and PassageMarker are inserted after [CLS], or before the text where there is none; -1 or 0: none.
	QueryMarker, PassageMarker int64
	// Expansion is the length to which queries are filled up with mask tokens; 0: they are not.
	Expansion int
	Fixed     bool           // queries are filled up to their maximal length, also if that is changed
	Mask      int64          // the id of the mask token
	Attend    bool           // other tokens attend to the mask tokens
	Skip      map[int64]bool // ids of passage tokens that do not count in MaxSim
	SkipQuery map[int64]bool // ids of query tokens that do not count
}

// pylateConfig has the keys that PyLate writes into config_sentence_transformers.json.
type pylateConfig struct {
	ModelType      string   `json:"model_type"`
	Similarity     string   `json:"similarity_fn_name"`
	QueryPrefix    *string  `json:"query_prefix"`
	DocumentPrefix *string  `json:"document_prefix"`
	QueryLength    int      `json:"query_length"`
	DocumentLength int      `json:"document_length"`
	Expand         *bool    `json:"do_query_expansion"`
	Attend         bool     `json:"attend_to_expansion_tokens"`
	Skiplist       []string `json:"skiplist_words"`
}

func (c pylateConfig) is() bool { return c.QueryPrefix != nil && c.DocumentPrefix != nil }

// punctuation is Python's string.punctuation, PyLate's default for skiplist_words.
const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// readRules reads the rules of a ColBERT folder from PyLate's config or from sentence-transformers' modules. A folder with neither
// follows RAG-Retrieval's rules.
func (m *Model) readRules() error {
	var c pylateConfig
	path := filepath.Join(m.Dir, "config_sentence_transformers.json")
	err := hf.ReadJSON(path, &c)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.modules == nil && !c.is() {
		return nil
	}
	m.Rules = Rules{KeepFirst: true, Skip: map[int64]bool{}}
	switch c.Similarity {
	case "", "maxsim", "MaxSim", "cosine", "dot": // the last two stem from the base model; sentence-transformers computes MaxSim all the same
	case "meanmaxsim":
		m.Rules.Mean = true
	default:
		return fmt.Errorf("%s: similarity_fn_name is %q, want maxsim or meanmaxsim", path, c.Similarity)
	}
	if c.is() {
		if err := hf.CheckModules(m.Dir, m.modules, "Transformer", "Dense"); err != nil {
			return err
		}
		return m.readPyLate(c)
	}
	return m.readModules()
}

// readPyLate reads PyLate's config.
func (m *Model) readPyLate(c pylateConfig) (err error) {
	m.pylate, m.Rules.Attend = true, c.Attend
	for _, x := range []struct {
		text string
		to   *int64
	}{{*c.QueryPrefix, &m.Rules.QueryMarker}, {*c.DocumentPrefix, &m.Rules.PassageMarker}} {
		if x.text == "" {
			continue
		}
		if *x.to, err = m.tokenID(x.text); err != nil {
			return err
		}
	}
	if c.Skiplist == nil {
		c.Skiplist = strings.Split(punctuation, "")
	}
	if m.Rules.Skip, err = m.skipped(c.Skiplist); err != nil {
		return err
	}
	m.QueryMaxLen, m.PassageMaxLen = 32, 180 // PyLate's defaults
	if c.QueryLength > 0 {
		m.QueryMaxLen = c.QueryLength
	}
	if c.DocumentLength > 0 {
		m.PassageMaxLen = c.DocumentLength
	}
	if c.Expand != nil && !*c.Expand {
		return nil
	}
	m.Rules.Expansion, m.Rules.Fixed = m.QueryMaxLen, true
	m.Rules.Mask, err = m.mask(nil)
	return err
}

// readModules reads sentence-transformers' modules and the lengths of its Transformer.
func (m *Model) readModules() error {
	normalized := false
	for _, module := range m.modules {
		var err error
		switch path := filepath.Join(m.Dir, module.Path, "config.json"); module.Name() {
		case "MultiVectorMask":
			err = m.readMask(path)
		case "Normalize":
			var c struct {
				Input string `json:"module_input_name"`
			}
			if err = hf.ReadJSON(path, &c); err == nil && c.Input != "token_embeddings" {
				err = fmt.Errorf("%s: module_input_name is %q, want token_embeddings", path, c.Input)
			}
			normalized = true
		}
		if err != nil {
			return err
		}
	}
	if !normalized {
		return fmt.Errorf("%s: no module Normalize behind the others: products of tokens that are not of length one are not supported", filepath.Join(m.Dir, hf.ModulesFile))
	}
	return m.readBackbone()
}

// readMask reads the config of a MultiVectorMask module: which tokens do not count.
func (m *Model) readMask(path string) error {
	var c struct {
		Words []string   `json:"skiplist_words"`
		Tasks hf.Strings `json:"skiplist_tasks"`
		Keep  []int64    `json:"keep_only_token_ids"`
	}
	if err := hf.ReadJSON(path, &c); err != nil {
		return err
	}
	if len(c.Keep) > 0 {
		return fmt.Errorf("%s: keep_only_token_ids is not supported", path)
	}
	if c.Tasks == nil {
		c.Tasks = hf.Strings{"document"}
	}
	skip, err := m.skipped(c.Words)
	if err != nil {
		return err
	}
	queries, passages := slices.Contains(c.Tasks, "query"), slices.Contains(c.Tasks, "document")
	if _, first, ok := m.Tokenizer.First(); ok && queries && passages && maps.Equal(skip, map[int64]bool{first: true}) {
		m.Rules.KeepFirst, m.Rules.Skip = false, nil // [CLS] only: RAG-Retrieval's rule, as this project saves it
		return nil
	}
	if queries {
		m.Rules.SkipQuery = skip
	}
	if passages {
		m.Rules.Skip = skip
	}
	return nil
}

// readBackbone reads the lengths and the query expansion from sentence_bert_config.json.
func (m *Model) readBackbone() error {
	path := filepath.Join(m.Dir, "sentence_bert_config.json")
	b, err := hf.ReadSentenceBertConfig(m.Dir)
	if err != nil {
		return err
	}
	if b.MaxSeqLength != nil {
		limit := min(m.Encoder.MaxLength(), *b.MaxSeqLength)
		m.QueryMaxLen, m.PassageMaxLen = limit, limit
	}
	if b.QueryLength > 0 {
		m.QueryMaxLen = b.QueryLength
	}
	if b.DocumentLength > 0 {
		m.PassageMaxLen = b.DocumentLength
	}
	x := b.Expansion
	if x == nil {
		return nil
	}
	switch x.Strategy {
	case "fixed":
		m.QueryMaxLen, m.Rules.Fixed = x.Length, true
	case "min":
		m.QueryMaxLen = max(m.QueryMaxLen, x.Length)
	default:
		return fmt.Errorf("%s: the strategy of query_expansion is %q, want fixed or min", path, x.Strategy)
	}
	m.Rules.Expansion, m.Rules.Attend = x.Length, x.Attend
	m.Rules.Mask, err = m.mask(x.Token)
	return err
}

// skipped looks up the ids of words. Words that are not in the vocabulary are left out, as in sentence-transformers.
func (m *Model) skipped(words []string) (map[int64]bool, error) {
	ids, err := m.Tokenizer.Lookup(words...)
	if err != nil {
		return nil, err
	}
	out := map[int64]bool{}
	for _, id := range ids {
		out[id] = true
	}
	return out, nil
}

// mask returns the id of the token that fills queries up: the named token, or the tokenizer's mask token if name is nil.
func (m *Model) mask(name *string) (int64, error) {
	names := []string{"[MASK]", "<mask>"}
	if name != nil {
		names = []string{*name}
	}
	ids, err := m.Tokenizer.Lookup(names...)
	for _, name := range names {
		if id, ok := ids[name]; ok {
			return id, nil
		}
	}
	return 0, errors.Join(err, fmt.Errorf("%s: the tokenizer has no token %s to fill queries up with", m.Dir, strings.Join(names, " or ")))
}

// tokenID returns the id of a text that must be a single token.
func (m *Model) tokenID(text string) (int64, error) {
	if ids := m.Tokenizer.IDs(text); len(ids) == 1 {
		return ids[0], nil
	}
	return 0, fmt.Errorf("%s: %q is not one token", m.Dir, text)
}

// rows tokenizes a text, see scoring.Rows, and adds the marker and the expansion. Training and scoring both use it. It fails for a
// text of which no token counts in MaxSim.
func (m *Model) rows(x prompt.Text, maxLen int, long scoring.LongText) ([]encoder.Row, error) {
	marker, room := m.marker(x.Query, maxLen)
	rows, err := scoring.Rows(m.Tokenizer, m.Formats, x, room, long)
	for i := range rows {
		if marker > 0 {
			rows[i].IDs = slices.Insert(rows[i].IDs, m.markerPlace(), marker)
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

// marker gives the marker of queries or of passages, 0 or less where there is none, and the tokens that it leaves for the text.
func (m *Model) marker(query bool, maxLen int) (marker int64, room int) {
	marker = m.Rules.PassageMarker
	if query {
		marker = m.Rules.QueryMarker
	}
	if marker > 0 {
		maxLen--
	}
	return marker, maxLen
}

// markerPlace is the place of a marker among the tokens: after [CLS], where the tokenizer has one.
func (m *Model) markerPlace() int {
	if _, _, ok := m.Tokenizer.First(); ok {
		return 1
	}
	return 0
}

// row tokenizes a text without windows.
func (m *Model) row(x prompt.Text, maxLen int) (encoder.Row, error) {
	rows, err := m.rows(x, maxLen, scoring.CutEnd)
	if err != nil {
		return encoder.Row{}, err
	}
	return rows[0], nil
}

// expand fills a query up with mask tokens.
func (m *Model) expand(r *encoder.Row, maxLen int) {
	length := min(m.Rules.Expansion, maxLen)
	if m.Rules.Fixed {
		length = maxLen
	}
	n := length - len(r.IDs)
	if n <= 0 {
		return
	}
	r.IDs = append(r.IDs, slices.Repeat([]int64{m.Rules.Mask}, n)...)
	if !m.Rules.Attend {
		r.Unattended = n
	}
}

// counted returns the indices of the tokens of a row that count in MaxSim.
func (m *Model) counted(r encoder.Row, passage bool) []int {
	var out []int
	for i, id := range r.IDs {
		skip := m.Rules.SkipQuery
		if passage {
			skip = m.Rules.Skip
		}
		if i == 0 && !m.Rules.KeepFirst || skip[id] {
			continue
		}
		out = append(out, i)
	}
	return out
}

// checkLengths fails if texts of n tokens do not fit the model. key names the length in the error.
func (m *Model) checkLengths(key string, n int) error {
	low, high := m.Tokenizer.SpecialTokens()+2, m.Encoder.MaxLength()
	if n < low || n > high {
		return fmt.Errorf("%s is %d, want %d to %d for the model %s", key, n, low, high, hf.NameOf(m.Dir))
	}
	return nil
}
