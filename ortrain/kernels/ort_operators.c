// The operators: what ONNX Runtime asks them, their attributes, and their registration.
#include <stdlib.h>
#include <string.h>

#include "gemm.h"
#include "operators.h"
#include "ort.h"
#include "rows.h"

const OrtApi *rr_ort;
OrtMemoryInfo *rr_host;

static const char *name(const OrtCustomOp *op) { return ((const rr_operator *)op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static size_t input_count(const OrtCustomOp *op) { return ((const rr_operator *)op)->inputs; }
static size_t output_count(const OrtCustomOp *op) { return ((const rr_operator *)op)->outputs; }
static ONNXTensorElementDataType type(unsigned bytes, unsigned int64s, size_t i) {
  if (bytes >> i & 1) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  return int64s >> i & 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}
static ONNXTensorElementDataType input_type(const OrtCustomOp *op, size_t i) {
  return type(((const rr_operator *)op)->byte_inputs, ((const rr_operator *)op)->int64_inputs, i);
}
static ONNXTensorElementDataType output_type(const OrtCustomOp *op, size_t i) { return type(((const rr_operator *)op)->byte_outputs, 0, i); }
static OrtMemType memory(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, OrtMemTypeDefault; }
static int first_version(const OrtCustomOp *op) { return (void)op, 1; }
static int last_version(const OrtCustomOp *op) { return (void)op, INT32_MAX; }

static OrtCustomOpInputOutputCharacteristic optional(unsigned mask, size_t i) {
  return mask >> i & 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
}
static OrtCustomOpInputOutputCharacteristic input_kind(const OrtCustomOp *op, size_t i) {
  const rr_operator *o = (const rr_operator *)op;
  if (o->variadic && i + 1 == o->inputs) return INPUT_OUTPUT_VARIADIC;
  return optional(((const rr_operator *)op)->optional_inputs, i);
}
static OrtCustomOpInputOutputCharacteristic output_kind(const OrtCustomOp *op, size_t i) {
  return optional(((const rr_operator *)op)->optional_outputs, i);
}

static int one(const OrtCustomOp *op) { return (void)op, 1; }

// may_inplace says that output 0 may have the memory of input 0.
static size_t may_inplace(int **inputs, int **outputs) {
  *inputs = calloc(1, sizeof **inputs), *outputs = calloc(1, sizeof **outputs);
  return *inputs && *outputs;
}
static void release_inplace(int *inputs, int *outputs) { free(inputs), free(outputs); }

// read_attributes sets the attributes that a node has; the others keep their defaults.
static void read_attributes(const OrtKernelInfo *info, rr_kernel *k) {
  struct { const char *name; int64_t *to; } ints[] = {
      {"transA", &k->trans_a}, {"transB", &k->trans_b}, {"unit", &k->unit}, {"bf16", &k->bf16}, {"weight", &k->weight},
      {"n", &k->n}, {"k", &k->k}, {"kind", &k->kind}, {"gate_last", &k->gate_last}, {"threads", &k->threads},
  };
  struct { const char *name; float *to; } floats[] = {
      {"alpha", &k->alpha}, {"beta1", &k->beta1}, {"beta2", &k->beta2}, {"square_scale", &k->square_scale}, {"epsilon", &k->epsilon},
  };
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
    OrtStatus *e = rr_ort->KernelInfoGetAttribute_int64(info, ints[i].name, ints[i].to);
    if (e) rr_ort->ReleaseStatus(e);
  }
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    OrtStatus *e = rr_ort->KernelInfoGetAttribute_float(info, floats[i].name, floats[i].to);
    if (e) rr_ort->ReleaseStatus(e);
  }
}

static void destroy(void *p) {
  rr_kernel *k = p;
  pthread_mutex_destroy(&k->cache.lock);
  free(k->cache.memory);
  free(k);
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
  (void)api;
  rr_kernel *k = calloc(1, sizeof *k);
  if (!k) return rr_ort->CreateStatus(ORT_FAIL, "Failed to allocate memory for a kernel");
  k->op = (const rr_operator *)op;
  k->alpha = 1;
  pthread_mutex_init(&k->cache.lock, NULL);
  read_attributes(info, k);
  if (k->kind < RR_GELU || k->kind > RR_SILU || k->unit < RR_UNIT_PORTABLE || k->unit > RR_UNIT_AMX || k->weight < 0 || k->weight > 1 ||
      k->n < 0 || k->n > INT32_MAX || k->k < 0 || k->k > INT32_MAX || k->threads < 0 || k->threads > INT32_MAX) {
    destroy(k);
    return rr_invalid("a kernel has an attribute that this version does not know");
  }
  *out = k;
  return NULL;
}

static OrtStatus *compute(void *p, OrtKernelContext *context) {
  rr_run r = {.k = p, .context = context};
  r.pool = (rr_pool){&r, rr_run_tasks};
  return r.k->op->compute(&r);
}

static OrtCustomOp callbacks(const rr_operator *operator) {
  OrtCustomOp o = {
      .version = ORT_API_VERSION, .GetName = name, .GetExecutionProviderType = provider, .GetInputTypeCount = input_count,
      .GetOutputTypeCount = output_count, .GetInputType = input_type, .GetOutputType = output_type, .GetInputCharacteristic = input_kind,
      .GetOutputCharacteristic = output_kind, .GetInputMemoryType = memory, .GetStartVersion = first_version,
      .GetEndVersion = last_version, .CreateKernelV2 = create, .KernelComputeV2 = compute, .KernelDestroy = destroy,
  };
  if (operator->variadic) o.GetVariadicInputMinArity = o.GetVariadicInputHomogeneity = one;
  if (operator->in_place) o.GetMayInplace = may_inplace, o.ReleaseMayInplace = release_inplace;
  return o;
}

static OrtCustomOpDomain *domain; // lives as long as the process
static pthread_mutex_t registration = PTHREAD_MUTEX_INITIALIZER;

static OrtStatus *make_domain(const OrtApi *api) {
  rr_ort = api;
  if (!rr_host) RR_TRY(rr_ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &rr_host));
  OrtCustomOpDomain *made;
  OrtStatus *e = NULL;
  RR_TRY(rr_ort->CreateCustomOpDomain("rag_retrieval", &made));
  rr_operator *lists[] = {rr_attention_operators, rr_product_operators, rr_row_operators, rr_optimizer_operators};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    for (rr_operator *o = lists[i]; o->name && !e; o++) {
      o->api = callbacks(o);
      e = rr_ort->CustomOpDomain_Add(made, &o->api);
    }
  }
  if (e)
    rr_ort->ReleaseCustomOpDomain(made);
  else
    domain = made;
  return e;
}

char *rr_add_operators(const OrtApi *api, OrtSessionOptions *options) {
  pthread_mutex_lock(&registration);
  OrtStatus *e = domain ? NULL : make_domain(api);
  pthread_mutex_unlock(&registration);
  if (!e) e = api->AddCustomOpDomain(options, domain);
  if (!e) return NULL;
  char *text = strdup(api->GetErrorMessage(e));
  api->ReleaseStatus(e);
  return text;
}
