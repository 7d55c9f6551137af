// Attention and its gradient as operators.
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "ort.h"

// inputs reads q, k, v and bias, which begin with input number `at`. Dropout's factors follow them.
static OrtStatus *inputs(const rr_run *r, size_t at, rr_attention *a, rr_tensor *q, rr_tensor *k) {
  rr_tensor v, bias;
  RR_TRY(rr_input(r, at, q));
  RR_TRY(rr_input(r, at + 1, k));
  RR_TRY(rr_input(r, at + 2, &v));
  RR_TRY(rr_input(r, at + 3, &bias));
  if (q->rank != 4 || k->rank != 4 || v.rank != 4 || bias.rank != 4) return rr_invalid("Attention: a tensor does not have four dimensions");
  const int fits = q->dims[0] == k->dims[0] && q->dims[1] == k->dims[1] && q->dims[3] == k->dims[3] && !memcmp(k->dims, v.dims, 4 * sizeof *v.dims);
  if (!fits || bias.dims[1] != 1 || bias.dims[3] != k->dims[2]) return rr_invalid("Attention: the shapes do not fit");
  *a = (rr_attention){
      .rows = (long)q->dims[0], .heads = (long)q->dims[1], .queries = (long)q->dims[2], .keys = (long)k->dims[2], .size = (long)q->dims[3],
      .q = q->data, .k = k->data, .v = v.data, .bias = bias.data, .bias_rows = (long)bias.dims[0], .bias_queries = (long)bias.dims[2],
      .scale = r->k->alpha, .bf16 = r->k->bf16 != 0, .unit = (rr_unit)r->k->unit,
  };
  return NULL;
}

// read_factors reads the pieces of dropout's factors, which are the inputs from number `at` on.
static OrtStatus *read_factors(const rr_run *r, size_t at, const rr_attention *a, const float **factors) {
  const size_t all = (size_t)(a->rows * a->heads * a->queries * a->keys), pieces = (size_t)a->pieces, part = all / pieces;
  for (size_t i = 0; i < pieces; i++) {
    rr_tensor piece;
    RR_TRY(rr_input(r, at + i, &piece));
    if (piece.count != (i + 1 < pieces ? part : all - part * (pieces - 1))) return rr_invalid("Attention: a piece of dropout's factors has another length");
    factors[i] = piece.data;
  }
  return NULL;
}

typedef OrtStatus *attend(rr_run *r, const rr_attention *a);

// with_factors calls compute with the inputs from number `at` on as dropout's factors.
static OrtStatus *with_factors(rr_run *r, size_t at, rr_attention *a, attend *compute) {
  size_t count;
  RR_TRY(rr_ort->KernelContext_GetInputCount(r->context, &count));
  if (count <= at) return compute(r, a);
  const float **factors = malloc((count - at) * sizeof *factors);
  if (!factors) return rr_result(r, RR_NO_MEMORY);
  a->factors = factors, a->pieces = (long)(count - at);
  OrtStatus *e = read_factors(r, at, a, factors);
  if (!e) e = compute(r, a);
  free(factors);
  return e;
}

static OrtStatus *attention_output(rr_run *r, const rr_attention *a) {
  const int64_t dims[] = {a->rows, a->heads, a->queries, a->size};
  float *out;
  RR_TRY(rr_output(r, 0, dims, 4, &out));
  return rr_result(r, rr_attention_run(a, out, &r->pool));
}

static OrtStatus *attention(rr_run *r) {
  rr_attention a;
  rr_tensor q, k;
  RR_TRY(inputs(r, 0, &a, &q, &k));
  return with_factors(r, 4, &a, attention_output);
}

static OrtStatus *attention_gradients(rr_run *r, const rr_attention *a) {
  const int64_t of_queries[] = {a->rows, a->heads, a->queries, a->size}, of_keys[] = {a->rows, a->heads, a->keys, a->size};
  rr_tensor dout;
  float *dq, *dk, *dv;
  RR_TRY(rr_input(r, 0, &dout));
  RR_TRY(rr_output(r, 0, of_queries, 4, &dq));
  RR_TRY(rr_output(r, 1, of_keys, 4, &dk));
  RR_TRY(rr_output(r, 2, of_keys, 4, &dv));
  return rr_result(r, rr_attention_gradient(a, dout.data, dq, dk, dv, &r->pool));
}

static OrtStatus *attention_gradient(rr_run *r) {
  rr_attention a;
  rr_tensor dout, q, k;
  RR_TRY(rr_input(r, 0, &dout));
  RR_TRY(inputs(r, 1, &a, &q, &k));
  RR_TRY(rr_same_count(&dout, &q));
  return with_factors(r, 5, &a, attention_gradients);
}

rr_operator rr_attention_operators[] = {
    // The last input is bias. The pieces of dropout's factors, as many as there are, follow it.
    {.name = "Attention", .inputs = 4, .outputs = 1, .variadic = 1, .compute = attention},
    {.name = "AttentionGradient", .inputs = 5, .outputs = 3, .variadic = 1, .optional_outputs = 7, .compute = attention_gradient},
    {.name = NULL},
};
