// The only file of this package that knows ONNX Runtime. An operator reads its attributes when a session is opened, and its
// inputs and outputs in each run; the kernels do the rest.
#include "operators.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adamw.h"
#include "gemm.h"
#include "rows.h"

static const OrtApi *ort;
static OrtMemoryInfo *host; // of scratch memory

#define TRY(call)                  \
  do {                             \
    OrtStatus *failed_ = (call);   \
    if (failed_) return failed_;   \
  } while (0)

static OrtStatus *invalid(const char *message) { return ort->CreateStatus(ORT_INVALID_ARGUMENT, message); }

// ---- kernels of a session ----------------------------------------------------------------------------------------------

typedef struct operator operator_;

// A weight that is packed once and read by many runs. Runs of one session may be concurrent; weights change only between runs.
typedef struct {
  pthread_mutex_t lock;
  void *memory, *packed; // packed is aligned
  size_t bytes;
  int64_t version;       // of the weights when they were packed; -1 if they are not
} weight;

enum { MAX_TENSORS = 16 };

typedef struct {
  const operator_ *op;
  int64_t trans_a, trans_b, unit, weight_kind, kind, gate_last;
  float alpha, beta1, beta2, square_scale, epsilon;
  weight weight;
} kernel;

// Kinds of weights, the attribute "weight".
enum { WEIGHT_NONE, WEIGHT_CONSTANT, WEIGHT_VERSIONED };

static int64_t weights_version;

void rr_weights_changed(void) { __atomic_add_fetch(&weights_version, 1, __ATOMIC_ACQ_REL); }

// A run of a kernel: its tensors, and the session's threads.
typedef struct {
  kernel *k;
  OrtKernelContext *context;
  OrtStatus *status; // of the pool
  rr_pool pool;
} run;

struct operator {
  OrtCustomOp api; // first, so that a pointer to it is one to the operator
  const char *name;
  size_t inputs, outputs;
  unsigned optional_inputs, optional_outputs; // bit i: number i may be missing
  unsigned byte_outputs;                      // bit i: number i is uint8, not float32
  int in_place;                               // the first output may have the memory of the first input
  OrtStatus *(*compute)(run *);
};

// ---- tensors -----------------------------------------------------------------------------------------------------------

typedef struct {
  float *data; // NULL for a missing optional input
  size_t rank, count;
  int64_t dims[MAX_TENSORS];
} tensor;

static OrtStatus *describe(const OrtValue *value, tensor *t) {
  OrtTensorTypeAndShapeInfo *info;
  TRY(ort->GetTensorTypeAndShape(value, &info));
  OrtStatus *e = ort->GetDimensionsCount(info, &t->rank);
  if (!e && t->rank > MAX_TENSORS) e = invalid("a tensor has too many dimensions");
  if (!e) e = ort->GetDimensions(info, t->dims, t->rank);
  if (!e) e = ort->GetTensorShapeElementCount(info, &t->count);
  ort->ReleaseTensorTypeAndShapeInfo(info);
  if (e) return e;
  return ort->GetTensorMutableData((OrtValue *)value, (void **)&t->data);
}

static OrtStatus *input(const run *r, size_t i, tensor *t) {
  memset(t, 0, sizeof *t);
  const OrtValue *value = NULL;
  TRY(ort->KernelContext_GetInput(r->context, i, &value));
  return value ? describe(value, t) : NULL;
}

// output allocates an output. *data is NULL if nobody reads it.
static OrtStatus *output(const run *r, size_t i, const int64_t *dims, size_t rank, float **data) {
  *data = NULL;
  size_t count;
  TRY(ort->KernelContext_GetOutputCount(r->context, &count));
  if (i >= count) return NULL;
  OrtValue *value = NULL;
  TRY(ort->KernelContext_GetOutput(r->context, i, dims, rank, &value));
  return value ? ort->GetTensorMutableData(value, (void **)data) : NULL;
}

static OrtStatus *output_like(const run *r, size_t i, const tensor *t, float **data) { return output(r, i, t->dims, t->rank, data); }

static uintptr_t aligned(const void *p) { return ((uintptr_t)p + 63) & ~(uintptr_t)63; }

// scratch takes memory from the session's arena, which release gives back. (What KernelContext_GetScratchBuffer gives is never freed.)
typedef struct {
  OrtAllocator *allocator;
  void *memory, *aligned;
} scratch;

static OrtStatus *take(const run *r, size_t bytes, scratch *s) {
  memset(s, 0, sizeof *s);
  if (!bytes) return NULL;
  TRY(ort->KernelContext_GetAllocator(r->context, host, &s->allocator));
  OrtStatus *e = ort->AllocatorAlloc(s->allocator, bytes + 63, &s->memory);
  s->aligned = (void *)aligned(s->memory);
  return e;
}

// release frees scratch memory and returns status, or the error of freeing.
static OrtStatus *release(scratch *s, OrtStatus *status) {
  OrtStatus *e = s->memory ? ort->AllocatorFree(s->allocator, s->memory) : NULL;
  if (s->allocator) ort->ReleaseAllocator(s->allocator);
  if (status && e) ort->ReleaseStatus(e);
  return status ? status : e;
}

static OrtStatus *same_count(const tensor *a, const tensor *b) {
  return a->count == b->count ? NULL : invalid("two tensors that must be of one size differ");
}

// rows_of is the number of rows of a tensor whose last dimension is width.
static long rows_of(const tensor *t, long width) { return width ? (long)t->count / width : 0; }

static long last(const tensor *t) { return t->rank ? (long)t->dims[t->rank - 1] : 1; }

// ---- threads -----------------------------------------------------------------------------------------------------------

static int run_tasks(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  run *r = context;
  if (n == 1) {
    task(data, 0);
    return 0;
  }
  if (!r->status && n) r->status = ort->KernelContext_ParallelFor(r->context, task, n, 0, data);
  return r->status != NULL;
}

// result makes a status of what a kernel returned.
static OrtStatus *result(run *r, int code) {
  if (!code) return NULL;
  if (r->status) return r->status;
  if (code == RR_NO_MEMORY) return ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a kernel");
  if (code == RR_GEMM_NO_UNIT) return ort->CreateStatus(ORT_NOT_IMPLEMENTED, "this CPU lacks the unit for products in bfloat16");
  return invalid("the shapes of a kernel's tensors do not fit");
}

// ---- matrix products in bfloat16 ---------------------------------------------------------------------------------------

// pack_weight packs a weight with pack, unless that was done for its present values. *packed is NULL for what is no weight.
typedef int packing(rr_unit, const float *, long ld, int trans, long n, long k, void *out, const rr_pool *);

static OrtStatus *pack_weight(run *r, packing *pack, const float *data, long ld, int trans, long n, long k, size_t bytes, const void **packed) {
  weight *w = &r->k->weight;
  *packed = NULL;
  if (r->k->weight_kind == WEIGHT_NONE || !bytes) return NULL;
  int64_t version = r->k->weight_kind == WEIGHT_CONSTANT ? 0 : __atomic_load_n(&weights_version, __ATOMIC_ACQUIRE);
  OrtStatus *e = NULL;
  pthread_mutex_lock(&w->lock);
  if (w->bytes != bytes) { // at the first run
    free(w->memory);
    w->memory = malloc(bytes + 63);
    w->packed = (void *)aligned(w->memory);
    w->bytes = w->memory ? bytes : 0;
    w->version = -1;
  }
  if (!w->memory) {
    e = ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a packed weight");
  } else if (w->version != version) {
    e = result(r, pack((rr_unit)r->k->unit, data, ld, trans, n, k, w->packed, &r->pool));
    if (!e) w->version = version;
  }
  *packed = w->packed;
  pthread_mutex_unlock(&w->lock);
  return e;
}

// batches fills the shapes of a product of two tensors, and dims with the shape of its result. The second tensor has two
// dimensions, or the same leading dimensions as the first one.
static OrtStatus *batches(const kernel *k, const tensor *a, const tensor *b, rr_gemm *g, int64_t *dims) {
  if (a->rank < 2 || b->rank < 2) return invalid("Product: a tensor has fewer than two dimensions");
  g->trans_a = (int)k->trans_a, g->trans_b = (int)k->trans_b;
  int64_t a_rows = a->dims[a->rank - 2], a_columns = a->dims[a->rank - 1];
  int64_t b_rows = b->dims[b->rank - 2], b_columns = b->dims[b->rank - 1];
  g->m = (long)(g->trans_a ? a_columns : a_rows), g->k = (long)(g->trans_a ? a_rows : a_columns);
  g->n = (long)(g->trans_b ? b_rows : b_columns);
  if ((g->trans_b ? b_columns : b_rows) != g->k) return invalid("Product: the inner sizes of the tensors differ");
  g->lda = (long)a_columns, g->ldb = (long)b_columns, g->ldc = g->n;
  g->batch = 1;
  for (size_t i = 0; i + 2 < a->rank; i++) g->batch *= (long)a->dims[i];
  memcpy(dims, a->dims, a->rank * sizeof *dims);
  dims[a->rank - 2] = g->m, dims[a->rank - 1] = g->n;
  if (b->rank == 2 && !g->trans_a) { // the rows of all matrices are rows of one
    g->m *= g->batch, g->batch = 1;
  } else if (b->rank > 2 && (b->rank != a->rank || memcmp(a->dims, b->dims, (a->rank - 2) * sizeof *dims))) {
    return invalid("Product: the leading dimensions of the tensors differ");
  }
  g->stride_a = (long)(a_rows * a_columns), g->stride_b = b->rank > 2 ? (long)(b_rows * b_columns) : 0, g->stride_c = g->m * g->n;
  return NULL;
}

static OrtStatus *product(run *r) {
  tensor a, b, bias = {0};
  size_t inputs;
  TRY(input(r, 0, &a));
  TRY(input(r, 1, &b));
  TRY(ort->KernelContext_GetInputCount(r->context, &inputs));
  if (inputs > 2) TRY(input(r, 2, &bias));
  rr_gemm g = {.a = a.data, .b = b.data, .bias = bias.data, .alpha = r->k->alpha};
  int64_t dims[MAX_TENSORS];
  TRY(batches(r->k, &a, &b, &g, dims));
  if (bias.data && !((long)bias.count == g.n && last(&bias) == g.n)) {
    g.accumulate = 1;
    g.bias = NULL;
  }
  TRY(output(r, 0, dims, a.rank, &g.c));
  if (g.accumulate) {
    if ((long)bias.count != g.m * g.n * g.batch) return invalid("Product: the third tensor is neither a row nor of the result's shape");
    memcpy(g.c, bias.data, bias.count * sizeof *g.c);
  }
  size_t bytes = b.rank == 2 ? rr_gemm_packed_size((rr_unit)r->k->unit, g.n, g.k) : 0; // a weight is one matrix
  TRY(pack_weight(r, rr_gemm_pack_b, g.b, g.ldb, g.trans_b, g.n, g.k, bytes, &g.packed_b));
  scratch s;
  OrtStatus *e = take(r, rr_gemm_scratch((rr_unit)r->k->unit, &g), &s);
  if (!e) e = result(r, rr_gemm_run((rr_unit)r->k->unit, &g, s.aligned, &r->pool));
  return release(&s, e);
}

static OrtStatus *linear_gradient(run *r) {
  tensor dy, x, w;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &x));
  TRY(input(r, 2, &w));
  if (dy.rank != 2 || x.rank != 2 || w.rank != 2) return invalid("LinearGradient: want three matrices");
  int trans = (int)r->k->trans_b;
  rr_linear_gradient g = {
      .dy = dy.data, .x = x.data, .w = w.data, .m = (long)dy.dims[0], .n = (long)dy.dims[1], .k = (long)x.dims[1], .trans_w = trans,
      .lddy = (long)dy.dims[1], .ldx = (long)x.dims[1], .ldw = (long)w.dims[1], .lddx = (long)x.dims[1], .lddw = (long)w.dims[1],
  };
  if (x.dims[0] != g.m || w.dims[!trans] != g.n || w.dims[trans] != g.k) return invalid("LinearGradient: the shapes do not fit");
  TRY(output_like(r, 0, &x, &g.dx));
  TRY(output_like(r, 1, &w, &g.dw));
  TRY(output(r, 2, &w.dims[!trans], 1, &g.db));
  if (g.dx) {
    size_t bytes = rr_gemm_packed_size((rr_unit)r->k->unit, g.k, g.n);
    TRY(pack_weight(r, rr_linear_gradient_pack_w, g.w, g.ldw, trans, g.n, g.k, bytes, &g.packed_w));
  }
  scratch s;
  OrtStatus *e = take(r, rr_linear_gradient_scratch((rr_unit)r->k->unit, &g), &s);
  if (!e) e = result(r, rr_linear_gradient_run((rr_unit)r->k->unit, &g, s.aligned, &r->pool));
  return release(&s, e);
}

// ---- passes in float32 -------------------------------------------------------------------------------------------------

static OrtStatus *activation(run *r) {
  tensor x;
  float *y;
  TRY(input(r, 0, &x));
  TRY(output_like(r, 0, &x, &y));
  return result(r, rr_activation(&r->pool, (rr_activation_kind)r->k->kind, x.data, NULL, NULL, y, 1, x.count));
}

static OrtStatus *activation_gradient(run *r) {
  tensor dy, x;
  float *dx;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &x));
  TRY(same_count(&dy, &x));
  TRY(output_like(r, 0, &x, &dx));
  return result(r, rr_activation_gradient(&r->pool, (rr_activation_kind)r->k->kind, dy.data, x.data, dx, x.count));
}

static OrtStatus *gated(run *r) {
  tensor x;
  float *y;
  int64_t dims[MAX_TENSORS];
  TRY(input(r, 0, &x));
  if (!x.rank || last(&x) % 2) return invalid("Gated: the last dimension is not even");
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  dims[x.rank - 1] /= 2;
  TRY(output(r, 0, dims, x.rank, &y));
  return result(r, rr_gated(&r->pool, (rr_activation_kind)r->k->kind, (int)r->k->gate_last, x.data, y, (size_t)rows_of(&x, last(&x)), (size_t)last(&x) / 2));
}

static OrtStatus *gated_gradient(run *r) {
  tensor dy, x;
  float *dx;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &x));
  if (x.count != 2 * dy.count || last(&x) != 2 * last(&dy)) return invalid("GatedGradient: the shapes do not fit");
  TRY(output_like(r, 0, &x, &dx));
  return result(r, rr_gated_gradient(&r->pool, (rr_activation_kind)r->k->kind, (int)r->k->gate_last, dy.data, x.data, dx,
                                     (size_t)rows_of(&x, last(&x)), (size_t)last(&dy)));
}

static OrtStatus *rmsnorm(run *r) {
  tensor x, scale;
  float *y, *inverse;
  int64_t dims[MAX_TENSORS];
  TRY(input(r, 0, &x));
  TRY(input(r, 1, &scale));
  long width = last(&x);
  if ((long)scale.count != width) return invalid("RMSNorm: the shapes do not fit");
  TRY(output_like(r, 0, &x, &y));
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  if (x.rank) dims[x.rank - 1] = 1;
  TRY(output(r, 1, dims, x.rank, &inverse));
  return result(r, rr_rmsnorm(&r->pool, x.data, scale.data, r->k->epsilon, y, inverse, (size_t)rows_of(&x, width), (size_t)width));
}

static OrtStatus *rmsnorm_gradient(run *r) {
  tensor dy, x, scale, inverse;
  float *dx, *dscale;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &x));
  TRY(input(r, 2, &scale));
  TRY(input(r, 3, &inverse));
  TRY(same_count(&dy, &x));
  long width = last(&x), rows = rows_of(&x, width);
  if ((long)scale.count != width || (long)inverse.count != rows) return invalid("RMSNormGradient: the shapes do not fit");
  TRY(output_like(r, 0, &x, &dx));
  TRY(output_like(r, 1, &scale, &dscale));
  return result(r, rr_layernorm_gradient(&r->pool, dy.data, x.data, scale.data, NULL, inverse.data, dx, dscale, NULL, (size_t)rows, (size_t)width));
}

static OrtStatus *softmax_gradient(run *r) {
  tensor dy, y;
  float *dx;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &y));
  TRY(same_count(&dy, &y));
  TRY(output_like(r, 0, &y, &dx));
  long width = last(&y);
  return result(r, rr_softmax_gradient(&r->pool, y.data, dy.data, 1, dx, (size_t)rows_of(&y, width), (size_t)width));
}

static OrtStatus *layernorm_gradient(run *r) {
  tensor dy, x, scale, mean, inverse;
  float *dx, *dscale, *dbias;
  TRY(input(r, 0, &dy));
  TRY(input(r, 1, &x));
  TRY(input(r, 2, &scale));
  TRY(input(r, 3, &mean));
  TRY(input(r, 4, &inverse));
  TRY(same_count(&dy, &x));
  long width = last(&x), rows = rows_of(&x, width);
  if ((long)scale.count != width || (long)mean.count != rows || (long)inverse.count != rows) {
    return invalid("LayerNormGradient: the shapes do not fit");
  }
  TRY(output_like(r, 0, &x, &dx));
  TRY(output_like(r, 1, &scale, &dscale));
  TRY(output_like(r, 2, &scale, &dbias));
  return result(r, rr_layernorm_gradient(&r->pool, dy.data, x.data, scale.data, mean.data, inverse.data, dx, dscale, dbias, (size_t)rows, (size_t)width));
}

static OrtStatus *quantize_rows(run *r) {
  tensor x;
  float *q, *scale;
  int64_t dims[MAX_TENSORS];
  TRY(input(r, 0, &x));
  long width = last(&x);
  memcpy(dims, x.dims, x.rank * sizeof *dims);
  TRY(output(r, 0, dims, x.rank, &q));
  if (x.rank) dims[x.rank - 1] = 1;
  TRY(output(r, 1, dims, x.rank, &scale));
  return result(r, rr_quantize_rows(&r->pool, x.data, (uint8_t *)q, scale, (size_t)rows_of(&x, width), (size_t)width));
}

// ---- optimizer ---------------------------------------------------------------------------------------------------------

// updated allocates output i for the new values of input t. They have the same memory where the caller bound it to both; else
// the output begins as a copy.
static OrtStatus *updated(const run *r, size_t i, const tensor *t, float **data) {
  TRY(output_like(r, i, t, data));
  if (*data != t->data) memcpy(*data, t->data, t->count * sizeof **data);
  return NULL;
}

static OrtStatus *adamw(run *r) {
  enum { PARAMETER, FIRST_MOMENT, SECOND_MOMENT, GRADIENT, GRADIENT_SCALE, DECAY_FACTOR, STEP_SIZE, EPSILON, INPUTS };
  tensor t[INPUTS];
  float *p[3];
  for (size_t i = 0; i < INPUTS; i++) {
    TRY(input(r, i, &t[i]));
    if (i < GRADIENT_SCALE) TRY(same_count(&t[i], &t[PARAMETER]));
    if (i >= GRADIENT_SCALE && t[i].count != 1) return invalid("AdamW: a factor is no scalar");
  }
  for (size_t i = 0; i < 3; i++) {
    TRY(updated(r, i, &t[i], &p[i]));
    if (!p[i]) return invalid("AdamW: an output is missing");
  }
  rr_adamw_scalars s = {
      .beta1 = r->k->beta1, .beta2 = r->k->beta2, .square_scale = r->k->square_scale, .gradient_scale = *t[GRADIENT_SCALE].data,
      .decay_factor = *t[DECAY_FACTOR].data, .step_size = *t[STEP_SIZE].data, .epsilon = *t[EPSILON].data,
  };
  return result(r, rr_adamw(&r->pool, p[0], p[1], p[2], t[GRADIENT].data, t[0].count, &s));
}

static OrtStatus *sum_of_squares(run *r) {
  tensor x;
  double sum;
  float *out;
  const int64_t one = 1;
  TRY(input(r, 0, &x));
  TRY(output(r, 0, &one, 1, &out));
  int code = rr_sum_of_squares(&r->pool, x.data, x.count, &sum);
  *out = (float)sum;
  return result(r, code);
}

static OrtStatus *accumulate(run *r) {
  tensor sum, x, keep, weight;
  float *out;
  TRY(input(r, 0, &sum));
  TRY(input(r, 1, &x));
  TRY(input(r, 2, &keep));
  TRY(input(r, 3, &weight));
  TRY(same_count(&sum, &x));
  if (keep.count != 1 || weight.count != 1) return invalid("Accumulate: a factor is no scalar");
  TRY(updated(r, 0, &sum, &out));
  return result(r, rr_accumulate(&r->pool, out, x.data, x.count, *weight.data, *keep.data > 0));
}

// ---- the operators -----------------------------------------------------------------------------------------------------

static operator_ operators[] = {
    {.name = "Product", .inputs = 3, .outputs = 1, .optional_inputs = 1 << 2, .compute = product},
    {.name = "LinearGradient", .inputs = 3, .outputs = 3, .optional_outputs = 7, .compute = linear_gradient},
    {.name = "Activation", .inputs = 1, .outputs = 1, .compute = activation},
    {.name = "ActivationGradient", .inputs = 2, .outputs = 1, .in_place = 1, .compute = activation_gradient},
    {.name = "Gated", .inputs = 1, .outputs = 1, .compute = gated},
    {.name = "GatedGradient", .inputs = 2, .outputs = 1, .compute = gated_gradient},
    {.name = "RMSNorm", .inputs = 2, .outputs = 2, .optional_outputs = 2, .compute = rmsnorm},
    {.name = "RMSNormGradient", .inputs = 4, .outputs = 2, .optional_outputs = 3, .in_place = 1, .compute = rmsnorm_gradient},
    {.name = "SoftmaxGradient", .inputs = 2, .outputs = 1, .in_place = 1, .compute = softmax_gradient},
    {.name = "LayerNormGradient", .inputs = 5, .outputs = 3, .optional_outputs = 7, .in_place = 1, .compute = layernorm_gradient},
    {.name = "QuantizeRows", .inputs = 1, .outputs = 2, .byte_outputs = 1, .compute = quantize_rows},
    {.name = "AdamW", .inputs = 8, .outputs = 3, .compute = adamw},
    {.name = "SumOfSquares", .inputs = 1, .outputs = 1, .compute = sum_of_squares},
    {.name = "Accumulate", .inputs = 4, .outputs = 1, .compute = accumulate},
};
enum { OPERATORS = sizeof operators / sizeof *operators };

static const char *name(const OrtCustomOp *op) { return ((const operator_ *)op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static size_t input_count(const OrtCustomOp *op) { return ((const operator_ *)op)->inputs; }
static size_t output_count(const OrtCustomOp *op) { return ((const operator_ *)op)->outputs; }
static ONNXTensorElementDataType input_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
static ONNXTensorElementDataType output_type(const OrtCustomOp *op, size_t i) {
  return ((const operator_ *)op)->byte_outputs >> i & 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}
static OrtMemType memory(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, OrtMemTypeDefault; }
static int first_version(const OrtCustomOp *op) { return (void)op, 1; }
static int last_version(const OrtCustomOp *op) { return (void)op, INT32_MAX; }

static OrtCustomOpInputOutputCharacteristic optional(unsigned mask, size_t i) {
  return mask >> i & 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
}
static OrtCustomOpInputOutputCharacteristic input_kind(const OrtCustomOp *op, size_t i) {
  return optional(((const operator_ *)op)->optional_inputs, i);
}
static OrtCustomOpInputOutputCharacteristic output_kind(const OrtCustomOp *op, size_t i) {
  return optional(((const operator_ *)op)->optional_outputs, i);
}

// may_inplace says that output 0 may have the memory of input 0.
static size_t may_inplace(int **inputs, int **outputs) {
  *inputs = calloc(1, sizeof **inputs), *outputs = calloc(1, sizeof **outputs);
  return *inputs && *outputs;
}
static void release_inplace(int *inputs, int *outputs) { free(inputs), free(outputs); }

// read_attributes sets the attributes that a node has; the others keep their defaults.
static void read_attributes(const OrtKernelInfo *info, kernel *k) {
  struct { const char *name; int64_t *to; } ints[] = {
      {"transA", &k->trans_a}, {"transB", &k->trans_b}, {"unit", &k->unit}, {"weight", &k->weight_kind}, {"kind", &k->kind}, {"gate_last", &k->gate_last},
  };
  struct { const char *name; float *to; } floats[] = {
      {"alpha", &k->alpha}, {"beta1", &k->beta1}, {"beta2", &k->beta2}, {"square_scale", &k->square_scale}, {"epsilon", &k->epsilon},
  };
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
    OrtStatus *e = ort->KernelInfoGetAttribute_int64(info, ints[i].name, ints[i].to);
    if (e) ort->ReleaseStatus(e);
  }
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    OrtStatus *e = ort->KernelInfoGetAttribute_float(info, floats[i].name, floats[i].to);
    if (e) ort->ReleaseStatus(e);
  }
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
  (void)api;
  kernel *k = calloc(1, sizeof *k);
  if (!k) return ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a kernel");
  k->op = (const operator_ *)op;
  k->alpha = 1;
  pthread_mutex_init(&k->weight.lock, NULL);
  read_attributes(info, k);
  if (k->kind < RR_GELU || k->kind > RR_SILU || k->unit < RR_UNIT_PORTABLE || k->unit > RR_UNIT_AMX || k->weight_kind < WEIGHT_NONE ||
      k->weight_kind > WEIGHT_VERSIONED) {
    free(k);
    return invalid("a kernel has an attribute that this version does not know");
  }
  *out = k;
  return NULL;
}

static void destroy(void *p) {
  kernel *k = p;
  pthread_mutex_destroy(&k->weight.lock);
  free(k->weight.memory);
  free(k);
}

static OrtStatus *compute(void *p, OrtKernelContext *context) {
  run r = {.k = p, .context = context};
  r.pool = (rr_pool){&r, run_tasks};
  return r.k->op->compute(&r);
}

static OrtCustomOp callbacks(int in_place) {
  OrtCustomOp o = {
      .version = ORT_API_VERSION, .GetName = name, .GetExecutionProviderType = provider, .GetInputTypeCount = input_count,
      .GetOutputTypeCount = output_count, .GetInputType = input_type, .GetOutputType = output_type, .GetInputCharacteristic = input_kind,
      .GetOutputCharacteristic = output_kind, .GetInputMemoryType = memory, .GetStartVersion = first_version,
      .GetEndVersion = last_version, .CreateKernelV2 = create, .KernelComputeV2 = compute, .KernelDestroy = destroy,
  };
  if (in_place) o.GetMayInplace = may_inplace, o.ReleaseMayInplace = release_inplace;
  return o;
}

// ---- registration ------------------------------------------------------------------------------------------------------

static OrtCustomOpDomain *domain; // lives as long as the process
static pthread_mutex_t registration = PTHREAD_MUTEX_INITIALIZER;

static OrtStatus *make_domain(const OrtApi *api) {
  ort = api;
  if (!host) TRY(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &host));
  OrtCustomOpDomain *made;
  OrtStatus *e = NULL;
  TRY(ort->CreateCustomOpDomain("rag_retrieval", &made));
  for (size_t i = 0; i < OPERATORS && !e; i++) {
    operators[i].api = callbacks(operators[i].in_place);
    e = ort->CustomOpDomain_Add(made, &operators[i].api);
  }
  if (e)
    ort->ReleaseCustomOpDomain(made);
  else
    domain = made;
  return e;
}

char *rr_add_operators(const OrtApi *api, OrtSessionOptions *options) {
  pthread_mutex_lock(&registration);
  OrtStatus *e = domain ? NULL : make_domain(api);
  pthread_mutex_unlock(&registration);
  if (!e) e = api->AddCustomOpDomain(options, domain);
  if (!e) return NULL;
  char *text = strdup(api->GetErrorMessage(e));
  api->ReleaseStatus(e);
  return text;
}
