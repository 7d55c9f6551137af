// Loops that reach what a CPU can do at most, one thread each.
#ifndef LIMITS_H
#define LIMITS_H

enum { LIMITS_FLOAT32, LIMITS_AVX512, LIMITS_AMX };

// limits_multiply repeats multiplications and additions in registers; it returns the floating-point operations that it made, and 0 where this
// CPU or this compiler lacks the unit. LIMITS_FLOAT32 takes the widest vectors that the CPU has.
double limits_multiply(int unit, long rounds);

// limits_move computes c = a + 3 b for n floats, some rounds.
void limits_move(const float *a, const float *b, float *c, long n, long rounds);
#endif
