// Softmax's gradient, for one set of vector instructions (each_target.h).

FUNCTION void NAME(softmax_gradient)(const pass *a, size_t from, size_t to) {
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *y = a->y + row * n, *dy = a->dy + row * n;
    float *dx = a->dx + row * n;
    vec sums[K] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) PARTS sums[k] = fma_(load(y + i + k * N), load(dy + i + k * N), sums[k]);
    if (i < n) PARTS sums[k] = fma_(get(y, i + k * N, n), get(dy, i + k * N, n), sums[k]);
    float sum = total(sums);
    for (i = 0; i < n; i += N) put(dx, i, n, get(y, i, n) * (get(dy, i, n) - sum) * a->factor);
  }
}
