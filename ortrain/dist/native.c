#include "native.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The version of shim/rr_mpi.c that the struct describes. */
static const int abi = 3;

char *rr_mpi_load(const char *path, rr_mpi *f) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own plugins look for its symbols */
  if (!library) return strdup(dlerror());
  int (*version)(void) = (int (*)(void))dlsym(library, "rr_mpi_abi");
  if (!version || version() != abi) return strdup("it was made by another version of this program");
  struct { const char *name; void **to; } all[] = {
      {"rr_mpi_beat", (void **)&f->beat},           {"rr_mpi_hear", (void **)&f->hear},
      {"rr_mpi_end_beats", (void **)&f->end_beats},
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

int rr_mpi_call_init(rr_mpi *f, int *rank, int *size, int *local, int *threads) { return f->init(rank, size, local, threads); }
int rr_mpi_call_beat(rr_mpi *f, int to, int kind) { return f->beat(to, kind); }
int rr_mpi_call_hear(rr_mpi *f, int *from, int *kind) { return f->hear(from, kind); }
int rr_mpi_call_end_beats(rr_mpi *f, int *done) { return f->end_beats(done); }
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
   launcher would end the other ranks: so the library is unloaded here. Open MPI stays: threads of its plugins may still run. */
int rr_mpi_call_finalize(rr_mpi *f) {
  char version[1024];
  f->version(version);
  int err = f->finalize();
  if (!err && strncmp(version, "Open MPI", 8)) dlclose(f->library);
  return err;
}

int rr_mpi_call_abort(rr_mpi *f, int code) { return f->abort(code); }
void rr_mpi_call_error(rr_mpi *f, int code, char *text) { f->error(code, text); }
void rr_mpi_call_version(rr_mpi *f, char *text) { f->version(text); }

static pid_t child; /* prints the last words */

#ifdef __linux__
/* What the process shares with the child that prints its last words. */
typedef struct {
  char text[rr_words_size];
  pthread_mutex_t alive; /* held until this process dies */
} words;

/* A thread that holds the mutex. The system gives it up as one of the first things when the process dies, well before the
   other ranks can notice. */
static void *live(void *shared) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  pthread_mutex_lock(&((words *)shared)->alive);
  *(volatile char *)((words *)shared)->text = 0;
  for (;;) pause();
  return NULL;
}

/* The child stays in the process group, and ends by the signals that ask for an end: launchers send them, and SIGKILL, to the
   whole group, so that nothing is printed of a rank that they end. It calls only what may be called after the fork of a process
   with threads. It keeps the process's files open, so that a launcher that waits for the end of one (MPICH) does not end the
   group before the last words. */
static void print_words(words *w, sigset_t blocked) {
  int asked[] = {SIGTERM, SIGINT, SIGHUP};
  for (int i = 0; i < 3; i++) {
    signal(asked[i], SIG_DFL);
    sigdelset(&blocked, asked[i]);
  }
  sigprocmask(SIG_SETMASK, &blocked, NULL);
  pthread_mutex_lock(&w->alive);
  if (!*w->text) _exit(0);
  int now = time(NULL) % 86400, clock[] = {now / 36000, now / 3600 % 10, now / 600 % 6, now / 60 % 10, now / 10 % 6, now % 10};
  char line[rr_words_size + 32] = "00:00:00 UTC: ";
  for (int i = 0; i < 6; i++) line[i + i / 2] += clock[i];
  size_t n = strlen(line), more = strlen(w->text);
  memcpy(line + n, w->text, more);
  int err = write(2, line, n + more) < 0;
  usleep(300000); /* for the launcher to read it, before it notices the end and ends the job */
  _exit(err);
}
#endif

char *rr_words_start(void) {
#ifdef __linux__
  words *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (w == MAP_FAILED) return NULL;
  pthread_mutexattr_t shared;
  pthread_mutexattr_init(&shared);
  pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&w->alive, &shared);
  pthread_t thread;
  *w->text = 1;
  if (pthread_create(&thread, NULL, live, w)) return NULL;
  while (*(volatile char *)w->text) sched_yield(); /* until the thread holds the mutex */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of Go's may run in the child */
  if (!(child = fork())) print_words(w, all);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return child > 0 ? w->text : NULL;
#else
  return NULL; /* macOS has no such mutex */
#endif
}

void rr_words_end(void) {
  if (child <= 0) return;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  child = 0;
}
