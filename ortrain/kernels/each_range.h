// Runs a function on ranges of rows, on the threads of a pool. A file includes it after its type pass, which has rows, width and
// rows_of_task.

typedef void range(const pass *a, size_t from, size_t to);

typedef struct {
  const pass *a;
  range *f;
} work;

static void task(void *data, size_t i) {
  const work *w = data;
  size_t from = i * w->a->rows_of_task;
  w->f(w->a, from, rr_least(from + w->a->rows_of_task, w->a->rows));
}

static int each_range(const rr_pool *pool, pass *a, range *f) {
  a->rows_of_task = rr_rows_of_task(a->width);
  if (a->rows == 0) return 0;
  return pool->run(pool->context, task, rr_parts(a->rows, a->rows_of_task), &(work){a, f});
}
