// Activations, for one set of vector instructions (each_target.h).
#define normal NAME(normal)
#define act NAME(act)

// normal computes the normal distribution Φ(x) and its density. Both come from d = exp(-x²/2): with a = |x|,
// Φ(-a) = d·q(u), u = (a - 3)/(a + 3), q a polynomial made by kernel_coefficients.py. At 15, d is 0.
INLINE vec normal(vec x, vec *density) {
  vec a = least(all(15), pick(x < 0, -x, x)), square = a * a;
  vec rest = fma_(a, a, -square); // what the rounding of the square lost; 0 without fused multiply-add
  vec d = exp_(square * -0.5f);
  d = fma_(d * -0.5f, rest, d);
  vec u = (a - 3) / (a + 3);
  vec q = fma_(all(5.409386007e-5f), u, all(0.0001162079292f));
  q = fma_(q, u, all(-0.0003395564635f));
  q = fma_(q, u, all(-0.0009842763833f));
  q = fma_(q, u, all(0.00290442839f));
  q = fma_(q, u, all(0.00613219251f));
  q = fma_(q, u, all(-0.04621324747f));
  q = fma_(q, u, all(0.1232250217f));
  q = fma_(q, u, all(-0.2064026221f));
  q = fma_(q, u, all(0.1215139477f)) * d;
  *density = d * 0.3989422804f; // 1/√(2π)
  return pick(x < 0, q, 1 - q);
}

// act is the activation of x; slope is set to its derivative. Those with sigmoid(z) compute e = exp(-|z|) and t = 1/(1 + e), because
// sigmoid(z)·(1 - sigmoid(z)) = e·t² then loses nothing where sigmoid(z) is near 1.
INLINE vec act(rr_activation_kind kind, vec x, vec *slope) {
  if (kind == RR_GELU) {
    vec density, p = normal(x, &density);
    *slope = fma_(x, density, p);
    return x * p;
  }
  vec z = pick(x < 0, -x, x), dz = all(1);
  if (kind == RR_GELU_TANH) { // (1 + tanh(z/2))/2 = sigmoid(z)
    const float c = 1.5957691216f, c3 = 0.0713548162726f; // 2·√(2/π), and times 0.044715
    vec a = least(all(14), z), square = a * a;            // past 14, sigmoid is 0 or 1
    z = a * fma_(square, all(c3), all(c));
    dz = fma_(square, all(3 * c3), all(c));
  }
  vec e = exp_(-z), t = 1 / (1 + e);
  vec s = t * pick(x < 0, e, all(1));
  *slope = fma_(x, dz * e * t * t, s);
  return x * s;
}

// EACH_KIND calls VECTORS with a constant for the kind, so that the compiler makes a loop for each.
#undef EACH_KIND
#define EACH_KIND(kind, n, f, ...)                                 \
  switch (kind) {                                                  \
  case RR_GELU: VECTORS(n, f, RR_GELU, __VA_ARGS__); break;           \
  case RR_GELU_TANH: VECTORS(n, f, RR_GELU_TANH, __VA_ARGS__); break; \
  case RR_SILU: VECTORS(n, f, RR_SILU, __VA_ARGS__); break;           \
  }

INLINE void NAME(activate_vector)(size_t i, size_t n, rr_activation_kind kind, const float *x, float *y) {
  vec unused;
  put(y, i, n, act(kind, get(x, i, n), &unused));
}

FUNCTION void NAME(activate)(const pass *a, size_t from, size_t to) {
  const float *x = a->x + from;
  float *y = a->y + from;
  EACH_KIND(a->kind, to - from, NAME(activate_vector), x, y)
}

INLINE void NAME(gradient_vector)(size_t i, size_t n, rr_activation_kind kind, const float *dy, const float *x, float *dx) {
  vec s;
  act(kind, get(x, i, n), &s);
  put(dx, i, n, get(dy, i, n) * s);
}

FUNCTION void NAME(activation_gradient)(const pass *a, size_t from, size_t to) {
  const float *dy = a->dy + from, *x = a->x + from;
  float *dx = a->y + from;
  EACH_KIND(a->kind, to - from, NAME(gradient_vector), dy, x, dx)
}

INLINE void NAME(gate_vector)(size_t i, size_t n, rr_activation_kind kind, const float *gate, const float *other, float *y) {
  vec unused;
  put(y, i, n, act(kind, get(gate, i, n), &unused) * get(other, i, n));
}

FUNCTION void NAME(gate_rows)(const pass *a, size_t from, size_t to) {
  size_t n = a->width, gate = a->gate_last ? n : 0, other = n - gate;
  for (size_t row = from; row < to; row++) {
    const float *x = a->x + 2 * row * n;
    float *y = a->y + row * n;
    EACH_KIND(a->kind, n, NAME(gate_vector), x + gate, x + other, y)
  }
}

INLINE void NAME(gate_gradient_vector)(size_t i, size_t n, rr_activation_kind kind, const float *dy, const float *x, float *dx, size_t gate, size_t other) {
  vec s, d = get(dy, i, n), b = get(x + other, i, n), y = act(kind, get(x + gate, i, n), &s);
  put(dx + gate, i, n, d * b * s);
  put(dx + other, i, n, d * y);
}

FUNCTION void NAME(gate_gradient_rows)(const pass *a, size_t from, size_t to) {
  size_t n = a->width, gate = a->gate_last ? n : 0, other = n - gate;
  for (size_t row = from; row < to; row++) {
    const float *dy = a->dy + row * n, *x = a->x + 2 * row * n;
    float *dx = a->y + 2 * row * n;
    EACH_KIND(a->kind, n, NAME(gate_gradient_vector), dy, x, dx, gate, other)
  }
}

#undef normal
#undef act
