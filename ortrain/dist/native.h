#include <stdlib.h>

/* The functions of shim/rr_mpi.c, loaded at run time. */
typedef struct {
  void *library;
  int (*init)(int *, int *, int *);
  int (*allreduce_f32)(float *, int, int);
  int (*allreduce_f64)(double *, int, int);
  int (*reduce_scatter)(float *, const int *);
  int (*allgather_f32)(float *, const int *, const int *);
  int (*broadcast)(void *, int, int);
  int (*allgather)(const void *, int, void *, const int *, const int *);
  int (*barrier)(void);
  int (*finalize)(void);
  int (*abort)(int);
  void (*error)(int, char *);
  void (*version)(char *);
} rr_mpi;

/* Loads the library at path; NULL, or a message to be freed. */
char *rr_mpi_load(const char *path, rr_mpi *f);

int rr_mpi_call_init(rr_mpi *f, int *rank, int *size, int *local);
int rr_mpi_call_allreduce_f32(rr_mpi *f, float *x, int n, int op);
int rr_mpi_call_allreduce_f64(rr_mpi *f, double *x, int n, int op);
int rr_mpi_call_reduce_scatter(rr_mpi *f, float *x, const int *counts);
int rr_mpi_call_allgather_f32(rr_mpi *f, float *x, const int *counts, const int *offsets);
int rr_mpi_call_broadcast(rr_mpi *f, void *x, int bytes, int root);
int rr_mpi_call_allgather(rr_mpi *f, const void *mine, int bytes, void *all, const int *counts, const int *offsets);
int rr_mpi_call_barrier(rr_mpi *f);
int rr_mpi_call_finalize(rr_mpi *f);
int rr_mpi_call_abort(rr_mpi *f, int code);
void rr_mpi_call_error(rr_mpi *f, int code, char *text);
void rr_mpi_call_version(rr_mpi *f, char *text);
