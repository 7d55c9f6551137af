// The gradient of a gather of rows, such as an embedding's.
#include <string.h>

#include "rows.h"
#include "split.h"

// A task fills some rows of dx, and looks through all indices for those of its rows: no two tasks write to one row, and a row's sum has the
// order of the indices. MOST_TASKS bounds how often they are read.
enum { MOST_TASKS = 64 };

typedef struct {
  const int64_t *indices;
  size_t n;
  const float *dy;
  float *dx;
  size_t rows, width, rows_of_task;
} work;

// row_of is the row that an index names; negative ones count from the end. It is rows or more for one that names none.
static uint64_t row_of(int64_t index, size_t rows) { return (uint64_t)(index < 0 ? index + (int64_t)rows : index); }

static void task(void *data, size_t i) {
  const work *w = data;
  const size_t first = i * w->rows_of_task, count = rr_least(w->rows_of_task, w->rows - first), width = w->width;
  memset(w->dx + first * width, 0, count * width * sizeof *w->dx);
  for (size_t at = 0; at < w->n; at++) {
    const uint64_t row = row_of(w->indices[at], w->rows);
    if (row - first >= count) continue; // unsigned: also where row is smaller
    const float *from = w->dy + at * width;
    float *to = w->dx + row * width;
    for (size_t j = 0; j < width; j++) to[j] += from[j];
  }
}

int rr_gather_gradient(const rr_pool *pool, const int64_t *indices, size_t n, const float *dy, float *dx, size_t rows, size_t width) {
  for (size_t i = 0; i < n; i++)
    if (row_of(indices[i], rows) >= rows) return RR_BAD_INDEX;
  if (rows == 0 || width == 0) return 0;
  work w = {indices, n, dy, dx, rows, width, rr_rows_of_task(width)};
  if (w.rows_of_task < rr_parts(rows, MOST_TASKS)) w.rows_of_task = rr_parts(rows, MOST_TASKS);
  return pool->run(pool->context, task, rr_parts(rows, w.rows_of_task), &w);
}
