// Rows of float32 to uint8.
#include "rows.h"
#include "split.h"

typedef struct {
  const float *x;
  uint8_t *q;
  float *scale;
  size_t rows, width, rows_of_task;
} pass;

#define RR_TEMPLATE "quantize_template.h"
#include "each_target.h"

typedef struct {
  const pass *a;
  void (*f)(const pass *a, size_t from, size_t to);
} work;

static void task(void *data, size_t i) {
  const work *w = data;
  size_t from = i * w->a->rows_of_task;
  w->f(w->a, from, rr_least(from + w->a->rows_of_task, w->a->rows));
}

int rr_quantize_rows(const rr_pool *pool, const float *x, uint8_t *q, float *scale, size_t rows, size_t width) {
  pass a = {x, q, scale, rows, width, rr_rows_of_task(width)};
  if (rows == 0) return 0;
  return pool->run(pool->context, task, rr_parts(rows, a.rows_of_task), &(work){&a, RR_CHOOSE(quantize_rows)});
}
