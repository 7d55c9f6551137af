// Vectors of N floats, for one set of instructions; each_target.h includes this file once for each. Sums use LANES lanes on all of
// them: element i is added in lane i % LANES, and lanes are added in the same order, so that sets with fused multiply-add agree.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if N == 4 && defined(__aarch64__)
#include <arm_neon.h>
#elif N == 4 && !defined(RR_X86)
#include <math.h>
#endif

#define LANES 32
#define K (LANES / N)            // vectors of a block of LANES
#define PARTS _Pragma("GCC unroll 8") for (int k = 0; k < K; k++)
#define INLINE FUNCTION inline __attribute__((always_inline, unused))

typedef float NAME(vec) __attribute__((vector_size(4 * N)));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * N)));
#define vec NAME(vec)
#define ints NAME(ints)

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

// get loads p[i..], of which there are n elements; lanes past the end are 0.
INLINE vec get(const float *p, size_t i, size_t n) {
  if (i + N <= n) return load(p + i);
  vec v = {0};
  if (i < n) memcpy(&v, p + i, (n - i) * sizeof *p);
  return v;
}

// put stores v at p[i..], of which there are n elements.
INLINE void put(float *p, size_t i, size_t n, vec v) {
  if (i + N <= n)
    store(p + i, v);
  else if (i < n)
    memcpy(p + i, &v, (n - i) * sizeof *p);
}

// fma_ is a·b + c, rounded once where the instructions can do that.
INLINE vec fma_(vec a, vec b, vec c) {
#if N == 16
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif N == 8
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

INLINE vec root(vec a) {
#if N == 16
  return (vec)_mm512_sqrt_ps((__m512)a);
#elif N == 8
  return (vec)_mm256_sqrt_ps((__m256)a);
#elif defined(RR_X86)
  return (vec)_mm_sqrt_ps((__m128)a);
#elif defined(__aarch64__)
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
#if N == 16
  return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif N == 8
  return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return pick(a < b, a, b);
#endif
}

INLINE vec most(vec a, vec b) {
#if N == 16
  return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif N == 8
  return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return pick(a > b, a, b);
#endif
}

// total adds the lanes of a block: halves onto halves.
INLINE float total(const vec *a) {
  float lanes[LANES];
  PARTS store(lanes + k * N, a[k]);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

// exp_ is the exponential function, within 1.5 units in the last place where fma_ rounds once (measured on all floats); 0 below -104,
// infinity from 88.73. It computes 2^n·exp(r) with x = n·ln 2 + r. ln 2 is split into a part of few bits, which n times is exact, and
// the rest (Cody and Waite 1980). kernel_coefficients.py makes the polynomial. 2^n is multiplied in two steps, because it overflows or
// underflows where the result does not yet.
INLINE vec exp_(vec x) {
  x = most(all(-105), least(all(89), x)); // NaN stays
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
  ints e = (ints)shifted - (ints)shift, half = e >> 1;
  return y * (vec)((half + 127) << 23) * (vec)((e - half + 127) << 23);
}
