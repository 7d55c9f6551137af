// Plain C for the instructions that intrinsics.h lists, written from their pseudocode in Intel's manuals (volumes 2 and the guide of
// intrinsics). A misuse that a CPU answers with a fault (a tile without configuration, an address out of range under ASan) ends the test.
#ifndef RR_SIMULATE_H
#define RR_SIMULATE_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64)));
typedef long long __m512i __attribute__((vector_size(64)));
typedef short __m512bh __attribute__((vector_size(64)));
typedef unsigned short __mmask16;

// ---- helpers ---------------------------------------------------------------------------------------------------------------
#define RR_SIM static inline __attribute__((unused))
// Arithmetic on values, of which sanitizers need not watch each step.
#define RR_SIM_VALUES static inline __attribute__((unused, no_sanitize("address", "undefined")))
RR_SIM_VALUES uint32_t sim_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
RR_SIM_VALUES float sim_float(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
RR_SIM_VALUES float sim_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; } // denormals are zero; NaN stays
RR_SIM_VALUES float sim_low(uint32_t pair) { return sim_flush(sim_float(pair << 16)); }
RR_SIM_VALUES float sim_high(uint32_t pair) { return sim_flush(sim_float(pair & 0xffff0000u)); }
// a * b is exact: bfloat16 has 8 digits.
RR_SIM_VALUES float sim_add_product(float sum, float a, float b) { return sim_flush(a * b + sim_flush(sum)); }

typedef struct {
  uint32_t x[16];
} sim_dwords;
RR_SIM_VALUES sim_dwords sim_of(__m512i v) {
  sim_dwords d;
  memcpy(&d, &v, 64);
  return d;
}
RR_SIM_VALUES __m512i sim_to(sim_dwords d) {
  __m512i v;
  memcpy(&v, &d, 64);
  return v;
}

// ---- SSE -------------------------------------------------------------------------------------------------------------------
enum { _MM_HINT_T1 = 2 };
// A prefetch reads nothing that the program sees. This one reads its byte, so that ASan knows where it looks.
RR_SIM void _mm_prefetch(const char *p, int hint) {
  (void)hint;
  (void)*(const volatile char *)p;
}

// ---- AVX512F: memory and float32 -------------------------------------------------------------------------------------------
RR_SIM __m512 _mm512_setzero_ps(void) { return (__m512){0}; }
RR_SIM __m512i _mm512_setzero_si512(void) { return (__m512i){0}; }
RR_SIM __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void *p) {
  __m512 v = {0};
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) memcpy((char *)&v + 4 * i, (const char *)p + 4 * i, 4);
  return v;
}
RR_SIM void _mm512_mask_storeu_ps(void *p, __mmask16 mask, __m512 v) {
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) memcpy((char *)p + 4 * i, (char *)&v + 4 * i, 4);
}
RR_SIM __m512 _mm512_loadu_ps(const void *p) { return _mm512_maskz_loadu_ps(0xffff, p); }
RR_SIM void _mm512_storeu_ps(void *p, __m512 v) { memcpy(p, &v, 64); }
RR_SIM __m512i _mm512_loadu_si512(const void *p) {
  __m512i v;
  memcpy(&v, p, 64);
  return v;
}
RR_SIM void _mm512_storeu_si512(void *p, __m512i v) { memcpy(p, &v, 64); }
RR_SIM __m512 _mm512_set1_ps(float x) { return (__m512){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
RR_SIM __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
RR_SIM __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
RR_SIM __m512i _mm512_set1_epi32(int x) {
  sim_dwords d;
  for (int i = 0; i < 16; i++) d.x[i] = (uint32_t)x;
  return sim_to(d);
}

// ---- AVX512F and BW: orders of words ---------------------------------------------------------------------------------------
// sim_unpack takes, in each lane of 128 bits, items of `size` dwords from a and b in turn, of the lower or the upper half of the lane.
RR_SIM_VALUES __m512i sim_unpack(__m512i va, __m512i vb, int size, int upper) {
  const sim_dwords a = sim_of(va), b = sim_of(vb);
  sim_dwords out;
  for (int i = 0; i < 16; i++) {
    const int lane = i / 4 * 4, item = i % 4 / size, from = lane + 2 * upper + item / 2 * size + i % size;
    out.x[i] = item % 2 ? b.x[from] : a.x[from];
  }
  return sim_to(out);
}
RR_SIM __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) { return sim_unpack(a, b, 1, 0); }
RR_SIM __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) { return sim_unpack(a, b, 1, 1); }
RR_SIM __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) { return sim_unpack(a, b, 2, 0); }
RR_SIM __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) { return sim_unpack(a, b, 2, 1); }
RR_SIM_VALUES __m512i _mm512_shuffle_i32x4(__m512i va, __m512i vb, int order) {
  const sim_dwords a = sim_of(va), b = sim_of(vb);
  sim_dwords out;
  for (int i = 0; i < 16; i++) {
    const int from = (order >> i / 4 * 2 & 3) * 4 + i % 4;
    out.x[i] = i < 8 ? a.x[from] : b.x[from];
  }
  return sim_to(out);
}
RR_SIM_VALUES __m512i _mm512_permutexvar_epi16(__m512i order, __m512i v) {
  uint16_t from[32], index[32], out[32];
  memcpy(from, &v, 64), memcpy(index, &order, 64);
  for (int i = 0; i < 32; i++) out[i] = from[index[i] & 31];
  return _mm512_loadu_si512(out);
}

// ---- AVX512-BF16 -----------------------------------------------------------------------------------------------------------
RR_SIM_VALUES uint16_t sim_bfloat16(float x) {
  const uint32_t u = sim_bits(sim_flush(x));
  if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16); // infinity stays: its lower half is 0
}
RR_SIM_VALUES __m512bh _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  __m512bh out;
  for (int i = 0; i < 32; i++) out[i] = (short)sim_bfloat16(i < 16 ? low[i] : high[i - 16]);
  return out;
}
RR_SIM_VALUES __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh va, __m512bh vb) {
  const sim_dwords a = sim_of((__m512i)va), b = sim_of((__m512i)vb);
  for (int i = 0; i < 16; i++) {
    sum[i] = sim_add_product(sum[i], sim_high(a.x[i]), sim_high(b.x[i]));
    sum[i] = sim_add_product(sum[i], sim_low(a.x[i]), sim_low(b.x[i]));
  }
  return sum;
}

// ---- AMX -------------------------------------------------------------------------------------------------------------------
static __thread struct {
  int configured;
  uint8_t config[64];
  uint32_t tile[8][16][16];
} sim_amx __attribute__((unused));

RR_SIM void sim_check(int holds, const char *what) {
  if (holds) return;
  printf("FAIL simulated AMX: %s\n", what);
  exit(1);
}
RR_SIM int sim_rows(int t) {
  sim_check(sim_amx.configured, "a tile is used before the configuration");
  sim_check(sim_amx.config[0] == 1, "the palette is not 1");
  return sim_amx.config[48 + t];
}
RR_SIM int sim_bytes(int t) { return sim_amx.config[16 + 2 * t] | sim_amx.config[17 + 2 * t] << 8; }
RR_SIM void _tile_loadconfig(const void *config) {
  sim_check(!sim_amx.configured, "the configuration is loaded twice");
  memset(&sim_amx, 0, sizeof sim_amx);
  memcpy(sim_amx.config, config, 64);
  sim_amx.configured = 1;
}
RR_SIM void _tile_release(void) {
  sim_check(sim_amx.configured, "tiles are released without a configuration");
  sim_amx.configured = 0;
}
RR_SIM void _tile_zero(int t) {
  sim_rows(t);
  memset(sim_amx.tile[t], 0, sizeof sim_amx.tile[t]);
}
RR_SIM void _tile_loadd(int t, const void *base, size_t stride) {
  _tile_zero(t);
  for (int i = 0; i < sim_rows(t); i++) memcpy(sim_amx.tile[t][i], (const char *)base + (size_t)i * stride, (size_t)sim_bytes(t));
}
RR_SIM void _tile_stored(int t, void *base, size_t stride) {
  for (int i = 0; i < sim_rows(t); i++) memcpy((char *)base + (size_t)i * stride, sim_amx.tile[t][i], (size_t)sim_bytes(t));
}
RR_SIM_VALUES void _tile_dpbf16ps(int c, int a, int b) {
  sim_check(sim_rows(c) == sim_rows(a) && sim_bytes(c) == sim_bytes(b) && sim_bytes(a) == 4 * sim_rows(b), "tiles do not match");
  const int rows = sim_rows(c), columns = sim_bytes(c) / 4, pairs = sim_bytes(a) / 4;
  for (int i = 0; i < rows; i++) {
    float low[16] = {0}, high[16] = {0}; // even and odd k are summed apart
    for (int p = 0; p < pairs; p++) {
      const float x = sim_low(sim_amx.tile[a][i][p]), y = sim_high(sim_amx.tile[a][i][p]);
      for (int j = 0; j < columns; j++) {
        low[j] = sim_add_product(low[j], x, sim_low(sim_amx.tile[b][p][j]));
        high[j] = sim_add_product(high[j], y, sim_high(sim_amx.tile[b][p][j]));
      }
    }
    for (int j = 0; j < columns; j++)
      sim_amx.tile[c][i][j] = sim_bits(sim_flush(sim_flush(sim_float(sim_amx.tile[c][i][j])) + sim_flush(low[j] + high[j])));
  }
}
#endif
