package encoder_test

import (
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
)

// The attention kernel knows nothing of rotation, masks or shared heads: it would give other scores without a word.
func TestFusedAttentionIsRefused(t *testing.T) {
	for dir, want := range map[string]string{
		"../finetune/testdata/bert": "", "testdata/modernbert": "model_type modernbert", "testdata/qwen3": "model_type qwen3",
	} {
		c, err := encoder.LoadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = c.SetFusedAttention(true)
		if ok := err == nil; ok != (want == "") || !ok && !strings.Contains(err.Error(), want) || c.FusedAttention != ok {
			t.Errorf("%s: %v, fused %v", dir, err, c.FusedAttention)
		}
	}
}
