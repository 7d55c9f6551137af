#!/usr/bin/env bash
# Makes ortrain/onnx/onnxpb/onnx.pb.go from onnx.proto. Only needed after a change of the .proto file.
# Uses the protoc of PyPI's grpcio-tools in a throw-away environment and the protoc-gen-go of go.mod.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q grpcio-tools==1.85.1
GOBIN="$work/bin" go install google.golang.org/protobuf/cmd/protoc-gen-go
PATH="$work/bin:$PATH" "$work/venv/bin/python" -m grpc_tools.protoc -I ortrain/onnx/onnxpb \
  --go_out=ortrain/onnx/onnxpb --go_opt=paths=source_relative ortrain/onnx/onnxpb/onnx.proto
gofmt -l ortrain/onnx/onnxpb
