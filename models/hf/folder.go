package hf

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// kept are the files of a folder that go along unchanged when a fine-tuned model is saved: configs and tokenizer, no
// weights.
var kept = []string{
	"config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "special_tokens_map.json",
	"tokenizer.json", "tokenizer_config.json", "vocab.txt", "added_tokens.json", "sentencepiece.bpe.model",
	"vocab.json", "merges.txt",
}

// CopyFiles copies a folder's configs and tokenizer.
func CopyFiles(from, to string) error {
	for _, name := range kept {
		if err := CopyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// CopyFile copies one file.
func CopyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
