package onnx

import (
	"fmt"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"rag-retrieval-go/internal/mapped"
)

// The field numbers in onnx.proto on the path to an initializer's file: model.graph.initializer.external_data, whose entries
// have a key and a value.
const (
	modelGraph, graphInitializer, tensorExternalData protowire.Number = 7, 5, 13
	entryKey, entryValue                             protowire.Number = 1, 2
)

// ExternalFiles returns the files with external data of the ONNX file at path. It does not read any weights.
func ExternalFiles(path string) ([]string, error) {
	b, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer mapped.Close(b)
	var out []string
	addLocation := func(entry []byte) error {
		var key, value string
		if err := eachField(entry, entryKey, func(b []byte) error { key = string(b); return nil }); err != nil {
			return err
		}
		if err := eachField(entry, entryValue, func(b []byte) error { value = string(b); return nil }); err != nil {
			return err
		}
		if file := filepath.Join(filepath.Dir(path), filepath.FromSlash(value)); key == "location" && !slices.Contains(out, file) {
			out = append(out, file)
		}
		return nil
	}
	inEach := func(field protowire.Number, f func([]byte) error) func([]byte) error {
		return func(message []byte) error { return eachField(message, field, f) }
	}
	if err := eachField(b, modelGraph, inEach(graphInitializer, inEach(tensorExternalData, addLocation))); err != nil {
		return nil, fmt.Errorf("%s: not an ONNX file: %w", path, err)
	}
	return out, nil
}

// eachField calls f with the contents of every field of an encoded message that has the given number.
func eachField(message []byte, number protowire.Number, f func(value []byte) error) error {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return protowire.ParseError(size)
		}
		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := f(value); err != nil {
				return err
			}
		}
		message = message[size:]
	}
	return nil
}
