// Passes over rows in float32 as operators.
#include <string.h>

#include "ort.h"
#include "rows.h"

static OrtStatus *activation(rr_run *r) {
  rr_tensor x;
  float *y;
  RR_TRY(rr_input(r, 0, &x));
  RR_TRY(rr_output_like(r, 0, &x, &y));
  return rr_result(r, rr_activation(&r->pool, (rr_activation_kind)r->k->kind, x.data, y, x.count));
}

static OrtStatus *activation_gradient(rr_run *r) {
  rr_tensor dy, x;
  float *dx;
  RR_TRY(rr_input(r, 0, &dy));
  RR_TRY(rr_input(r, 1, &x));
  RR_TRY(rr_same_count(&dy, &x));
  RR_TRY(rr_output_like(r, 0, &x, &dx));
  return rr_result(r, rr_activation_gradient(&r->pool, (rr_activation_kind)r->k->kind, dy.data, x.data, dx, x.count));
}

static OrtStatus *gated(rr_run *r) {
  rr_tensor x;
  float *y;
  int64_t dims[RR_MAX_RANK];
  RR_TRY(rr_input(r, 0, &x));
  if (!x.rank || rr_last(&x) % 2) return rr_invalid("Gated: the last dimension is not even");
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  dims[x.rank - 1] /= 2;
  RR_TRY(rr_output(r, 0, dims, x.rank, &y));
  return rr_result(r, rr_gated(&r->pool, (rr_activation_kind)r->k->kind, (int)r->k->gate_last, x.data, y, (size_t)rr_rows_of(&x, rr_last(&x)), (size_t)rr_last(&x) / 2));
}

static OrtStatus *gated_gradient(rr_run *r) {
  rr_tensor dy, x;
  float *dx;
  RR_TRY(rr_input(r, 0, &dy));
  RR_TRY(rr_input(r, 1, &x));
  if (x.count != 2 * dy.count || rr_last(&x) != 2 * rr_last(&dy)) return rr_invalid("GatedGradient: the shapes do not fit");
  RR_TRY(rr_output_like(r, 0, &x, &dx));
  return rr_result(r, rr_gated_gradient(&r->pool, (rr_activation_kind)r->k->kind, (int)r->k->gate_last, dy.data, x.data, dx,
                                     (size_t)rr_rows_of(&x, rr_last(&x)), (size_t)rr_last(&dy)));
}

static OrtStatus *rmsnorm(rr_run *r) {
  rr_tensor x, scale;
  float *y, *inverse;
  int64_t dims[RR_MAX_RANK];
  RR_TRY(rr_input(r, 0, &x));
  RR_TRY(rr_input(r, 1, &scale));
  long width = rr_last(&x);
  if ((long)scale.count != width) return rr_invalid("RMSNorm: the shapes do not fit");
  RR_TRY(rr_output_like(r, 0, &x, &y));
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  if (x.rank) dims[x.rank - 1] = 1;
  RR_TRY(rr_output(r, 1, dims, x.rank, &inverse));
  return rr_result(r, rr_rmsnorm(&r->pool, x.data, scale.data, r->k->epsilon, y, inverse, (size_t)rr_rows_of(&x, width), (size_t)width));
}

static OrtStatus *rmsnorm_gradient(rr_run *r) {
  rr_tensor dy, x, scale, inverse;
  float *dx, *dscale;
  RR_TRY(rr_input(r, 0, &dy));
  RR_TRY(rr_input(r, 1, &x));
  RR_TRY(rr_input(r, 2, &scale));
  RR_TRY(rr_input(r, 3, &inverse));
  RR_TRY(rr_same_count(&dy, &x));
  long width = rr_last(&x), rows = rr_rows_of(&x, width);
  if ((long)scale.count != width || (long)inverse.count != rows) return rr_invalid("RMSNormGradient: the shapes do not fit");
  RR_TRY(rr_output_like(r, 0, &x, &dx));
  RR_TRY(rr_output_like(r, 1, &scale, &dscale));
  return rr_result(r, rr_layernorm_gradient(&r->pool, dy.data, x.data, scale.data, NULL, inverse.data, dx, dscale, NULL, (size_t)rows, (size_t)width));
}

static OrtStatus *softmax_gradient(rr_run *r) {
  rr_tensor dy, y;
  float *dx;
  RR_TRY(rr_input(r, 0, &dy));
  RR_TRY(rr_input(r, 1, &y));
  RR_TRY(rr_same_count(&dy, &y));
  RR_TRY(rr_output_like(r, 0, &y, &dx));
  long width = rr_last(&y);
  return rr_result(r, rr_softmax_gradient(&r->pool, y.data, dy.data, dx, (size_t)rr_rows_of(&y, width), (size_t)width));
}

static OrtStatus *layernorm_gradient(rr_run *r) {
  rr_tensor dy, x, scale, mean, inverse;
  float *dx, *dscale, *dbias;
  RR_TRY(rr_input(r, 0, &dy));
  RR_TRY(rr_input(r, 1, &x));
  RR_TRY(rr_input(r, 2, &scale));
  RR_TRY(rr_input(r, 3, &mean));
  RR_TRY(rr_input(r, 4, &inverse));
  RR_TRY(rr_same_count(&dy, &x));
  long width = rr_last(&x), rows = rr_rows_of(&x, width);
  if ((long)scale.count != width || (long)mean.count != rows || (long)inverse.count != rows) {
    return rr_invalid("LayerNormGradient: the shapes do not fit");
  }
  RR_TRY(rr_output_like(r, 0, &x, &dx));
  RR_TRY(rr_output_like(r, 1, &scale, &dscale));
  RR_TRY(rr_output_like(r, 2, &scale, &dbias));
  return rr_result(r, rr_layernorm_gradient(&r->pool, dy.data, x.data, scale.data, mean.data, inverse.data, dx, dscale, dbias, (size_t)rows, (size_t)width));
}

static OrtStatus *gather_gradient(rr_run *r) {
  enum { SHAPE, INDICES, DY };
  rr_tensor shape, indices, dy;
  float *dx;
  RR_TRY(rr_input(r, SHAPE, &shape));
  RR_TRY(rr_input(r, INDICES, &indices));
  RR_TRY(rr_input(r, DY, &dy));
  const int64_t *dims = (const int64_t *)(const void *)shape.data;
  if (shape.count < 1 || shape.count > RR_MAX_RANK) return rr_invalid("GatherGradient: the table's shape has no dimension, or too many");
  size_t rows = (size_t)dims[0], width = 1;
  for (size_t i = 1; i < shape.count; i++) width *= (size_t)dims[i];
  if (dy.count != indices.count * width) return rr_invalid("GatherGradient: the shapes do not fit");
  RR_TRY(rr_output(r, 0, dims, shape.count, &dx));
  return rr_result(r, rr_gather_gradient(&r->pool, (const int64_t *)(const void *)indices.data, indices.count, dy.data, dx, rows, width));
}

static OrtStatus *quantize_rows(rr_run *r) {
  rr_tensor x;
  float *q, *scale;
  int64_t dims[RR_MAX_RANK];
  RR_TRY(rr_input(r, 0, &x));
  long width = rr_last(&x);
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  RR_TRY(rr_output(r, 0, dims, x.rank, &q));
  if (x.rank) dims[x.rank - 1] = 1;
  RR_TRY(rr_output(r, 1, dims, x.rank, &scale));
  return rr_result(r, rr_quantize_rows(&r->pool, x.data, (uint8_t *)q, scale, (size_t)rr_rows_of(&x, width), (size_t)width));
}

rr_operator rr_row_operators[] = {
    {.name = "Activation", .inputs = 1, .outputs = 1, .compute = activation},
    {.name = "ActivationGradient", .inputs = 2, .outputs = 1, .in_place = 1, .compute = activation_gradient},
    {.name = "Gated", .inputs = 1, .outputs = 1, .compute = gated},
    {.name = "GatedGradient", .inputs = 2, .outputs = 1, .compute = gated_gradient},
    {.name = "RMSNorm", .inputs = 2, .outputs = 2, .optional_outputs = 2, .compute = rmsnorm},
    {.name = "RMSNormGradient", .inputs = 4, .outputs = 2, .optional_outputs = 3, .in_place = 1, .compute = rmsnorm_gradient},
    {.name = "SoftmaxGradient", .inputs = 2, .outputs = 1, .in_place = 1, .compute = softmax_gradient},
    {.name = "LayerNormGradient", .inputs = 5, .outputs = 3, .optional_outputs = 7, .in_place = 1, .compute = layernorm_gradient},
    {.name = "GatherGradient", .inputs = 3, .outputs = 1, .int64_inputs = 1 << 0 | 1 << 1, .compute = gather_gradient},
    {.name = "QuantizeRows", .inputs = 1, .outputs = 2, .byte_outputs = 1, .compute = quantize_rows},
    {.name = NULL},
};
