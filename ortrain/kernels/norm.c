// LayerNorm's and RMSNorm's gradients, and RMSNorm.
#include "rows.h"

#include <stdlib.h>

#include "split.h"

enum {
  LEAST_ROWS = 32, // of a task
  MOST_TASKS = 64, // each has sums of its own
};

typedef struct {
  const float *dy, *x, *scale, *mean, *inverse;
  float *dx, *y, *r;
  float epsilon;
  size_t rows, width, rows_of_task;
  float *sums;  // for each task, sums of the columns of dy·h, then of dy
  size_t stride; // width, up to a multiple of 32
} pass;

#define RR_TEMPLATE "norm_template.h"
#include "each_target.h"

typedef struct {
  const pass *a;
  void (*f)(const pass *a, float *sums, size_t from, size_t to);
} work;

static void task(void *data, size_t i) {
  const work *w = data;
  const pass *a = w->a;
  size_t from = i * a->rows_of_task;
  w->f(a, a->sums ? a->sums + 2 * i * a->stride : NULL, from, rr_least(from + a->rows_of_task, a->rows));
}

// add_tasks adds the sums of all tasks in their order. sums is the first task's part.
static void add_tasks(const pass *a, const float *sums, size_t tasks, float *restrict out) {
  if (out == NULL) return;
  for (size_t j = 0; j < a->width; j++) out[j] = 0;
  for (size_t i = 0; i < tasks; i++)
    for (size_t j = 0; j < a->width; j++) out[j] += sums[2 * i * a->stride + j];
}

int rr_layernorm_gradient(const rr_pool *pool, const float *dy, const float *x, const float *scale, const float *mean, const float *inverse,
                          float *dx, float *dscale, float *dbias, size_t rows, size_t width) {
  pass a = {.dy = dy, .x = x, .scale = scale, .mean = mean, .inverse = inverse, .dx = dx, .rows = rows, .width = width};
  size_t least = rr_parts(rows, MOST_TASKS);
  a.rows_of_task = least > LEAST_ROWS ? least : LEAST_ROWS;
  a.stride = (width + 31) / 32 * 32;
  size_t tasks = width ? rr_parts(rows, a.rows_of_task) : 0;
  a.sums = calloc(tasks * 2 * a.stride + 1, sizeof(float));
  if (a.sums == NULL) return RR_NO_MEMORY;
  int error = tasks ? pool->run(pool->context, task, tasks, &(work){&a, RR_CHOOSE(layernorm_gradient)}) : 0;
  add_tasks(&a, a.sums, tasks, dscale);
  add_tasks(&a, a.sums + a.stride, tasks, dbias);
  free(a.sums);
  return error;
}

int rr_rmsnorm(const rr_pool *pool, const float *x, const float *scale, float epsilon, float *y, float *inverse, size_t rows, size_t width) {
  pass a = {.x = x, .scale = scale, .epsilon = epsilon, .y = y, .r = inverse, .rows = rows, .width = width, .rows_of_task = rr_rows_of_task(width)};
  if (rows == 0) return 0;
  return pool->run(pool->context, task, rr_parts(rows, a.rows_of_task), &(work){&a, RR_CHOOSE(rmsnorm)});
}
