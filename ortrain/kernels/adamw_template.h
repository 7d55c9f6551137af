// The optimizer, for one set of vector instructions (each_target.h).

INLINE void NAME(step_vector)(size_t i, size_t n, rr_adamw_scalars s, float *p, float *m, float *v, const float *g) {
  vec h = get(g, i, n) * s.gradient_scale;
  vec first = fma_(get(m, i, n), all(s.beta1), h);
  vec second = fma_(h * h, all(s.square_scale), get(v, i, n) * s.beta2);
  vec change = first / (root(second) + s.epsilon);
  put(m, i, n, first);
  put(v, i, n, second);
  put(p, i, n, fma_(change, all(-s.step_size), get(p, i, n) * s.decay_factor));
}

FUNCTION void NAME(step)(const pass *a, size_t task, size_t from, size_t to) {
  (void)task;
  const rr_adamw_scalars s = *a->scalars;
  float *p = a->p + from, *m = a->m + from, *v = a->v + from;
  const float *g = a->g + from;
  VECTORS(to - from, NAME(step_vector), s, p, m, v, g);
}

INLINE void NAME(accumulate_vector)(size_t i, size_t n, float *sum, const float *g, float weight, int keep) {
  vec x = get(g, i, n);
  put(sum, i, n, keep ? fma_(x, all(weight), get(sum, i, n)) : x * weight);
}

FUNCTION void NAME(accumulate)(const pass *a, size_t task, size_t from, size_t to) {
  (void)task;
  float *sum = a->p + from, weight = a->weight;
  const float *g = a->g + from;
  if (a->keep)
    VECTORS(to - from, NAME(accumulate_vector), sum, g, weight, 1);
  else
    VECTORS(to - from, NAME(accumulate_vector), sum, g, weight, 0);
}

INLINE void NAME(squares_block)(size_t i, size_t n, const float *g, vec *sums) {
  PARTS {
    vec x = get(g, i + k * N, n);
    sums[k] = fma_(x, x, sums[k]);
  }
}

FUNCTION void NAME(squares)(const pass *a, size_t task, size_t from, size_t to) {
  double sum = 0;
  for (size_t i = from; i < to; i += 1024) {
    vec sums[K] = {0};
    const float *g = a->g + i;
    size_t n = i + 1024 < to ? 1024 : to - i;
    BLOCKS(n, NAME(squares_block), g, sums);
    sum += total(sums);
  }
  a->sums[task] = sum;
}
