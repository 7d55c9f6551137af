// The optimizer, for one set of vector instructions (each_target.h).

FUNCTION void NAME(step)(const pass *a, size_t task, size_t from, size_t to) {
  (void)task;
  const rr_adamw_scalars s = *a->scalars;
  for (size_t i = from; i < to; i += N) {
    vec h = get(a->g, i, to) * s.gradient_scale;
    vec m = fma_(get(a->m, i, to), all(s.beta1), h);
    vec v = fma_(h * h, all(s.square_scale), get(a->v, i, to) * s.beta2);
    vec change = m / (root(v) + s.epsilon);
    put(a->m, i, to, m);
    put(a->v, i, to, v);
    put(a->p, i, to, fma_(change, all(-s.step_size), get(a->p, i, to) * s.decay_factor));
  }
}

FUNCTION void NAME(accumulate)(const pass *a, size_t task, size_t from, size_t to) {
  (void)task;
  if (a->keep)
    for (size_t i = from; i < to; i += N) put(a->p, i, to, fma_(get(a->g, i, to), all(a->weight), get(a->p, i, to)));
  else
    for (size_t i = from; i < to; i += N) put(a->p, i, to, get(a->g, i, to) * a->weight);
}

FUNCTION void NAME(squares)(const pass *a, size_t task, size_t from, size_t to) {
  double sum = 0;
  for (size_t i = from; i < to;) {
    vec lanes[K] = {0};
    size_t end = i + 1024 < to ? i + 1024 : to;
    for (; i + LANES <= end; i += LANES) PARTS {
        vec x = load(a->g + i + k * N);
        lanes[k] = fma_(x, x, lanes[k]);
      }
    if (i < end) PARTS {
        vec x = get(a->g, i + k * N, end);
        lanes[k] = fma_(x, x, lanes[k]);
      }
    i = end;
    sum += total(lanes);
  }
  a->sums[task] = sum;
}
