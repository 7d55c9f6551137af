// Compiles the file RR_TEMPLATE once for each set of vector instructions, with vector.h. A function NAME(f) of the template becomes
// f_avx512, f_avx2 and f_baseline; RR_CHOOSE(f) is the one for this CPU. Functions start with FUNCTION, which gives them their target.
#include "cpu.h"
#include "targets.h"

#ifndef RR_CHOOSE
#ifdef RR_X86
#include <immintrin.h>
#define RR_CHOOSE(f) (rr_cpu() & RR_AVX512 ? f##_avx512 : rr_cpu() & RR_AVX2 ? f##_avx2 : f##_baseline)
#else
#define RR_CHOOSE(f) (f##_baseline)
#endif
#endif

#ifdef RR_X86
#define N 16
#define NAME(f) f##_avx512
#ifdef RR_SIMULATE // tests the code for 16 lanes on CPUs with AVX2: vector.h has plain C for the instructions
#define FUNCTION static RR_TARGET("avx2,fma")
#define INSTRUCTIONS 0
#else
#define FUNCTION static RR_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define INSTRUCTIONS 512
#endif
#include "vector.h"
#include RR_TEMPLATE
#include "vector_end.h"

#define N 8
#define NAME(f) f##_avx2
#define FUNCTION static RR_TARGET("avx2,fma")
#define INSTRUCTIONS 256
#include "vector.h"
#include RR_TEMPLATE
#include "vector_end.h"
#endif

#define N 4
#define NAME(f) f##_baseline
#define FUNCTION static
#define INSTRUCTIONS 0
#include "vector.h"
#include RR_TEMPLATE
#include "vector_end.h"
#undef RR_TEMPLATE
