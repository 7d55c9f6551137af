/* Connects the program to the MPI library of this machine or cluster. Handles and constants of MPI differ between its
   implementations, so this file is compiled with the cluster's own mpicc (scripts/setup.sh --mpi) and loaded at run time by
   ortrain/dist. Every function returns 0 or MPI's error code. */
#include <mpi.h>
#include <stdint.h>
#include <string.h>

/* The version of this interface: ortrain/dist refuses another one. */
int rr_mpi_abi(void) { return 2; }

int rr_mpi_init(int *rank, int *size, int *local_rank) {
  int given, err, flag;
  MPI_Comm node;
  if ((err = MPI_Initialized(&flag))) return err;
  if (!flag && (err = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &given))) return err;
  if ((err = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))) return err;
  if ((err = MPI_Comm_rank(MPI_COMM_WORLD, rank))) return err;
  if ((err = MPI_Comm_size(MPI_COMM_WORLD, size))) return err;
  if ((err = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, *rank, MPI_INFO_NULL, &node))) return err;
  if ((err = MPI_Comm_rank(node, local_rank))) return err;
  return MPI_Comm_free(&node);
}

/* op: 0 sum, 1 least, 2 largest */
static MPI_Op op_of(int op) { return op == 1 ? MPI_MIN : op == 2 ? MPI_MAX : MPI_SUM; }

int rr_mpi_allreduce_f32(float *x, int n, int op) {
  return MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_FLOAT, op_of(op), MPI_COMM_WORLD);
}

int rr_mpi_allreduce_f64(double *x, int n, int op) {
  return MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, op_of(op), MPI_COMM_WORLD);
}

/* counts are in elements, one for each rank. The sums of this rank's part come to the beginning of x. */
int rr_mpi_reduce_scatter(float *x, const int *counts) {
  return MPI_Reduce_scatter(MPI_IN_PLACE, x, counts, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

/* counts and offsets are in elements, one for each rank. This rank's part is already at its place in x. */
int rr_mpi_allgather_f32(float *x, const int *counts, const int *offsets) {
  return MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, x, counts, offsets, MPI_FLOAT, MPI_COMM_WORLD);
}

int rr_mpi_broadcast(void *x, int bytes, int root) {
  return MPI_Bcast(x, bytes, MPI_BYTE, root, MPI_COMM_WORLD);
}

/* counts and offsets are in bytes, one for each rank */
int rr_mpi_allgather(const void *mine, int bytes, void *all, const int *counts, const int *offsets) {
  return MPI_Allgatherv(mine, bytes, MPI_BYTE, all, counts, offsets, MPI_BYTE, MPI_COMM_WORLD);
}

int rr_mpi_barrier(void) { return MPI_Barrier(MPI_COMM_WORLD); }

int rr_mpi_finalize(void) { return MPI_Finalize(); }

int rr_mpi_abort(int code) { return MPI_Abort(MPI_COMM_WORLD, code); }

/* text has room for 1024 bytes */
void rr_mpi_error(int code, char *text) {
  char s[MPI_MAX_ERROR_STRING];
  int n = 0;
  if (MPI_Error_string(code, s, &n)) n = 0;
  if (n > 1023) n = 1023;
  memcpy(text, s, n);
  text[n] = 0;
}

/* text has room for 1024 bytes: the library's own version */
void rr_mpi_version(char *text) {
  char s[MPI_MAX_LIBRARY_VERSION_STRING];
  int n = 0;
  if (MPI_Get_library_version(s, &n)) n = 0;
  if (n > 1023) n = 1023;
  memcpy(text, s, n);
  text[n] = 0;
}
