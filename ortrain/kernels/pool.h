// The threads that a kernel computes with. They belong to the caller: ONNX Runtime's session, or a test.
#ifndef RR_POOL_H
#define RR_POOL_H
#include <stddef.h>

typedef struct {
  void *context;
  // run calls task(data, i) for every i < n, on any threads and in any order, and waits for all. 0 means success; any other
  // result is an error, and the kernel that called run returns it.
  int (*run)(void *context, void (*task)(void *data, size_t i), size_t n, void *data);
} rr_pool;
#endif
