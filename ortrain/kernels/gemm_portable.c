// The portable unit: plain C, and the reference for the others. Products of two bfloat16 values are exact in float32, so that compilers may
// or may not fuse multiplication and addition: the result is the same.
#include <string.h>

#include "cpu.h"
#include "gemm_parts.h"
#include "targets.h"

#define BODY static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(32), may_alias));
typedef uint32_t words __attribute__((vector_size(32), may_alias));
typedef uint32_t word __attribute__((may_alias));

// round_to_bfloat16 does what vcvtneps2bf16 does, bit for bit: to nearest, ties to even; denormals become zero; NaN becomes quiet.
// The result is in the lower halves.
BODY void round_to_bfloat16(words *x) {
  const words top = *x >> 16, magnitude = *x & 0x7fffffff, nearest = (*x + 0x7fff + (top & 1)) >> 16;
  const words nan = (words)(magnitude > 0x7f800000), zero = (words)(magnitude < 0x00800000);
  *x = (zero & top & 0x8000) | (~zero & ((nan & (top | 0x40)) | (~nan & nearest)));
}

// pack_tile packs 16 lines of 32 k, of which `lines` and `ks` exist: it copies them in the order of memory, rounds, and pairs.
BODY void pack_tile(const float *from, const rr_source *s, long lines, long ks, uint32_t *to) {
  float in[512] __attribute__((aligned(32))) = {0};
  const long width = s->k_contiguous ? 32 : 16;
  const long rows = s->k_contiguous ? rr_at_most(lines, 16) : rr_at_most(ks, 32);
  const long columns = s->k_contiguous ? rr_at_most(ks, 32) : rr_at_most(lines, 16);
  for (long i = 0; columns > 0 && i < rows; i++) memcpy(in + i * width, from + i * s->ld, (size_t)columns * sizeof *in);
  for (long i = 0; i < 64; i++) {
    ((vector *)in)[i] *= s->scale;
    round_to_bfloat16((words *)in + i);
  }
  const word *v = (const word *)in;
  const long line_step = s->k_contiguous ? 32 : 1, k_step = s->k_contiguous ? 1 : 16;
  const long line_to = s->is_b ? 1 : 16, pair_to = s->is_b ? 16 : 1;
  for (long p = 0; p < 16; p++)
    for (long l = 0; l < 16; l++)
      to[l * line_to + p * pair_to] = v[l * line_step + 2 * p * k_step] | v[l * line_step + (2 * p + 1) * k_step] << 16;
}

BODY void pack_body(const rr_source *s, long panel, long first, long last) {
  for (long block = first; block < last; block++)
    for (long half = 0; half < 2; half++) {
      const long line = panel * RR_LINES + half * 16, k = block * RR_BLOCK;
      uint32_t *to = s->to + (panel * rr_blocks(s->k) + block) * RR_STEP + half * RR_TILE;
      const float *from = line < s->lines ? s->from + (s->k_contiguous ? line * s->ld + k : k * s->ld + line) : s->from;
      pack_tile(from, s, s->lines - line, s->k - k, to);
    }
}

typedef struct {
  vector even[32][2], odd[32][2]; // values at even and odd k
} widened;

BODY void widen(widened *out, const uint32_t *tiles) {
  const words *in = (const words *)tiles;
  for (long i = 0; i < 32; i++)
    for (long j = 0; j < 2; j++) {
      out->even[i][j] = (vector)(in[2 * i + j] << 16);
      out->odd[i][j] = (vector)(in[2 * i + j] & 0xffff0000u);
    }
}

// four_rows adds one block of k to 4 rows and 16 columns of C, held in 8 vectors.
BODY void four_rows(float *t, const widened *a, const widened *b, long row, long half) {
  vector sum[4][2];
  RR_UNROLL
  for (long i = 0; i < 8; i++) sum[i / 2][i % 2] = *(vector *)(t + (row + i / 2) * RR_LINES + half * 16 + i % 2 * 8);
  for (long p = 0; p < 16; p++) {
    const vector *even = b->even[half * 16 + p], *odd = b->odd[half * 16 + p];
    RR_UNROLL
    for (long i = 0; i < 8; i++) sum[i / 2][i % 2] += ((const float *)a->even[row + i / 2])[p] * even[i % 2];
    RR_UNROLL
    for (long i = 0; i < 8; i++) sum[i / 2][i % 2] += ((const float *)a->odd[row + i / 2])[p] * odd[i % 2];
  }
  RR_UNROLL
  for (long i = 0; i < 8; i++) *(vector *)(t + (row + i / 2) * RR_LINES + half * 16 + i % 2 * 8) = sum[i / 2][i % 2];
}

BODY void multiply_body(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start, long start_ld) {
  float t[RR_LINES * RR_LINES] __attribute__((aligned(64))) = {0};
  widened wa, wb;
  for (long k = 0; k < blocks; k++) {
    widen(&wa, a + k * RR_STEP);
    widen(&wb, b + k * RR_STEP);
    for (long row = 0; row < RR_LINES; row += 4)
      for (long half = 0; half < 2; half++) four_rows(t, &wa, &wb, row, half);
  }
  for (long i = 0; i < RR_LINES; i++)
    for (long j = 0; j < RR_LINES; j++) c[i * ldc + j] = start ? start[i * start_ld + j] + t[i * RR_LINES + j] : t[i * RR_LINES + j];
}

BODY void store_part_body(const float *t, float *c, long ldc, long rows, long columns, int accumulate) {
  for (long i = 0; i < rows; i++, t += RR_LINES, c += ldc)
    if (!accumulate) memcpy(c, t, (size_t)columns * sizeof *c);
    else for (long j = 0; j < columns; j++) c[j] += t[j];
}

BODY void add_rows_body(const float *from, long ld, long rows, long columns, float *sums) {
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < columns; j++) sums[j] += from[i * ld + j];
}

static void nothing(void) {}

// The same C twice: for any CPU, and for x86 with AVX2.
#define VARIANT(name, target)                                                                                                        \
  target static void pack_##name(const rr_source *s, long panel, long first, long last) { pack_body(s, panel, first, last); }        \
  target static void multiply_##name(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start,      \
                                     long start_ld, rr_ahead ahead) {                                                                \
    (void)ahead;                                                                                                                     \
    multiply_body(a, b, blocks, c, ldc, start, start_ld);                                                                            \
  }                                                                                                                                  \
  target static void store_part_##name(const float *t, float *c, long ldc, long rows, long columns, int accumulate) {                 \
    store_part_body(t, c, ldc, rows, columns, accumulate);                                                                           \
  }                                                                                                                                  \
  target static void add_rows_##name(const float *from, long ld, long rows, long columns, float *sums) {                             \
    add_rows_body(from, ld, rows, columns, sums);                                                                                    \
  }                                                                                                                                  \
  static const rr_gemm_code name = {nothing, nothing, pack_##name, multiply_##name, store_part_##name, add_rows_##name}

VARIANT(any_cpu, );
#ifdef RR_X86
VARIANT(avx2, RR_TARGET("avx2,fma"));
#endif

const rr_gemm_code *rr_gemm_portable(void) {
#ifdef RR_X86
  if (rr_cpu() & RR_AVX2) return &avx2;
#endif
  return &any_cpu;
}
