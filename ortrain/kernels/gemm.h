// Matrix products in bfloat16: inputs and outputs are float32 in memory, inputs are rounded to bfloat16, sums are float32.
//
// Rounding is to nearest, ties to even. NaN stays NaN, and infinity stays infinity. Denormal inputs count as zero, because the instructions
// of AVX512-BF16 and AMX take them so. (The units also differ in denormal sums: the hardware writes zero.) alpha is multiplied into A in
// float32 before A is rounded.
//
// The result depends on the unit and on the shapes, never on the number of threads: one task computes all of K for its part of C, and K is
// cut by shape only.
#ifndef RR_GEMM_H
#define RR_GEMM_H
#include <stddef.h>

#include "pool.h"

typedef enum { RR_UNIT_PORTABLE, RR_UNIT_AVX512, RR_UNIT_AMX } rr_unit;

// What the functions below return: 0, one of these, or the error of the pool. A pool of NULL is the calling thread.
enum {
  RR_GEMM_BAD_SHAPE = -1, // a size is negative, a row is longer than the distance between rows, or a pointer is missing
  RR_GEMM_NO_UNIT = -2,   // this CPU or this build lacks the unit
};

// C = alpha * op(A) * op(B) [+ bias] [+ C], row-major, for each product of the batch.
typedef struct {
  const float *a;    // [m, k], with trans_a [k, m]
  const float *b;    // [k, n], with trans_b [n, k]; not read where packed_b is given
  const float *bias; // [n], added to each row; or NULL
  float *c;          // [m, n]; must not overlap the inputs
  long m, n, k, batch;
  long lda, ldb, ldc;                // floats from one row in memory to the next
  long stride_a, stride_b, stride_c; // floats from one product of the batch to the next
  int trans_a, trans_b, accumulate;  // accumulate adds to what is in c
  float alpha;
  const void *packed_b; // op(B) from rr_gemm_pack_b, for every product of the batch; or NULL
  long threads;         // threads of the pool; 0: not known. It changes how work is cut, never the result
} rr_gemm;

// rr_gemm_scratch returns the bytes of workspace that rr_gemm_run needs with just these sizes and threads. The caller aligns it to 64
// bytes. It looks at whether packed_b is given; other pointers may still be missing. Without threads a smaller product needs no more than
// a larger one.
size_t rr_gemm_scratch(rr_unit unit, const rr_gemm *gemm);
int rr_gemm_run(rr_unit unit, const rr_gemm *gemm, void *scratch, const rr_pool *pool);

// Weights that serve several products are packed once. op(B) is [k, n]. out has rr_gemm_packed_size bytes, aligned to 64.
// All units have one format, and pack to the same bytes.
size_t rr_gemm_packed_size(rr_unit unit, long n, long k);
int rr_gemm_pack_b(rr_unit unit, const float *b, long ldb, int trans_b, long n, long k, void *out, const rr_pool *pool);

// The backward pass of a linear layer Y = X * op(W) + bias: dX = dY * op(W)^T, dW = X^T * dY in W's own layout, and db, the sum of dY's
// rows. dY is read from memory once. db sums the float32 values of dY, not the rounded ones.
typedef struct {
  const float *dy;              // [m, n]
  const float *x;               // [m, k]; read for dw only
  const float *w;               // [k, n], with trans_w [n, k]; read for dx only
  float *dx;                    // [m, k], or NULL
  float *dw;                    // as w, or NULL
  float *db;                    // [n], or NULL
  long m, n, k;                 // rows (tokens), outputs, inputs
  long lddy, ldx, ldw, lddx, lddw;
  int trans_w;
  const void *packed_w; // op(W)^T from rr_linear_gradient_pack_w, or NULL
  long threads;         // as in rr_gemm
} rr_linear_gradient;

// rr_linear_gradient_scratch looks at the sizes, at threads and at whether dx, dw, db and packed_w are given.
size_t rr_linear_gradient_scratch(rr_unit unit, const rr_linear_gradient *gradient);
int rr_linear_gradient_run(rr_unit unit, const rr_linear_gradient *gradient, void *scratch, const rr_pool *pool);

// rr_linear_gradient_pack_w packs op(W)^T, which is [n, k], for packed_w: rr_gemm_packed_size(unit, k, n) bytes.
int rr_linear_gradient_pack_w(rr_unit unit, const float *w, long ldw, int trans_w, long n, long k, void *out, const rr_pool *pool);
#endif
