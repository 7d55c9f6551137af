// Matrix products in bfloat16 as operators.
#include <stdlib.h>
#include <string.h>

#include "gemm.h"
#include "ort.h"

// Packs a weight: rr_gemm_pack_b, or rr_linear_gradient_pack_w.
typedef int packing(rr_unit, const float *, long ld, int trans, long n, long k, void *out, const rr_pool *);

// pack_weight packs a weight with pack, unless that was done for its present values. version, an optional input of the operator, says which
// these are; without it they never change. *packed is NULL for what is no weight.
static OrtStatus *pack_weight(rr_run *r, packing *pack, const float *data, long ld, int trans, long n, long k, size_t bytes, size_t version,
                              const void **packed) {
  rr_weight_cache *w = &r->k->cache;
  rr_tensor t;
  *packed = NULL;
  if (!r->k->weight || !bytes) return NULL;
  RR_TRY(rr_input(r, version, &t));
  int64_t now = t.data && t.count ? *(const int64_t *)t.data : 0;
  OrtStatus *e = NULL;
  pthread_mutex_lock(&w->lock);
  if (w->bytes != bytes) { // at the first run
    free(w->memory);
    w->memory = malloc(bytes + 63);
    w->packed = (void *)rr_aligned(w->memory);
    w->bytes = w->memory ? bytes : 0;
    w->version = -1;
  }
  if (!w->memory) {
    e = rr_ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a packed weight");
  } else if (w->version != now) {
    e = rr_result(r, pack((rr_unit)r->k->unit, data, ld, trans, n, k, w->packed, &r->pool));
    if (!e) w->version = now;
  }
  *packed = w->packed;
  pthread_mutex_unlock(&w->lock);
  return e;
}

// batches fills the shapes of a product of two tensors, and dims with the shape of its result. The second tensor has two
// dimensions, or the same leading dimensions as the first one.
static OrtStatus *batches(const rr_kernel *k, const rr_tensor *a, const rr_tensor *b, rr_gemm *g, int64_t *dims) {
  if (a->rank < 2 || b->rank < 2) return rr_invalid("Product: a tensor has fewer than two dimensions");
  g->trans_a = (int)k->trans_a, g->trans_b = (int)k->trans_b;
  int64_t a_rows = a->dims[a->rank - 2], a_columns = a->dims[a->rank - 1];
  int64_t b_rows = b->dims[b->rank - 2], b_columns = b->dims[b->rank - 1];
  g->m = (long)(g->trans_a ? a_columns : a_rows), g->k = (long)(g->trans_a ? a_rows : a_columns);
  g->n = (long)(g->trans_b ? b_rows : b_columns);
  if ((g->trans_b ? b_columns : b_rows) != g->k) return rr_invalid("Product: the inner sizes of the tensors differ");
  g->lda = (long)a_columns, g->ldb = (long)b_columns, g->ldc = g->n;
  g->batch = 1;
  for (size_t i = 0; i + 2 < a->rank; i++) g->batch *= (long)a->dims[i];
  memcpy(dims, a->dims, a->rank * sizeof *dims);
  dims[a->rank - 2] = g->m, dims[a->rank - 1] = g->n;
  if (b->rank == 2 && !g->trans_a) { // the rows of all matrices are rows of one
    g->m *= g->batch, g->batch = 1;
  } else if (b->rank > 2 && (b->rank != a->rank || memcmp(a->dims, b->dims, (a->rank - 2) * sizeof *dims))) {
    return rr_invalid("Product: the leading dimensions of the tensors differ");
  }
  g->stride_a = (long)(a_rows * a_columns), g->stride_b = b->rank > 2 ? (long)(b_rows * b_columns) : 0, g->stride_c = g->m * g->n;
  return NULL;
}

// multiply computes the product g, with the shape dims, on the run's threads. bias is a row, is added whole, or has no data.
static OrtStatus *multiply(rr_run *r, rr_gemm *g, const rr_tensor *bias, const int64_t *dims, size_t rank) {
  g->bias = bias->data;
  if (bias->data && !((long)bias->count == g->n && rr_last(bias) == g->n)) {
    g->accumulate = 1;
    g->bias = NULL;
  }
  RR_TRY(rr_output(r, 0, dims, rank, &g->c));
  if (g->accumulate) {
    if ((long)bias->count != g->m * g->n * g->batch) return rr_invalid("Product: the third tensor is neither a row nor of the result's shape");
    memcpy(g->c, bias->data, bias->count * sizeof *g->c);
  }
  rr_scratch s;
  OrtStatus *e = rr_take_scratch(r, rr_gemm_scratch((rr_unit)r->k->unit, g), &s);
  if (!e) e = rr_result(r, rr_gemm_run((rr_unit)r->k->unit, g, s.aligned, &r->pool));
  return rr_free_scratch(&s, e);
}

static OrtStatus *product(rr_run *r) {
  enum { A, B, BIAS, VERSION };
  rr_tensor a, b, bias;
  RR_TRY(rr_input(r, A, &a));
  RR_TRY(rr_input(r, B, &b));
  RR_TRY(rr_input(r, BIAS, &bias));
  rr_gemm g = {.a = a.data, .b = b.data, .alpha = r->k->alpha, .threads = (long)r->k->threads};
  int64_t dims[RR_MAX_RANK];
  RR_TRY(batches(r->k, &a, &b, &g, dims));
  size_t bytes = b.rank == 2 ? rr_gemm_packed_size((rr_unit)r->k->unit, g.n, g.k) : 0; // a weight is one matrix
  RR_TRY(pack_weight(r, rr_gemm_pack_b, g.b, g.ldb, g.trans_b, g.n, g.k, bytes, VERSION, &g.packed_b));
  return multiply(r, &g, &bias, dims, a.rank);
}

// packed_product is product with a weight that was packed when the session was opened. Its attributes n and k are the weight's sizes.
static OrtStatus *packed_product(rr_run *r) {
  enum { A, PACKED, BIAS };
  rr_tensor a, packed, bias;
  RR_TRY(rr_input(r, A, &a));
  RR_TRY(rr_input(r, PACKED, &packed));
  RR_TRY(rr_input(r, BIAS, &bias));
  const rr_tensor b = {.rank = 2, .dims = {r->k->k, r->k->n}};
  rr_gemm g = {.a = a.data, .packed_b = packed.data, .alpha = r->k->alpha, .threads = (long)r->k->threads};
  int64_t dims[RR_MAX_RANK];
  RR_TRY(batches(r->k, &a, &b, &g, dims));
  if (packed.count != rr_gemm_packed_size((rr_unit)r->k->unit, g.n, g.k) || (uintptr_t)packed.data % 64) {
    return rr_invalid("PackedProduct: the weight has another size, or begins at an odd address");
  }
  return multiply(r, &g, &bias, dims, a.rank);
}

static OrtStatus *linear_gradient(rr_run *r) {
  enum { DY, X, W, VERSION };
  rr_tensor dy, x, w;
  RR_TRY(rr_input(r, DY, &dy));
  RR_TRY(rr_input(r, X, &x));
  RR_TRY(rr_input(r, W, &w));
  if (dy.rank != 2 || x.rank != 2 || w.rank != 2) return rr_invalid("LinearGradient: want three matrices");
  int trans = (int)r->k->trans_b;
  rr_linear_gradient g = {
      .dy = dy.data, .x = x.data, .w = w.data, .m = (long)dy.dims[0], .n = (long)dy.dims[1], .k = (long)x.dims[1], .trans_w = trans,
      .lddy = (long)dy.dims[1], .ldx = (long)x.dims[1], .ldw = (long)w.dims[1], .lddx = (long)x.dims[1], .lddw = (long)w.dims[1],
      .threads = (long)r->k->threads,
  };
  if (x.dims[0] != g.m || w.dims[!trans] != g.n || w.dims[trans] != g.k) return rr_invalid("LinearGradient: the shapes do not fit");
  RR_TRY(rr_output_like(r, 0, &x, &g.dx));
  RR_TRY(rr_output_like(r, 1, &w, &g.dw));
  RR_TRY(rr_output(r, 2, &w.dims[!trans], 1, &g.db));
  if (g.dx) {
    size_t bytes = rr_gemm_packed_size((rr_unit)r->k->unit, g.k, g.n);
    RR_TRY(pack_weight(r, rr_linear_gradient_pack_w, g.w, g.ldw, trans, g.n, g.k, bytes, VERSION, &g.packed_w));
  }
  rr_scratch s;
  OrtStatus *e = rr_take_scratch(r, rr_linear_gradient_scratch((rr_unit)r->k->unit, &g), &s);
  if (!e) e = rr_result(r, rr_linear_gradient_run((rr_unit)r->k->unit, &g, s.aligned, &r->pool));
  return rr_free_scratch(&s, e);
}

rr_operator rr_product_operators[] = {
    {.name = "Product", .inputs = 4, .outputs = 1, .optional_inputs = 1 << 2 | 1 << 3, .int64_inputs = 1 << 3, .compute = product},
    {.name = "PackedProduct", .inputs = 3, .outputs = 1, .optional_inputs = 1 << 2, .byte_inputs = 1 << 1, .compute = packed_product},
    {.name = "LinearGradient", .inputs = 4, .outputs = 3, .optional_inputs = 1 << 3, .optional_outputs = 7, .int64_inputs = 1 << 3,
     .compute = linear_gradient},
    {.name = NULL},
};
