// The backward pass of a linear layer. dX and dW need dY packed in two formats, because they sum over its columns and over its rows.
// One pass over dY makes both, and its column sums:
//
//                n                              dX = dY op(W)^T sums over n: dY's rows are lines of A
//        ┌────┬────┬────┐                      dW = X^T dY     sums over m: dY's columns are lines of B
//        │    │    │    │   32 rows             (W transposed: dW = dY^T X, dY's columns are lines of A)
//   dY   ├────┼────┼────┤                      db              sums over m
//   m    │    │  x │    │
//        └────┴────┴────┘   While the block x of 32 x 32 (4 KB) is in the first-level cache, it is packed as block 1 of panel 1 for dX and
//                           as block 1 of panel 1 for dW, and its rows are added to the sums of its task.
//
// Where dY has rows enough, a task multiplies its rows of dX in the same pass (groups of rows, gemm_parts.c).
#include <string.h>

#include "gemm_parts.h"

enum {
  SUM_COLUMNS = 512, // columns of db that a task adds up
  MOST_SUMMED = 4,   // panels whose columns are added up together at most
};

typedef struct {
  const rr_gemm_code *code;
  const rr_linear_gradient *g;
  uint32_t *scratch;
  long used; // dwords of scratch
  rr_source rows, columns; // dY for dX and for dW; to is NULL where that is not wanted
  rr_packing pack_first;   // W, where by_rows computes dX in the pass over dY
  rr_packing pack_with_dy; // X, and W elsewhere
  rr_rows by_rows;         // of dX; without workers dX is in grid
  rr_product dx;
  float *sums;             // [dy_tasks, n], or NULL
  long dy_panels, dy_each, dy_tasks;
  long passes; // tasks that read dY
  rr_grid grid[2];
  int grids;
  long sum_tasks;
} work;

static int negative(const rr_linear_gradient *g) { return g->m < 0 || g->n < 0 || g->k < 0; }

static int wrong(const rr_linear_gradient *g) {
  if (negative(g)) return 1;
  const int dx = g->dx && g->m && g->k, dw = g->dw && g->n && g->k, db = g->db && g->n, read = g->m && g->n;
  const int own_w = dx && g->n && !g->packed_w;
  if ((dx || dw || db) && read && (!g->dy || g->lddy < g->n)) return 1;
  if ((dx && g->lddx < g->k) || (dw && g->m && (!g->x || g->ldx < g->k))) return 1;
  if (dw && g->lddw < (g->trans_w ? g->k : g->n)) return 1;
  return own_w && (!g->w || g->ldw < (g->trans_w ? g->k : g->n));
}

// take hands out scratch memory. Without any (where only the size is asked for) it counts.
static uint32_t *take(work *w, long dwords) {
  uint32_t *taken = w->scratch ? w->scratch + w->used : NULL;
  w->used += dwords;
  return taken;
}

static rr_source source_w(const rr_linear_gradient *g, uint32_t *to) {
  return (rr_source){g->w, g->ldw, g->k, g->n, !g->trans_w, 1, 1, to};
}

// plan_dx and plan_dw add the packing that a product needs, and the product.
static void plan_dx(work *w) {
  const rr_linear_gradient *g = w->g;
  w->dx = (rr_product){NULL, g->packed_w, g->dx, g->lddx, g->m, g->k, g->n, NULL, 0};
  w->by_rows = rr_rows_cut(g->m, g->n, g->threads, g->db ? w->dy_each : 1);
  if (!g->packed_w) {
    uint32_t *to = take(w, rr_packed(g->k, g->n));
    if (g->n) rr_packing_add(w->by_rows.workers ? &w->pack_first : &w->pack_with_dy, source_w(g, to));
    w->dx.b = to;
  }
  uint32_t *dy = take(w, w->by_rows.workers ? rr_rows_memory(&w->by_rows, g->n) : rr_packed(g->m, g->n));
  w->rows = (rr_source){g->dy, g->lddy, g->m, g->n, 1, 0, 1, dy};
  w->dx.a = dy;
  if (!w->by_rows.workers) w->grid[w->grids++] = rr_grid_cut(w->dx, g->threads);
}

static void plan_dw(work *w) {
  const rr_linear_gradient *g = w->g;
  uint32_t *dy = take(w, rr_packed(g->n, g->m)), *x = take(w, rr_packed(g->k, g->m));
  if (g->m) rr_packing_add(&w->pack_with_dy, (rr_source){g->x, g->ldx, g->k, g->m, 0, g->trans_w != 0, 1, x});
  w->columns = (rr_source){g->dy, g->lddy, g->n, g->m, 0, !g->trans_w, 1, dy};
  if (g->trans_w) w->grid[w->grids++] = rr_grid_cut((rr_product){dy, x, g->dw, g->lddw, g->n, g->k, g->m, NULL, 0}, g->threads);
  else w->grid[w->grids++] = rr_grid_cut((rr_product){x, dy, g->dw, g->lddw, g->k, g->n, g->m, NULL, 0}, g->threads);
}

static void plan(work *w) {
  const rr_linear_gradient *g = w->g;
  w->dy_panels = g->n ? rr_panels(g->m) : 0;
  w->dy_each = rr_at_most(rr_cut(w->dy_panels, RR_MOST_PACK_TASKS), MOST_SUMMED);
  w->dy_tasks = w->dy_panels ? rr_cut(w->dy_panels, w->dy_each) : 0;
  if (g->dx && g->m && g->k) plan_dx(w);
  if (g->dw && g->n && g->k) plan_dw(w);
  if (g->db && g->n) {
    w->sums = (float *)take(w, w->dy_tasks * g->n);
    w->sum_tasks = rr_cut(g->n, SUM_COLUMNS);
  }
  if (!w->rows.to && !w->columns.to && !w->sums) w->dy_tasks = 0;
  rr_packing_cut(&w->pack_with_dy);
  rr_packing_cut(&w->pack_first);
  w->passes = w->by_rows.workers ? w->by_rows.workers : w->dy_tasks;
}

size_t rr_linear_gradient_scratch(rr_unit unit, const rr_linear_gradient *g) {
  (void)unit; // one format
  if (negative(g)) return 0;
  work w = {.g = g};
  plan(&w);
  return (size_t)w.used * sizeof *w.scratch;
}

// dy_panel packs a panel of dY, for dX as panel number `at` of rows, and adds up its columns.
static void dy_panel(const work *w, const rr_source *rows, long at, long panel, float *sums) {
  const rr_linear_gradient *g = w->g;
  const long height = rr_at_most(RR_LINES, g->m - panel * RR_LINES);
  for (long block = 0; block < rr_blocks(g->n); block++) {
    const long column = block * RR_BLOCK;
    if (rows->to) w->code->pack(rows, at, block, block + 1);
    if (w->columns.to) w->code->pack(&w->columns, block, panel, panel + 1);
    if (sums)
      w->code->add_rows(g->dy + panel * RR_LINES * g->lddy + column, g->lddy, height, rr_at_most(RR_BLOCK, g->n - column), sums + column);
  }
}

// dy_panels packs the panels first to last-1 of dY, for dX from panel 0 of rows on, and adds up their columns. A sum is that of dy_each
// panels, which depends on the shape only.
static void dy_panels(const work *w, const rr_source *rows, long first, long last) {
  for (long panel = first; panel < last; panel++) {
    float *sums = w->sums ? w->sums + panel / w->dy_each * w->g->n : NULL;
    if (sums && panel % w->dy_each == 0) memset(sums, 0, (size_t)w->g->n * sizeof *sums);
    dy_panel(w, rows, panel - first, panel, sums);
  }
}

static void dy_task(const work *w, long task) {
  const long first = task * w->dy_each, last = rr_at_most(first + w->dy_each, w->dy_panels);
  rr_source rows = w->rows;
  if (rows.to) rows = rr_lines(&rows, first, last, rows.to + rr_packed(first * RR_LINES, w->g->n));
  dy_panels(w, &rows, first, last);
}

// by_rows_task packs groups of rows of dY, and computes their rows of dX.
static void by_rows_task(work *w, long worker) {
  uint32_t *to = rr_rows_part(&w->by_rows, w->g->n, w->rows.to, worker);
  w->code->enter();
  for (long first, last; rr_rows_next(&w->by_rows, &first, &last);) {
    const rr_source rows = rr_lines(&w->rows, first, last, to);
    dy_panels(w, &rows, first, last);
    rr_rows_multiply(w->code, &w->dx, to, first, last);
  }
  w->code->leave();
}

static void pack_first_task(void *data, size_t i) {
  const work *w = data;
  rr_packing_task(w->code, &w->pack_first, (long)i);
}

static void pack_task(void *data, size_t i) {
  work *w = data;
  const long task = (long)i;
  if (task >= w->passes) rr_packing_task(w->code, &w->pack_with_dy, task - w->passes);
  else if (w->by_rows.workers) by_rows_task(w, task);
  else dy_task(w, task);
}

// sum_task adds up the sums of all tasks over dY, in the tasks' order.
static void sum_task(const work *w, long task) {
  const long n = w->g->n, first = task * SUM_COLUMNS, columns = rr_at_most(SUM_COLUMNS, n - first);
  float *db = w->g->db + first;
  memset(db, 0, (size_t)columns * sizeof *db);
  for (long t = 0; t < w->dy_tasks; t++)
    for (long j = 0; j < columns; j += RR_BLOCK)
      w->code->add_rows(w->sums + t * n + first + j, n, 1, rr_at_most(RR_BLOCK, columns - j), db + j);
}

static void product_task(void *data, size_t i) {
  const work *w = data;
  long task = (long)i;
  for (int p = 0; p < w->grids; p++) {
    if (task < w->grid[p].tasks) {
      rr_grid_task(w->code, &w->grid[p], task);
      return;
    }
    task -= w->grid[p].tasks;
  }
  sum_task(w, task);
}

int rr_linear_gradient_run(rr_unit unit, const rr_linear_gradient *g, void *scratch, const rr_pool *pool) {
  work w = {.code = rr_gemm_code_of(unit), .g = g, .scratch = scratch};
  if (!w.code) return RR_GEMM_NO_UNIT;
  if (wrong(g)) return RR_GEMM_BAD_SHAPE;
  plan(&w);
  long tasks = w.sum_tasks;
  for (int p = 0; p < w.grids; p++) tasks += w.grid[p].tasks;
  int error = rr_spread(pool, pack_first_task, w.pack_first.tasks, &w);
  if (!error) error = rr_spread(pool, pack_task, w.passes + w.pack_with_dy.tasks, &w);
  return error ? error : rr_spread(pool, product_task, tasks, &w);
}

int rr_linear_gradient_pack_w(rr_unit unit, const float *w, long ldw, int trans_w, long n, long k, void *out, const rr_pool *pool) {
  return rr_gemm_pack_b(unit, w, ldw, !trans_w, k, n, out, pool);
}
