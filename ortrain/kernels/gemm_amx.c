// The unit AMX: eight tile registers of 16 rows of 64 bytes. tdpbf16ps multiplies a tile of A (16 rows, 32 k) with a tile of B (16 pairs of
// k, 16 columns) and adds to a tile of 16 x 16 float32.
//
//             B: tile 6   tile 7        A block of C, 32 x 32, is four tiles of sums. Each tile that is loaded is used twice: four loads
//               ┌──────┬──────┐         for four multiplications.
//   A: tile 4   │  0   │  1   │
//               ├──────┼──────┤
//      tile 5   │  2   │  3   │
//               └──────┴──────┘
#include "gemm_parts.h"
#include "intrinsics.h"

#if RR_GEMM_UNITS
// Intel's manual, volume 1, chapter 18: the memory operand of LDTILECFG.
typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes_of_row[16];
  uint8_t rows[16];
} tile_config;

RR_AMX_CODE static void enter(void) {
  static const tile_config whole __attribute__((aligned(64))) = {
      .palette = 1, .bytes_of_row = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&whole);
}

// leave gives the tiles back, so that the operating system need not save them when it switches threads.
RR_AMX_CODE static void leave(void) { _tile_release(); }

RR_AMX_CODE static void begin(const float *start, long ld) {
  if (!start) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    return;
  }
  const size_t bytes = (size_t)ld * sizeof *start;
  _tile_loadd(0, start, bytes);
  _tile_loadd(1, start + 16, bytes);
  _tile_loadd(2, start + 16 * ld, bytes);
  _tile_loadd(3, start + 16 * ld + 16, bytes);
}

RR_AMX_CODE static void multiply(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start, long start_ld,
                                 rr_ahead ahead) {
  begin(start, start_ld);
  for (long i = 0; i < blocks; i++, a += RR_STEP, b += RR_STEP) {
    for (long line = 0; line < ahead.lines; line++, ahead.at += 64) _mm_prefetch(ahead.at, _MM_HINT_T1);
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + RR_TILE, 64);
    _tile_loadd(5, a + RR_TILE, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  const size_t bytes = (size_t)ldc * sizeof *c;
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + 16, bytes);
  _tile_stored(2, c + 16 * ldc, bytes);
  _tile_stored(3, c + 16 * ldc + 16, bytes);
}

static const rr_gemm_code amx = {enter, leave, rr_avx512_pack, multiply, rr_avx512_store_part, rr_avx512_add_rows};

const rr_gemm_code *rr_gemm_amx(void) { return rr_has(RR_AVX512 | RR_VDPBF16 | RR_AMX) ? &amx : NULL; }
#else
const rr_gemm_code *rr_gemm_amx(void) { return NULL; }
#endif
