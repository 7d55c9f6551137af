package onnx

import (
	"fmt"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"rag-retrieval-go/internal/mapped"
)

// The numbers of the fields of onnx.proto on the way to where an initializer's data lie.
const (
	modelGraph, graphInitializer, tensorExternalData protowire.Number = 7, 5, 13
	entryKey, entryValue                             protowire.Number = 1, 2
)

// ExternalFiles lists the files that hold the weights of the ONNX file at path, besides itself. Weights are not read.
func ExternalFiles(path string) ([]string, error) {
	b, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer mapped.Close(b)
	var out []string
	collect := func(entry []byte) error {
		var key, value string
		if err := fields(entry, entryKey, func(b []byte) error { key = string(b); return nil }); err != nil {
			return err
		}
		if err := fields(entry, entryValue, func(b []byte) error { value = string(b); return nil }); err != nil {
			return err
		}
		if file := filepath.Join(filepath.Dir(path), filepath.FromSlash(value)); key == "location" && !slices.Contains(out, file) {
			out = append(out, file)
		}
		return nil
	}
	within := func(field protowire.Number, f func([]byte) error) func([]byte) error {
		return func(b []byte) error { return fields(b, field, f) }
	}
	if err := fields(b, modelGraph, within(graphInitializer, within(tensorExternalData, collect))); err != nil {
		return nil, fmt.Errorf("%s: not an ONNX file: %w", path, err)
	}
	return out, nil
}

// fields calls f with the bytes of each field of a message that has the number.
func fields(message []byte, number protowire.Number, f func(value []byte) error) error {
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
