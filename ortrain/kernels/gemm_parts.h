// The parts of a product that gemm.c and gemm_gradient.c put together, and what a unit has to supply.
//
// A product is computed from packed copies of A and B in bfloat16. Packing pays for itself because each copy is read many times, in the
// order in which the unit wants it:
//
//   op(A), 70 rows                        one panel: 32 rows, all of K            one tile of A: 1 KB, 16 rows of 16 dwords
//   ┌───────────────┐                     block 0     block 1                     ┌──────────────────────────┐
//   │ panel 0       │ rows 0..31          ┌────┬────┐┌────┬────┐                  │ row 0: k 0,1  k 2,3  ... │ a dword has two
//   ├───────────────┤                     │tile│tile││tile│tile│ ...              │ row 1: k 0,1  k 2,3  ... │ neighbours in k,
//   │ panel 1       │ rows 32..63         │ 0  │ 1  ││ 0  │ 1  │                  │  ...                     │ the first in the
//   ├───────────────┤                     └────┴────┘└────┴────┘                  └──────────────────────────┘ low half
//   │ panel 2       │ 64..69, then zeros   k 0..31    k 32..63                    one tile of B: 16 pairs of k, 16 columns each
//   └───────────────┘                      tile 0: rows 0..15 of the panel        ┌──────────────────────────┐
//                                          tile 1: rows 16..31                    │ k 0,1: col 0  col 1  ... │
//   op(B) is cut in panels of 32 columns in the same way. The rows of A           │ k 2,3: col 0  col 1  ... │
//   and the columns of B are called lines below. K is filled up with zeros        │  ...                     │
//   to a multiple of 32, lines to a multiple of 32.                               └──────────────────────────┘
//
// The tile of A is the transpose of a tile of B as a matrix of 16 x 16 dwords.
#ifndef RR_GEMM_PARTS_H
#define RR_GEMM_PARTS_H
#include <stddef.h>
#include <stdint.h>

#include "gemm.h"

enum {
  RR_LINES = 32,             // lines of a panel
  RR_BLOCK = 32,             // k of a block
  RR_TILE = 256,             // dwords of a tile
  RR_STEP = 2 * RR_TILE,     // dwords from one block of a panel to the next
  RR_MOST_PACK_TASKS = 64,   // tasks that packing is cut into at most
};

// A matrix to pack. k_contiguous: line l begins at from + l*ld. Otherwise position k of all lines begins at from + k*ld.
typedef struct {
  const float *from;
  long ld, lines, k;
  int k_contiguous, is_b;
  float scale;
  uint32_t *to; // rr_panels(lines) panels
} rr_source;

// A product of packed panels.
typedef struct {
  const uint32_t *a, *b;
  float *c;
  long ldc, m, n, k;
  const float *bias;
  int accumulate;
} rr_product;

// Memory that will be read soon: so many lines of 64 bytes for each block that is multiplied meanwhile. A unit may ignore it.
typedef struct {
  const char *at;
  long lines;
} rr_ahead;

// What a unit supplies.
typedef struct {
  void (*enter)(void), (*leave)(void); // around the calls of multiply in a task, on its thread
  // Packs blocks first..last-1 of one panel.
  void (*pack)(const rr_source *source, long panel, long first, long last);
  // C[32, 32] = start + the sum over `blocks` blocks of panel a times panel b. start is a row of 32 that serves all rows (start_ld 0),
  // or a matrix, which may be c itself, or NULL for zeros. Units that add one product after the other begin at zero and add start last:
  // a chain of sums never is longer than the blocks of one call, which bounds its rounding error.
  void (*multiply)(const uint32_t *a, const uint32_t *b, long blocks, float *c, long ldc, const float *start, long start_ld, rr_ahead ahead);
  // C[rows, columns] = the upper left part of the block t[32, 32], or C + that with accumulate.
  void (*store_part)(const float *t, float *c, long ldc, long rows, long columns, int accumulate);
  // sums[j] += from[i*ld + j] for all i < rows, j < columns; columns is at most 32.
  void (*add_rows)(const float *from, long ld, long rows, long columns, float *sums);
} rr_gemm_code;

// Each returns NULL where the CPU or the build lacks the unit.
const rr_gemm_code *rr_gemm_portable(void);
const rr_gemm_code *rr_gemm_avx512(void);
const rr_gemm_code *rr_gemm_amx(void);
const rr_gemm_code *rr_gemm_code_of(rr_unit unit);

// AMX has no instructions for packing and takes these of AVX512-BF16.
void rr_avx512_pack(const rr_source *source, long panel, long first, long last);
void rr_avx512_store_part(const float *t, float *c, long ldc, long rows, long columns, int accumulate);
void rr_avx512_add_rows(const float *from, long ld, long rows, long columns, float *sums);

static inline long rr_at_most(long a, long b) { return a < b ? a : b; }
static inline long rr_cut(long n, long part) { return (n + part - 1) / part; }
static inline long rr_panels(long lines) { return rr_cut(lines, RR_LINES); }
static inline long rr_blocks(long k) { return rr_cut(k, RR_BLOCK); }
static inline long rr_packed(long lines, long k) { return rr_panels(lines) * rr_blocks(k) * RR_STEP; } // dwords

// Tasks over all panels of several matrices.
typedef struct {
  rr_source source[2];
  int sources;
  long panels, tasks, each; // each: panels of a task
} rr_packing;
void rr_packing_add(rr_packing *packing, rr_source source);
void rr_packing_cut(rr_packing *packing);
void rr_packing_task(const rr_gemm_code *code, const rr_packing *packing, long task);

// Tasks over the rectangles of one product.
typedef struct {
  rr_product product;
  long m_step, n_step, m_tasks, tasks; // steps in panels
} rr_grid;
rr_grid rr_grid_cut(rr_product product, long threads);
void rr_grid_task(const rr_gemm_code *code, const rr_grid *grid, long task);

// rr_multiply computes panels m0..m1-1 of A times n0..n1-1 of B, between enter and leave.
void rr_multiply(const rr_gemm_code *code, const rr_product *product, long m0, long m1, long n0, long n1);

// Groups of rows of one product. A task packs the rows of a group just before it multiplies them with all of B.
typedef struct {
  long panels, each;    // of A, and in a group
  long groups, workers; // workers take one group after the other
  long next;            // the first group that no worker took yet
} rr_rows;

// rr_rows_cut cuts m rows with k columns for so many threads, into groups whose panels are a multiple of `multiple`. Without workers in the
// result the product has too few rows for that, or threads is 0: rr_grid_cut serves it.
rr_rows rr_rows_cut(long m, long k, long threads, long multiple);

// rr_rows_memory is what all workers need for their groups' panels, of k columns, in dwords. Worker i has part i of it.
long rr_rows_memory(const rr_rows *rows, long k);
uint32_t *rr_rows_part(const rr_rows *rows, long k, uint32_t *memory, long worker);

// rr_rows_next gives a worker its next group: the panels first to last-1 of A. It returns 0 at the end.
int rr_rows_next(rr_rows *rows, long *first, long *last);

// rr_rows_multiply computes the rows of a group, whose panels of A are packed in a.
void rr_rows_multiply(const rr_gemm_code *code, const rr_product *product, const uint32_t *a, long first, long last);

// rr_lines is the part of a matrix that has the panels first to last-1, to be packed into `to`.
rr_source rr_lines(const rr_source *source, long first, long last, uint32_t *to);

// rr_spread runs tasks 0..n-1 on the pool.
int rr_spread(const rr_pool *pool, void (*task)(void *data, size_t i), long n, void *data);
#endif
