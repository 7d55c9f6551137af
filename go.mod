module rag-retrieval-go

go 1.26.8

require (
	github.com/yalue/onnxruntime_go v1.27.0
	golang.org/x/sys v0.49.0
	google.golang.org/protobuf v1.36.12
)

require github.com/daulet/tokenizers v1.24.0 // indirect
