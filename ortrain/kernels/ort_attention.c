// Attention and its gradient as operators.
#include <string.h>

#include "attention.h"
#include "ort.h"

// inputs reads q, k, v, bias and the pieces of dropout's factors, which begin with input number `at`.
static OrtStatus *inputs(const rr_run *r, size_t at, rr_attention *a, rr_tensor *q, rr_tensor *k) {
  rr_tensor v, bias, piece;
  size_t count;
  RR_TRY(rr_ort->KernelContext_GetInputCount(r->context, &count));
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
  const size_t all = q->dims[3] ? q->count / (size_t)q->dims[3] * (size_t)a->keys : 0;
  size_t found = 0;
  for (size_t i = at + 4; i < count; i++) {
    RR_TRY(rr_input(r, i, &piece));
    if (!piece.data || a->pieces == RR_FACTOR_PIECES) break;
    a->factors[a->pieces++] = piece.data;
    found += piece.count;
  }
  for (long i = 0; i + 1 < a->pieces; i++) {
    RR_TRY(rr_input(r, at + 4 + (size_t)i, &piece));
    if (piece.count != all / (size_t)a->pieces) return rr_invalid("Attention: a piece of dropout's factors has another length");
  }
  return a->pieces && found != all ? rr_invalid("Attention: dropout has not a factor for each score") : NULL;
}

static OrtStatus *attention(rr_run *r) {
  rr_attention a;
  rr_tensor q, k;
  float *out;
  RR_TRY(inputs(r, 0, &a, &q, &k));
  RR_TRY(rr_output_like(r, 0, &q, &out));
  return rr_result(r, rr_attention_run(&a, out, &r->pool));
}

static OrtStatus *attention_gradient(rr_run *r) {
  rr_attention a;
  rr_tensor dout, q, k;
  float *dq, *dk, *dv;
  RR_TRY(rr_input(r, 0, &dout));
  RR_TRY(inputs(r, 1, &a, &q, &k));
  RR_TRY(rr_same_count(&dout, &q));
  RR_TRY(rr_output_like(r, 0, &q, &dq));
  RR_TRY(rr_output_like(r, 1, &k, &dk));
  RR_TRY(rr_output_like(r, 2, &k, &dv));
  return rr_result(r, rr_attention_gradient(&a, dout.data, dq, dk, dv, &r->pool));
}

#define BITS(from, count) (((1u << (count)) - 1) << (from))

rr_operator rr_attention_operators[] = {
    {.name = "Attention", .inputs = 4 + RR_FACTOR_PIECES, .outputs = 1, .optional_inputs = BITS(4, RR_FACTOR_PIECES), .compute = attention},
    {.name = "AttentionGradient", .inputs = 5 + RR_FACTOR_PIECES, .outputs = 3, .optional_inputs = BITS(5, RR_FACTOR_PIECES), .optional_outputs = 7,
     .compute = attention_gradient},
    {0},
};
