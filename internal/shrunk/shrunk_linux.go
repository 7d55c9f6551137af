package shrunk

/*
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// A mapping as a line of /proc/self/maps shows it. The device and inode there may differ from those of stat, as in overlayfs.
typedef struct {
  uint64_t start, end, offset, major, minor, inode;
} mapping;

// A watched file: its descriptor plus one (0: the place is free), its state when it was opened, and whether pages of it were lost.
typedef struct {
  _Atomic int used;
  _Atomic int lost;
  off_t size;
  struct timespec modified, changed;
  mapping shown;
} watched;

enum { most = 1024 };
static watched files[most];
static struct sigaction before; // Go's
static uintptr_t page;

static int same(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

// differs asks for the time of the inode's change too, which cp -p cannot set back.
static int differs(const watched *f, const struct stat *now) {
  return now->st_size != f->size || !same(now->st_mtim, f->modified) || !same(now->st_ctim, f->changed);
}

// read_mapping finds the mapping that an address is in, without anything that a signal handler may not call. A line is
// "start-end perms offset major:minor inode path", all numbers hexadecimal but the inode's.
static int read_mapping(uintptr_t address, mapping *found) {
  char buffer[1024];
  int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), field = 0, ok = 0;
  uint64_t numbers[7] = {0}; // start, end, perms (no number), offset, major, minor, inode
  ssize_t n = 0;
  if (fd < 0) return 0;
  while (!ok && ((n = read(fd, buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR))) {
    for (ssize_t i = 0; i < n && !ok; i++) {
      char c = buffer[i];
      if (c == '\n') {
        if (numbers[0] <= address && address < numbers[1]) {
          *found = (mapping){numbers[0], numbers[1], numbers[3], numbers[4], numbers[5], numbers[6]};
          ok = 1;
        }
        field = 0;
        for (int k = 0; k < 7; k++) numbers[k] = 0;
      } else if (field < 7 && (c == ' ' || (c == '-' && field == 0) || (c == ':' && field == 4))) {
        field++;
      } else if (field < 7 && field != 2) {
        numbers[field] = numbers[field] * (field == 6 ? 10 : 16) + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
      }
    }
  }
  close(fd);
  return ok;
}

static int of_file(const watched *f, const mapping *m) {
  return f->shown.major == m->major && f->shown.minor == m->minor && f->shown.inode == m->inode;
}

// replaced replaces the rest of a watched file's mapping by zeros, from the page of the address on: the page alone would cost a signal
// for each of thousands. A file that was opened again after it changed may be watched twice; a page beyond its present end belongs to the
// former mapping. Within it, after a write or an error of the disk, either may be meant, and all count as lost.
static int replaced(uintptr_t address) {
  mapping m;
  int any = 0;
  uintptr_t start = address & ~(page - 1);
  if (!read_mapping(address, &m)) return 0;
  for (int i = 0; i < most; i++) {
    struct stat st;
    int used = atomic_load(&files[i].used);
    if (!used || !of_file(&files[i], &m) || fstat(used - 1, &st) != 0) continue;
    int changed = atomic_load(&files[i].lost) || differs(&files[i], &st);
    if (changed || m.offset + (start - m.start) < (uint64_t)st.st_size) atomic_store(&files[i].lost, 1); // before anybody reads a zero
    any |= changed;
  }
  return any && mmap((void *)start, m.end - start, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

// on_bus runs on the thread that read the page, which goes on where it was.
static void on_bus(int number, siginfo_t *info, void *context) {
  int saved = errno;
  int done = info->si_code == BUS_ADRERR && replaced((uintptr_t)info->si_addr);
  errno = saved;
  if (!done) before.sa_sigaction(number, info, context);
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

// rr_watch returns the file's place, or -1 if there is none. It maps a page of the file for a moment, to see what its mappings look like.
static int rr_watch(int fd) {
  struct stat st;
  mapping shown;
  if (fstat(fd, &st) != 0) return -1;
  void *p = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED) return -1;
  int ok = read_mapping((uintptr_t)p, &shown);
  munmap(p, page);
  if (!ok) return -1;
  for (int i = 0; i < most; i++) {
    if (atomic_load(&files[i].used)) continue;
    files[i].size = st.st_size;
    files[i].modified = st.st_mtim;
    files[i].changed = st.st_ctim;
    files[i].shown = shown;
    atomic_store(&files[i].lost, 0);
    atomic_store(&files[i].used, fd + 1);
    return i;
  }
  return -1;
}

static int rr_lost(int i) { return atomic_load(&files[i].lost); }
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

// Watch watches an open file until stop is called, which must be before the file is closed. lost tells whether pages of it became
// zeros; it may not be called after stop. If Watch cannot watch the file, it is as if it were not watched.
func Watch(f *os.File) (lost func() bool, stop func()) {
	mu.Lock()
	defer mu.Unlock()
	never := func() bool { return false }
	if !installed && C.rr_bus() != 0 {
		return never, func() {}
	}
	installed = true
	place := C.rr_watch(C.int(f.Fd()))
	if place < 0 {
		return never, func() {}
	}
	lost = func() bool { return C.rr_lost(place) != 0 }
	return lost, func() {
		mu.Lock()
		defer mu.Unlock()
		C.rr_unwatch(place)
	}
}
