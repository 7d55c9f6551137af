package shrunk

/*
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// A watched file: its descriptor plus one (0: the place is free), and its state when it was opened.
typedef struct {
  _Atomic int used;
  off_t size;
  struct timespec changed;
} watched;

enum { most = 1024 };
static watched files[most];
static struct sigaction before; // Go's
static uintptr_t page;

static int differs(const watched *f, int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && (st.st_size != f->size || st.st_mtim.tv_sec != f->changed.tv_sec || st.st_mtim.tv_nsec != f->changed.tv_nsec);
}

// on_bus runs on the thread that read the page, which goes on where it was.
static void on_bus(int number, siginfo_t *info, void *context) {
  int saved = errno;
  if (info->si_code == BUS_ADRERR) {
    for (int i = 0; i < most; i++) {
      int used = atomic_load(&files[i].used);
      if (used && differs(&files[i], used - 1)) {
        void *start = (void *)((uintptr_t)info->si_addr & ~(page - 1));
        if (mmap(start, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
        errno = saved;
        return;
      }
    }
  }
  errno = saved;
  before.sa_sigaction(number, info, context);
}

// rr_bus puts on_bus before Go's handler, as package os/signal describes for programs with C.
static int rr_bus(void) {
  struct sigaction s = {0};
  page = (uintptr_t)sysconf(_SC_PAGESIZE);
  if (sigaction(SIGBUS, NULL, &before) != 0 || !(before.sa_flags & SA_SIGINFO)) return -1;
  s.sa_sigaction = on_bus;
  s.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&s.sa_mask);
  return sigaction(SIGBUS, &s, NULL);
}

// rr_watch returns the file's place, or -1 if there is none.
static int rr_watch(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return -1;
  for (int i = 0; i < most; i++) {
    if (atomic_load(&files[i].used)) continue;
    files[i].size = st.st_size;
    files[i].changed = st.st_mtim;
    atomic_store(&files[i].used, fd + 1);
    return i;
  }
  return -1;
}

static void rr_unwatch(int i) { atomic_store(&files[i].used, 0); }
*/
import "C"

import (
	"os"
	"sync"
)

var (
	mu        sync.Mutex
	installed bool
)

// Watch watches an open file until stop is called, which must be before the file is closed. If it cannot, it does nothing: the file is
// then as if it were not watched.
func Watch(f *os.File) (stop func()) {
	mu.Lock()
	defer mu.Unlock()
	if !installed && C.rr_bus() != 0 {
		return func() {}
	}
	installed = true
	place := C.rr_watch(C.int(f.Fd()))
	if place < 0 {
		return func() {}
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		C.rr_unwatch(place)
	}
}
