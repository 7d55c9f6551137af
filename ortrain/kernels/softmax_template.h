// Softmax's gradient, for one set of vector instructions (each_target.h).

INLINE void NAME(products_block)(size_t i, size_t n, const float *y, const float *dy, vec *sums) {
  PARTS sums[k] = fma_(get(y, i + k * N, n), get(dy, i + k * N, n), sums[k]);
}

INLINE void NAME(softmax_vector)(size_t i, size_t n, const float *y, const float *dy, float sum, float *dx) {
  put(dx, i, n, get(y, i, n) * (get(dy, i, n) - sum));
}

FUNCTION void NAME(softmax_gradient)(const pass *a, size_t from, size_t to) {
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *y = a->y + row * n, *dy = a->dy + row * n;
    vec sums[K] = {0};
    BLOCKS(n, NAME(products_block), y, dy, sums);
    float sum = total(sums), *dx = a->dx + row * n;
    VECTORS(n, NAME(softmax_vector), y, dy, sum, dx);
  }
}
