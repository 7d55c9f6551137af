// Package ortrain is the training engine: artifact directories, the optimizer, and the loop that runs them on ONNX
// Runtime. It knows nothing of text or retrieval; models hand it a graph of their loss and batches to feed it.
//
// See Trainer for how a run looks.
package ortrain
