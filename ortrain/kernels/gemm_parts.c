#include "gemm_parts.h"

#include "cpu.h"

enum { TASKS_OF_THREAD = 4 }; // wanted, so that threads that are held up leave some to the others

const rr_gemm_code *rr_gemm_code_of(rr_unit unit) {
  switch (unit) {
  case RR_UNIT_PORTABLE: return rr_gemm_portable();
  case RR_UNIT_AVX512: return rr_gemm_avx512();
  case RR_UNIT_AMX: return rr_gemm_amx();
  }
  return NULL;
}

int rr_spread(const rr_pool *pool, void (*task)(void *data, size_t i), long n, void *data) {
  if (n <= 0) return 0;
  if (pool && n > 1) return pool->run(pool->context, task, (size_t)n, data);
  for (long i = 0; i < n; i++) task(data, (size_t)i);
  return 0;
}

void rr_packing_add(rr_packing *packing, rr_source source) {
  packing->source[packing->sources++] = source;
  packing->panels += rr_panels(source.lines);
}

void rr_packing_cut(rr_packing *packing) {
  packing->each = rr_cut(packing->panels, RR_MOST_PACK_TASKS);
  packing->tasks = packing->panels ? rr_cut(packing->panels, packing->each) : 0;
}

void rr_packing_task(const rr_gemm_code *code, const rr_packing *packing, long task) {
  long last = rr_at_most((task + 1) * packing->each, packing->panels);
  for (long i = task * packing->each; i < last; i++) {
    long panel = i;
    const rr_source *s = packing->source;
    for (; panel >= rr_panels(s->lines); s++) panel -= rr_panels(s->lines);
    code->pack(s, panel, 0, rr_blocks(s->k));
  }
}

// A task computes 8 x 8 panels: 256 rows and columns of C. With K_BLOCKS its panels are 16 x 64 KB, which fit the second-level cache of CPUs
// with AMX (2 MB), and C is read and written once for 1,024 values of k.
//
//              panels of B: n_step
//           ┌────┬────┬────┬────┐
//           │    │    │    │    │        C is cut in tasks (here 2 x 4 panels). Inside a task: for each block range of K,
//           └────┴────┴────┴────┘        for each panel of B, which stays in the first-level cache as far as it fits,
//   ┌────┐  ┌────┬────┬────┬────┐        for each panel of A: one 32 x 32 block of C.
//   │    │  │ 0  │ 2  │ 4  │ 6  │
//   ├────┤  ├────┼────┼────┼────┤        Blocks at the right and lower edge, where C has fewer than 32 columns or rows, are computed
//   │    │  │ 1  │ 3  │ 5  │ 7  │        whole in a buffer, of which the valid part is copied.
//   └────┘  └────┴────┴────┴────┘
//   panels of A: m_step
enum { M_STEP = 8, N_STEP = 8, K_BLOCKS = 32, ENOUGH_TASKS = 16 };

static void cut(rr_grid *grid) {
  grid->m_tasks = rr_cut(rr_panels(grid->product.m), grid->m_step);
  grid->tasks = grid->m_tasks * rr_cut(rr_panels(grid->product.n), grid->n_step);
}

rr_grid rr_grid_cut(rr_product product, long threads) {
  rr_grid grid = {.product = product, .m_step = M_STEP, .n_step = N_STEP};
  const long enough = threads * TASKS_OF_THREAD > ENOUGH_TASKS ? threads * TASKS_OF_THREAD : ENOUGH_TASKS;
  cut(&grid);
  while (grid.tasks < enough && grid.m_step * grid.n_step > 1) {
    if (grid.n_step > grid.m_step) grid.n_step /= 2;
    else grid.m_step /= 2;
    cut(&grid);
  }
  return grid;
}

void rr_grid_task(const rr_gemm_code *code, const rr_grid *grid, long task) {
  long m = task % grid->m_tasks * grid->m_step, n = task / grid->m_tasks * grid->n_step;
  code->enter();
  rr_multiply(code, &grid->product, m, rr_at_most(m + grid->m_step, rr_panels(grid->product.m)), n,
              rr_at_most(n + grid->n_step, rr_panels(grid->product.n)));
  code->leave();
}

// edge computes a block of C through a buffer: fewer than 32 rows or columns, or a sum of both bias and C.
static void edge(const rr_gemm_code *code, const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, long rows, long columns,
                 const float *bias, int accumulate, rr_ahead ahead) {
  float t[RR_LINES * RR_LINES] __attribute__((aligned(64)));
  float start[RR_LINES] __attribute__((aligned(64))) = {0};
  for (long j = 0; bias && j < columns; j++) start[j] = bias[j];
  code->multiply(a, b, blocks, t, RR_LINES, bias ? start : NULL, 0, ahead);
  code->store_part(t, c, ldc, rows, columns, accumulate);
}

static void multiply_range(const rr_gemm_code *code, const rr_product *p, long m, long n, long k, long blocks, rr_ahead ahead) {
  const long all = rr_blocks(p->k) * RR_STEP;
  const uint32_t *a = p->a + m * all + k * RR_STEP, *b = p->b + n * all + k * RR_STEP;
  float *c = p->c + m * RR_LINES * p->ldc + n * RR_LINES;
  const long rows = rr_at_most(p->m - m * RR_LINES, RR_LINES), columns = rr_at_most(p->n - n * RR_LINES, RR_LINES);
  const float *bias = p->bias && k == 0 ? p->bias + n * RR_LINES : NULL;
  const int accumulate = p->accumulate || k > 0;
  if (rows < RR_LINES || columns < RR_LINES || (accumulate && bias))
    edge(code, a, b, blocks, c, p->ldc, rows, columns, bias, accumulate, ahead);
  else code->multiply(a, b, blocks, c, p->ldc, accumulate ? c : bias, accumulate ? p->ldc : 0, ahead);
}

// next_panel is the part of the panel of B after n that call number `call` of `calls` fetches while it multiplies. B comes from the
// third-level cache or from memory; without this each panel of B begins with waiting for it.
static rr_ahead next_panel(const rr_product *p, long n, long n1, long k, long blocks, long call, long calls) {
  const long all = blocks * (RR_STEP / 16), lines = rr_cut(RR_STEP / 16, calls), done = call * lines * blocks;
  if (n + 1 >= n1 || done >= all) return (rr_ahead){NULL, 0};
  const char *panel = (const char *)(p->b + ((n + 1) * rr_blocks(p->k) + k) * RR_STEP);
  return (rr_ahead){panel + 64 * done, rr_at_most(lines, (all - done) / blocks)};
}

static void multiply_columns(const rr_gemm_code *code, const rr_product *p, long m0, long m1, long n0, long n1) {
  const long all = rr_blocks(p->k), ranges = all > K_BLOCKS ? rr_cut(all, K_BLOCKS) : 1, range = rr_cut(all, ranges);
  for (long k = 0; k == 0 || k < all; k += range) { // once for K = 0, too: C = bias
    const long blocks = rr_at_most(range, all - k);
    for (long n = n0; n < n1; n++)
      for (long m = m0; m < m1; m++) multiply_range(code, p, m, n, k, blocks, next_panel(p, n, n1, k, blocks, m - m0, m1 - m0));
    if (range == 0) break;
  }
}

void rr_multiply(const rr_gemm_code *code, const rr_product *p, long m0, long m1, long n0, long n1) {
  for (long n = n0; n < n1; n += N_STEP) multiply_columns(code, p, m0, m1, n, rr_at_most(n + N_STEP, n1));
}

// Groups of rows: a worker's packed rows of A stay in its second-level cache, and all of B passes by. Packing A whole before, as for the tasks
// above, writes it to the third-level cache, from which each of them reads it again.
//
//              B, all of it                    The larger a group, the less often B is read from the third-level cache. GROUP_BYTES
//           ┌────┬────┬────┬────┐              leaves room for the panels of B and a part of C beside it. Fewer than LEAST_PANELS in a
//           └────┴────┴────┴────┘              group would read B too often: these few are taken also where K is so large that they do
//   ┌────┐  ┌───────────────────┐              not fit (above 3,072).
//   │    │  │  group 0          │
//   ├────┤  ├───────────────────┤              Each thread gets the same number of groups, several where there are rows enough: a thread
//   │    │  │  group 1          │              that was held up leaves some to the others.
//   └────┘  └───────────────────┘
enum { GROUP_BYTES = 768 << 10, LEAST_PANELS = 4 };

rr_rows rr_rows_cut(long m, long k, long threads, long multiple) {
  rr_rows rows = {.panels = rr_panels(m)};
  if (threads < 1 || k == 0 || rows.panels < LEAST_PANELS * threads) return rows;
  const long fit = GROUP_BYTES / (rr_blocks(k) * RR_STEP * (long)sizeof(uint32_t)), most = fit > LEAST_PANELS ? fit : LEAST_PANELS;
  const long needed = rr_cut(rows.panels, threads * most), wanted = rr_at_most(rows.panels / (threads * LEAST_PANELS), TASKS_OF_THREAD);
  rows.each = rr_cut(rr_cut(rows.panels, threads * (needed > wanted ? needed : wanted)), multiple) * multiple;
  rows.groups = rr_cut(rows.panels, rows.each);
  rows.workers = rr_at_most(threads, rows.groups);
  return rows;
}

long rr_rows_memory(const rr_rows *rows, long k) { return rows->workers * rows->each * rr_blocks(k) * RR_STEP; }
uint32_t *rr_rows_part(const rr_rows *rows, long k, uint32_t *memory, long worker) { return memory + worker * rows->each * rr_blocks(k) * RR_STEP; }

int rr_rows_next(rr_rows *rows, long *first, long *last) {
  const long group = __atomic_fetch_add(&rows->next, 1, __ATOMIC_RELAXED);
  if (group >= rows->groups) return 0;
  *first = group * rows->each;
  *last = rr_at_most(*first + rows->each, rows->panels);
  return 1;
}

void rr_rows_multiply(const rr_gemm_code *code, const rr_product *product, const uint32_t *a, long first, long last) {
  rr_product part = *product;
  part.a = a;
  part.c += first * RR_LINES * part.ldc;
  part.m = rr_at_most(last * RR_LINES, part.m) - first * RR_LINES;
  rr_multiply(code, &part, 0, last - first, 0, rr_panels(part.n));
}

rr_source rr_lines(const rr_source *source, long first, long last, uint32_t *to) {
  rr_source part = *source;
  part.from += first * RR_LINES * (source->k_contiguous ? source->ld : 1);
  part.lines = rr_at_most(last * RR_LINES, source->lines) - first * RR_LINES;
  part.to = to;
  return part;
}
