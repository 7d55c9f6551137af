// The calls of ONNX Runtime's C interface that onnxruntime_go lacks: memory of a device, tensors over it, one arena
// for all sessions, weights outside of a graph's file, waiting for copies of inputs, and libraries loaded by path. Each
// gives NULL, or a message to be freed with free().
#include <stdlib.h>

#include "onnxruntime_c_api.h"

typedef struct {
  const OrtApi *api;
  OrtEnv *env;
  OrtMemoryInfo *info;
  OrtAllocator *allocator; // of a session
} rr_device;

// rr_load loads a library for others to find by its name.
char *rr_load(const char *path);
// rr_open finds the library that is loaded from path, and describes the memory called name ("Cuda", "Cpu").
char *rr_open(rr_device *d, const char *path, const char *name);
// rr_share makes one arena of at most limit bytes (0: all) for the sessions of provider that say so.
char *rr_share(rr_device *d, const char *provider, const char *limit);
// rr_use takes memory from a session's allocator.
char *rr_use(rr_device *d, void *session);
char *rr_alloc(rr_device *d, size_t bytes, void **out);
char *rr_free(rr_device *d, void *p);
// rr_tensor makes a value over memory of the device, which it does not own.
char *rr_tensor(rr_device *d, void *p, size_t bytes, const int64_t *dims, size_t rank, int type, OrtValue **out);
void rr_release(rr_device *d, OrtValue *v);
// rr_weight gives the session that is made with these options an initializer whose data lie outside of the graph's file. The
// session copies them while it is made.
char *rr_weight(rr_device *d, void *options, const char *name, void *p, size_t bytes, const int64_t *dims, size_t rank, int type);
// rr_wait waits until the inputs of a binding are where the session reads them.
char *rr_wait(rr_device *d, void *binding);
char *rr_close(rr_device *d, int shared);
