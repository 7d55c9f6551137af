// Functions of ONNX Runtime's C interface that onnxruntime_go lacks: device memory, tensors in it, one arena for all
// sessions, weights outside of a graph's file, waiting for copies of inputs, plug-in providers, and loading libraries by path.
// Each function returns NULL, or an error message that the caller frees with free().
#include <stdlib.h>

#include "onnxruntime_c_api.h"

typedef struct {
  const OrtApi *api;
  OrtEnv *env;
  OrtMemoryInfo *info;
  OrtAllocator *allocator; // of a session
} rr_device;

// rr_load loads a shared library. Libraries loaded later find it by its name.
char *rr_load(const char *path);
// rr_gpus counts the GPUs that CUDA's runtime library sees in this process.
char *rr_gpus(int *n);
// rr_open fills d for the ONNX Runtime library that is loaded from path, and for the memory called name ("Cuda", "Cpu") of the
// device with the number id.
char *rr_open(rr_device *d, const char *path, const char *name, int id);
// rr_share makes an arena of at most limit bytes (0 means no limit). The provider's sessions with the entry
// session.use_env_allocators share it. id is the device's number, as text.
char *rr_share(rr_device *d, const char *provider, const char *id, const char *limit);
// rr_use makes rr_alloc use the allocator of a session.
char *rr_use(rr_device *d, void *session);
char *rr_alloc(rr_device *d, size_t bytes, void **out);
char *rr_free(rr_device *d, void *p);
// rr_tensor makes a tensor over device memory, which it does not own.
char *rr_tensor(rr_device *d, void *p, size_t bytes, const int64_t *dims, size_t rank, int type, OrtValue **out);
void rr_release(rr_device *d, OrtValue *v);
// rr_weight adds an initializer to the options of a session. Its data are not in the graph's file; the session copies them
// when it is opened.
char *rr_weight(rr_device *d, void *options, const char *name, void *p, size_t bytes, const int64_t *dims, size_t rank, int type);
// rr_share_weight makes a session read an initializer where it is. The value outlives the session, which does not own it.
char *rr_share_weight(rr_device *d, void *options, const char *name, OrtValue *value);
// rr_keep makes each run of a binding leave an output where it was computed.
char *rr_keep(rr_device *d, void *binding, const char *name);
// rr_pass binds outputs of a binding's last run as inputs of another one. It skips the first outputs, then takes names in order.
char *rr_pass(rr_device *d, void *from, size_t skip, void *to, const char **names, size_t n);
// rr_wait waits until the inputs of a binding have been copied to the device.
char *rr_wait(rr_device *d, void *binding);
// rr_find_cpu finds the CPU among the devices of a plug-in's provider, and what the device says under a key. Both stay NULL where it
// has none; ONNX Runtime owns them.
char *rr_find_cpu(rr_device *d, const char *provider, const char *key, const OrtEpDevice **device, const char **value);
// rr_append_provider adds a plug-in's provider to the options of a session, with one setting.
char *rr_append_provider(rr_device *d, void *options, const OrtEpDevice *device, const char *key, const char *value);
char *rr_close(rr_device *d, int shared);
