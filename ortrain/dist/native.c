#include "native.h"

#include <dlfcn.h>
#include <string.h>

/* The version of shim/rr_mpi.c that the struct describes. */
static const int abi = 2;

char *rr_mpi_load(const char *path, rr_mpi *f) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own plugins look for its symbols */
  if (!library) return strdup(dlerror());
  int (*version)(void) = (int (*)(void))dlsym(library, "rr_mpi_abi");
  if (!version || version() != abi) return strdup("it was made by another version of this program");
  struct { const char *name; void **to; } all[] = {
      {"rr_mpi_init", (void **)&f->init},           {"rr_mpi_allreduce_f32", (void **)&f->allreduce_f32},
      {"rr_mpi_allreduce_f64", (void **)&f->allreduce_f64}, {"rr_mpi_broadcast", (void **)&f->broadcast},
      {"rr_mpi_reduce_scatter", (void **)&f->reduce_scatter}, {"rr_mpi_allgather_f32", (void **)&f->allgather_f32},
      {"rr_mpi_allgather", (void **)&f->allgather}, {"rr_mpi_barrier", (void **)&f->barrier},
      {"rr_mpi_finalize", (void **)&f->finalize},   {"rr_mpi_abort", (void **)&f->abort},
      {"rr_mpi_error", (void **)&f->error},         {"rr_mpi_version", (void **)&f->version},
  };
  f->library = library;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (!(*all[i].to = dlsym(library, all[i].name))) return strdup(dlerror());
  return NULL;
}

int rr_mpi_call_init(rr_mpi *f, int *rank, int *size, int *local) { return f->init(rank, size, local); }
int rr_mpi_call_allreduce_f32(rr_mpi *f, float *x, int n, int op) { return f->allreduce_f32(x, n, op); }
int rr_mpi_call_allreduce_f64(rr_mpi *f, double *x, int n, int op) { return f->allreduce_f64(x, n, op); }
int rr_mpi_call_reduce_scatter(rr_mpi *f, float *x, const int *counts) { return f->reduce_scatter(x, counts); }
int rr_mpi_call_allgather_f32(rr_mpi *f, float *x, const int *counts, const int *offsets) {
  return f->allgather_f32(x, counts, offsets);
}
int rr_mpi_call_broadcast(rr_mpi *f, void *x, int bytes, int root) { return f->broadcast(x, bytes, root); }
int rr_mpi_call_allgather(rr_mpi *f, const void *mine, int bytes, void *all, const int *counts, const int *offsets) {
  return f->allgather(mine, bytes, all, counts, offsets);
}
int rr_mpi_call_barrier(rr_mpi *f) { return f->barrier(); }

/* MPICH tells its launcher in a destructor that this process is done. Go ends a process without running these, and the
   launcher would end the other ranks: so the library is unloaded here. */
int rr_mpi_call_finalize(rr_mpi *f) {
  int err = f->finalize();
  if (!err) dlclose(f->library);
  return err;
}

int rr_mpi_call_abort(rr_mpi *f, int code) { return f->abort(code); }
void rr_mpi_call_error(rr_mpi *f, int code, char *text) { f->error(code, text); }
void rr_mpi_call_version(rr_mpi *f, char *text) { f->version(text); }
