// How kernels cut their work into tasks: by size only.
#ifndef RR_SPLIT_H
#define RR_SPLIT_H
#include <stddef.h>

// RR_GRAIN is the number of elements of a task: large enough that starting it costs nothing.
enum { RR_GRAIN = 16384 };

// rr_parts is how many parts of at most size have n together.
static inline size_t rr_parts(size_t n, size_t size) { return n / size + (n % size != 0); }

// rr_rows_of_task is how many rows of that width have about RR_GRAIN elements.
static inline size_t rr_rows_of_task(size_t width) { return width >= RR_GRAIN ? 1 : width ? RR_GRAIN / width : RR_GRAIN; }

static inline size_t rr_least(size_t a, size_t b) { return a < b ? a : b; }
#endif
