// Rows of float32 to uint8, for one set of vector instructions (each_target.h).

// largest_block keeps the largest absolute values, compared as integers: floats without sign have the same order, and NaN is above all.
INLINE void NAME(largest_block)(size_t i, size_t n, const float *x, ints *high) {
  PARTS {
    ints v = (ints)get(x, i + k * N, n) & 0x7fffffff, more = v > high[k];
    high[k] = (v & more) | (high[k] & ~more);
  }
}

// largest is the largest lane of a block.
INLINE float NAME(largest)(const ints *a) {
  int32_t lanes[LANES], x = 0;
  PARTS memcpy(lanes + k * N, a + k, sizeof *a);
  for (int i = 0; i < LANES; i++) x = lanes[i] > x ? lanes[i] : x;
  float f;
  memcpy(&f, &x, sizeof f);
  return f;
}

INLINE void NAME(quantize_vector)(size_t i, size_t n, const float *x, float scale, uint8_t *q) {
  const vec shift = all(12582912); // rounds to integers, as in exp_
  vec v = least(most(get(x, i, n) / scale, all(-128)), all(127));
  ints rounded = (ints)(v + shift) - (ints)shift + 128;
  uint8_t bytes[N];
#if INSTRUCTIONS == 512
  _mm_storeu_si128((__m128i *)bytes, _mm512_cvtepi32_epi8((__m512i)rounded));
#elif INSTRUCTIONS == 256
  __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)rounded), _mm256_extracti128_si256((__m256i)rounded, 1));
  _mm_storel_epi64((__m128i *)bytes, _mm_packus_epi16(words, words));
#else
  for (int j = 0; j < N; j++) bytes[j] = (uint8_t)rounded[j];
#endif
  memcpy(q + i, bytes, i + N <= n ? N : n - i);
}

FUNCTION void NAME(quantize_rows)(const pass *a, size_t from, size_t to) {
  size_t n = a->width;
  for (size_t row = from; row < to; row++) {
    const float *x = a->x + row * n;
    ints high[K] = {0};
    BLOCKS(n, NAME(largest_block), x, high);
    float largest = NAME(largest)(high), scale = (largest < 1e-30f ? 1e-30f : largest) * (float)(1.0 / 127);
    a->scale[row] = scale;
    uint8_t *q = a->q + row * n;
    VECTORS(n, NAME(quantize_vector), x, scale, q);
  }
}
