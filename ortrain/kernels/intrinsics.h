// The vector and tile instructions of gemm_avx512.c and gemm_amx.c, and of no other file. These are all:
//   SSE         _mm_prefetch
//   AVX512F     _mm512_loadu_ps  _mm512_maskz_loadu_ps  _mm512_storeu_ps  _mm512_mask_storeu_ps  _mm512_setzero_ps  _mm512_set1_ps
//               _mm512_add_ps  _mm512_mul_ps  _mm512_loadu_si512  _mm512_storeu_si512  _mm512_setzero_si512  _mm512_set1_epi32
//               _mm512_unpacklo_epi32  _mm512_unpackhi_epi32  _mm512_unpacklo_epi64  _mm512_unpackhi_epi64  _mm512_shuffle_i32x4
//   AVX512BW    _mm512_permutexvar_epi16
//   AVX512BF16  _mm512_cvtne2ps_pbh  _mm512_dpbf16_ps
//   AMX         _tile_loadconfig  _tile_release  _tile_zero  _tile_loadd  _tile_stored  _tile_dpbf16ps
// With RR_SIMULATE, testdata/simulate.h has plain C of the same names, so that CPUs without them run the same sources in tests.
#ifndef RR_INTRINSICS_H
#define RR_INTRINSICS_H
#include "cpu.h"
#include "targets.h"

#if defined(RR_SIMULATE)
#include "testdata/simulate.h"
#define RR_GEMM_UNITS 1
#define RR_AVX512_CODE
#define RR_AMX_CODE
static inline int rr_has(int units) { return units != 0; }
#elif RR_HAS_BF16_TARGETS
#include <immintrin.h>
#define RR_GEMM_UNITS 1
#define RR_AVX512_CODE RR_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#define RR_AMX_CODE RR_TARGET("amx-tile,amx-bf16")
static inline int rr_has(int units) { return (rr_cpu() & units) == units; }
#else
#define RR_GEMM_UNITS 0
#endif
#endif
