// The gradient of a gather of rows, such as an embedding's.
#include <string.h>

#include "rows.h"
#include "split.h"

// dx is set to zero in tasks of some rows. Then a task adds some columns of all rows of dy: no two write to one element, a sum has the order of
// the indices, and tasks are alike however often an index comes.
enum { COLUMNS = 64 };

typedef struct {
  const int64_t *indices;
  size_t n;
  const float *dy;
  float *dx;
  size_t rows, width, rows_of_task;
} work;

// row_of is the row that an index names; negative ones count from the end. It is rows or more for one that names none.
static uint64_t row_of(int64_t index, size_t rows) { return (uint64_t)(index < 0 ? index + (int64_t)rows : index); }

static void zero_task(void *data, size_t i) {
  const work *w = data;
  const size_t first = i * w->rows_of_task, count = rr_least(w->rows_of_task, w->rows - first);
  memset(w->dx + first * w->width, 0, count * w->width * sizeof *w->dx);
}

static void add_task(void *data, size_t i) {
  const work *w = data;
  const size_t first = i * COLUMNS, count = rr_least(COLUMNS, w->width - first);
  for (size_t at = 0; at < w->n; at++) {
    const float *from = w->dy + at * w->width + first;
    float *to = w->dx + row_of(w->indices[at], w->rows) * w->width + first;
    for (size_t j = 0; j < count; j++) to[j] += from[j];
  }
}

int rr_gather_gradient(const rr_pool *pool, const int64_t *indices, size_t n, const float *dy, float *dx, size_t rows, size_t width) {
  for (size_t i = 0; i < n; i++)
    if (row_of(indices[i], rows) >= rows) return RR_BAD_INDEX;
  if (rows == 0 || width == 0) return 0;
  work w = {indices, n, dy, dx, rows, width, rr_rows_of_task(width)};
  int error = pool->run(pool->context, zero_task, rr_parts(rows, w.rows_of_task), &w);
  return error ? error : pool->run(pool->context, add_task, rr_parts(width, COLUMNS), &w);
}
