// Inputs, outputs, memory and threads of a run of an operator.
#include <string.h>

#include "gemm.h"
#include "ort.h"
#include "rows.h"

OrtStatus *rr_invalid(const char *message) { return rr_ort->CreateStatus(ORT_INVALID_ARGUMENT, message); }

static OrtStatus *describe(const OrtValue *value, rr_tensor *t) {
  OrtTensorTypeAndShapeInfo *info;
  RR_TRY(rr_ort->GetTensorTypeAndShape(value, &info));
  OrtStatus *e = rr_ort->GetDimensionsCount(info, &t->rank);
  if (!e && t->rank > RR_MAX_RANK) e = rr_invalid("a tensor has too many dimensions");
  if (!e) e = rr_ort->GetDimensions(info, t->dims, t->rank);
  if (!e) e = rr_ort->GetTensorShapeElementCount(info, &t->count);
  rr_ort->ReleaseTensorTypeAndShapeInfo(info);
  if (e) return e;
  return rr_ort->GetTensorMutableData((OrtValue *)value, (void **)&t->data);
}

OrtStatus *rr_input(const rr_run *r, size_t i, rr_tensor *t) {
  memset(t, 0, sizeof *t);
  size_t count;
  RR_TRY(rr_ort->KernelContext_GetInputCount(r->context, &count));
  if (i >= count) return NULL;
  const OrtValue *value = NULL;
  RR_TRY(rr_ort->KernelContext_GetInput(r->context, i, &value));
  return value ? describe(value, t) : NULL;
}

OrtStatus *rr_output(const rr_run *r, size_t i, const int64_t *dims, size_t rank, float **data) {
  *data = NULL;
  size_t count;
  RR_TRY(rr_ort->KernelContext_GetOutputCount(r->context, &count));
  if (i >= count) return NULL;
  OrtValue *value = NULL;
  RR_TRY(rr_ort->KernelContext_GetOutput(r->context, i, dims, rank, &value));
  return value ? rr_ort->GetTensorMutableData(value, (void **)data) : NULL;
}

OrtStatus *rr_output_like(const rr_run *r, size_t i, const rr_tensor *t, float **data) { return rr_output(r, i, t->dims, t->rank, data); }

OrtStatus *rr_take_scratch(const rr_run *r, size_t bytes, rr_scratch *s) {
  memset(s, 0, sizeof *s);
  if (!bytes) return NULL;
  RR_TRY(rr_ort->KernelContext_GetAllocator(r->context, rr_host, &s->allocator));
  OrtStatus *e = rr_ort->AllocatorAlloc(s->allocator, bytes + 63, &s->memory);
  s->aligned = (void *)rr_aligned(s->memory);
  return e;
}

OrtStatus *rr_free_scratch(rr_scratch *s, OrtStatus *status) {
  OrtStatus *e = s->memory ? rr_ort->AllocatorFree(s->allocator, s->memory) : NULL;
  if (s->allocator) rr_ort->ReleaseAllocator(s->allocator);
  if (status && e) rr_ort->ReleaseStatus(e);
  return status ? status : e;
}

OrtStatus *rr_same_count(const rr_tensor *a, const rr_tensor *b) {
  return a->count == b->count ? NULL : rr_invalid("two tensors that must be of one size differ");
}

int rr_run_tasks(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  rr_run *r = context;
  if (n == 1) {
    task(data, 0);
    return 0;
  }
  if (!r->status && n) r->status = rr_ort->KernelContext_ParallelFor(r->context, task, n, 0, data);
  return r->status != NULL;
}

OrtStatus *rr_result(rr_run *r, int code) {
  if (!code) return NULL;
  if (r->status) return r->status;
  if (code == RR_NO_MEMORY) return rr_ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a kernel");
  if (code == RR_BAD_INDEX) return rr_invalid("an index names no row of the table");
  if (code == RR_GEMM_NO_UNIT) return rr_ort->CreateStatus(ORT_NOT_IMPLEMENTED, "this CPU lacks the unit for products in bfloat16");
  return rr_invalid("the shapes of a kernel's tensors do not fit");
}
