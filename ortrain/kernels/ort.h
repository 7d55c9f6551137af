// What the files share that know ONNX Runtime, all named ort_*.c. An operator reads its attributes when a session is opened, and its inputs
// and outputs in each run; the kernels do the rest.
#ifndef RR_ORT_H
#define RR_ORT_H
#include <pthread.h>
#include <stdint.h>

#include "onnxruntime_c_api.h"
#include "pool.h"

extern const OrtApi *rr_ort;
extern OrtMemoryInfo *rr_host; // of scratch memory

#define RR_TRY(call)               \
  do {                             \
    OrtStatus *failed_ = (call);   \
    if (failed_) return failed_;   \
  } while (0)

OrtStatus *rr_invalid(const char *message);

// ---- kernels of a session ----------------------------------------------------------------------------------------------

typedef struct rr_operator rr_operator;

// A weight that is packed once and read by many runs. Runs of one session may be concurrent; weights change only between runs.
typedef struct {
  pthread_mutex_t lock;
  void *memory, *packed; // packed is aligned
  size_t bytes;
  int64_t version;       // of the weight when it was packed; -1 if it is not
} rr_weight_cache;

enum { RR_MAX_RANK = 16 };

// A node of a session, with its attributes.
typedef struct {
  const rr_operator *op;
  int64_t trans_a, trans_b, unit, bf16, weight, n, k, kind, gate_last, threads;
  float alpha, beta1, beta2, square_scale, epsilon;
  rr_weight_cache cache;
} rr_kernel;

// A run of a kernel: its tensors, and the session's threads.
typedef struct {
  rr_kernel *k;
  OrtKernelContext *context;
  OrtStatus *status; // of the pool
  rr_pool pool;
} rr_run;

struct rr_operator {
  OrtCustomOp api; // first, so that a pointer to it is one to the operator
  const char *name;
  size_t inputs, outputs;
  int variadic;                               // any number of inputs may be in place of the last one
  unsigned optional_inputs, optional_outputs; // bit i: number i may be missing
  unsigned byte_inputs, byte_outputs;         // bit i: number i is uint8, not float32
  unsigned int64_inputs;                      // bit i: number i is int64
  int in_place;                               // the first output may have the memory of the first input
  OrtStatus *(*compute)(rr_run *);
};

// The operators of each file. The last one has no name.
extern rr_operator rr_attention_operators[], rr_product_operators[], rr_row_operators[], rr_optimizer_operators[];

// ---- tensors (ort_run.c) -----------------------------------------------------------------------------------------------

typedef struct {
  float *data; // NULL for a missing optional input
  size_t rank, count;
  int64_t dims[RR_MAX_RANK];
} rr_tensor;

OrtStatus *rr_input(const rr_run *r, size_t i, rr_tensor *t);

// rr_output allocates an output. *data is NULL if nobody reads it.
OrtStatus *rr_output(const rr_run *r, size_t i, const int64_t *dims, size_t rank, float **data);
OrtStatus *rr_output_like(const rr_run *r, size_t i, const rr_tensor *t, float **data);

OrtStatus *rr_same_count(const rr_tensor *a, const rr_tensor *b);

static inline long rr_last(const rr_tensor *t) { return t->rank ? (long)t->dims[t->rank - 1] : 1; }

// rr_rows_of is the number of rows of a tensor whose last dimension is width.
static inline long rr_rows_of(const rr_tensor *t, long width) { return width ? (long)t->count / width : 0; }

static inline uintptr_t rr_aligned(const void *p) { return ((uintptr_t)p + 63) & ~(uintptr_t)63; }

// ---- memory and threads of a run (ort_run.c) ---------------------------------------------------------------------------

// Memory from the session's arena. (What KernelContext_GetScratchBuffer gives is never freed.)
typedef struct {
  OrtAllocator *allocator;
  void *memory, *aligned;
} rr_scratch;

OrtStatus *rr_take_scratch(const rr_run *r, size_t bytes, rr_scratch *s);

// rr_free_scratch returns status, or the error of freeing.
OrtStatus *rr_free_scratch(rr_scratch *s, OrtStatus *status);

// rr_run_tasks is the function run of a run's pool.
int rr_run_tasks(void *context, void (*task)(void *, size_t), size_t n, void *data);

// rr_result makes a status of what a kernel returned.
OrtStatus *rr_result(rr_run *r, int code);
#endif
