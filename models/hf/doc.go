// Package hf reads and writes the files of Hugging Face model folders: weights in all their formats, and small JSON files.
// It does not know what the tensors mean.
//
//	w, err := hf.OpenWeights("models/bge-base-zh-v1.5")
//	defer w.Close()
//	err = w.Fill(hf.Buffer{Layout: layout, Data: parameters}, params, names, nil)
package hf
