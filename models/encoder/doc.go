// Package encoder is the transformer that all three model kinds share: BERT and its successors as an ONNX graph, read from
// and written to Hugging Face folders. It knows nothing of losses, kinds or retrieval.
//
// # Parts
//
// An architecture is one file (bert.go, modernbert.go, qwen3.go, …): it reads the keys of config.json into a Config, says
// which Blocks the layers are made of, and what its tensors are called in a checkpoint. A block is one file too (linear.go,
// norm.go, attention.go, rotary.go, feedforward.go, embeddings.go): its formula, in ordinary ONNX operators. Config.Build
// puts them together:
//
//	c, err := encoder.LoadConfig("all-MiniLM-L6-v2")
//	g := onnx.NewGraph("encoder")
//	x := c.Build(g, weights, encoder.NewPacked(g, c, 2), encoder.Training{}, nil) // the last hidden states [tokens, hidden]
//
// # Packed tokens
//
// In a padded batch [batch, length] every text costs as much as the longest. Here the tokens of all texts lie end to end in
// [tokens, hidden], and linear layers, norms and activations run on real tokens only. Attention alone needs the texts apart:
// queries, keys and values are gathered into groups, each a padded tensor [rows, heads, length, head size] of texts of like
// length, and what attention gives is gathered back.
//
// Two texts of three and four tokens in one group, with two heads:
//
//	token            0    1    2    3    4    5    6        token_count = 7
//	text             a0   a1   a2   b0   b1   b2   b3
//
//	group0.tokens    0 1 2 7         row 0 of the group: the first text; 7, the number of tokens, is padding
//	                 3 4 5 6         row 1: the second
//	group0.bias      0 0 0 -1e9      added to the scores of keys: nobody attends to padding
//	                 0 0 0 0
//
// The group has 2 rows · 2 heads · 4 positions = 16 slots (slot_count). Laid end to end, these are
//
//	slot             0  1  2  3    4  5  6  7    8  9  10 11   12 13 14 15
//	row, head        0,0           0,1           1,0           1,1
//	token            a0 a1 a2 -    a0 a1 a2 -    b0 b1 b2 b3   b0 b1 b2 b3
//
// so that head h of token t stands at attention_slot[t] + h·attention_stride[t]:
//
//	attention_slot   0  1  2  8  9  10 11
//	attention_stride 4  4  4  4  4  4  4     the group's length
//
// group0.tokens gathers the tokens into the group, slot and stride gather them back. Either is the other's inverse, which
// makes the gradient of both a Gather as well, see grad.Partition and grad.Join. Further groups follow behind: their slots
// begin where the last group's end. Config.Pack computes all of it, and its example prints these numbers.
//
// # Masks
//
// What a token may attend to follows from the places of tokens in their texts, in every layout by the same rule: a key
// counts if it is a token at all (bias), if it does not stand behind the query (causal), and if it stands at most a window
// away. Layers with a window have groups of their own, in which long texts are cut into blocks: windows.go has a drawing.
//
// # Padded batches
//
// Exported models take a padded batch in standard operators, as other runtimes expect it: NewPadded instead of NewPacked,
// and the same Build.
package encoder
