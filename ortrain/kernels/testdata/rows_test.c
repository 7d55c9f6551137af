// Tests of rows.h and adamw.h against double arithmetic: rows_test [avx512|avx2|baseline]. Without an argument it tests each set of
// vector instructions that this CPU has, and compares them with each other. rows_test.go compiles and runs it; with RR_SIMULATE, AVX-512
// is plain C.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define rr_cpu rr_cpu_found
#include "../cpu.c"
#undef rr_cpu
#include "../adamw.h"
#include "../rows.h"
#include "threads.h"

static int units; // what the kernels may use

int rr_cpu(void) { return units; }

// Failures.

static int failures;
static const char *what = "";

#define FAIL(...)                                                        \
  do {                                                                   \
    if (failures++ < 30) printf("%s: ", what), printf(__VA_ARGS__), printf("\n"); \
  } while (0)

// Arrays with canaries before and behind.

enum { CANARY = 16 };

static __attribute__((noinline)) float *make(size_t n) {
  float *p = calloc(n + 2 * CANARY, sizeof(float));
  for (size_t i = 0; i < n + 2 * CANARY; i++) p[i] = 12345.5f;
  return p + CANARY;
}

static void check_canaries(const float *p, size_t n, const char *name) {
  for (size_t i = 0; i < CANARY; i++)
    if (p[(ptrdiff_t)i - CANARY] != 12345.5f || p[n + i] != 12345.5f) {
      FAIL("%s was written outside of its %zu elements", name, n);
      return;
    }
}

static void drop(float *p) { free(p - CANARY); }

static unsigned long long state = 1;

static double uniform(void) { // -1 to 1
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (double)(long long)state / 9223372036854775808.0;
}

static float *make_random(size_t n, double size) {
  float *p = make(n);
  for (size_t i = 0; i < n; i++) p[i] = (float)(size * (uniform() + uniform() + uniform()));
  return p;
}

static __attribute__((noinline)) float *copy(const float *x, size_t n) {
  float *p = make(n);
  memcpy(p, x, n * sizeof(float));
  return p;
}

// near checks |got - want| <= relative·|want| + absolute, and that NaN and Inf agree.
static void near(const char *name, size_t i, float got, double want, double relative, double absolute) {
  if (isnan(want) && isnan(got)) return;
  if (fabs(want) > 3.4028235e38 ? got == (float)want : fabs(got - want) <= relative * fabs(want) + absolute) return;
  FAIL("%s[%zu] = %.9g, not %.9g", name, i, got, want);
}

static const double ULP = 1.0 / (1 << 23);

// Every kernel is one test: it makes its inputs, computes with 1, 2 and 3 threads, and compares. results keeps the bytes of all outputs,
// for the comparison of threads and of instruction sets.

typedef struct {
  unsigned char *p;
  size_t n, room;
} bytes;

static bytes results;

static void keep(const void *p, size_t n) {
  if (results.n + n > results.room) {
    results.room = 2 * (results.n + n) + 1024;
    results.p = realloc(results.p, results.room);
  }
  memcpy(results.p + results.n, p, n);
  results.n += n;
}

static void keep_floats(const char *name, const float *p, size_t n) {
  check_canaries(p, n, name);
  for (size_t i = 0; i < n; i++) // any NaN is as good as any other
    if (isnan(p[i])) keep("nan", 4);
    else keep(p + i, 4);
}

static double phi(double x) { return 0.5 * erfc(-x / sqrt(2)); }

static double act_of(rr_activation_kind kind, double x) {
  switch (kind) {
  case RR_GELU: return x * phi(x);
  case RR_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  default: return x / (1 + exp(-x));
  }
}

static double slope_of(rr_activation_kind kind, double x) {
  if (kind == RR_GELU) return phi(x) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
  double z = x, dz = 1;
  if (kind == RR_GELU_TANH) z = 2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), dz = 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  if (fabs(z) > 700 && isfinite(x)) return z > 0; // the products below would be 0·Inf
  double s = 1 / (1 + exp(-z));
  return s + x * s * (1 - s) * dz;
}

// slack is how much an error of the argument of the exponential function weighs in the result, which is small there.
static double slack(rr_activation_kind kind, double x) {
  if (x > 0) return 1;
  if (kind == RR_GELU) return 1 + (units ? 0 : x * x / 2); // without fused multiply-add, the error of x²
  return 1 + (kind == RR_SILU ? 0 : 2 * sqrt(2 / M_PI) * (fabs(x) + 0.044715 * fabs(x * x * x)));
}

static const rr_activation_kind kinds[] = {RR_GELU, RR_GELU_TANH, RR_SILU};

static void test_activation(const rr_pool *pool, size_t rows, size_t width) {
  size_t n = rows * width;
  float *x = make_random(n, 3), *dy = make_random(n, 1), *y = make(n), *dx = make(n);
  for (int k = 0; k < 3; k++) {
    rr_activation_kind kind = kinds[k];
    what = "rr_activation";
    if (rr_activation(pool, kind, x, y, n)) FAIL("error");
    for (size_t i = 0; i < n; i++) near("y", i, y[i], act_of(kind, x[i]), 4 * ULP * slack(kind, x[i]), 1e-37);
    keep_floats("y", y, n);
    float *again = copy(x, n);
    if (rr_activation(pool, kind, again, again, n)) FAIL("error");
    if (n && memcmp(again, y, n * sizeof *y)) FAIL("another y in place");
    drop(again);
    what = "rr_activation_gradient";
    if (rr_activation_gradient(pool, kind, dy, x, dx, n)) FAIL("error");
    for (size_t i = 0; i < n; i++) near("dx", i, dx[i], dy[i] * slope_of(kind, x[i]), 2 * ULP, 2 * ULP * fabs(dy[i]));
    keep_floats("dx", dx, n);
  }
  drop(x), drop(dy), drop(y), drop(dx);
}

static void test_gated(const rr_pool *pool, size_t rows, size_t width) {
  size_t n = rows * width;
  float *x = make_random(2 * n, 2), *dy = make_random(n, 1), *y = make(n), *dx = make(2 * n);
  for (int k = 0; k < 6; k++) {
    rr_activation_kind kind = kinds[k / 2];
    size_t a = k % 2 ? width : 0, b = width - a;
    what = "rr_gated";
    if (rr_gated(pool, kind, k % 2, x, y, rows, width)) FAIL("error");
    if (rr_gated_gradient(pool, kind, k % 2, dy, x, dx, rows, width)) FAIL("error");
    for (size_t i = 0; i < n; i++) {
      size_t at = 2 * (i / width) * width + i % width;
      double xa = x[at + a], xb = x[at + b];
      near("y", i, y[i], act_of(kind, xa) * xb, 5 * ULP * slack(kind, xa), 1e-37);
      near("dx of the gate", i, dx[at + a], dy[i] * xb * slope_of(kind, xa), 3 * ULP, 3 * ULP * fabs(dy[i] * xb));
      near("dx", i, dx[at + b], dy[i] * act_of(kind, xa), 5 * ULP * slack(kind, xa), 1e-37);
    }
    keep_floats("y", y, n), keep_floats("dx", dx, 2 * n);
  }
  drop(x), drop(dy), drop(y), drop(dx);
}

static void test_norm(const rr_pool *pool, size_t rows, size_t width) {
  size_t n = rows * width;
  float *x = make_random(n, 2), *dy = make_random(n, 1), *scale = make_random(width, 1), *mean = make(rows), *r = make(rows);
  float *dx = make(n), *dscale = make(width), *dbias = make(width), *y = make(n), *r2 = make(rows);
  double *h = calloc(n + 1, sizeof *h), *column = calloc(2 * width + 1, sizeof *column);
  for (int rms = 0; rms < 2; rms++) {
    what = rms ? "rr_layernorm_gradient without mean" : "rr_layernorm_gradient";
    memset(column, 0, 2 * width * sizeof *column);
    for (size_t i = 0; i < rows; i++) {
      double m = 0, v = 0;
      for (size_t j = 0; j < width; j++) m += rms ? 0 : x[i * width + j] / (double)width;
      for (size_t j = 0; j < width; j++) v += (x[i * width + j] - m) * (x[i * width + j] - m) / width;
      mean[i] = (float)m, r[i] = (float)(1 / sqrt(v + 1e-5));
    }
    if (rr_layernorm_gradient(pool, dy, x, scale, rms ? NULL : mean, r, dx, dscale, dbias, rows, width)) FAIL("error");
    for (size_t i = 0; i < rows; i++) {
      double e = 0, eh = 0;
      for (size_t j = 0; j < width; j++) {
        size_t at = i * width + j;
        h[at] = ((double)x[at] - mean[i]) * r[i];
        e += rms ? 0 : dy[at] * scale[j] / (double)width;
        eh += dy[at] * scale[j] * h[at] / width;
        column[j] += dy[at] * h[at];
        column[width + j] += dy[at];
      }
      for (size_t j = 0; j < width; j++) {
        size_t at = i * width + j;
        near("dx", at, dx[at], r[i] * (dy[at] * (double)scale[j] - e - h[at] * eh), 4 * ULP, 20 * ULP * r[i]);
      }
    }
    for (size_t j = 0; j < width; j++) {
      near("dscale", j, dscale[j], column[j], 4 * ULP, 4 * ULP * sqrt(rows));
      near("dbias", j, dbias[j], column[width + j], 4 * ULP, 4 * ULP * sqrt(rows));
    }
    keep_floats("dx", dx, n), keep_floats("dscale", dscale, width), keep_floats("dbias", dbias, width);
  }
  float *again = copy(dy, n); // in place, and without the outputs that may be missing
  if (rr_layernorm_gradient(pool, again, x, scale, NULL, r, again, NULL, NULL, rows, width)) FAIL("error");
  if (n && memcmp(again, dx, n * sizeof *dx)) FAIL("another dx in place");
  if (rr_layernorm_gradient(pool, dy, x, scale, NULL, r, NULL, dscale, NULL, rows, width)) FAIL("error");
  keep_floats("dscale", dscale, width);

  what = "rr_rmsnorm";
  if (rr_rmsnorm(pool, x, scale, 1e-5f, y, r2, rows, width)) FAIL("error");
  for (size_t i = 0; i < n; i++) {
    near("r", i / width, r2[i / width], r[i / width], 4 * ULP, 0);
    near("y", i, y[i], x[i] * (double)r[i / width] * scale[i % width], 6 * ULP, 0);
  }
  keep_floats("y", y, n);
  keep_floats("r", r2, rows);
  drop(x), drop(dy), drop(scale), drop(mean), drop(r), drop(dx), drop(dscale), drop(dbias), drop(y), drop(r2), drop(again), free(h), free(column);
}

static void test_softmax(const rr_pool *pool, size_t rows, size_t width) {
  what = "rr_softmax_gradient";
  size_t n = rows * width;
  float *y = make_random(n, 1), *dy = make_random(n, 1), *dx = make(n);
  for (size_t i = 0; i < rows; i++) {
    double sum = 0;
    for (size_t j = 0; j < width; j++) sum += exp(y[i * width + j]);
    for (size_t j = 0; j < width; j++) y[i * width + j] = (float)(exp(y[i * width + j]) / sum);
  }
  if (rr_softmax_gradient(pool, y, dy, dx, rows, width)) FAIL("error");
  for (size_t i = 0; i < rows; i++) {
    double sum = 0;
    for (size_t j = 0; j < width; j++) sum += (double)y[i * width + j] * dy[i * width + j];
    for (size_t j = 0; j < width; j++) {
      size_t at = i * width + j;
      near("dx", at, dx[at], y[at] * (dy[at] - sum), 2 * ULP, 2 * ULP * y[at]);
    }
  }
  keep_floats("dx", dx, n);
  float *again = copy(y, n);
  if (rr_softmax_gradient(pool, again, dy, again, rows, width)) FAIL("error");
  if (n && memcmp(again, dx, n * sizeof *dx)) FAIL("another dx in place");
  drop(y), drop(dy), drop(dx), drop(again);
}

// The exact sums are those of single additions in the order of the indices.
static void test_gather(const rr_pool *pool, size_t rows, size_t width) {
  what = "rr_gather_gradient";
  enum { TAKEN = 150 };
  int64_t indices[TAKEN];
  const size_t n = rows ? TAKEN : 0;
  for (size_t i = 0; i < n; i++) indices[i] = (int64_t)(i % 3 ? i * i % rows : (i + rows / 2) % rows) - (i % 5 == 1 ? (int64_t)rows : 0);
  float *dy = make_random(n * width, 1), *dx = make_random(rows * width, 1), *want = make(rows * width);
  memset(want, 0, rows * width * sizeof *want);
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < width; j++) want[(size_t)(indices[i] < 0 ? indices[i] + (int64_t)rows : indices[i]) * width + j] += dy[i * width + j];
  if (rr_gather_gradient(pool, indices, n, dy, dx, rows, width)) FAIL("error");
  if (memcmp(dx, want, rows * width * sizeof *dx)) FAIL("%zu x %zu: another sum", rows, width);
  keep_floats("dx", dx, rows * width);
  int64_t outside[] = {(int64_t)rows, -(int64_t)rows - 1};
  for (int i = 0; i < 2; i++)
    if (rr_gather_gradient(pool, outside + i, 1, dy, dx, rows, width) != RR_BAD_INDEX) FAIL("the index %lld is taken", (long long)outside[i]);
  if (memcmp(dx, want, rows * width * sizeof *dx)) FAIL("a wrong index changes dx");
  drop(dy), drop(dx), drop(want);
}

static void test_quantize(const rr_pool *pool, size_t rows, size_t width) {
  what = "rr_quantize_rows";
  size_t n = rows * width;
  float *x = make_random(n, 5), *scale = make(rows);
  uint8_t *q = malloc(n + 32);
  memset(q, 0xa5, n + 32);
  for (size_t j = 0; rows > 1 && j < width; j++) x[width + j] = 0;
  if (rr_quantize_rows(pool, x, q + 16, scale, rows, width)) FAIL("error");
  for (size_t i = 0; i < rows; i++) {
    float largest = 1e-30f;
    for (size_t j = 0; j < width; j++) largest = fmaxf(largest, fabsf(x[i * width + j]));
    float r = largest * (float)(1.0 / 127);
    if (scale[i] != r) FAIL("scale[%zu] = %.9g, not %.9g", i, scale[i], r);
    for (size_t j = 0; j < width; j++)
      if (q[16 + i * width + j] != (int)nearbyintf(x[i * width + j] / r) + 128) FAIL("q[%zu, %zu] = %d", i, j, q[16 + i * width + j]);
  }
  for (int i = 0; i < 16; i++)
    if (q[i] != 0xa5 || q[16 + n + i] != 0xa5) FAIL("q was written outside of its elements");
  keep(q, n + 32), keep_floats("scale", scale, rows);
  if (n > 0) {
    x[0] = NAN, x[width - 1] = width > 1 ? -INFINITY : NAN;
    rr_quantize_rows(pool, x, q + 16, scale, 1, width);
    if (!isnan(scale[0])) FAIL("the scale of a row with NaN is %g", scale[0]);
    x[0] = 1;
    rr_quantize_rows(pool, x, q + 16, scale, 1, width);
    if (width > 1 && (scale[0] != INFINITY || q[16] != 128)) FAIL("of a row with Inf, the scale is %g and 1 became %d", scale[0], q[16]);
  }
  drop(x), drop(scale), free(q);
}

static void test_adamw(const rr_pool *pool, size_t n) {
  what = "rr_adamw";
  float *p = make_random(n, 0.1), *m = make_random(n, 0.01), *v = make_random(n, 1e-3), *g = make_random(n, 0.05), *sum = make(n);
  for (size_t i = 0; i < n; i++) v[i] = fabsf(v[i]);
  if (n > 5) p[0] = 1, m[0] = v[0] = g[0] = 0, g[5] = NAN;
  float *p0 = copy(p, n), *m0 = copy(m, n), *v0 = copy(v, n);
  rr_adamw_scalars s = {0.9f, 0.999f, (float)(0.001 / 0.01), 0.1f * 0.5f, (float)(1 - 1e-5), 1e-3f, 1e-8f};
  if (rr_adamw(pool, p, m, v, g, n, &s)) FAIL("error");
  for (size_t i = 0; i < n; i++) {
    double h = (double)g[i] * s.gradient_scale, wm = (double)s.beta1 * m0[i] + h, wv = (double)s.beta2 * v0[i] + s.square_scale * h * h;
    near("m", i, m[i], wm, ULP, ULP * fabs(h));
    near("v", i, v[i], wv, 3 * ULP, 0);
    double step = s.step_size * wm / (sqrt(wv) + s.epsilon);
    near("p", i, p[i], (double)p0[i] * s.decay_factor - step, 2 * ULP, 4 * ULP * fabs(step) + 4 * ULP * s.step_size * fabs(h) / (sqrt(wv) + s.epsilon));
  }
  keep_floats("p", p, n), keep_floats("m", m, n), keep_floats("v", v, n);

  what = "rr_accumulate";
  for (size_t i = 0; i < n; i++) sum[i] = i % 7 ? NAN : INFINITY;
  if (rr_accumulate(pool, sum, g, n, 0.25f, 0)) FAIL("error");
  for (size_t i = 0; i < n; i++) near("sum", i, sum[i], 0.25 * g[i], 0, 0);
  if (rr_accumulate(pool, sum, g, n, 0.3f, 1)) FAIL("error");
  for (size_t i = 0; i < n; i++) near("sum", i, sum[i], (0.25 + 0.3f) * g[i], ULP, 0);
  keep_floats("sum", sum, n);

  what = "rr_sum_of_squares";
  if (n > 5) g[5] = 0.5f;
  double squares = -1, want = 0;
  for (size_t i = 0; i < n; i++) want += (double)g[i] * g[i];
  if (rr_sum_of_squares(pool, g, n, &squares)) FAIL("error");
  near("sum", 0, (float)squares, want, 2 * ULP, 0);
  keep(&squares, sizeof squares);
  if (n > 5) {
    g[n - 1] = INFINITY;
    rr_sum_of_squares(pool, g, n, &squares);
    near("sum", 1, (float)squares, INFINITY, 0, 0);
    g[3] = NAN;
    rr_sum_of_squares(pool, g, n, &squares);
    near("sum", 2, (float)squares, NAN, 0, 0);
  }
  drop(p), drop(m), drop(v), drop(g), drop(sum), drop(p0), drop(m0), drop(v0);
}

// test_special checks values that are no ordinary numbers, and how far the activations are from exact over all their range.
static void test_special(const rr_pool *pool) {
  static const float special[] = {0, -0.0f, NAN, INFINITY, -INFINITY, 1e20f, -1e20f, 3e38f, -3e38f, 1e-40f, -1e-40f, 13, -13, 14, -14, 15, -15};
  enum { S = sizeof special / sizeof *special };
  float y[S], one[S], dx[S];
  for (int i = 0; i < S; i++) one[i] = 1;
  for (int k = 0; k < 3; k++) {
    rr_activation_kind kind = kinds[k];
    what = kind == RR_GELU ? "RR_GELU" : kind == RR_SILU ? "RR_SILU" : "RR_GELU_TANH";
    if (rr_activation(pool, kind, special, y, S)) FAIL("error");
    if (rr_activation_gradient(pool, kind, one, special, dx, S)) FAIL("error");
    for (int i = 0; i < S; i++) {
      double x = special[i];
      // Operators multiply Inf by a factor that is 0: x·Φ(x) of -Inf, and x·density of both.
      near("y", i, y[i], x == -INFINITY ? NAN : act_of(kind, x), 8 * ULP, 1e-37);
      near("slope", i, dx[i], isinf(x) ? NAN : slope_of(kind, x), 4 * ULP, 1e-37);
    }
    size_t n = 1 << 16;
    float *x = make(n), *ys = make(n), *ones = make(n), *slopes = make(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)(-16 + 32.0 * i / n), ones[i] = 1;
    if (rr_activation(pool, kind, x, ys, n)) FAIL("error");
    if (rr_activation_gradient(pool, kind, ones, x, slopes, n)) FAIL("error");
    double worst = 0, worst_slope = 0; // relative, but for slack; absolute
    for (size_t i = 0; i < n; i++) {
      double want = act_of(kind, x[i]);
      if (fabs(want) > 1e-30) worst = fmax(worst, fabs(ys[i] - want) / fabs(want) / slack(kind, x[i]));
      worst_slope = fmax(worst_slope, fabs(slopes[i] - slope_of(kind, x[i])));
    }
    printf("%s: largest relative error %.2f x 2^-23, of the slope absolute %.2f x 2^-23\n", what, worst / ULP, worst_slope / ULP);
    keep_floats("y", ys, n), keep_floats("slope", slopes, n);
    drop(x), drop(ys), drop(ones), drop(slopes);
  }
}

static void test_all(int threads) {
  static const size_t shapes[][2] = {{0, 8}, {3, 0}, {1, 1}, {2, 3}, {5, 7}, {3, 31}, {4, 32}, {7, 33}, {33, 47}, {67, 384}, {130, 129}, {2, 20000}, {2100, 5}};
  rr_pool pool = {&threads, spread};
  state = 1;
  results.n = 0;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    size_t rows = shapes[i][0], width = shapes[i][1];
    test_activation(&pool, rows, width);
    test_gated(&pool, rows, width);
    test_norm(&pool, rows, width);
    test_softmax(&pool, rows, width);
    test_gather(&pool, rows, width);
    test_quantize(&pool, rows, width);
  }
  test_gather(&pool, 3001, 401);
  static const size_t sizes[] = {0, 1, 6, 31, 1023, 1025, 16384, 40003};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) test_adamw(&pool, sizes[i]);
  if (threads == 1) test_special(&pool);
}

static void test_errors(void) {
  what = "an error of the pool";
  rr_pool pool = {NULL, broken};
  float x[4] = {0};
  uint8_t q[4];
  int64_t index = 0;
  double sum;
  rr_adamw_scalars s = {0};
  int errors[] = {
      rr_activation(&pool, RR_GELU, x, x, 4),                    rr_activation_gradient(&pool, RR_GELU, x, x, x, 4),
      rr_gated(&pool, RR_SILU, 0, x, x, 1, 2),                   rr_gated_gradient(&pool, RR_SILU, 0, x, x, x, 1, 2),
      rr_layernorm_gradient(&pool, x, x, x, x, x, x, x, x, 1, 4), rr_rmsnorm(&pool, x, x, 1, x, x, 1, 4),
      rr_softmax_gradient(&pool, x, x, x, 1, 4),                  rr_gather_gradient(&pool, &index, 1, x, x, 1, 4),
      rr_quantize_rows(&pool, x, q, x, 1, 4),                    rr_adamw(&pool, x, x, x, x, 4, &s),
      rr_accumulate(&pool, x, x, 4, 1, 1),                       rr_sum_of_squares(&pool, x, 4, &sum),
  };
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i] != 77) FAIL("function %zu gave %d, not 77", i, errors[i]);
}

static void same(bytes a, bytes b, const char *name) {
  if (a.n != b.n || memcmp(a.p, b.p, a.n < b.n ? a.n : b.n)) {
    size_t i = 0;
    while (i < a.n && i < b.n && a.p[i] == b.p[i]) i++;
    FAIL("other bytes from %zu of %zu", i, a.n);
  } else
    printf("%s: the same %zu bytes\n", name, a.n);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int units;
  } sets[] = {{"avx512", RR_AVX2 | RR_AVX512}, {"avx2", RR_AVX2}, {"baseline", 0}};
  int found = rr_cpu_found();
#ifdef RR_SIMULATE
  if (found & RR_AVX2) found |= RR_AVX512; // each_target.h
#endif
  bytes fused = {0}; // of a set with fused multiply-add
  int tested = 0;
  for (size_t i = 0; i < 3; i++) {
    if ((argc > 1 && strcmp(argv[1], sets[i].name)) || (found & sets[i].units) != sets[i].units) continue;
    units = sets[i].units;
    tested++;
    bytes first = {0};
    for (int threads = 3; threads > 0; threads -= 2) {
      test_all(threads);
      size_t special = results.n;
      if (threads == 3)
        first = results, results = (bytes){0};
      else {
        results.n = first.n < special ? first.n : special;
        what = sets[i].name;
        same(first, results, "1 and 3 threads");
        results.n = special;
      }
    }
    test_errors();
    free(first.p);
    if (units && fused.p) what = "avx512 and avx2", same(fused, results, what);
    if (units && !fused.p) fused = results, results = (bytes){0};
    printf("%s: %s\n", sets[i].name, failures ? "FAILED" : "ok");
  }
  free(fused.p), free(results.p);
  if (!tested) return printf("this CPU has no %s\n", argv[1]), 2;
  return failures > 0;
}
