// Which code this compiler can make. Functions for a unit are compiled with an attribute of their own (RR_TARGET), so that
// no flag of the compiler is needed and the rest of the program runs on any CPU of its architecture.
#ifndef RR_TARGETS_H
#define RR_TARGETS_H

#if defined(__x86_64__)
#define RR_X86 1
#define RR_TARGET(units) __attribute__((target(units)))
#endif

// Compilers that know AVX512-BF16 and AMX.
#if defined(RR_X86) && ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define RR_HAS_BF16_TARGETS 1
#else
#define RR_HAS_BF16_TARGETS 0
#endif

// RR_UNROLL stands before a loop over an array of vectors that has to live in registers: at -O2, which cgo uses, gcc leaves such loops and
// with them the array in memory. clang unrolls them by itself.
#if defined(__GNUC__) && !defined(__clang__)
#define RR_UNROLL _Pragma("GCC unroll 16")
#else
#define RR_UNROLL
#endif
#endif
