// Package ortrain is the training engine. It runs training graphs on ONNX Runtime: forward and backward pass, gradient
// accumulation, clipping, AdamW, checkpoints and resuming. A model gives it the graphs (see package artifact) and a Source
// of batches. The package knows nothing of text or retrieval.
//
// The example at Trainer shows a whole run.
package ortrain
