/* Connects the program to the MPI library of this machine or cluster. Handles and constants of MPI differ between its
   implementations, so this file is compiled with the cluster's own mpicc (scripts/setup.sh --mpi) and loaded at run time by
   ortrain/dist. Every function returns 0 or MPI's error code. */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The version of this interface: ortrain/dist refuses another one. */
int rr_mpi_abi(void) { return 3; }

/* Heartbeats have their own communicator, and at most one message under way to each rank. */
static MPI_Comm beats;
static MPI_Request *sending, ended = MPI_REQUEST_NULL;
static int ranks;

/* *threads: whether a second thread may call the functions of heartbeats */
int rr_mpi_init(int *rank, int *size, int *local_rank, int *threads) {
  int given, err, flag;
  MPI_Comm node;
  if ((err = MPI_Initialized(&flag))) return err;
  if (!flag && (err = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &given))) return err;
  if ((err = MPI_Query_thread(&given))) return err;
  *threads = given == MPI_THREAD_MULTIPLE;
  if ((err = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))) return err;
  if ((err = MPI_Comm_rank(MPI_COMM_WORLD, rank))) return err;
  if ((err = MPI_Comm_size(MPI_COMM_WORLD, size))) return err;
  if ((err = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, *rank, MPI_INFO_NULL, &node))) return err;
  if ((err = MPI_Comm_rank(node, local_rank))) return err;
  if ((err = MPI_Comm_free(&node))) return err;
  ranks = *size;
  if (!(sending = malloc(ranks * sizeof *sending))) return MPI_ERR_NO_MEM;
  for (int i = 0; i < ranks; i++) sending[i] = MPI_REQUEST_NULL;
  return MPI_Comm_dup(MPI_COMM_WORLD, &beats);
}

/* Sends a heartbeat of a kind without waiting; none if the rank has not received the last one yet. */
int rr_mpi_beat(int to, int kind) {
  int done, err = MPI_Test(&sending[to], &done, MPI_STATUS_IGNORE);
  return err || !done ? err : MPI_Issend(NULL, 0, MPI_BYTE, to, kind, beats, &sending[to]);
}

/* Receives a heartbeat: *from is its rank, or -1 if there is none. */
int rr_mpi_hear(int *from, int *kind) {
  MPI_Status s;
  int flag, err = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, beats, &flag, &s);
  *from = -1;
  if (err || !flag) return err;
  *from = s.MPI_SOURCE, *kind = s.MPI_TAG;
  return MPI_Recv(NULL, 0, MPI_BYTE, s.MPI_SOURCE, s.MPI_TAG, beats, MPI_STATUS_IGNORE);
}

/* Ends heartbeats. Called again and again, with rr_mpi_hear, until *done: all ranks have received what was sent to them. */
int rr_mpi_end_beats(int *done) {
  int err;
  if (ended != MPI_REQUEST_NULL) return MPI_Test(&ended, done, MPI_STATUS_IGNORE);
  if ((err = MPI_Testall(ranks, sending, done, MPI_STATUSES_IGNORE)) || !*done) return err;
  *done = 0;
  return MPI_Ibarrier(beats, &ended);
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
