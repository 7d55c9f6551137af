// A CUDA runtime without a device: memory is the host's, copies are copies, and kernels do nothing. ONNX Runtime's CUDA
// provider loads against it, assigns nodes and runs graphs, so that placement, bindings and copies can be checked on a
// machine without a GPU. What kernels would compute is not there: outputs hold whatever was in their memory.
//
// fake.sh adds a function that returns 0 for every further symbol that the provider asks for.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <cuda_runtime_api.h>

#undef cudaGetDeviceProperties
#if CUDART_VERSION < 13000
#define cudaGetDeviceProperties cudaGetDeviceProperties_v2
#endif

enum { MAJOR = 9, MINOR = 0 };
static const size_t memory = 64ull << 30;
static int handle; // what handles point to

// FAKE_CUDA_DEVICES is the number of devices (default 1). With FAKE_CUDA_ONLY, memory can be allocated on the device with that
// number only: work that goes to another one fails.
static _Thread_local int current;
static int number(const char *name, int otherwise) {
  const char *s = getenv(name);
  return s ? atoi(s) : otherwise;
}
cudaError_t cudaGetDeviceCount(int *n) { *n = number("FAKE_CUDA_DEVICES", 1); return cudaSuccess; }
cudaError_t cudaGetDevice(int *id) { *id = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int id) {
  if (id < 0 || id >= number("FAKE_CUDA_DEVICES", 1)) return cudaErrorInvalidDevice;
  current = id;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) { *free = *total = memory; return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t e) { (void)e; return "fake"; }
const char *cudaGetErrorString(cudaError_t e) { (void)e; return "fake"; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int id) {
  (void)id;
  memset(p, 0, sizeof *p);
  strcpy(p->name, "no device");
  p->major = MAJOR, p->minor = MINOR, p->totalGlobalMem = memory, p->warpSize = 32, p->multiProcessorCount = 132;
  p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048, p->regsPerBlock = 65536;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->sharedMemPerBlock = 48 << 10, p->sharedMemPerBlockOptin = 227 << 10, p->sharedMemPerMultiprocessor = 228 << 10;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int id) {
  struct cudaDeviceProp p;
  cudaGetDeviceProperties(&p, id);
  switch (a) {
  case cudaDevAttrComputeCapabilityMajor: *v = MAJOR; break;
  case cudaDevAttrComputeCapabilityMinor: *v = MINOR; break;
  case cudaDevAttrMultiProcessorCount: *v = p.multiProcessorCount; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = p.sharedMemPerBlockOptin; break;
  case cudaDevAttrMaxThreadsPerBlock: *v = p.maxThreadsPerBlock; break;
  case cudaDevAttrWarpSize: *v = p.warpSize; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *v = p.maxThreadsPerMultiProcessor; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = p.sharedMemPerMultiprocessor; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *v = p.sharedMemPerBlock; break;
  case cudaDevAttrMaxRegistersPerBlock: *v = p.regsPerBlock; break;
  default: *v = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *f) {
  (void)f;
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int size, size_t shared, unsigned flags) {
  (void)f, (void)size, (void)shared, (void)flags;
  *n = 1;
  return cudaSuccess;
}

// FAKE_CUDA_MEMORY is the device's memory in bytes, to try what happens when it ends.
static size_t taken;
cudaError_t cudaMalloc(void **p, size_t n) {
  const char *limit = getenv("FAKE_CUDA_MEMORY");
  if (number("FAKE_CUDA_ONLY", current) != current) return cudaErrorMemoryAllocation;
  if (limit && taken + n > strtoull(limit, NULL, 10)) return cudaErrorMemoryAllocation;
  if (posix_memalign(p, 256, n ? n : 1)) return cudaErrorMemoryAllocation;
  taken += malloc_usable_size(*p);
  return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
  taken -= malloc_usable_size(p);
  free(p);
  return cudaSuccess;
}
static cudaError_t take(void **p, size_t n) {
  return posix_memalign(p, 256, n ? n : 1) ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n) { return take(p, n); }
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned flags) { (void)flags; return take(p, n); }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind k) {
  (void)k;
  memmove(to, from, n);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind k, cudaStream_t s) {
  (void)s;
  return cudaMemcpy(to, from, n, k);
}
cudaError_t cudaMemset(void *p, int v, size_t n) { memset(p, v, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s) { (void)s; return cudaMemset(p, v, n); }

cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = (cudaStream_t)&handle; return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f) { (void)f; return cudaStreamCreate(s); }
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *c) {
  (void)s;
  *c = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { *e = (cudaEvent_t)&handle; return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { (void)f; return cudaEventCreate(e); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) { (void)a, (void)b; *ms = 0; return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *data) { (void)s; f(data); return cudaSuccess; }

void **__cudaRegisterFatBinary(void *f) { (void)f; static void *h; return &h; }

int cublasCreate_v2(void **h) { *h = &handle; return 0; }
int cublasLtCreate(void **h) { *h = &handle; return 0; }
int cublasGetMathMode(void *h, int *mode) { (void)h; *mode = 0; return 0; }
const char *cublasGetStatusName(int s) { (void)s; return "fake"; }
const char *cublasGetStatusString(int s) { (void)s; return "fake"; }

size_t cudnnGetVersion(void) { return 90100; }
int cudnnCreate(void **h) { *h = &handle; return 0; }
int cudnnCreateTensorDescriptor(void **h) { return cudnnCreate(h); }
int cudnnCreateReduceTensorDescriptor(void **h) { return cudnnCreate(h); }
int cudnnGetReductionIndicesSize(void *h, void *d, void *a, void *c, size_t *n) { (void)h, (void)d, (void)a, (void)c; *n = 0; return 0; }
int cudnnGetReductionWorkspaceSize(void *h, void *d, void *a, void *c, size_t *n) { return cudnnGetReductionIndicesSize(h, d, a, c, n); }
const char *cudnnGetErrorString(int s) { (void)s; return "fake"; }
