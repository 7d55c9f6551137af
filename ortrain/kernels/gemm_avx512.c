// The unit AVX512-BF16: the instruction vdpbf16ps multiplies 16 pairs of bfloat16 with 16 others and adds both products of a pair to one of
// 16 sums. The packing of this file serves AMX, too.
#include "gemm_parts.h"
#include "intrinsics.h"

#if RR_GEMM_UNITS
#define VECTOR RR_AVX512_CODE static inline __attribute__((always_inline))

// transpose turns 16 x 16 dwords around, in four steps that exchange neighbours of 1, 2, 4 and 8 dwords.
VECTOR void transpose(__m512i r[16]) {
  __m512i t[16];
  RR_UNROLL
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  RR_UNROLL
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  RR_UNROLL
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  RR_UNROLL
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// first is the mask of the first n of 16 lanes.
static inline unsigned short first(long n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (unsigned short)((1u << n) - 1); }

// rounded: low in words 0..15, high in words 16..31.
VECTOR __m512i rounded(__m512 low, __m512 high, __m512 scale) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(high, scale), _mm512_mul_ps(low, scale));
}

// along reads lines that are contiguous in k: vector l is line l, 32 k. Dword (l, p) is pair p of line l: a tile of A.
VECTOR void along(__m512i r[16], const float *from, long ld, long lines, long ks, __m512 scale) {
  const unsigned short low = first(ks), high = first(ks - 16);
  RR_UNROLL
  for (int l = 0; l < 16; l++) {
    if (l >= lines) r[l] = _mm512_setzero_si512();
    else if (ks >= 32) r[l] = rounded(_mm512_loadu_ps(from + l * ld), _mm512_loadu_ps(from + l * ld + 16), scale);
    else if (ks > 16) r[l] = rounded(_mm512_loadu_ps(from + l * ld), _mm512_maskz_loadu_ps(high, from + l * ld + 16), scale);
    else r[l] = rounded(_mm512_maskz_loadu_ps(low, from + l * ld), _mm512_setzero_ps(), scale);
  }
}

// across reads lines that are columns in memory: vector p is two rows of memory, k = 2p and 2p + 1, interleaved. Dword (p, l) is pair p of
// line l: a tile of B.
VECTOR void across(__m512i r[16], const float *from, long ld, long lines, long ks, __m512 scale) {
  static const unsigned short order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                           8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i interleave = _mm512_loadu_si512(order);
  const unsigned short mask = first(lines);
  RR_UNROLL
  for (int p = 0; p < 16; p++) {
    const __m512 low = 2 * p < ks ? _mm512_maskz_loadu_ps(mask, from + 2 * p * ld) : _mm512_setzero_ps();
    const __m512 high = 2 * p + 1 < ks ? _mm512_maskz_loadu_ps(mask, from + (2 * p + 1) * ld) : _mm512_setzero_ps();
    r[p] = _mm512_permutexvar_epi16(interleave, rounded(low, high, scale));
  }
}

VECTOR void pack_tile(const rr_source *s, long line, long k, uint32_t *to) {
  const __m512 scale = _mm512_set1_ps(s->scale);
  __m512i r[16];
  if (line >= s->lines)
    RR_UNROLL
    for (int i = 0; i < 16; i++) r[i] = _mm512_setzero_si512();
  else if (s->k_contiguous) along(r, s->from + line * s->ld + k, s->ld, s->lines - line, s->k - k, scale);
  else across(r, s->from + k * s->ld + line, s->ld, s->lines - line, s->k - k, scale);
  if (line < s->lines && s->k_contiguous == s->is_b) transpose(r); // memory has the other order
  RR_UNROLL
  for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + 16 * i, r[i]);
}

RR_AVX512_CODE void rr_avx512_pack(const rr_source *s, long panel, long first_block, long last_block) {
  for (long block = first_block; block < last_block; block++)
    for (long half = 0; half < 2; half++)
      pack_tile(s, panel * RR_LINES + half * 16, block * RR_BLOCK, s->to + (panel * rr_blocks(s->k) + block) * RR_STEP + half * RR_TILE);
}

// eight_rows computes 8 rows and 32 columns of C in 16 vectors: for each pair of k two vectors of B, and 8 dwords of A, each broadcast.
VECTOR void eight_rows(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start, long start_ld) {
  __m512 sum[8][2];
  RR_UNROLL
  for (int i = 0; i < 8; i++)
    RR_UNROLL
    for (int j = 0; j < 2; j++) sum[i][j] = _mm512_setzero_ps();
  for (long block = 0; block < blocks; block++, a += RR_STEP, b += RR_STEP)
    for (int p = 0; p < 16; p++) {
      const __m512i b0 = _mm512_loadu_si512(b + 16 * p), b1 = _mm512_loadu_si512(b + RR_TILE + 16 * p);
      RR_UNROLL
      for (int i = 0; i < 8; i++) {
        const __m512i x = _mm512_set1_epi32((int)a[16 * i + p]);
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], (__m512bh)x, (__m512bh)b0);
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], (__m512bh)x, (__m512bh)b1);
      }
    }
  RR_UNROLL
  for (int i = 0; i < 8; i++)
    RR_UNROLL
    for (int j = 0; j < 2; j++) {
      if (start) sum[i][j] = _mm512_add_ps(_mm512_loadu_ps(start + i * start_ld + 16 * j), sum[i][j]);
      _mm512_storeu_ps(c + i * ldc + 16 * j, sum[i][j]);
    }
}

RR_AVX512_CODE static void multiply(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start,
                                    long start_ld, rr_ahead ahead) {
  (void)ahead; // it computes longer than it waits for memory
  for (long i = 0; i < RR_LINES; i += 8)
    eight_rows(a + 16 * i, b, blocks, c + i * ldc, ldc, start ? start + i * start_ld : start, start_ld);
}

RR_AVX512_CODE void rr_avx512_add_rows(const float *from, long ld, long rows, long columns, float *sums) {
  const unsigned short left = first(columns), right = first(columns - 16);
  __m512 s = _mm512_maskz_loadu_ps(left, sums), t = right ? _mm512_maskz_loadu_ps(right, sums + 16) : _mm512_setzero_ps();
  for (long i = 0; i < rows; i++) {
    s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(left, from + i * ld));
    if (right) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(right, from + i * ld + 16));
  }
  _mm512_mask_storeu_ps(sums, left, s);
  if (right) _mm512_mask_storeu_ps(sums + 16, right, t);
}

RR_AVX512_CODE void rr_avx512_store_part(const float *t, float *c, long ldc, long rows, long columns, int accumulate) {
  for (long j = 0; j < columns; j += 16) {
    const unsigned short mask = first(columns - j);
    for (long i = 0; i < rows; i++) {
      __m512 x = _mm512_loadu_ps(t + i * RR_LINES + j);
      if (accumulate) x = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c + i * ldc + j), x);
      _mm512_mask_storeu_ps(c + i * ldc + j, mask, x);
    }
  }
}

static void nothing(void) {}
static const rr_gemm_code avx512 = {nothing, nothing, rr_avx512_pack, multiply, rr_avx512_store_part, rr_avx512_add_rows};

const rr_gemm_code *rr_gemm_avx512(void) { return rr_has(RR_AVX512 | RR_VDPBF16) ? &avx512 : NULL; }
#else
const rr_gemm_code *rr_gemm_avx512(void) { return NULL; }
#endif
