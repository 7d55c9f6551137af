// Tests of attention.h against double arithmetic, in float32 and in bfloat16 on each unit that this CPU has. attention_test.go compiles and
// runs it, with -DRR_SIMULATE also the code of units that this CPU lacks.
#include "../attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cpu.h"
#include "threads.h"

static size_t most_tasks;

static int counted(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  if (n > most_tasks) most_tasks = n;
  return spread(context, task, n, data);
}

static unsigned long long state = 1;

static double uniform(void) { // -1 to 1
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (double)(long long)state / 9223372036854775808.0;
}

static float *numbers(long n) {
  float *p = malloc((size_t)(n ? n : 1) * sizeof *p);
  for (long i = 0; i < n; i++) p[i] = (float)(uniform() + uniform());
  return p;
}

static int failures;

// A case: the sizes, and what is there. bias_kind: 0 padding of each row, 1 of each query too, 2 one row for all.
typedef struct {
  long rows, heads, queries, keys, size;
  int bias_kind;
  long pieces;
} shape;

typedef struct {
  rr_attention a;
  float *q, *k, *v, *bias, *factors, *dout, *out, *dq, *dk, *dv; // results
  const float **pieces;
  long n_q, n_k, n_p;
  double *want[4]; // out, dq, dk, dv
} fixture;

static fixture make(shape s) {
  fixture f = {.n_q = s.rows * s.heads * s.queries * s.size, .n_k = s.rows * s.heads * s.keys * s.size, .n_p = s.rows * s.heads * s.queries * s.keys};
  f.a = (rr_attention){.rows = s.rows, .heads = s.heads, .queries = s.queries, .keys = s.keys, .size = s.size, .scale = 1 / sqrtf((float)s.size),
                       .bias_rows = s.bias_kind == 2 ? 1 : s.rows, .bias_queries = s.bias_kind == 1 ? s.queries : 1, .pieces = s.pieces};
  f.q = numbers(f.n_q), f.k = numbers(f.n_k), f.v = numbers(f.n_k), f.dout = numbers(f.n_q);
  f.out = numbers(f.n_q), f.dq = numbers(f.n_q), f.dk = numbers(f.n_k), f.dv = numbers(f.n_k);
  long n = f.a.bias_rows * f.a.bias_queries * s.keys;
  f.bias = numbers(n);
  for (long i = 0; i < n; i++) f.bias[i] = i % s.keys && uniform() > 0.6 ? -10000.0f : 0; // the first key is always seen
  f.factors = numbers(f.n_p);
  for (long i = 0; i < f.n_p; i++) f.factors[i] = uniform() > 0.8 ? 0 : 1 / 0.9f;
  f.a.q = f.q, f.a.k = f.k, f.a.v = f.v, f.a.bias = f.bias;
  f.pieces = malloc((size_t)(s.pieces + 1) * sizeof *f.pieces);
  f.a.factors = f.pieces;
  for (long i = 0; i < s.pieces; i++) { // arrays of their own, so that reading past one is seen
    long part = f.n_p / s.pieces, length = i == s.pieces - 1 ? f.n_p - part * i : part;
    float *x = malloc((size_t)(length ? length : 1) * sizeof *x);
    memcpy(x, f.factors + part * i, (size_t)length * sizeof *x);
    f.pieces[i] = x;
  }
  return f;
}

static void drop(fixture *f) {
  float *all[] = {f->q, f->k, f->v, f->bias, f->factors, f->dout, f->out, f->dq, f->dk, f->dv};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  for (long i = 0; i < f->a.pieces; i++) free((void *)f->pieces[i]);
  free(f->pieces);
  for (int i = 0; i < 4; i++) free(f->want[i]);
}

// reference fills want, head by head and query by query.
static void reference(fixture *f) {
  const rr_attention *a = &f->a;
  for (int i = 0; i < 4; i++) f->want[i] = calloc((size_t)(i == 0 || i == 1 ? f->n_q : f->n_k) + 1, sizeof(double));
  double *p = calloc((size_t)a->keys, sizeof *p), *dp = calloc((size_t)a->keys, sizeof *dp);
  for (long h = 0; h < a->rows * a->heads; h++)
    for (long i = 0; i < a->queries; i++) {
      const long at = (h * a->queries + i) * a->size, text = h * a->keys * a->size;
      const float *bias = f->bias + ((a->bias_rows > 1 ? h / a->heads : 0) * a->bias_queries + (a->bias_queries > 1 ? i : 0)) * a->keys;
      double highest = -1e300, sum = 0, dot = 0;
      for (long j = 0; j < a->keys; j++) {
        double s = 0;
        for (long x = 0; x < a->size; x++) s += (double)f->q[at + x] * f->k[text + j * a->size + x];
        p[j] = s * a->scale + bias[j];
        highest = fmax(highest, p[j]);
      }
      for (long j = 0; j < a->keys; j++) sum += p[j] = exp(p[j] - highest);
      for (long j = 0; j < a->keys; j++) {
        const double factor = a->pieces ? f->factors[(h * a->queries + i) * a->keys + j] : 1;
        p[j] /= sum;
        dp[j] = 0;
        for (long x = 0; x < a->size; x++) {
          f->want[0][at + x] += p[j] * factor * f->v[text + j * a->size + x];
          f->want[3][text + j * a->size + x] += p[j] * factor * f->dout[at + x];
          dp[j] += factor * f->dout[at + x] * f->v[text + j * a->size + x];
        }
        dot += p[j] * dp[j];
      }
      for (long j = 0; j < a->keys; j++) {
        const double ds = a->scale * p[j] * (dp[j] - dot);
        for (long x = 0; x < a->size; x++) {
          f->want[1][at + x] += ds * f->k[text + j * a->size + x];
          f->want[2][text + j * a->size + x] += ds * f->q[at + x];
        }
      }
    }
  free(p), free(dp);
}

// compare returns the error of a result, relative to its norm.
static double compare(const float *got, const double *want, long n) {
  double difference = 0, norm = 0;
  for (long i = 0; i < n; i++) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  if (isnan(difference)) return 1e9;
  return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

static double worst;

static void check(fixture *f, const char *unit, double bound) {
  const rr_attention *a = &f->a;
  float *results[] = {f->out, f->dq, f->dk, f->dv}, *first[4] = {0};
  const long n[] = {f->n_q, f->n_q, f->n_k, f->n_k};
  for (int threads = 1; threads <= 3; threads++) {
    const rr_pool pool = {&threads, spread};
    for (int i = 0; i < 4; i++)
      for (long x = 0; x < n[i]; x++) results[i][x] = NAN; // what is not written is seen
    int code = rr_attention_run(a, f->out, &pool);
    if (!code) code = rr_attention_gradient(a, f->dout, f->dq, f->dk, f->dv, &pool);
    if (code && failures++ < 30) printf("%s: code %d\n", unit, code);
    for (int i = 0; i < 4; i++) {
      if (threads == 1) {
        const double e = compare(results[i], f->want[i], n[i]);
        if (n[i] > 0 && e / bound > worst) worst = e / bound;
        if (e > bound && failures++ < 30)
          printf("%s, %ld rows, %ld heads, %ld queries, %ld keys, %ld wide, %ld pieces: result %d has the error %g, more than %g\n", unit, a->rows, a->heads,
                 a->queries, a->keys, a->size, a->pieces, i, e, bound);
        first[i] = malloc((size_t)(n[i] ? n[i] : 1) * sizeof **first);
        memcpy(first[i], results[i], (size_t)n[i] * sizeof **first);
      } else if (memcmp(first[i], results[i], (size_t)n[i] * sizeof **first) && failures++ < 30) {
        printf("%s: result %d depends on the number of threads\n", unit, i);
      }
    }
  }
  for (int i = 0; i < 4; i++) free(first[i]);
}

// missing computes each gradient alone.
static void missing(fixture *f) {
  int one = 1;
  const rr_pool pool = {&one, spread};
  float *results[] = {f->dq, f->dk, f->dv};
  const long n[] = {f->n_q, f->n_k, f->n_k};
  for (int i = 0; i < 3; i++) {
    float *alone = malloc((size_t)(n[i] + 1) * sizeof *alone);
    rr_attention_gradient(&f->a, f->dout, i == 0 ? alone : NULL, i == 1 ? alone : NULL, i == 2 ? alone : NULL, &pool);
    if (memcmp(alone, results[i], (size_t)n[i] * sizeof *alone) && failures++ < 30) printf("gradient %d alone differs\n", i);
    free(alone);
  }
}

static void errors(void) {
  fixture f = make((shape){2, 2, 3, 5, 8, 0, 0});
  int one = 1;
  const rr_pool pool = {&one, spread}, bad = {&one, broken};
  rr_attention wrong = f.a;
  wrong.bias_rows = 3;
  if (rr_attention_run(&wrong, f.out, &pool) != RR_GEMM_BAD_SHAPE && failures++ < 30) printf("a wrong shape of the bias was taken\n");
  if (rr_attention_run(&f.a, f.out, &bad) != 77 && failures++ < 30) printf("the error of the pool was lost\n");
  f.q[0] = NAN; // stays where it is: in one query's result
  rr_attention_run(&f.a, f.out, &pool);
  for (long i = 0; i < f.n_q; i++)
    if (!isnan(f.out[i]) != (i >= f.a.size) && failures++ < 30) printf("NaN in a query: result %ld is %g\n", i, f.out[i]);
  f.q[0] = 0;
  for (long i = 0; i < f.a.bias_rows * f.a.keys; i++) f.bias[i] = -INFINITY; // no key is seen, as softmax takes it
  rr_attention_run(&f.a, f.out, &pool);
  for (long i = 0; i < f.n_q; i++)
    if (!isnan(f.out[i]) && failures++ < 30) printf("scores of -Inf: result %ld is %g, not NaN\n", i, f.out[i]);
  drop(&f);
}

// many_tasks: few heads with many queries are work for many threads.
static void many_tasks(void) {
  int one = 1;
  const rr_pool pool = {&one, counted};
  fixture f = make((shape){1, 2, 2048, 5, 4, 0, 0});
  for (int gradient = 0; gradient < 2; gradient++) {
    most_tasks = 0;
    int code = gradient ? rr_attention_gradient(&f.a, f.dout, f.dq, f.dk, f.dv, &pool) : rr_attention_run(&f.a, f.out, &pool);
    if ((code || most_tasks != 8) && failures++ < 30) printf("2 heads of 2,048 queries: code %d, %zu tasks, want 8\n", code, most_tasks);
  }
  drop(&f);
}

static const struct {
  const char *name;
  rr_unit unit;
} units[] = {{"portable", RR_UNIT_PORTABLE}, {"avx512", RR_UNIT_AVX512}, {"amx", RR_UNIT_AMX}};

int main(void) {
  const shape shapes[] = {
      {1, 1, 1, 1, 1, 0, 0},       {2, 3, 7, 7, 8, 0, 0},    {3, 2, 5, 5, 32, 0, 1},      {1, 2, 65, 65, 64, 1, 1}, {2, 1, 130, 129, 33, 0, 3},
      {1, 1, 70, 600, 16, 1, 2},   {2, 2, 17, 31, 40, 2, 1}, {2, 3, 48, 48, 32, 0, 1}, {1, 2, 3, 100, 128, 0, 5}, {1, 1, 9, 11, 8, 0, 40}, {0, 2, 3, 4, 8, 0, 0},
      {1, 2, 0, 4, 8, 0, 0},       {2, 2, 4, 16, 8, 0, 12},  {1, 1, 200, 40, 72, 1, 1}, {1, 2, 300, 20, 8, 1, 2},
      {1, 2, 1100, 20, 8, 1, 2},   {1, 1, 1600, 70, 16, 0, 0}, // queries in chunks
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    fixture f = make(shapes[i]);
    reference(&f);
    check(&f, "float32", 2e-6);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
      if (rr_gemm_pack_b(units[u].unit, NULL, 0, 0, 0, 0, NULL, NULL) == RR_GEMM_NO_UNIT) continue;
      f.a.bf16 = 1;
      f.a.unit = units[u].unit;
      const double before = worst;
      check(&f, units[u].name, 1.2e-2); // inputs, probabilities and their gradients are rounded to 8 bits
      worst = before;
    }
    missing(&f);
    drop(&f);
  }
  errors();
  many_tasks();
  printf("float32 and");
  for (size_t u = 0; u < sizeof units / sizeof *units; u++)
    if (rr_gemm_pack_b(units[u].unit, NULL, 0, 0, 0, 0, NULL, NULL) != RR_GEMM_NO_UNIT) printf(" %s", units[u].name);
  printf(" were tested; worst error of float32: %.2f of the bound\n", worst);
  return failures != 0;
}
