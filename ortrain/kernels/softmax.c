// Softmax's gradient.
#include "rows.h"
#include "split.h"

typedef struct {
  const float *y, *dy;
  float *dx;
  size_t rows, width, rows_of_task;
} pass;

#define RR_TEMPLATE "softmax_template.h"
#include "each_target.h"
#include "each_range.h"

int rr_softmax_gradient(const rr_pool *pool, const float *y, const float *dy, float *dx, size_t rows, size_t width) {
  pass a = {.y = y, .dy = dy, .dx = dx, .rows = rows, .width = width};
  return width ? each_range(pool, &a, RR_CHOOSE(softmax_gradient)) : 0;
}
