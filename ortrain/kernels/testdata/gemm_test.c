// Tests of gemm.h. gemm_test.go compiles and runs it; a static build runs on an emulated CPU.
//   gemm_test [quick] [UNIT...]     every unit that this CPU has, or the named ones, which must be there
#include "../gemm.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const unit_names[] = {"portable", "avx512", "amx"};
static int failures, quick;
static double worst; // the largest error as a part of its bound
static long checked;

static void fail(const char *what) {
  if (failures++ < 20) printf("FAIL %s\n", what);
}

// ---- buffers with canaries on both sides; under ASan its own red zones lie there ------------------------------------------
#ifdef __SANITIZE_ADDRESS__
enum { GUARD = 0 };
#else
enum { GUARD = 64 };
#endif
static const unsigned char CANARY = 0xa5;
typedef struct {
  unsigned char *memory, *data;
  size_t bytes;
} buffer;

static buffer get(size_t bytes, size_t offset) {
  buffer b = {.bytes = bytes};
  if (posix_memalign((void **)&b.memory, 64, GUARD + offset + bytes + GUARD + 1)) exit(3);
#ifdef __SANITIZE_ADDRESS__
  free(b.memory); // the exact size, so that the first byte behind it is a red zone
  if (posix_memalign((void **)&b.memory, 64, offset + bytes ? offset + bytes : 1)) exit(3);
#endif
  memset(b.memory, CANARY, GUARD + offset + bytes + GUARD);
  b.data = b.memory + GUARD + offset;
  return b;
}
static void put(buffer b, const char *what) {
  const unsigned char *begin = b.memory, *end = b.data + b.bytes;
  for (const unsigned char *p = begin; p < b.data; p++)
    if (*p != CANARY) fail(what);
  for (long i = 0; i < GUARD; i++)
    if (end[i] != CANARY) fail(what);
  free(b.memory);
}
static float *floats(buffer b) { return (float *)(void *)b.data; }

// ---- numbers ---------------------------------------------------------------------------------------------------------------
static uint64_t seed = 1;
static uint32_t draw(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33);
}
static float uniform(void) { return (float)((double)draw() / (1u << 30) - 1); } // in [-1, 1)

static uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
static float of_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

// bfloat16, as the manual of vcvtne2ps2bf16 defines it.
static float bfloat16(float x) {
  if (isnan(x)) return of_bits((bits(x) & 0xffff0000) | 0x00400000);
  if (isinf(x)) return x;
  if (fabsf(x) < 0x1p-126f) return of_bits(bits(x) & 0x80000000);
  uint32_t down = bits(x) & 0xffff0000, rest = bits(x) & 0xffff;
  if (rest > 0x8000 || (rest == 0x8000 && (down & 0x10000))) down += 0x10000;
  return of_bits(down);
}

// A matrix of rows x columns with ld - columns NaN behind each row, which nothing may read or must not matter.
static buffer matrix(long rows, long columns, long ld, long batch, long stride) {
  long n = rows && columns ? (batch - 1) * stride + (rows - 1) * ld + columns : 0;
  buffer b = get((size_t)n * 4, 4);
  for (long i = 0; i < n; i++) floats(b)[i] = of_bits(0x7fc00001);
  for (long x = 0; x < batch; x++)
    for (long i = 0; i < rows; i++)
      for (long j = 0; j < columns; j++) floats(b)[x * stride + i * ld + j] = uniform();
  return b;
}

// ---- pools -----------------------------------------------------------------------------------------------------------------
typedef struct {
  void (*task)(void *, size_t);
  size_t n, next;
  void *data;
  int missing; // threads that did not come yet
} crew;
// The threads begin together, so that tasks of one product really run at once.
static void *work(void *p) {
  crew *c = p;
  __atomic_fetch_sub(&c->missing, 1, __ATOMIC_ACQ_REL);
  while (__atomic_load_n(&c->missing, __ATOMIC_ACQUIRE) > 0) sched_yield();
  for (size_t i; (i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED)) < c->n;) c->task(c->data, i);
  return NULL;
}
static int run_threads(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  pthread_t threads[8];
  int count = *(int *)context;
  crew c = {task, n, 0, data, count};
  for (int i = 1; i < count; i++)
    if (pthread_create(&threads[i], NULL, work, &c)) exit(3);
  work(&c);
  for (int i = 1; i < count; i++) pthread_join(threads[i], NULL);
  return 0;
}
static int run_backwards(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  (void)context;
  while (n-- > 0) task(data, n);
  return 0;
}
static int run_failing(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  (void)context, (void)task, (void)n, (void)data;
  return 7;
}
static int one = 1, two = 2, three = 3;
static const rr_pool pools[] = {{&one, run_threads}, {&two, run_threads}, {&three, run_threads}, {NULL, run_backwards}};
enum { POOLS = sizeof pools / sizeof pools[0] };
static const long cuts[POOLS] = {1, 2, 3, 7}; // the number of threads that a product is told; 0 is tested besides
static const rr_pool failing = {NULL, run_failing};

// ---- the exact product -----------------------------------------------------------------------------------------------------
// exact computes C in double from the rounded inputs, and bound what may be wrong: the sum of K products in float32 is off by
// 1.3e-6 * sqrt(K) times the largest |a| of the row times the largest |b| of the column, beside which come bias and C.
typedef struct {
  double value, bound;
} element;
static void round_all(float *to, const float *from, long ld, int transposed, long rows, long columns, float scale) {
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < columns; j++) to[i * columns + j] = bfloat16(scale * (transposed ? from[j * ld + i] : from[i * ld + j]));
}
static element *exact(const rr_gemm *g, const float *a, const float *b, const float *c) {
  float *ra = malloc((size_t)(g->m * g->k) * 4 + 4), *rb = malloc((size_t)(g->n * g->k) * 4 + 4); // rb: [n, k]
  element *out = malloc((size_t)(g->m * g->n) * sizeof *out + 1);
  round_all(ra, a, g->lda, g->trans_a, g->m, g->k, g->alpha);
  round_all(rb, b, g->ldb, !g->trans_b, g->n, g->k, 1);
  for (long i = 0; i < g->m; i++)
    for (long j = 0; j < g->n; j++) {
      double sum = 0, most_a = 0, most_b = 0, more = 0;
      for (long k = 0; k < g->k; k++) {
        const double x = ra[i * g->k + k], y = rb[j * g->k + k];
        sum += x * y;
        if (fabs(x) > most_a) most_a = fabs(x);
        if (fabs(y) > most_b) most_b = fabs(y);
      }
      if (g->bias) sum += g->bias[j], more += fabs(g->bias[j]);
      if (g->accumulate) sum += c[i * g->ldc + j], more += fabs(c[i * g->ldc + j]);
      out[i * g->n + j] = (element){sum, 1.3e-6 * sqrt((double)g->k) * most_a * most_b + 1.3e-6 * more + 1e-37};
    }
  free(ra), free(rb);
  return out;
}

static void compare(const char *what, const element *want, const float *got, long rows, long columns, long ld) {
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < columns; j++) {
      const element e = want[i * columns + j];
      const double part = fabs(got[i * ld + j] - e.value) / e.bound;
      checked++;
      if (part > worst) worst = part;
      if (!(part <= 1)) {
        char text[400];
        snprintf(text, sizeof text, "%s: element %ld,%ld is %.9g, expected %.9g within %.3g", what, i, j, got[i * ld + j], e.value, e.bound);
        fail(text);
        return;
      }
    }
}

// ---- rr_gemm_run -----------------------------------------------------------------------------------------------------------
typedef struct {
  long m, n, k, batch;
  int trans_a, trans_b, bias, accumulate, packed, shared_b; // shared_b: stride_b is 0
  long gap;                                                 // floats behind each row
  float alpha;
} trial;

static void describe(char *text, size_t n, const char *kind, rr_unit unit, const trial *t) {
  snprintf(text, n, "%s %s m=%ld n=%ld k=%ld batch=%ld trans=%d%d bias=%d accumulate=%d packed=%d shared=%d gap=%ld alpha=%g", kind,
           unit_names[unit], t->m, t->n, t->k, t->batch, t->trans_a, t->trans_b, t->bias, t->accumulate, t->packed, t->shared_b, t->gap,
           t->alpha);
}

static void gaps_untouched(const char *what, const float *c, long rows, long columns, long ld) {
  for (long i = 0; columns && i + 1 < rows; i++)
    for (long j = columns; j < ld; j++)
      if (bits(c[i * ld + j]) != 0x7fc00001) {
        fail(what);
        return;
      }
}

// run_once computes g into a copy of c, with scratch memory of exactly the size that was asked for.
static buffer run_once(const char *what, rr_unit unit, rr_gemm g, buffer c, const rr_pool *pool) {
  buffer out = get(c.bytes, 4), scratch = get(rr_gemm_scratch(unit, &g), 0);
  memcpy(out.data, c.data, c.bytes);
  g.c = floats(out);
  if (rr_gemm_run(unit, &g, scratch.data, pool)) fail(what);
  put(scratch, what);
  return out;
}

static void test_product(rr_unit unit, trial t, int all_pools) {
  char what[300];
  describe(what, sizeof what, "product", unit, &t);
  rr_gemm g = {.m = t.m, .n = t.n, .k = t.k, .batch = t.batch, .trans_a = t.trans_a, .trans_b = t.trans_b, .accumulate = t.accumulate};
  const long rows_a = t.trans_a ? t.k : t.m, rows_b = t.trans_b ? t.n : t.k;
  g.alpha = t.alpha;
  g.lda = (t.trans_a ? t.m : t.k) + t.gap;
  g.ldb = (t.trans_b ? t.k : t.n) + t.gap;
  g.ldc = t.n + t.gap;
  g.stride_a = rows_a * g.lda + 3 * t.gap;
  g.stride_b = t.shared_b ? 0 : rows_b * g.ldb + t.gap;
  g.stride_c = t.m * g.ldc + t.gap;
  buffer a = matrix(rows_a, g.lda - t.gap, g.lda, t.batch, g.stride_a), b = matrix(rows_b, g.ldb - t.gap, g.ldb, t.batch, g.stride_b);
  buffer c = matrix(t.m, t.n, g.ldc, t.batch, g.stride_c), bias = matrix(1, t.n, t.n, 1, 0);
  buffer packed = get(t.packed ? rr_gemm_packed_size(unit, t.n, t.k) : 0, 0);
  g.a = floats(a), g.b = floats(b), g.bias = t.bias ? floats(bias) : NULL;
  if (t.packed) {
    if (rr_gemm_pack_b(unit, g.b, g.ldb, t.trans_b, t.n, t.k, packed.data, &pools[1])) fail(what);
    g.packed_b = packed.data, g.b = NULL;
  }
  buffer out = run_once(what, unit, g, c, NULL);
  for (long x = 0; x < t.batch; x++) {
    element *want = exact(&g, g.a + x * g.stride_a, floats(b) + x * g.stride_b, floats(c) + x * g.stride_c);
    compare(what, want, floats(out) + x * g.stride_c, t.m, t.n, g.ldc);
    gaps_untouched(what, floats(out) + x * g.stride_c, t.m, t.n, g.ldc);
    free(want);
  }
  const int one_of_them = quick && t.m < 128 && t.batch > 1; // only a product with more rows has groups of them
  for (int p = one_of_them ? (int)(t.m + t.k + t.trans_a) % POOLS : 0; all_pools && p < POOLS; p += one_of_them ? POOLS : 1) {
    g.threads = cuts[p];
    buffer again = run_once(what, unit, g, c, &pools[p]);
    if (memcmp(again.data, out.data, out.bytes)) fail(what), fail("the result depends on the threads");
    put(again, what);
  }
  put(a, what), put(b, what), put(c, what), put(bias, what), put(packed, what), put(out, what);
}

// Every combination of these sizes; the other settings change from one to the next, with steps that have no factor in common.
static void test_shapes(rr_unit unit) {
  static const long all[] = {0, 1, 7, 15, 16, 17, 31, 33, 63, 100, 257}, few[] = {0, 1, 7, 16, 31, 33, 63};
  const long *sizes = quick ? few : all;
  const int n = quick ? 7 : 11; // odd, so that each size comes with and without each transpose
  for (int i = 0; i < n * n * n; i++) {
    trial t = {.m = sizes[i % n], .n = sizes[i / n % n], .k = sizes[i / n / n], .batch = 1, .alpha = i % 5 ? 1 : -0.37f};
    t.trans_a = i % 2, t.trans_b = i / 2 % 2, t.bias = i % 3 == 0, t.accumulate = i % 7 < 3, t.packed = i % 13 < 5;
    t.gap = i % 17 < 9 ? 0 : 5;
    test_product(unit, t, 0);
  }
}

// Both transposes, with and without packing, at sizes of several tasks and several ranges of K; small and large batches.
static void test_kinds(rr_unit unit) {
  static const trial trials[] = {
      {.m = 70, .n = 95, .k = 45, .batch = 1},   {.m = 300, .n = 290, .k = 33, .batch = 1}, {.m = 34, .n = 40, .k = 2100, .batch = 1},
      {.m = 31, .n = 33, .k = 1025, .batch = 1}, {.m = 20, .n = 24, .k = 32, .batch = 75},  {.m = 33, .n = 5, .k = 40, .batch = 9},
      {.m = 64, .n = 64, .k = 64, .batch = 3},   {.m = 40, .n = 30, .k = 0, .batch = 2},    {.m = 150, .n = 130, .k = 70, .batch = 2},
      {.m = 33, .n = 33, .k = 0, .batch = 70},   {.m = 32, .n = 33, .k = 8200, .batch = 1}, {.m = 420, .n = 40, .k = 70, .batch = 1},
      {.m = 270, .n = 7, .k = 1100, .batch = 1}, {.m = 600, .n = 33, .k = 33, .batch = 2},  {.m = 140, .n = 5, .k = 3100, .batch = 1},
  };
  const int n = sizeof trials / sizeof trials[0];
  for (int i = 0; i < n * 8; i++) {
    trial t = trials[i % n];
    int kind = i / n;
    if (quick && t.m * t.n * t.k * t.batch > 1 << 22) continue;
    t.trans_a = kind & 1, t.trans_b = kind >> 1 & 1, t.packed = kind >> 2 && t.batch == 1, t.shared_b = kind >> 2 && t.batch > 1;
    if (kind == 7) t.packed = 1;
    t.bias = i % 3 == 1, t.accumulate = (i + kind) % 2, t.gap = i % 5 == 4 ? 3 : 0, t.alpha = t.batch > 1 ? 0.1767767f : 1;
    test_product(unit, t, 1);
  }
}

// ---- packing: all units make the same bytes, those that gemm_parts.h draws ------------------------------------------------
static const float specials[] = {0, -0.0f, 1, 1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, -3.4e38f, 1e-40f, -1e-40f, 0x1p-126f,
                                 0x1.fffffep-127f, 0x1.fffffep-1f, INFINITY, -INFINITY, NAN};

static void test_packing(rr_unit unit, long n, long k, int trans_b) {
  char what[100];
  snprintf(what, sizeof what, "packing %s n=%ld k=%ld trans=%d", unit_names[unit], n, k, trans_b);
  const long ld = (trans_b ? k : n) + 2, panels = (n + 31) / 32, blocks = (k + 31) / 32;
  buffer b = matrix(trans_b ? n : k, ld - 2, ld, 1, 0), out = get(rr_gemm_packed_size(unit, n, k), 0);
  for (long i = 0; i < n * k; i += 3) {
    const uint32_t pick = draw() % 20;
    const float special = pick < 16 ? specials[pick] : of_bits(0xff800001 + draw() % 0x400000); // or a NaN that is not quiet
    floats(b)[trans_b ? i / k * ld + i % k : i / n * ld + i % n] = special;
  }
  if (rr_gemm_pack_b(unit, floats(b), ld, trans_b, n, k, out.data, &pools[2])) fail(what);
  if (out.bytes != (size_t)(panels * blocks * 2048)) fail(what);
  for (long column = 0; column < panels * 32; column++)
    for (long i = 0; i < blocks * 32; i++) {
      const float value = column < n && i < k ? bfloat16(floats(b)[trans_b ? column * ld + i : i * ld + column]) : 0;
      const long tile = (column / 32 * blocks + i / 32) * 2 + column % 32 / 16;
      const uint32_t dword = ((const uint32_t *)(void *)out.data)[tile * 256 + i % 32 / 2 * 16 + column % 16];
      if ((uint32_t)(uint16_t)(i % 2 ? dword >> 16 : dword) != bits(value) >> 16) {
        fail(what);
        i = blocks * 32, column = panels * 32;
      }
    }
  put(b, what), put(out, what);
}

// ---- NaN, infinity, denormals ----------------------------------------------------------------------------------------------
static void test_specials(rr_unit unit) {
  enum { M = 40, N = 35, K = 50 };
  static float a[M * K], b[K * N], c[M * N];
  for (int i = 0; i < M * K; i++) a[i] = 0.5f;
  for (int i = 0; i < K * N; i++) b[i] = 2;
  a[1 * K + 3] = NAN, a[2 * K + 49] = INFINITY, a[3 * K] = INFINITY, a[3 * K + 1] = -INFINITY, a[39 * K + 7] = -INFINITY;
  for (int k = 0; k < K; k++) a[5 * K + k] = 1e-40f, a[6 * K + k] = 3.4e38f;
  b[4 * N + 34] = NAN;
  rr_gemm g = {.a = a, .b = b, .c = c, .m = M, .n = N, .k = K, .batch = 1, .lda = K, .ldb = N, .ldc = N, .alpha = 1};
  buffer scratch = get(rr_gemm_scratch(unit, &g), 0);
  if (rr_gemm_run(unit, &g, scratch.data, NULL)) fail("specials: no result");
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      const float x = c[i * N + j];
      const float want = i == 1 || i == 3 || j == 34 ? NAN : i == 2 || i == 6 ? INFINITY : i == 39 ? -INFINITY : i == 5 ? 0 : 50;
      if (isnan(want) ? !isnan(x) : x != want) {
        char text[100];
        snprintf(text, sizeof text, "specials %s: %d,%d is %g, expected %g", unit_names[unit], i, j, x, want);
        fail(text);
      }
    }
  put(scratch, "specials");
}

// ---- what is refused -------------------------------------------------------------------------------------------------------
static void test_errors(rr_unit unit) {
  float x[4096] = {0}, scratch[1 << 16] __attribute__((aligned(64)));
  const rr_gemm good = {.a = x, .b = x, .c = x, .m = 60, .n = 60, .k = 1, .batch = 1, .lda = 1, .ldb = 60, .ldc = 60, .alpha = 1};
  rr_gemm bad[6] = {good, good, good, good, good, good};
  bad[0].m = -1, bad[1].lda = 0, bad[2].ldb = 59, bad[3].ldc = 59, bad[4].a = NULL, bad[5].c = NULL;
  for (int i = 0; i < 6; i++)
    if (rr_gemm_run(unit, &bad[i], scratch, NULL) != RR_GEMM_BAD_SHAPE) fail("a wrong shape is accepted");
  if (rr_gemm_run(unit, &good, scratch, &failing) != 7) fail("the pool's error is lost");
  if (rr_gemm_run((rr_unit)9, &good, scratch, NULL) != RR_GEMM_NO_UNIT) fail("a unit that is none is accepted");
  rr_linear_gradient gradient = {.dy = x, .x = x, .w = x, .dx = x, .m = 40, .n = 2, .k = 3, .lddy = 2, .ldx = 3, .ldw = 2, .lddx = 2};
  if (rr_linear_gradient_run(unit, &gradient, scratch, NULL) != RR_GEMM_BAD_SHAPE) fail("a wrong gradient is accepted");
  gradient.lddx = 3;
  if (rr_linear_gradient_run(unit, &gradient, scratch, &failing) != 7) fail("the pool's error is lost");
}

// ---- rr_linear_gradient_run ------------------------------------------------------------------------------------------------
typedef struct {
  buffer dx, dw, db;
} gradients;

static gradients gradient_once(const char *what, rr_unit unit, rr_linear_gradient g, int wanted, const rr_pool *pool) {
  gradients out = {matrix(g.m, g.k, g.lddx, 1, 0), {0}, matrix(1, g.n, g.n, 1, 0)};
  out.dw = g.trans_w ? matrix(g.n, g.k, g.lddw, 1, 0) : matrix(g.k, g.n, g.lddw, 1, 0);
  if (wanted & 1) g.dx = floats(out.dx);
  if (wanted & 2) g.dw = floats(out.dw);
  if (wanted & 4) g.db = floats(out.db);
  if (!(wanted & 1)) g.w = NULL, g.packed_w = NULL;
  if (!(wanted & 2)) g.x = NULL;
  buffer scratch = get(rr_linear_gradient_scratch(unit, &g), 0);
  if (rr_linear_gradient_run(unit, &g, scratch.data, pool)) fail(what);
  put(scratch, what);
  return out;
}

// same fails where two matrices differ in a byte: gaps are not compared.
static void same(const char *what, const float *a, const float *b, long rows, long columns, long ld) {
  for (long i = 0; columns && i < rows; i++)
    if (memcmp(a + i * ld, b + i * ld, (size_t)columns * sizeof *a)) fail(what);
}

static void compare_gradient(const char *what, const rr_linear_gradient *g, const gradients *got, int wanted) {
  rr_gemm dx = {.m = g->m, .n = g->k, .k = g->n, .lda = g->lddy, .ldb = g->ldw, .trans_b = !g->trans_w, .alpha = 1};
  rr_gemm dw = {.m = g->k, .n = g->n, .k = g->m, .lda = g->ldx, .ldb = g->lddy, .trans_a = 1, .alpha = 1};
  if (g->trans_w) dw = (rr_gemm){.m = g->n, .n = g->k, .k = g->m, .lda = g->lddy, .ldb = g->ldx, .trans_a = 1, .alpha = 1};
  if (wanted & 1) {
    element *want = exact(&dx, g->dy, g->w, NULL);
    compare(what, want, floats(got->dx), g->m, g->k, g->lddx);
    gaps_untouched(what, floats(got->dx), g->m, g->k, g->lddx);
    free(want);
  }
  if (wanted & 2) {
    element *want = exact(&dw, g->trans_w ? g->dy : g->x, g->trans_w ? g->x : g->dy, NULL);
    compare(what, want, floats(got->dw), dw.m, dw.n, g->lddw);
    gaps_untouched(what, floats(got->dw), dw.m, dw.n, g->lddw);
    free(want);
  }
  for (long j = 0; wanted & 4 && j < g->n; j++) {
    element want = {0, 1.3e-6 * sqrt((double)g->m) + 1e-37};
    for (long i = 0; i < g->m; i++) want.value += g->dy[i * g->lddy + j]; // not rounded
    compare(what, &want, floats(got->db) + j, 1, 1, 1);
  }
}

static void test_gradient(rr_unit unit, long m, long n, long k, int trans_w, int wanted, int packed, long gap) {
  char what[200];
  snprintf(what, sizeof what, "gradient %s m=%ld n=%ld k=%ld trans_w=%d wanted=%d packed=%d gap=%ld", unit_names[unit], m, n, k, trans_w, wanted,
           packed, gap);
  const long width = (trans_w ? k : n);
  rr_linear_gradient g = {.m = m, .n = n, .k = k, .lddy = n + gap, .ldx = k + gap, .ldw = width + gap, .lddx = k + 2 * gap, .lddw = width + 3 * gap,
                          .trans_w = trans_w};
  buffer dy = matrix(m, n, g.lddy, 1, 0), x = matrix(m, k, g.ldx, 1, 0), w = matrix(trans_w ? n : k, width, g.ldw, 1, 0);
  buffer pack = get(packed ? rr_gemm_packed_size(unit, k, n) : 0, 0);
  g.dy = floats(dy), g.x = floats(x), g.w = floats(w);
  if (packed && rr_linear_gradient_pack_w(unit, g.w, g.ldw, trans_w, n, k, pack.data, NULL)) fail(what);
  rr_linear_gradient call = g;
  if (packed && (wanted & 1)) call.packed_w = pack.data, call.w = NULL;
  gradients out = gradient_once(what, unit, call, wanted, NULL);
  compare_gradient(what, &g, &out, wanted);
  const int one_of_them = quick && m < 128;
  for (int p = one_of_them ? (int)(m + n + wanted) % POOLS : 0; p < POOLS; p += one_of_them ? POOLS : 1) {
    call.threads = cuts[p];
    gradients again = gradient_once(what, unit, call, wanted, &pools[p]);
    if (wanted & 1) same(what, floats(again.dx), floats(out.dx), m, k, g.lddx);
    if (wanted & 2) same(what, floats(again.dw), floats(out.dw), trans_w ? n : k, width, g.lddw);
    if (wanted & 4) same(what, floats(again.db), floats(out.db), 1, n, n);
    put(again.dx, what), put(again.dw, what), put(again.db, what);
  }
  put(out.dx, what), put(out.dw, what), put(out.db, what);
  put(dy, what), put(x, what), put(w, what), put(pack, what);
}

static void test_gradients(rr_unit unit) {
  static const long shapes[][3] = {{1, 1, 1}, {7, 15, 17}, {33, 63, 31}, {100, 16, 40}, {0, 5, 6}, {5, 0, 6}, {5, 6, 0}, {257, 70, 33},
                                   {1100, 40, 20}, {2100, 200, 7}};
  const int n = sizeof shapes / sizeof shapes[0];
  for (int i = 0; i < n * 16; i++) {
    const long *s = shapes[i % n];
    const int wanted = i / n % 8, trans_w = i / n / 8;
    if (quick && ((s[0] > 300 && wanted != 7) || wanted == 3 || wanted == 5)) continue;
    test_gradient(unit, s[0], s[1], s[2], trans_w, wanted, i % 3 == 0, i % 4 == 1 ? 3 : 0);
  }
}

static void test_unit(rr_unit unit) {
  static const long sizes[] = {1, 7, 16, 31, 33, 70};
  worst = 0, checked = 0;
  for (int i = 0; i < 72; i++) test_packing(unit, sizes[i % 6], sizes[i / 6 % 6], i / 36);
  test_specials(unit);
  test_errors(unit);
  test_kinds(unit);
  test_gradients(unit);
  test_shapes(unit);
  printf("%s: %ld elements, the largest error is %.2f of its bound\n", unit_names[unit], checked, worst);
}

int main(int argc, char **argv) {
  int named = 0;
  rr_gemm none = {.alpha = 1};
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], "quick")) quick = 1;
    else named |= !strcmp(argv[i], "amx") ? 4 : !strcmp(argv[i], "avx512") ? 2 : !strcmp(argv[i], "portable") ? 1 : 8;
  if (named & 8) {
    fprintf(stderr, "gemm_test [quick] [portable] [avx512] [amx]\n");
    return 2;
  }
  for (rr_unit unit = RR_UNIT_PORTABLE; unit <= RR_UNIT_AMX; unit++) {
    if (named && !(named >> unit & 1)) continue;
    if (rr_gemm_run(unit, &none, NULL, NULL) != RR_GEMM_NO_UNIT) test_unit(unit);
    else if (named) fail(unit_names[unit]), fail("this CPU lacks the unit");
    else printf("%s: this CPU lacks it\n", unit_names[unit]);
  }
  if (failures) printf("%d failures\n", failures);
  return failures != 0;
}
