package serve

import (
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
)

// teiEmbed answers POST /embed: an array of vectors.
func (s *Server) teiEmbed(c *call) (any, error) {
	var body struct {
		Inputs     inputs `json:"inputs"`
		Normalize  *bool  `json:"normalize"`
		PromptName string `json:"prompt_name"`
		Dimensions int    `json:"dimensions"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	m, err := c.use("", modelcard.Embedding)
	if err != nil {
		return nil, err
	}
	if body.Normalize != nil && !*body.Normalize {
		return nil, invalid("normalize is false: the model's vectors have length one")
	}
	if body.PromptName != "" && body.PromptName != "query" && body.PromptName != "document" && body.PromptName != "passage" {
		return nil, invalid("prompt_name is %q, want query, document or passage", body.PromptName)
	}
	if err := s.countTexts("inputs", len(body.Inputs)); err != nil {
		return nil, err
	}
	embeddings, err := m.embed(c.context(), body.Inputs.texts(body.PromptName == "query"), body.Dimensions)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		out[i] = e.Values
	}
	return out, nil
}

// rerank answers POST /rerank: TEI's bare array for a body with texts, Infinity's and Jina's object for one with documents.
func (s *Server) rerank(c *call) (any, error) {
	var body rerankBody
	m, order, err := s.rank(c, &body)
	if err != nil {
		return nil, err
	}
	if body.Texts == nil {
		return objectOf(m, order, &body), nil
	}
	out := make([]map[string]any, len(order))
	for i, x := range order {
		out[i] = map[string]any{"index": x.index, "score": x.score}
		if body.ReturnText {
			out[i]["text"] = body.Texts[x.index]
		}
	}
	return out, nil
}

// teiSimilarity answers POST /similarity: an array of cosines.
func (s *Server) teiSimilarity(c *call) (any, error) {
	var body struct {
		Inputs struct {
			Source    string   `json:"source_sentence"`
			Sentences []string `json:"sentences"`
		} `json:"inputs"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	m, err := c.use("", modelcard.Embedding)
	if err != nil {
		return nil, err
	}
	if body.Inputs.Source == "" {
		return nil, invalid("inputs.source_sentence is missing or empty")
	}
	if err := s.countTexts("inputs.sentences", len(body.Inputs.Sentences)); err != nil {
		return nil, err
	}
	e, err := m.m.Embedder()
	if err != nil {
		return nil, err
	}
	embeddings, err := m.embed(c.context(), prompt.Texts(false, append([]string{body.Inputs.Source}, body.Inputs.Sentences...)...), 0)
	if err != nil {
		return nil, err
	}
	return e.Similarity(embeddings[0], embeddings[1:])
}

// pooling answers POST /pooling, vLLM's route that mteb uses for ColBERT models: the vectors of each text's tokens.
func (s *Server) pooling(c *call) (any, error) {
	var body struct {
		Model string `json:"model"`
		Input inputs `json:"input"`
		// InputType is "query" for queries, which a ColBERT model expands.
		InputType string `json:"input_type"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	m, err := c.use(body.Model, modelcard.ColBERT)
	if err != nil {
		return nil, err
	}
	if err := s.countTexts("input", len(body.Input)); err != nil {
		return nil, err
	}
	embeddings, err := m.embed(c.context(), body.Input.texts(body.InputType == "query"), 0)
	if err != nil {
		return nil, err
	}
	width := int(m.m.Info().Dimension)
	data := make([]map[string]any, len(embeddings))
	for i, e := range embeddings {
		vectors := make([][]float32, e.Vectors())
		for k := range vectors {
			vectors[k] = e.Values[k*width : (k+1)*width]
		}
		data[i] = map[string]any{"object": "pooling", "index": i, "data": vectors}
	}
	return map[string]any{"object": "list", "data": data, "model": m.Name, "usage": usageOf(embeddings)}, nil
}
