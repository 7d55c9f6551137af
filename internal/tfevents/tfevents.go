// Package tfevents writes TensorBoard's event files. It supports only scalars.
package tfevents

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Writer appends to one event file.
type Writer struct {
	f *os.File
}

// Scalar is one named number of a step.
type Scalar struct {
	Tag   string
	Value float64
}

// Field numbers of tensorflow.Event, Summary, Summary.Value and SessionLog in TensorFlow's event.proto and summary.proto.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog = 1, 2, 3, 5, 7

	summaryValue               = 1
	valueTag, valueSimpleValue = 1, 2
	sessionStatus              = 1
	sessionStart               = 1
)

// Create creates an event file in dir, and dir if needed. done is the last step of an earlier run that this one resumes.
// TensorBoard then ignores later steps in earlier files of the folder, so that both runs are one curve.
func Create(dir string, done int) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	now := time.Now()
	path := filepath.Join(dir, fmt.Sprintf("events.out.tfevents.%010d.%09d", now.Unix(), now.Nanosecond()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	w := &Writer{f}
	version := protowire.AppendString(protowire.AppendTag(nil, eventFileVersion, protowire.BytesType), "brain.Event:2")
	err = w.event(0, version)
	if err == nil && done > 0 {
		start := protowire.AppendVarint(protowire.AppendTag(nil, sessionStatus, protowire.VarintType), sessionStart)
		err = w.event(done+1, protowire.AppendBytes(protowire.AppendTag(nil, eventSessionLog, protowire.BytesType), start))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// Scalars writes the scalars of a step.
func (w *Writer) Scalars(step int, scalars ...Scalar) error {
	var summary []byte
	for _, s := range scalars {
		v := protowire.AppendString(protowire.AppendTag(nil, valueTag, protowire.BytesType), s.Tag)
		v = protowire.AppendFixed32(protowire.AppendTag(v, valueSimpleValue, protowire.Fixed32Type), math.Float32bits(float32(s.Value)))
		summary = protowire.AppendBytes(protowire.AppendTag(summary, summaryValue, protowire.BytesType), v)
	}
	return w.event(step, protowire.AppendBytes(protowire.AppendTag(nil, eventSummary, protowire.BytesType), summary))
}

// event writes one record.
func (w *Writer) event(step int, what []byte) error {
	seconds := float64(time.Now().UnixNano()) / 1e9
	b := protowire.AppendFixed64(protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type), math.Float64bits(seconds))
	b = protowire.AppendVarint(protowire.AppendTag(b, eventStep, protowire.VarintType), uint64(step))
	_, err := w.f.Write(record(append(b, what...)))
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record makes a TFRecord: the length of data, a checksum of the length, data, a checksum of data.
func record(data []byte) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	out = binary.LittleEndian.AppendUint32(out, maskedCRC(out))
	out = append(out, data...)
	return binary.LittleEndian.AppendUint32(out, maskedCRC(data))
}

// maskedCRC is TFRecord's checksum: the CRC-32C, rotated and shifted by a constant, so that data may contain checksums.
func maskedCRC(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Close closes the file.
func (w *Writer) Close() error { return w.f.Close() }
