// Attention in one pass: scores, mask, softmax, dropout and the sum of values of some queries at a time, so that no matrix of scores is ever
// in memory whole. The gradient computes the scores again.
//
// Dao et al., "FlashAttention" (2022), compute attention in this way on GPUs. A CPU's cache holds all keys of a head, so that a block of
// queries sees all of them at once and softmax needs no second pass.
#ifndef RR_ATTENTION_H
#define RR_ATTENTION_H
#include <stddef.h>

#include "gemm.h"
#include "rows.h"

// The inputs of attention. All arrays are contiguous.
typedef struct {
  long rows, heads, queries, keys, size; // of a batch of texts, their heads, and the width of a head
  const float *q;                        // [rows, heads, queries, size]
  const float *k, *v;                    // [rows, heads, keys, size]
  const float *bias;                     // [bias_rows, 1, bias_queries, keys], added to the scores
  long bias_rows, bias_queries;          // 1, or rows and queries
  float scale;                           // of the scores, before bias is added
  // The factors of dropout, 0 or 1/(1-rate), of the probabilities, [rows, heads, queries, keys]: `pieces` arrays that follow each other, all of
  // the same length except that the last one has the rest. There are none without dropout.
  const float *const *factors;
  long pieces;
  int bf16;     // products are computed in bfloat16 on unit
  rr_unit unit;
} rr_attention;

// rr_attention_run computes out = dropout(softmax(scale·q·kᵀ + bias))·v, [rows, heads, queries, size]. The functions return 0, an error of
// gemm.h, RR_NO_MEMORY, or the error of the pool. The result does not depend on the number of threads.
int rr_attention_run(const rr_attention *attention, float *out, const rr_pool *pool);

// rr_attention_gradient computes the gradients of q, k and v of dout, the gradient of out. Each of dq, dk and dv may
// be NULL.
int rr_attention_gradient(const rr_attention *attention, const float *dout, float *dq, float *dk, float *dv, const rr_pool *pool);
#endif
