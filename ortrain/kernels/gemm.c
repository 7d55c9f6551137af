#include "gemm.h"

#include "gemm_parts.h"

// Three ways to compute a batch:
// - one product after the other, each by groups of rows: B is packed; then each task packs some rows of A and multiplies them with all of B;
// - the same for products with few rows: A and B are packed, then C is computed in tasks that are rectangles of it;
// - small products: a task takes several of them, and packs each into its own part of the scratch memory just before it computes it.
enum { SMALL = 1 << 18 /* dwords of packed panels, 1 MB */, FEW = 8, SHORT = 1 << 20 /* multiplications */, MOST_TASKS = 64 };

static long packed_a(const rr_gemm *g) { return rr_packed(g->m, g->k); }
static long packed_b(const rr_gemm *g) { return g->packed_b ? 0 : rr_packed(g->n, g->k); }

static int many_small(const rr_gemm *g) {
  return g->batch > 1 && packed_a(g) + packed_b(g) <= SMALL && (g->batch >= FEW || g->m * g->n * g->k <= SHORT);
}
static long products_each(const rr_gemm *g) { return rr_cut(g->batch, MOST_TASKS); }

static int empty(const rr_gemm *g) { return g->m == 0 || g->n == 0 || g->batch == 0; }

static int negative(const rr_gemm *g) { return g->m < 0 || g->n < 0 || g->k < 0 || g->batch < 0; }

static int wrong(const rr_gemm *g) {
  if (negative(g)) return 1;
  if (empty(g)) return 0;
  if (!g->c || g->ldc < g->n) return 1;
  if (g->k == 0) return 0;
  if (!g->a || g->lda < (g->trans_a ? g->m : g->k)) return 1;
  return !g->packed_b && (!g->b || g->ldb < (g->trans_b ? g->k : g->n));
}

static rr_source source_a(const rr_gemm *g, long product, uint32_t *to) {
  return (rr_source){g->a + product * g->stride_a, g->lda, g->m, g->k, !g->trans_a, 0, g->alpha, to};
}
static rr_source source_b(const rr_gemm *g, long product, uint32_t *to) {
  return (rr_source){g->b + product * g->stride_b, g->ldb, g->n, g->k, g->trans_b != 0, 1, 1, to};
}
static rr_product product_of(const rr_gemm *g, long product, const uint32_t *a, const uint32_t *b) {
  return (rr_product){a, g->packed_b ? g->packed_b : b, g->c + product * g->stride_c, g->ldc, g->m, g->n, g->k, g->bias, g->accumulate};
}

static rr_rows rows_of(const rr_gemm *g) { return rr_rows_cut(g->m, g->k, g->threads, 1); }

size_t rr_gemm_scratch(rr_unit unit, const rr_gemm *g) {
  (void)unit; // one format
  if (negative(g) || empty(g)) return 0;
  long dwords = packed_a(g) + packed_b(g);
  const rr_rows rows = rows_of(g);
  if (many_small(g)) dwords *= rr_cut(g->batch, products_each(g));
  else if (rows.workers) dwords = packed_b(g) + rr_rows_memory(&rows, g->k);
  return (size_t)dwords * sizeof(uint32_t);
}

typedef struct {
  const rr_gemm_code *code;
  const rr_gemm *gemm;
  uint32_t *scratch;
  rr_packing packing;
  rr_grid grid;
  rr_rows rows; // with them a, product and memory
  rr_source a;
  rr_product product;
  uint32_t *memory;
} work;

static void pack_task(void *data, size_t i) {
  const work *w = data;
  rr_packing_task(w->code, &w->packing, (long)i);
}
static void grid_task(void *data, size_t i) {
  const work *w = data;
  rr_grid_task(w->code, &w->grid, (long)i);
}

static void pack_all(const rr_gemm_code *code, rr_source source) {
  for (long i = 0; i < rr_panels(source.lines); i++) code->pack(&source, i, 0, rr_blocks(source.k));
}

static void rows_task(void *data, size_t worker) {
  work *w = data;
  uint32_t *a = rr_rows_part(&w->rows, w->gemm->k, w->memory, (long)worker);
  w->code->enter();
  for (long first, last; rr_rows_next(&w->rows, &first, &last);) {
    pack_all(w->code, rr_lines(&w->a, first, last, a));
    rr_rows_multiply(w->code, &w->product, a, first, last);
  }
  w->code->leave();
}

static int by_rows(work *w, long product, const rr_pool *pool) {
  uint32_t *b = w->scratch;
  w->rows = rows_of(w->gemm);
  w->product = product_of(w->gemm, product, NULL, b);
  w->a = source_a(w->gemm, product, NULL);
  w->memory = b + packed_b(w->gemm);
  w->packing = (rr_packing){0};
  if (!w->gemm->packed_b) rr_packing_add(&w->packing, source_b(w->gemm, product, b));
  rr_packing_cut(&w->packing);
  int error = rr_spread(pool, pack_task, w->packing.tasks, w);
  return error ? error : rr_spread(pool, rows_task, w->rows.workers, w);
}

static int one_product(work *w, long product, const rr_pool *pool) {
  uint32_t *a = w->scratch, *b = a + packed_a(w->gemm);
  w->packing = (rr_packing){0};
  if (w->gemm->k > 0) rr_packing_add(&w->packing, source_a(w->gemm, product, a));
  if (w->gemm->k > 0 && !w->gemm->packed_b) rr_packing_add(&w->packing, source_b(w->gemm, product, b));
  rr_packing_cut(&w->packing);
  w->grid = rr_grid_cut(product_of(w->gemm, product, a, b), w->gemm->threads);
  int error = rr_spread(pool, pack_task, w->packing.tasks, w);
  return error ? error : rr_spread(pool, grid_task, w->grid.tasks, w);
}

static void small_task(void *data, size_t i) {
  const work *w = data;
  const rr_gemm *g = w->gemm;
  uint32_t *a = w->scratch + (long)i * (packed_a(g) + packed_b(g)), *b = a + packed_a(g);
  long each = products_each(g), last = rr_at_most(((long)i + 1) * each, g->batch);
  w->code->enter();
  for (long x = (long)i * each; x < last; x++) {
    if (g->k > 0) pack_all(w->code, source_a(g, x, a));
    if (g->k > 0 && !g->packed_b) pack_all(w->code, source_b(g, x, b));
    rr_product product = product_of(g, x, a, b);
    rr_multiply(w->code, &product, 0, rr_panels(g->m), 0, rr_panels(g->n));
  }
  w->code->leave();
}

int rr_gemm_run(rr_unit unit, const rr_gemm *g, void *scratch, const rr_pool *pool) {
  work w = {.code = rr_gemm_code_of(unit), .gemm = g, .scratch = scratch};
  if (!w.code) return RR_GEMM_NO_UNIT;
  if (wrong(g)) return RR_GEMM_BAD_SHAPE;
  if (empty(g)) return 0;
  if (many_small(g)) return rr_spread(pool, small_task, rr_cut(g->batch, products_each(g)), &w);
  const int rows = rows_of(g).workers > 0;
  for (long i = 0; i < g->batch; i++) {
    int error = rows ? by_rows(&w, i, pool) : one_product(&w, i, pool);
    if (error) return error;
  }
  return 0;
}

size_t rr_gemm_packed_size(rr_unit unit, long n, long k) {
  (void)unit; // one format
  return n > 0 && k > 0 ? (size_t)rr_packed(n, k) * sizeof(uint32_t) : 0;
}

int rr_gemm_pack_b(rr_unit unit, const float *b, long ldb, int trans_b, long n, long k, void *out, const rr_pool *pool) {
  work w = {.code = rr_gemm_code_of(unit)};
  if (!w.code) return RR_GEMM_NO_UNIT;
  if (n < 0 || k < 0) return RR_GEMM_BAD_SHAPE;
  if (n == 0 || k == 0) return 0;
  if (!b || !out || ldb < (trans_b ? k : n)) return RR_GEMM_BAD_SHAPE;
  rr_packing_add(&w.packing, (rr_source){b, ldb, n, k, trans_b != 0, 1, 1, out});
  rr_packing_cut(&w.packing);
  return rr_spread(pool, pack_task, w.packing.tasks, &w);
}
