// Activations and their gradients.
#include "rows.h"
#include "split.h"

typedef struct {
  rr_activation_kind kind;
  int gate_last;
  const float *dy, *x;
  float *y; // dx in gradients
  size_t rows, width, rows_of_task;
} pass;

#define RR_TEMPLATE "activation_template.h"
#include "each_target.h"
#include "each_range.h"

static int run(const rr_pool *pool, pass *a, range *f) { return a->width ? each_range(pool, a, f) : 0; }

// one calls run with a row for each element.
static int one(const rr_pool *pool, pass *a, range *f, size_t n) {
  a->rows = n;
  a->width = 1;
  return run(pool, a, f);
}

int rr_activation(const rr_pool *pool, rr_activation_kind kind, const float *x, float *y, size_t n) {
  pass a = {.kind = kind, .x = x, .y = y};
  return one(pool, &a, RR_CHOOSE(activate), n);
}

int rr_activation_gradient(const rr_pool *pool, rr_activation_kind kind, const float *dy, const float *x, float *dx, size_t n) {
  pass a = {.kind = kind, .dy = dy, .x = x, .y = dx};
  return one(pool, &a, RR_CHOOSE(activation_gradient), n);
}

int rr_gated(const rr_pool *pool, rr_activation_kind kind, int gate_last, const float *x, float *y, size_t rows, size_t width) {
  pass a = {.kind = kind, .gate_last = gate_last, .x = x, .y = y, .rows = rows, .width = width};
  return run(pool, &a, RR_CHOOSE(gate_rows));
}

int rr_gated_gradient(const rr_pool *pool, rr_activation_kind kind, int gate_last, const float *dy, const float *x, float *dx, size_t rows, size_t width) {
  pass a = {.kind = kind, .gate_last = gate_last, .dy = dy, .x = x, .y = dx, .rows = rows, .width = width};
  return run(pool, &a, RR_CHOOSE(gate_gradient_rows));
}
