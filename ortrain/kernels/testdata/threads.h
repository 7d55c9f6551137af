// The threads of tests of kernels (pool.h). The context is a pointer to their number.
#include <pthread.h>
#include <stdlib.h>

typedef struct {
  void (*task)(void *, size_t);
  size_t n, next;
  void *data;
} queue;

static void *take(void *p) {
  queue *q = p;
  for (size_t i; (i = __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED)) < q->n;) q->task(q->data, i);
  return NULL;
}

// spread has threads take tasks one by one; the calling thread alone takes the last task first.
static int spread(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  int threads = *(int *)context;
  if (threads == 1) {
    for (size_t i = n; i-- > 0;) task(data, i);
    return 0;
  }
  queue q = {task, n, 0, data};
  pthread_t t[8];
  for (int i = 0; i < threads; i++)
    if (pthread_create(&t[i], NULL, take, &q)) exit(3);
  for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
  return 0;
}

// broken fails.
static int broken(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  (void)context, (void)task, (void)n, (void)data;
  return 77;
}
