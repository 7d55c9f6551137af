// Times one kind of product; gemm_test.go compiles and runs it.
//   gemm_bench UNIT KIND M K N BATCH THREADS TIMES     prints the seconds of one call
// KIND: product (packs A and B), packed (B is packed before), transposed (A is [K, M], as for dW), gradient (dX, dW and db of Y [M, N])
#include "../gemm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  void (*task)(void *, size_t);
  size_t n, next;
  void *data;
} crew;

// Threads that wait for work by spinning, as those of a session do during a product.
static int threads;
static long round_now;
static int busy;
static crew work_now;

static void do_tasks(void) {
  for (size_t i; (i = __atomic_fetch_add(&work_now.next, 1, __ATOMIC_RELAXED)) < work_now.n;) work_now.task(work_now.data, i);
}
static void *spin(void *unused) {
  (void)unused;
  for (long seen = 0;; seen++) {
    while (__atomic_load_n(&round_now, __ATOMIC_ACQUIRE) == seen) {}
    do_tasks();
    __atomic_fetch_sub(&busy, 1, __ATOMIC_RELEASE);
  }
  return NULL;
}
static int run(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  (void)context;
  work_now = (crew){task, n, 0, data};
  busy = threads - 1;
  __atomic_fetch_add(&round_now, 1, __ATOMIC_RELEASE);
  do_tasks();
  while (__atomic_load_n(&busy, __ATOMIC_ACQUIRE)) {}
  return 0;
}

static void *memory(size_t bytes) {
  void *p;
  if (posix_memalign(&p, 64, bytes + 64)) exit(3);
  memset(p, 0, bytes + 64);
  return p;
}
static float *numbers(long n) {
  float *x = memory((size_t)n * sizeof *x);
  for (long i = 0; i < n; i++) x[i] = (float)(i % 251) / 251 - 0.5f;
  return x;
}
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 9) return 2;
  const rr_unit unit = !strcmp(argv[1], "amx") ? RR_UNIT_AMX : !strcmp(argv[1], "avx512") ? RR_UNIT_AVX512 : RR_UNIT_PORTABLE;
  const char *kind = argv[2];
  const long m = atol(argv[3]), k = atol(argv[4]), n = atol(argv[5]), batch = atol(argv[6]), times = atol(argv[8]);
  threads = atoi(argv[7]);
  const rr_pool pool = {NULL, run};
  rr_gemm g = {.a = numbers(m * k * batch), .b = numbers(k * n * batch), .c = numbers(m * n * batch), .m = m, .n = n, .k = k, .batch = batch,
               .lda = k, .ldb = n, .ldc = n, .stride_a = m * k, .stride_b = k * n, .stride_c = m * n, .alpha = 1, .threads = threads};
  rr_linear_gradient d = {.dy = g.c, .x = g.a, .w = g.b, .dx = numbers(m * k), .dw = numbers(k * n), .db = numbers(n), .m = m, .n = n, .k = k,
                          .lddy = n, .ldx = k, .ldw = n, .lddx = k, .lddw = n, .threads = threads};
  const int gradient = !strcmp(kind, "gradient");
  if (!strcmp(kind, "transposed")) g.trans_a = 1, g.lda = m;
  for (int i = 1; i < threads; i++) {
    pthread_t t;
    if (pthread_create(&t, NULL, spin, NULL)) return 1;
  }
  void *packed = memory(rr_gemm_packed_size(unit, n, k) + rr_gemm_packed_size(unit, k, n));
  int error = 0;
  if (!strcmp(kind, "packed")) error = rr_gemm_pack_b(unit, g.b, n, 0, n, k, packed, &pool), g.packed_b = packed;
  if (gradient) error = rr_linear_gradient_pack_w(unit, d.w, n, 0, n, k, packed, &pool), d.packed_w = packed;
  void *scratch = memory(gradient ? rr_linear_gradient_scratch(unit, &d) : rr_gemm_scratch(unit, &g));
  double start = now();
  for (long i = -1; i < times && !error; i++) { // the first does not count
    if (i == 0) start = now();
    error = gradient ? rr_linear_gradient_run(unit, &d, scratch, &pool) : rr_gemm_run(unit, &g, scratch, &pool);
  }
  if (error) return 4;
  printf("%.9f\n", (now() - start) / (double)times);
  return 0;
}
