// Norms, for one set of vector instructions (each_target.h).
#include <math.h>

// sums_block adds to the sums of e and e·h over a row, and to the columns' sums of dy·h and dy over rows.
INLINE void NAME(sums_block)(size_t i, size_t n, const float *dy, const float *x, const float *scale, float mean, float r, vec *e_sums, vec *eh_sums,
                             float *dyh_sums, float *dy_sums) {
  PARTS {
    size_t j = i + k * N;
    vec d = get(dy, j, n), h = (get(x, j, n) - mean) * r, e = d * get(scale, j, n);
    e_sums[k] += e;
    eh_sums[k] = fma_(e, h, eh_sums[k]);
    store(dyh_sums + j, fma_(d, h, load(dyh_sums + j)));
    store(dy_sums + j, load(dy_sums + j) + d);
  }
}

INLINE void NAME(dx_vector)(size_t i, size_t n, const float *dy, const float *x, const float *scale, float mean, float r, float e_mean, float eh_mean, float *dx) {
  vec h = (get(x, i, n) - mean) * r, e = fma_(get(dy, i, n), get(scale, i, n), all(-e_mean));
  put(dx, i, n, fma_(h, all(-eh_mean), e) * r);
}

FUNCTION void NAME(layernorm_gradient)(const pass *a, float *sums, size_t from, size_t to) {
  size_t n = a->width;
  const float *scale = a->scale;
  float *dy_sums = sums + a->stride;
  for (size_t row = from; row < to; row++) {
    const float *dy = a->dy + row * n, *x = a->x + row * n;
    float mean = a->mean ? a->mean[row] : 0, r = a->inverse[row];
    vec e_sums[K] = {0}, eh_sums[K] = {0};
    BLOCKS(n, NAME(sums_block), dy, x, scale, mean, r, e_sums, eh_sums, sums, dy_sums);
    if (a->dx == NULL) continue;
    float e_mean = a->mean ? total(e_sums) / n : 0, eh_mean = total(eh_sums) / n, *dx = a->dx + row * n;
    VECTORS(n, NAME(dx_vector), dy, x, scale, mean, r, e_mean, eh_mean, dx);
  }
}

INLINE void NAME(squares_block)(size_t i, size_t n, const float *x, vec *sums) {
  PARTS {
    vec v = get(x, i + k * N, n);
    sums[k] = fma_(v, v, sums[k]);
  }
}

INLINE void NAME(scaled_vector)(size_t i, size_t n, const float *x, float r, const float *scale, float *y) { put(y, i, n, get(x, i, n) * r * get(scale, i, n)); }

FUNCTION void NAME(rmsnorm)(const pass *a, float *sums, size_t from, size_t to) {
  (void)sums;
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *x = a->x + row * n, *scale = a->scale;
    float *y = a->y + row * n;
    vec squares[K] = {0};
    BLOCKS(n, NAME(squares_block), x, squares);
    float r = 1 / sqrtf(total(squares) / n + a->epsilon);
    if (a->r) a->r[row] = r;
    VECTORS(n, NAME(scaled_vector), x, r, scale, y);
  }
}
