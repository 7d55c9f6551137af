// The only program of the emulated machine beside the one under test: process 1. It runs /test with the arguments of /arguments, sends what it
// prints to the second serial port, tells the first how it ended, and switches the machine off.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// off writes the word that Bochs waits for at its shutdown port.
static void off(void) {
  sync();
  if (iopl(3) == 0)
    for (const char *c = "Shutdown"; *c; c++) outb(*c, 0x8900);
  for (;;) pause();
}

// fail says what went wrong. The machine's caller takes anything but "status N" for an error of the machine.
static void fail(const char *what) {
  perror(what);
  fflush(NULL);
  sleep(1);
  off();
}

// arguments reads /arguments, in which every argument ends with a zero byte. /test is the first.
static char **arguments(void) {
  static char text[65536];
  static char *list[4096] = {"/test"};
  int n = 1, f = open("/arguments", O_RDONLY);
  ssize_t size = f < 0 ? 0 : read(f, text, sizeof text - 1);
  for (char *at = text; at < text + size && n < 4095; at += strlen(at) + 1) list[n++] = at;
  return list;
}

// port opens a serial port that passes bytes on unchanged.
static int port(const char *path) {
  struct termios t;
  int f = open(path, O_RDWR | O_NOCTTY);
  if (f < 0 || tcgetattr(f, &t) != 0) fail(path);
  cfmakeraw(&t);
  cfsetspeed(&t, B115200);
  if (tcsetattr(f, TCSANOW, &t) != 0) fail(path);
  return f;
}

int main(void) {
  mkdir("/dev", 0755), mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/tmp", 01777);
  mount("dev", "/dev", "devtmpfs", 0, NULL);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sys", "/sys", "sysfs", 0, NULL);
  int out = port("/dev/ttyS1"), status;
  pid_t test = fork();
  if (test < 0) fail("fork");
  if (test == 0) {
    dup2(out, 1), dup2(out, 2);
    setenv("PATH", "/", 1), setenv("HOME", "/tmp", 1);
    execv("/test", arguments());
    perror("/test");
    _exit(127);
  }
  if (waitpid(test, &status, 0) != test) fail("waitpid");
  tcdrain(out);
  if (WIFSIGNALED(status)) printf("signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
  printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  fflush(stdout);
  tcdrain(1);
  off();
}
