package nearest

import "testing"

func TestName(t *testing.T) {
	names := []string{"model", "epochs", "max_steps", "lr", "lr_schedule", "batch_size", "mixed_precision", "merge", "threads", "train", "eval", "compare", "gate", "lora_rank", "lora_alpha"}
	for word, want := range map[string]string{
		"modle": "model", "modell": "model", "epoch": "epochs", "max-step": "max_steps", "lrr": "lr", "batchsize": "batch_size", "bath_size": "batch_size",
		"mixed-precison": "mixed_precision", "Threads": "threads", "trian": "train", "evaluate": "eval", "comapre": "compare", "lora_rnk": "lora_rank",
		"llm": "", "x": "", "": "", "num_train_epochs": "", "pancake": "", "weights": "", "learning_rate": "",
	} {
		if got := Name(word, names); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
