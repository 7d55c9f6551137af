#include "limits.h"

// The units are found and named as the kernels do it. The function has another name here, since a program may have both packages.
#define rr_cpu limits_cpu
#include "../../../../ortrain/kernels/cpu.c"
#include "../../../../ortrain/kernels/intrinsics.h"

// More sums than the latency of a unit times its units: 4 cycles times 2 are the most on today's CPUs.
#define SUMS 12

// MULTIPLY makes a loop over vectors of some bytes. The compiler may not know the factors, or it would compute the result by itself.
#define MULTIPLY(name, bytes, target)                                                            \
  typedef float name##_vector __attribute__((vector_size(bytes)));                               \
  target static double name(long rounds) {                                                       \
    name##_vector sum[SUMS] = {0}, factor = {0.5f};                                              \
    __asm__ volatile("" : "+m"(factor));                                                         \
    name##_vector x = factor, y = factor + 1;                                                    \
    for (long r = 0; r < rounds; r++) {                                                          \
      RR_UNROLL                                                                                  \
      for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * x + y;                                    \
    }                                                                                            \
    RR_UNROLL                                                                                    \
    for (int i = 0; i < SUMS; i++) __asm__ volatile("" : : "m"(sum[i]));                         \
    return 2.0 * SUMS * (bytes / sizeof(float)) * (double)rounds;                                \
  }

MULTIPLY(multiply_any, 16, )
#ifdef RR_X86
MULTIPLY(multiply_avx2, 32, RR_TARGET("avx2,fma"))
MULTIPLY(multiply_avx512, 64, RR_TARGET("avx512f"))
#endif

#if RR_GEMM_UNITS
RR_AVX512_CODE static double dot_avx512(long rounds) {
  __m512 sum[SUMS];
  RR_UNROLL
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_setzero_ps();
  __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80), y = x;
  __asm__ volatile("" : "+v"(x), "+v"(y));
  for (long r = 0; r < rounds; r++) {
    RR_UNROLL
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, y);
  }
  RR_UNROLL
  for (int i = 0; i < SUMS; i++) __asm__ volatile("" : : "v"(sum[i]));
  return 2.0 * SUMS * 32 * (double)rounds;
}

RR_AMX_CODE static double dot_amx(long rounds) {
  static const struct {
    unsigned char palette, start_row, reserved[14];
    unsigned short bytes_of_row[16];
    unsigned char rows[16];
  } whole __attribute__((aligned(64))) = {
      .palette = 1, .bytes_of_row = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&whole);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (long r = 0; r < rounds; r++) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 4 * 2.0 * 16 * 16 * 32 * (double)rounds;
}
#endif

double limits_multiply(int unit, long rounds) {
  const int cpu = rr_cpu();
  (void)cpu;
  switch (unit) {
#ifdef RR_X86
  case LIMITS_FLOAT32: return cpu & RR_AVX512 ? multiply_avx512(rounds) : cpu & RR_AVX2 ? multiply_avx2(rounds) : multiply_any(rounds);
#else
  case LIMITS_FLOAT32: return multiply_any(rounds);
#endif
#if RR_GEMM_UNITS
  case LIMITS_AVX512: return rr_has(RR_AVX512 | RR_VDPBF16) ? dot_avx512(rounds) : 0;
  case LIMITS_AMX: return rr_has(RR_AMX) ? dot_amx(rounds) : 0;
#endif
  }
  return 0;
}

typedef float wide __attribute__((vector_size(16), aligned(4)));

void limits_move(const float *a, const float *b, float *c, long n, long rounds) {
  for (long r = 0; r < rounds; r++) {
    for (long i = 0; i + 16 <= n; i += 16) {
      for (int j = 0; j < 16; j += 4) *(wide *)(c + i + j) = *(const wide *)(a + i + j) + 3 * *(const wide *)(b + i + j);
    }
    __asm__ volatile("" : : : "memory");
  }
}
