// Norms, for one set of vector instructions (each_target.h).
#include <math.h>

// A row's part of a pass over the columns from i to i + LANES: sums of e and e·h over the row, and of dy·h and dy over rows.
INLINE void NAME(sums_block)(const pass *a, const float *dy, const float *x, float mean, float r, size_t i, size_t n, vec *e_sum, vec *eh_sum, float *sums) {
  PARTS {
    size_t j = i + k * N;
    vec d = get(dy, j, n), h = (get(x, j, n) - mean) * r, e = d * get(a->scale, j, n);
    e_sum[k] += e;
    eh_sum[k] = fma_(e, h, eh_sum[k]);
    store(sums + j, fma_(d, h, load(sums + j)));
    store(sums + a->stride + j, load(sums + a->stride + j) + d);
  }
}

FUNCTION void NAME(layernorm_gradient)(const pass *a, float *sums, size_t from, size_t to) {
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *dy = a->dy + row * n, *x = a->x + row * n;
    float mean = a->mean ? a->mean[row] : 0, r = a->inverse[row];
    vec e_sum[K] = {0}, eh_sum[K] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) NAME(sums_block)(a, dy, x, mean, r, i, i + LANES, e_sum, eh_sum, sums);
    if (i < n) NAME(sums_block)(a, dy, x, mean, r, i, n, e_sum, eh_sum, sums);
    if (a->dx == NULL) continue;
    float e_mean = a->mean ? total(e_sum) / n : 0, eh_mean = total(eh_sum) / n, *dx = a->dx + row * n;
    for (i = 0; i < n; i += N) {
      vec h = (get(x, i, n) - mean) * r, e = fma_(get(dy, i, n), get(a->scale, i, n), all(-e_mean));
      put(dx, i, n, fma_(h, all(-eh_mean), e) * r);
    }
  }
}

FUNCTION void NAME(column_sums)(const pass *a, float *sums, size_t from, size_t to) {
  sums += a->stride;
  for (size_t row = from; row < to; row++) {
    const float *x = a->dy + row * a->width;
    for (size_t i = 0; i < a->width; i += N) store(sums + i, load(sums + i) + get(x, i, a->width));
  }
}

FUNCTION void NAME(rmsnorm)(const pass *a, float *sums, size_t from, size_t to) {
  (void)sums;
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *x = a->x + row * n;
    float *y = a->y + row * n;
    vec squares[K] = {0};
    for (size_t i = 0; i < n; i += LANES) PARTS {
        vec v = get(x, i + k * N, n);
        squares[k] = fma_(v, v, squares[k]);
      }
    float r = 1 / sqrtf(total(squares) / n + a->epsilon);
    if (a->r) a->r[row] = r;
    for (size_t i = 0; i < n; i += N) put(y, i, n, get(x, i, n) * r * get(a->scale, i, n));
  }
}
