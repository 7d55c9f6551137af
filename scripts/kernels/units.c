// Runs one instruction of each unit, and compares the result with arithmetic in C. It fails unless the CPU, the operating system and
// rr_cpu() offer all of them: a test that skips a unit on the emulated CPU would prove nothing.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"

static uint16_t bf16(float f) { // of a small whole number, which bfloat16 has exactly
  uint32_t u;
  memcpy(&u, &f, 4);
  return u >> 16;
}

static float a(int i) { return i % 7 - 3; }
static float b(int i) { return i % 11 - 5; }

__attribute__((target("avx512f,avx512bf16"))) static int dot(void) {
  uint16_t x[32], y[32];
  float c[16];
  int wrong = 0;
  for (int i = 0; i < 32; i++) x[i] = bf16(a(i)), y[i] = bf16(b(i));
  __m512 sum = _mm512_set1_ps(0.5f);
  sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(x), (__m512bh)_mm512_loadu_si512(y));
  _mm512_storeu_ps(c, sum);
  for (int i = 0; i < 16; i++) wrong += c[i] != 0.5f + a(2 * i) * b(2 * i) + a(2 * i + 1) * b(2 * i + 1);
  printf("vdpbf16ps: %d of 16 wrong\n", wrong);
  return wrong;
}

// tiles multiplies twice and waits between, so that the operating system's timer interrupts a process whose tiles are in use.
__attribute__((target("amx-tile,amx-bf16,avx512f"))) static int tiles(void) {
  struct {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape __attribute__((aligned(64))) = {.palette = 1};
  uint16_t x[16][32], y[16][32];
  float c[16][16];
  int wrong = 0;
  for (int i = 0; i < 3; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 32; k++) x[i][k] = bf16(a(i + k)), y[i][k] = bf16(b(5 * i + k));
  _tile_loadconfig(&shape);
  _tile_zero(0);
  _tile_loadd(1, x, 64);
  _tile_loadd(2, y, 64);
  _tile_dpbf16ps(0, 1, 2);
  for (volatile int wait = 0; wait < 10000000; wait++) {}
  _tile_dpbf16ps(0, 1, 2);
  _tile_stored(0, c, 64);
  _tile_release();
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      float sum = 0;
      for (int k = 0; k < 32; k++) sum += a(i + k) * b(5 * (k / 2) + 2 * j + k % 2);
      wrong += c[i][j] != 2 * sum;
    }
  printf("tdpbf16ps: %d of 256 wrong\n", wrong);
  return wrong;
}

int main(void) {
  int units = rr_cpu(), wrong = 0;
  printf("units:%s%s%s%s\n", units & RR_AVX2 ? " avx2" : "", units & RR_AVX512 ? " avx512" : "", units & RR_VDPBF16 ? " vdpbf16ps" : "",
         units & RR_AMX ? " amx" : "");
  fflush(stdout);
  if (units & RR_VDPBF16) wrong += dot();
  if (units & RR_AMX) wrong += tiles();
  return wrong != 0 || units != (RR_AVX2 | RR_AVX512 | RR_VDPBF16 | RR_AMX);
}
