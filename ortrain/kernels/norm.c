// LayerNorm's and RMSNorm's gradients, RMSNorm, and sums of columns.
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
static void add_tasks(const pass *a, const float *sums, size_t tasks, float *out) {
  if (out == NULL) return;
  for (size_t j = 0; j < a->width; j++) out[j] = 0;
  for (size_t i = 0; i < tasks; i++)
    for (size_t j = 0; j < a->width; j++) out[j] += sums[2 * i * a->stride + j];
}

// run_with_sums gives each task sums of columns, and adds those of all tasks. Either of dyh and dy may be NULL.
static int run_with_sums(const rr_pool *pool, pass *a, void (*f)(const pass *, float *, size_t, size_t), float *dyh, float *dy) {
  size_t least = rr_parts(a->rows, MOST_TASKS);
  a->rows_of_task = least > LEAST_ROWS ? least : LEAST_ROWS;
  a->stride = (a->width + 31) / 32 * 32;
  size_t tasks = rr_parts(a->rows, a->rows_of_task);
  a->sums = calloc(tasks * 2 * a->stride + 1, sizeof(float));
  if (a->sums == NULL) return RR_NO_MEMORY;
  int error = tasks && a->width ? pool->run(pool->context, task, tasks, &(work){a, f}) : 0;
  add_tasks(a, a->sums, tasks, dyh);
  add_tasks(a, a->sums + a->stride, tasks, dy);
  free(a->sums);
  return error;
}

int rr_layernorm_gradient(const rr_pool *pool, const float *dy, const float *x, const float *scale, const float *mean, const float *inverse,
                          float *dx, float *dscale, float *dbias, size_t rows, size_t width) {
  pass a = {.dy = dy, .x = x, .scale = scale, .mean = mean, .inverse = inverse, .dx = dx, .rows = rows, .width = width};
  return run_with_sums(pool, &a, RR_CHOOSE(layernorm_gradient), dscale, dbias);
}

int rr_column_sums(const rr_pool *pool, const float *x, float *sums, size_t rows, size_t width) {
  pass a = {.dy = x, .rows = rows, .width = width};
  return run_with_sums(pool, &a, RR_CHOOSE(column_sums), NULL, sums);
}

int rr_rmsnorm(const rr_pool *pool, const float *x, const float *scale, float epsilon, float *y, float *inverse, size_t rows, size_t width) {
  pass a = {.x = x, .scale = scale, .epsilon = epsilon, .y = y, .r = inverse, .rows = rows, .width = width, .rows_of_task = rr_rows_of_task(width)};
  if (rows == 0) return 0;
  return pool->run(pool->context, task, rr_parts(rows, a.rows_of_task), &(work){&a, RR_CHOOSE(rmsnorm)});
}
