#include "cpu.h"

#include "targets.h"

#ifdef RR_X86
#include <cpuid.h>
#include <stdint.h>
#include <string.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

// Bits of XCR0: the registers that the operating system saves. Intel's manual, volume 1, chapter 13.
enum {
  YMM = 0x6,        // SSE and AVX
  ZMM = 0xe6,       // and the three parts of AVX-512
  TILES = 0x60000,  // the tiles of AMX and their configuration
};

static uint64_t xcr0(void) {
  uint32_t a, d;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (uint64_t)d << 32 | a;
}

// may_use_tiles asks Linux for the tiles' registers, of which it allocates the memory then.
static int may_use_tiles(void) {
#if defined(__linux__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return 0;
#endif
}

static int made_by_amd(void) {
  uint32_t a, name[3];
  return __get_cpuid(0, &a, &name[0], &name[2], &name[1]) && !memcmp(name, "AuthenticAMD", sizeof name);
}

static int find(void) {
  uint32_t a, b, c, d, a1, b1, c1, d1, highest;
  int units = made_by_amd() ? RR_AMD : 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  int fma = c >> 12 & 1, osxsave = c >> 27 & 1;
  if (!osxsave || !__get_cpuid_count(7, 0, &highest, &b, &c, &d)) return 0;
  if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) a1 = 0;
  if (highest < 1) a1 = 0;
  uint64_t saved = xcr0();
  if ((saved & YMM) == YMM && fma && b >> 5 & 1) units |= RR_AVX2;
  const uint32_t f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
  if (!(units & RR_AVX2) || (saved & ZMM) != ZMM || (b & (f | dq | bw | vl)) != (f | dq | bw | vl)) return units;
  units |= RR_AVX512;
  if (!RR_HAS_BF16_TARGETS || !(a1 >> 5 & 1)) return units;
  units |= RR_VDPBF16;
  int tile = d >> 24 & 1, bf16 = d >> 22 & 1;
  if (tile && bf16 && (saved & TILES) == TILES && may_use_tiles()) units |= RR_AMX;
  return units;
}
#else
static int find(void) { return 0; }
#endif

int rr_cpu(void) {
  static int found = -1; // every thread finds the same
  int units = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (units < 0) {
    units = find();
    __atomic_store_n(&found, units, __ATOMIC_RELAXED);
  }
  return units;
}
