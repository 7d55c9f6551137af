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
#include "each_range.h"

int rr_quantize_rows(const rr_pool *pool, const float *x, uint8_t *q, float *scale, size_t rows, size_t width) {
  pass a = {.x = x, .q = q, .scale = scale, .rows = rows, .width = width};
  return each_range(pool, &a, RR_CHOOSE(quantize_rows));
}
