// The optimizer's passes as operators.
#include <string.h>

#include "adamw.h"
#include "ort.h"

// updated allocates output i for the new values of input t. They have the same memory where the caller bound it to both; else
// the output begins as a copy.
static OrtStatus *updated(const rr_run *r, size_t i, const rr_tensor *t, float **data) {
  RR_TRY(rr_output_like(r, i, t, data));
  if (*data != t->data) memcpy(*data, t->data, t->count * sizeof **data);
  return NULL;
}

static OrtStatus *adamw(rr_run *r) {
  enum { PARAMETER, FIRST_MOMENT, SECOND_MOMENT, GRADIENT, GRADIENT_SCALE, DECAY_FACTOR, STEP_SIZE, EPSILON, INPUTS };
  rr_tensor t[INPUTS];
  float *p[3];
  for (size_t i = 0; i < INPUTS; i++) {
    RR_TRY(rr_input(r, i, &t[i]));
    if (i < GRADIENT_SCALE) RR_TRY(rr_same_count(&t[i], &t[PARAMETER]));
    if (i >= GRADIENT_SCALE && t[i].count != 1) return rr_invalid("AdamW: a factor is no scalar");
  }
  for (size_t i = 0; i < 3; i++) {
    RR_TRY(updated(r, i, &t[i], &p[i]));
    if (!p[i]) return rr_invalid("AdamW: an output is missing");
  }
  rr_adamw_scalars s = {
      .beta1 = r->k->beta1, .beta2 = r->k->beta2, .square_scale = r->k->square_scale, .gradient_scale = *t[GRADIENT_SCALE].data,
      .decay_factor = *t[DECAY_FACTOR].data, .step_size = *t[STEP_SIZE].data, .epsilon = *t[EPSILON].data,
  };
  return rr_result(r, rr_adamw(&r->pool, p[0], p[1], p[2], t[GRADIENT].data, t[0].count, &s));
}

static OrtStatus *sum_of_squares(rr_run *r) {
  rr_tensor x;
  double sum;
  float *out;
  const int64_t one = 1;
  RR_TRY(rr_input(r, 0, &x));
  RR_TRY(rr_output(r, 0, &one, 1, &out));
  int code = rr_sum_of_squares(&r->pool, x.data, x.count, &sum);
  *out = (float)sum;
  return rr_result(r, code);
}

static OrtStatus *accumulate(rr_run *r) {
  rr_tensor sum, x, keep, weight;
  float *out;
  RR_TRY(rr_input(r, 0, &sum));
  RR_TRY(rr_input(r, 1, &x));
  RR_TRY(rr_input(r, 2, &keep));
  RR_TRY(rr_input(r, 3, &weight));
  RR_TRY(rr_same_count(&sum, &x));
  if (keep.count != 1 || weight.count != 1) return rr_invalid("Accumulate: a factor is no scalar");
  RR_TRY(updated(r, 0, &sum, &out));
  return rr_result(r, rr_accumulate(&r->pool, out, x.data, x.count, *weight.data, *keep.data > 0));
}

rr_operator rr_optimizer_operators[] = {
    {.name = "AdamW", .inputs = 8, .outputs = 3, .compute = adamw},
    {.name = "SumOfSquares", .inputs = 1, .outputs = 1, .compute = sum_of_squares},
    {.name = "Accumulate", .inputs = 4, .outputs = 1, .compute = accumulate},
    {.name = NULL},
};
