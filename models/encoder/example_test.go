package encoder_test

import (
	"fmt"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
)

// The packed batch of the package comment: texts of three and four tokens, in one attention group of two heads.
func ExampleConfig_Pack() {
	c, err := encoder.LoadConfig("../finetune/testdata/bert")
	if err != nil {
		fmt.Println(err)
		return
	}
	c.NumAttentionHeads = 2
	b := ortrain.NewBatch()
	firsts := c.Pack(b, []encoder.Row{{IDs: []int64{2, 8, 3}}, {IDs: []int64{2, 7, 9, 3}}}, 1)
	fmt.Println("first tokens", firsts)
	for _, name := range []string{"token_count", "group0.tokens", "slot_count", "attention_slot", "attention_stride"} {
		fmt.Println(name, b.Ints[name].Data)
	}
	fmt.Println("group0.bias", b.Floats["group0.bias"].Data)
	// Output:
	// first tokens [0 3]
	// token_count [7]
	// group0.tokens [0 1 2 7 3 4 5 6]
	// slot_count [16]
	// attention_slot [0 1 2 8 9 10 11]
	// attention_stride [4 4 4 4 4 4 4]
	// group0.bias [0 0 0 -1e+09 0 0 0 0]
}
