// The parts of attention in float32, for one set of vector instructions (each_target.h).

// A panel of a product's second factor has PANEL columns, one k after the other, filled up with zeros.
#define PANEL (2 * N)

#define MOST_ROWS 6 // of C that are computed at once: more would not fit into 16 registers

#if INSTRUCTIONS >= 256
// transpose writes the transpose of 8 x 8 floats.
INLINE void NAME(transpose)(const float *from, long ld, float *to, long to_ld) {
  __m256 r[8], t[8];
  RR_UNROLL
  for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * ld);
  RR_UNROLL
  for (int i = 0; i < 4; i++) t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]), t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  RR_UNROLL
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  RR_UNROLL
  for (int i = 0; i < 4; i++) {
    _mm256_storeu_ps(to + i * to_ld, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_ld, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
#endif

// pack_columns packs a panel of up to PANEL columns whose k are apart.
INLINE void NAME(pack_columns)(const float *from, long ld, long columns, long k, float *to) {
  for (long i = 0; i < k; i++, from += ld, to += PANEL) {
    put(to, 0, PANEL, get(from, 0, (size_t)columns));
    put(to, N, PANEL, get(from, N, (size_t)columns));
  }
}

// pack_lines packs a panel of up to PANEL columns, each of which has its k side by side.
INLINE void NAME(pack_lines)(const float *from, long ld, long columns, long k, float *to) {
  for (long j = columns; j < PANEL; j++)
    for (long i = 0; i < k; i++) to[i * PANEL + j] = 0;
  long j = 0, whole = 0;
#if INSTRUCTIONS >= 256
  for (; j + 8 <= columns; j += 8)
    for (whole = 0; whole + 8 <= k; whole += 8) NAME(transpose)(from + j * ld + whole, ld, to + whole * PANEL + j, PANEL);
#endif
  for (long c = 0; c < columns; c++)
    for (long i = c < j ? whole : 0; i < k; i++) to[i * PANEL + c] = from[c * ld + i];
}

FUNCTION void NAME(pack)(const float *from, long ld, int trans, long n, long k, float *to) {
  for (long panel = 0; panel < n; panel += PANEL, to += k * PANEL) {
    const long columns = n - panel < PANEL ? n - panel : PANEL;
    if (trans)
      NAME(pack_lines)(from + panel * ld, ld, columns, k, to);
    else
      NAME(pack_columns)(from + panel, ld, columns, k, to);
  }
}

// some_rows computes `rows` rows of C in one panel, which has one vector of columns or two. a_row and a_k are the distances in A from one
// row, and one k, to the next.
INLINE void NAME(some_rows)(const rr_gemm *g, const float *a, long a_row, long a_k, const float *b, float *c, size_t columns, const int rows, const int vectors) {
  vec low[MOST_ROWS] = {0}, high[MOST_ROWS] = {0};
  for (long i = 0; i < g->k; i++, a += a_k, b += PANEL) {
    vec b0 = load(b), b1 = vectors > 1 ? load(b + N) : b0;
    RR_UNROLL
    for (int r = 0; r < rows; r++) {
      vec x = all(a[r * a_row]);
      low[r] = fma_(x, b0, low[r]);
      if (vectors > 1) high[r] = fma_(x, b1, high[r]);
    }
  }
  RR_UNROLL
  for (int r = 0; r < rows; r++, c += g->ldc) {
    vec x = low[r] * g->alpha, y = high[r] * g->alpha;
    if (g->accumulate) x += get(c, 0, columns), y += vectors > 1 ? get(c, N, columns) : y;
    put(c, 0, columns, x);
    if (vectors > 1) put(c, N, columns, y);
  }
}

// multiply_panel computes all rows of C in one panel.
INLINE void NAME(multiply_panel)(const rr_gemm *g, const float *b, float *c, size_t columns, const int vectors) {
  const long a_row = g->trans_a ? 1 : g->lda, a_k = g->trans_a ? g->lda : 1;
  const float *a = g->a;
  long left = g->m;
#define ROWS(rows) \
  for (; left >= rows; left -= rows, a += rows * a_row, c += rows * g->ldc) NAME(some_rows)(g, a, a_row, a_k, b, c, columns, rows, vectors)
  ROWS(MOST_ROWS);
  ROWS(4);
  ROWS(2);
  ROWS(1);
#undef ROWS
}

// multiply computes C = alpha·op(A)·B of a packed B, or adds that to C.
FUNCTION void NAME(multiply)(const rr_gemm *g) {
  const float *b = g->packed_b;
  for (long j = 0; j < g->n; j += PANEL, b += g->k * PANEL) {
    const size_t columns = (size_t)(g->n - j);
    if (columns > N)
      NAME(multiply_panel)(g, b, g->c + j, columns, 2);
    else
      NAME(multiply_panel)(g, b, g->c + j, columns, 1);
  }
}

// past_end makes the elements past the end of a row -Inf, so that they count nothing.
INLINE vec NAME(past_end)(vec x, size_t i, size_t n) {
  for (size_t j = 0; i + N > n && j < N; j++)
    if (i + j >= n) x[j] = -__builtin_inff();
  return x;
}

INLINE void NAME(add_bias)(size_t i, size_t n, float *s, const float *bias, vec *highest) {
  vec x = get(s, i, n) + get(bias, i, n);
  put(s, i, n, x);
  *highest = most(NAME(past_end)(x, i, n), *highest);
}

INLINE void NAME(exponentials)(size_t i, size_t n, float *s, float highest, vec *sum) {
  vec x = exp_(NAME(past_end)(get(s, i, n), i, n) - highest);
  put(s, i, n, x);
  *sum += x;
}

INLINE float NAME(maximum)(vec x) {
  float m[4];
  for (int i = 0; i < 4; i++) m[i] = x[i];
  for (int i = 4; i < N; i += 4)
    for (int j = 0; j < 4; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
  const float a = m[0] > m[2] ? m[0] : m[2], b = m[1] > m[3] ? m[1] : m[3];
  return a > b ? a : b;
}

INLINE float NAME(plus)(vec x) {
  four parts[N / 4];
  memcpy(parts, &x, sizeof x);
  for (int i = 1; i < N / 4; i++) parts[0] += parts[i];
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

// softmax makes a row of scores the exponentials of softmax and returns their sum.
INLINE float NAME(softmax)(float *s, const float *bias, size_t n) {
  vec highest = all(-3.4028235e38f), sum = {0};
  VECTORS(n, NAME(add_bias), s, bias, &highest);
  const float top = NAME(maximum)(highest);
  VECTORS(n, NAME(exponentials), s, top, &sum);
  return NAME(plus)(sum);
}

INLINE void NAME(times)(size_t i, size_t n, float *x, float factor) { put(x, i, n, get(x, i, n) * factor); }

FUNCTION void NAME(scale)(float *x, float factor, size_t n) { VECTORS(n, NAME(times), x, factor); }

INLINE void NAME(product_of)(size_t i, size_t n, float *s, const float *f) { put(s, i, n, get(s, i, n) * get(f, i, n)); }

// probabilities makes a row of scores exponentials times factors (NULL: 1), and returns 1 over the sum of the exponentials.
FUNCTION float NAME(probabilities)(float *s, const float *bias, const float *factors, size_t n) {
  float sum = NAME(softmax)(s, bias, n);
  if (factors) VECTORS(n, NAME(product_of), s, factors);
  return 1 / sum;
}

// The gradient of a row. s has the exponentials and becomes the probabilities times the factors; d has the gradient of that, and becomes the
// gradient of the scores.
INLINE void NAME(dot)(size_t i, size_t n, float *s, float *d, float inverse, vec *sum) {
  vec p = get(s, i, n) * inverse;
  put(s, i, n, p);
  *sum = fma_(p, get(d, i, n), *sum);
}

INLINE void NAME(score_gradient)(size_t i, size_t n, const float *s, float *d, float sum) { put(d, i, n, get(s, i, n) * (get(d, i, n) - sum)); }

FUNCTION void NAME(probability_gradient)(float *s, float *d, const float *bias, const float *factors, size_t n) {
  float inverse = 1 / NAME(softmax)(s, bias, n);
  vec sums = {0};
  if (factors) VECTORS(n, NAME(product_of), d, factors);
  VECTORS(n, NAME(dot), s, d, inverse, &sums);
  float sum = NAME(plus)(sums);
  VECTORS(n, NAME(score_gradient), s, d, sum);
  if (factors) VECTORS(n, NAME(product_of), s, factors);
}

static const code NAME(parts)[1] = {{PANEL, NAME(pack), NAME(multiply), NAME(scale), NAME(probabilities), NAME(probability_gradient)}};
#undef PANEL
#undef MOST_ROWS
