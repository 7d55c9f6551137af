// Passes over memory in float32 that stock operators of ONNX need several passes for. All functions
//
//   - take rows of contiguous floats, which need no alignment, and compute on the threads of pool;
//   - cut their work by its size only, so that the result does not depend on the number of threads;
//   - return 0, the error of pool, RR_NO_MEMORY or RR_BAD_INDEX; outputs are undefined after an error;
//   - give NaN and Inf where the operators in their comments give them.
//
// An output may be the same array as an input where a comment says so; otherwise arrays must not overlap.
#ifndef RR_ROWS_H
#define RR_ROWS_H
#include <stddef.h>
#include <stdint.h>

#include "pool.h"

enum { RR_NO_MEMORY = -1000, RR_BAD_INDEX = -1001 };

// Activations.
typedef enum {
  RR_GELU,      // x·Φ(x), Φ the normal distribution: the operator Gelu (domain com.microsoft, and ONNX with approximate "none")
  RR_GELU_TANH, // x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
  RR_SILU,      // x·sigmoid(x)
} rr_activation_kind;

// rr_activation computes y = act(x) of n elements. y may be x.
int rr_activation(const rr_pool *pool, rr_activation_kind kind, const float *x, float *y, size_t n);

// rr_activation_gradient computes dx = dy·act'(x) of n elements. dx may be dy or x.
int rr_activation_gradient(const rr_pool *pool, rr_activation_kind kind, const float *dy, const float *x, float *dx, size_t n);

// rr_gated computes y = act(a)·b, [rows, width]. a and b are the halves of x, [rows, 2·width]; a is the first one, or the second one if
// gate_last is not 0.
int rr_gated(const rr_pool *pool, rr_activation_kind kind, int gate_last, const float *x, float *y, size_t rows, size_t width);

// rr_gated_gradient computes the gradient of rr_gated, dx, [rows, 2·width], of dy, [rows, width]. dx may be x.
int rr_gated_gradient(const rr_pool *pool, rr_activation_kind kind, int gate_last, const float *dy, const float *x, float *dx, size_t rows, size_t width);

// rr_layernorm_gradient computes the gradients of LayerNormalization over the last dimension, of x, [rows, width]. mean and inverse,
// [rows], are the operator's second and third output: the mean, and r = 1/√(variance + ε). With h = (x - mean)·r and e = dy·scale:
//
//	dx = r·(e - mean(e) - h·mean(e·h)),  dscale = Σ dy·h,  dbias = Σ dy
//
// Without mean (NULL), these are the gradients of RMSNorm, y = x·r·scale with r = 1/√(mean(x²) + ε): h = x·r, and dx has no mean(e).
// Each of dx, [rows, width], dscale and dbias, [width], may be NULL. dx may be dy or x.
int rr_layernorm_gradient(const rr_pool *pool, const float *dy, const float *x, const float *scale, const float *mean, const float *inverse,
                          float *dx, float *dscale, float *dbias, size_t rows, size_t width);

// rr_rmsnorm computes y = x·r·scale and r = 1/√(mean(x²) + epsilon). x and y are [rows, width], and may be the same array; scale is
// [width]; inverse, [rows], gets r and may be NULL.
int rr_rmsnorm(const rr_pool *pool, const float *x, const float *scale, float epsilon, float *y, float *inverse, size_t rows, size_t width);

// rr_softmax_gradient computes dx = y·(dy - Σ y·dy), the gradient of y = Softmax(x) over the last dimension. All are [rows, width]; dx
// may be y or dy.
int rr_softmax_gradient(const rr_pool *pool, const float *y, const float *dy, float *dx, size_t rows, size_t width);

// rr_gather_gradient computes dx, [rows, width], the gradient of a table of which Gather took the n rows of indices: zeros, to which the
// rows of dy, [n, width], are added in their order. A negative index counts from the end. An index that names no row gives RR_BAD_INDEX.
int rr_gather_gradient(const rr_pool *pool, const int64_t *indices, size_t n, const float *dy, float *dx, size_t rows, size_t width);

// rr_quantize_rows computes scale = max(max|x|, 1e-30)/127 of each row, [rows], and q = x/scale, rounded to the nearest integer (ties
// to even), plus 128, [rows, width]: the bits that QuantizeWeights in package onnx gets from Max, Div and QuantizeLinear, where
// no element is NaN. A NaN makes its row's scale NaN, and with it what is computed from the row; the operators may lose it.
int rr_quantize_rows(const rr_pool *pool, const float *x, uint8_t *q, float *scale, size_t rows, size_t width);
#endif
