#include "native.h"

#include <dlfcn.h>
#include <string.h>

// message_of copies the message of a status and releases the status. A null status gives NULL.
static char *message_of(const OrtApi *api, OrtStatus *status) {
  if (!status) return NULL;
  char *text = strdup(api->GetErrorMessage(status));
  api->ReleaseStatus(status);
  return text;
}

char *rr_load(const char *path) { return dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? NULL : strdup(dlerror()); }

// open_cudart opens CUDA's runtime library, of one of the versions that ONNX Runtime is built for.
static void *open_cudart(int flag) {
  void *library = dlopen("libcudart.so.13", RTLD_NOW | flag);
  return library ? library : dlopen("libcudart.so.12", RTLD_NOW | flag);
}

char *rr_gpus(int *n) {
  void *library = open_cudart(RTLD_NOLOAD); // the one that is loaded, if any
  if (!library) library = open_cudart(0);
  if (!library) return strdup(dlerror());
  int (*count)(int *) = (int (*)(int *))dlsym(library, "cudaGetDeviceCount");
  if (!count) return strdup(dlerror());
  int code = count(n);
  if (!code) return NULL;
  const char *(*text)(int) = (const char *(*)(int))dlsym(library, "cudaGetErrorString");
  return strdup(text ? text(code) : "cudaGetDeviceCount failed");
}

char *rr_open(rr_device *d, const char *path, const char *name, int id) {
  memset(d, 0, sizeof *d);
  void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return strdup(dlerror());
  const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
  dlclose(library); // the Go library keeps it loaded
  if (!base) return strdup("the library has no OrtGetApiBase");
  d->api = base()->GetApi(ORT_API_VERSION);
  if (!d->api) return strdup("the library is older than the interface of this program");
  char *e = message_of(d->api, d->api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "device memory", &d->env)); // returns the process's only environment
  if (e) return e;
  return message_of(d->api, d->api->CreateMemoryInfo(name, OrtDeviceAllocator, id, OrtMemTypeDefault, &d->info));
}

char *rr_share(rr_device *d, const char *provider, const char *id, const char *limit) {
  const char *keys[] = {"max_mem"};
  size_t bytes = strtoull(limit, NULL, 10);
  OrtArenaCfg *arena = NULL;
  char *e = message_of(d->api, d->api->CreateArenaCfgV2(keys, &bytes, 1, &arena));
  if (e) return e;
  const char *option_keys[] = {"device_id", "gpu_mem_limit"};
  const char *option_values[] = {id, limit};
  e = message_of(d->api, d->api->CreateAndRegisterAllocatorV2(d->env, provider, d->info, arena, option_keys, option_values, bytes ? 2 : 1));
  d->api->ReleaseArenaCfg(arena);
  return e;
}

char *rr_use(rr_device *d, void *session) {
  return message_of(d->api, d->api->CreateAllocator((const OrtSession *)session, d->info, &d->allocator));
}

char *rr_alloc(rr_device *d, size_t bytes, void **out) {
  return message_of(d->api, d->api->AllocatorAlloc(d->allocator, bytes, out));
}

char *rr_free(rr_device *d, void *p) { return message_of(d->api, d->api->AllocatorFree(d->allocator, p)); }

char *rr_tensor(rr_device *d, void *p, size_t bytes, const int64_t *dims, size_t rank, int type, OrtValue **out) {
  return message_of(d->api, d->api->CreateTensorWithDataAsOrtValue(d->info, p, bytes, dims, rank, (ONNXTensorElementDataType)type, out));
}

void rr_release(rr_device *d, OrtValue *v) { d->api->ReleaseValue(v); }

char *rr_weight(rr_device *d, void *options, const char *name, void *p, size_t bytes, const int64_t *dims, size_t rank, int type) {
  OrtValue *value = NULL;
  char *e = rr_tensor(d, p, bytes, dims, rank, type, &value);
  if (e) return e;
  e = message_of(d->api, d->api->AddExternalInitializers((OrtSessionOptions *)options, &name, (const OrtValue *const *)&value, 1));
  d->api->ReleaseValue(value); // the options keep a reference
  return e;
}

char *rr_share_weight(rr_device *d, void *options, const char *name, OrtValue *value) {
  return message_of(d->api, d->api->AddInitializer((OrtSessionOptions *)options, name, value));
}

char *rr_keep(rr_device *d, void *binding, const char *name) {
  return message_of(d->api, d->api->BindOutputToDevice((OrtIoBinding *)binding, name, d->info));
}

char *rr_pass(rr_device *d, void *from, size_t skip, void *to, const char **names, size_t n) {
  OrtAllocator *allocator;
  OrtValue **values;
  size_t count;
  char *e = message_of(d->api, d->api->GetAllocatorWithDefaultOptions(&allocator));
  if (!e) e = message_of(d->api, d->api->GetBoundOutputValues((OrtIoBinding *)from, allocator, &values, &count));
  if (e) return e;
  if (count < skip + n) e = strdup("the run has fewer outputs");
  for (size_t i = 0; i < n && !e; i++) e = message_of(d->api, d->api->BindInput((OrtIoBinding *)to, names[i], values[skip + i]));
  for (size_t i = 0; i < count; i++) d->api->ReleaseValue(values[i]);
  char *freeing = message_of(d->api, d->api->AllocatorFree(allocator, values));
  if (e) free(freeing);
  return e ? e : freeing;
}

char *rr_wait(rr_device *d, void *binding) { return message_of(d->api, d->api->SynchronizeBoundInputs((OrtIoBinding *)binding)); }

char *rr_find_cpu(rr_device *d, const char *provider, const char *key, const OrtEpDevice **device, const char **value) {
  const OrtEpDevice *const *all;
  size_t n = 0;
  char *e = message_of(d->api, d->api->GetEpDevices(d->env, &all, &n));
  for (size_t i = 0; i < n && !e && !*device; i++) {
    if (strcmp(d->api->EpDevice_EpName(all[i]), provider)) continue;
    if (d->api->HardwareDevice_Type(d->api->EpDevice_Device(all[i])) != OrtHardwareDeviceType_CPU) continue;
    *device = all[i];
    *value = d->api->GetKeyValue(d->api->EpDevice_EpMetadata(all[i]), key);
  }
  return e;
}

char *rr_append_provider(rr_device *d, void *options, const OrtEpDevice *device, const char *key, const char *value) {
  return message_of(d->api, d->api->SessionOptionsAppendExecutionProvider_V2((OrtSessionOptions *)options, d->env, &device, 1, &key, &value, 1));
}

char *rr_close(rr_device *d, int shared) {
  char *e = NULL;
  if (!d->api) return NULL;
  if (d->allocator) d->api->ReleaseAllocator(d->allocator);
  if (shared) e = message_of(d->api, d->api->UnregisterAllocator(d->env, d->info));
  if (d->info) d->api->ReleaseMemoryInfo(d->info);
  if (d->env) d->api->ReleaseEnv(d->env);
  memset(d, 0, sizeof *d);
  return e;
}
