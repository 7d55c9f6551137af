// AdamW, the norm of gradients, and their accumulation.
#include "adamw.h"

#include <stdlib.h>

#include "rows.h"
#include "split.h"

typedef struct {
  float *p, *m, *v;
  const float *g;
  size_t n;
  const rr_adamw_scalars *scalars;
  float weight;
  int keep;
  double *sums; // of each task
} pass;

#define RR_TEMPLATE "adamw_template.h"
#include "each_target.h"

typedef struct {
  const pass *a;
  void (*f)(const pass *a, size_t task, size_t from, size_t to);
} work;

static void task(void *data, size_t i) {
  const work *w = data;
  w->f(w->a, i, i * RR_GRAIN, rr_least((i + 1) * RR_GRAIN, w->a->n));
}

static int run(const rr_pool *pool, const work *w) {
  if (w->a->n == 0) return 0;
  return pool->run(pool->context, task, rr_parts(w->a->n, RR_GRAIN), (void *)w);
}

int rr_adamw(const rr_pool *pool, float *p, float *m, float *v, const float *g, size_t n, const rr_adamw_scalars *scalars) {
  pass a = {.p = p, .m = m, .v = v, .g = g, .n = n, .scalars = scalars};
  return run(pool, &(work){&a, RR_CHOOSE(step)});
}

int rr_accumulate(const rr_pool *pool, float *sum, const float *g, size_t n, float weight, int keep) {
  pass a = {.p = sum, .g = g, .n = n, .weight = weight, .keep = keep};
  return run(pool, &(work){&a, RR_CHOOSE(accumulate)});
}

int rr_sum_of_squares(const rr_pool *pool, const float *g, size_t n, double *sum) {
  size_t tasks = rr_parts(n, RR_GRAIN);
  *sum = 0;
  if (tasks == 0) return 0;
  pass a = {.g = g, .n = n, .sums = calloc(tasks, sizeof(double))};
  if (a.sums == NULL) return RR_NO_MEMORY;
  int error = run(pool, &(work){&a, RR_CHOOSE(squares)});
  for (size_t i = 0; i < tasks; i++) *sum += a.sums[i];
  free(a.sums);
  return error;
}
