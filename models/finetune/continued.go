package finetune

import (
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
)

// setContinued takes what c does not say of adapters from the adapter in the model's folder, which is trained further. It fails if c says
// something else than that adapter: its matrices would not fit, or mean something else. Only its lora_dropout can be another, but not 0, which
// is as if it were not set.
func setContinued(c config.Train, e encoder.Config, l *encoder.LoRA) error {
	is, err := hf.IsAdapter(c.Model)
	if err != nil || !is {
		return err
	}
	a, err := hf.ReadAdapterConfig(c.Model)
	if err != nil {
		return err
	}
	// Where the model's folder is not one of links to a base, its weights have an adapter of their own.
	if st, err := os.Lstat(filepath.Join(c.Model, "config.json")); err != nil {
		return err
	} else if st.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("lora_rank: %s holds a whole model and an adapter: make one of both first (rag-retrieval merge)", c.Model)
	}
	if a.HasPatterns() {
		return fmt.Errorf("lora_rank: %s has rank_pattern or alpha_pattern, with which it cannot be trained further: merge it first (rag-retrieval merge)", a.Path)
	}
	if c.LoraAlpha == 0 {
		l.Alpha = a.Alpha
	}
	if !c.UseRSLora {
		l.RSLoRA = a.RSLoRA
	}
	if c.LoraDropout == 0 {
		l.Dropout = a.Dropout
	}
	if len(c.LoraTargets) == 0 {
		modules, err := hf.AdaptedModules(c.Model)
		if err != nil {
			return err
		}
		if l.Targets = e.Targets(modules); len(l.Targets) == 0 {
			return fmt.Errorf("lora_rank: the adapter %s has none of the linear layers in the encoder's layers, and cannot be trained further: merge it first with rag-retrieval merge", a.Path)
		}
	}
	if l.Rank != a.Rank || l.Alpha != a.Alpha || l.RSLoRA != a.RSLoRA {
		return fmt.Errorf("the model is an adapter (%s) of r %d, lora_alpha %g, use_rslora %v, which is trained further, but lora_rank is %d, lora_alpha %g, use_rslora %v: want the same, or merge it first (rag-retrieval merge)",
			a.Path, a.Rank, a.Alpha, a.RSLoRA, l.Rank, l.Alpha, l.RSLoRA)
	}
	return nil
}

// adapterNotes says that an adapter is trained further, and where PEFT cannot open what is saved. c.Model is the model's folder.
func adapterNotes(c config.Train, e encoder.Config) (notes []string) {
	is, err := hf.IsAdapter(c.Model)
	is = is && err == nil
	if e.LoRA == nil {
		if is {
			notes = append(notes, "the model is an adapter: it is merged into its base, and the whole is trained; with lora_rank the adapter would be trained further")
		}
		return notes
	}
	if is {
		notes = append(notes, fmt.Sprintf("the model is an adapter, which is trained further: %s, lora_dropout %g", e.AdapterConfig().Describe(), e.LoRA.Dropout))
	}
	if e.ModelType == "new" && !c.Merge {
		notes = append(notes, "lora_rank: PEFT cannot open the adapter of a base whose model_type is new: its own code joins the modules that transformers' GTE has; for Python save with merge")
	}
	return notes
}
