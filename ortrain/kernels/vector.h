// Vectors of N floats, for one set of instructions; each_target.h includes this file once for each. Sums use LANES lanes on all of
// them: element i is added in lane i % LANES, and lanes are added in the same order, so that sets with fused multiply-add agree.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if N == 4 && defined(__aarch64__)
#include <arm_neon.h>
#else
#include <math.h>
#endif

#define LANES 32
#define K (LANES / N)            // vectors of a block of LANES
#define PARTS _Pragma("GCC unroll 8") for (int k = 0; k < K; k++)

// VECTORS calls f(i, end, ...) for vectors of n elements, BLOCKS for blocks of LANES: with end = i + N or i + LANES, so that get and
// put of element i out of end are a plain load or store, and with end = n for the rest. Arguments are evaluated for each vector.
#define VECTORS(n, f, ...) EVERY(N, n, f, __VA_ARGS__)
#define BLOCKS(n, f, ...) EVERY(LANES, n, f, __VA_ARGS__)
#define EVERY(step, n, f, ...)                                                     \
  do {                                                                             \
    size_t at_ = 0;                                                                \
    for (; at_ + (step) <= (n); at_ += (step)) f(at_, at_ + (step), __VA_ARGS__); \
    if (at_ < (n)) f(at_, n, __VA_ARGS__);                                         \
  } while (0)

#ifdef RR_SIMULATE // compiles faster
#define INLINE FUNCTION __attribute__((noinline, unused))
#else
#define INLINE FUNCTION inline __attribute__((always_inline, unused))
#endif

typedef float NAME(vec) __attribute__((vector_size(4 * N)));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * N)));
typedef uint32_t NAME(bits) __attribute__((vector_size(4 * N)));
#define vec NAME(vec)
#define ints NAME(ints)
#define bits NAME(bits)

#define load NAME(load)
#define store NAME(store)
#define all NAME(all)
#define get NAME(get)
#define put NAME(put)
#define fma_ NAME(fma_)
#define root NAME(root)
#define pick NAME(pick)
#define least NAME(least)
#define most NAME(most)
#define total NAME(total)
#define exp_ NAME(exp_)

INLINE vec load(const float *p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

// all has x in each lane.
INLINE vec all(float x) { return (vec){0} + x; }

#if INSTRUCTIONS == 256
// mask has -1 in the first n lanes, of which there may be more or fewer than N.
INLINE __m256i NAME(mask)(size_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
#endif

// get loads p[i..], of which there are n elements; lanes past the end are 0.
INLINE vec get(const float *p, size_t i, size_t n) {
  if (i + N <= n) return load(p + i);
  vec v = {0};
  if (i >= n) return v;
#if INSTRUCTIONS == 512
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << (n - i)) - 1), p + i);
#elif INSTRUCTIONS == 256
  return (vec)_mm256_maskload_ps(p + i, NAME(mask)(n - i));
#else
  for (int j = 0; j < N; j++)
    if (i + j < n) v[j] = p[i + j];
  return v;
#endif
}

// put stores v at p[i..], of which there are n elements.
INLINE void put(float *p, size_t i, size_t n, vec v) {
  if (i + N <= n)
    store(p + i, v);
  else if (i < n) {
#if INSTRUCTIONS == 512
    _mm512_mask_storeu_ps(p + i, (__mmask16)((1u << (n - i)) - 1), (__m512)v);
#elif INSTRUCTIONS == 256
    _mm256_maskstore_ps(p + i, NAME(mask)(n - i), (__m256)v);
#else
    for (int j = 0; j < N; j++)
      if (i + j < n) p[i + j] = v[j];
#endif
  }
}

// fma_ is a·b + c, rounded once where the instructions can do that.
INLINE vec fma_(vec a, vec b, vec c) {
#if INSTRUCTIONS == 512
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif INSTRUCTIONS == 256
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif N == 16 // RR_SIMULATE
  for (int i = 0; i < N; i++) a[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return a;
#else
  return a * b + c;
#endif
}

INLINE vec root(vec a) {
#if INSTRUCTIONS == 512
  return (vec)_mm512_sqrt_ps((__m512)a);
#elif INSTRUCTIONS == 256
  return (vec)_mm256_sqrt_ps((__m256)a);
#elif N == 4 && defined(RR_X86)
  return (vec)_mm_sqrt_ps((__m128)a);
#elif N == 4 && defined(__aarch64__)
  return (vec)vsqrtq_f32((float32x4_t)a);
#else
  for (int i = 0; i < N; i++) a[i] = sqrtf(a[i]);
  return a;
#endif
}

// pick is a where the mask is -1, and b where it is 0.
INLINE vec pick(ints mask, vec a, vec b) { return (vec)((mask & (ints)a) | (~mask & (ints)b)); }

// least and most are the smaller and the larger one of a and b, and b where either is NaN.
INLINE vec least(vec a, vec b) {
#if INSTRUCTIONS == 512
  return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif INSTRUCTIONS == 256
  return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return pick(a < b, a, b);
#endif
}

INLINE vec most(vec a, vec b) {
#if INSTRUCTIONS == 512
  return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif INSTRUCTIONS == 256
  return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return pick(a > b, a, b);
#endif
}

// total adds the lanes of a block: halves onto halves.
INLINE float total(const vec *a) {
  typedef float four __attribute__((vector_size(16)));
  four parts[LANES / 4];
  PARTS memcpy(parts + k * (N / 4), a + k, sizeof *a);
  four b = (parts[0] + parts[4]) + (parts[2] + parts[6]), c = (parts[1] + parts[5]) + (parts[3] + parts[7]);
  b += c;
  return (b[0] + b[2]) + (b[1] + b[3]);
}

// exp_ is the exponential function of x <= 0, within 1 unit in the last place with fused multiply-add; 0 below -87. It computes
// 2^n·exp(r) with x = n·ln 2 + r. ln 2 is split into a part of few bits, which n times is exact, and the rest (Cody and Waite 1980).
// scripts/fixtures/kernel_coefficients.py makes the polynomial.
INLINE vec exp_(vec x) {
  ints tiny = x < -87;
  const vec shift = all(12582912); // 1.5·2^23: its last bit is 1, so that adding it rounds to integers
  vec shifted = fma_(x, all(1.44269504f), shift);
  vec n = shifted - shift;
  vec r = fma_(n, all(-0x1.62e4p-1f), x);
  r = fma_(n, all(-0x1.7f7d1cp-20f), r);
  vec y = fma_(all(0.001394110843f), r, all(0.008375126398f));
  y = fma_(y, r, all(0.0416663529f));
  y = fma_(y, r, all(0.1666641551f));
  y = fma_(y, r, all(0.5000000047f));
  y = fma_(y, r, all(1));
  y = fma_(y, r, all(1));
  y *= (vec)(((bits)shifted << 23) + 0x3f800000); // 2^n: the low bits of shifted are n
  return (vec)((ints)y & ~tiny);
}
