#include <stdlib.h>

/* The functions of shim/rr_mpi.c, loaded at run time. */
typedef struct {
  void *library;
  int (*init)(int *, int *, int *, int *);
  int (*beat)(int, int);
  int (*hear)(int *, int *);
  int (*end_beats)(int *);
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

int rr_mpi_call_init(rr_mpi *f, int *rank, int *size, int *local, int *threads);
int rr_mpi_call_beat(rr_mpi *f, int to, int kind);
int rr_mpi_call_hear(rr_mpi *f, int *from, int *kind);
int rr_mpi_call_end_beats(rr_mpi *f, int *done);
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

/* The bytes of last words, with the zero at their end. */
enum { rr_words_size = 4096 };

/* Starts a child process that prints the last words of this one when it has died: the text that stands then in the memory
   returned, at first an empty one, which prints nothing. NULL: there is no such process. It is called before MPI_Init: memory that
   network adapters write to must not be shared with a child. */
char *rr_words_start(void);

/* Ends that process; it prints nothing. */
void rr_words_end(void);
