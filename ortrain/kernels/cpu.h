// What this CPU can compute with, asked once. No code for a unit may run before the unit was found here.
#ifndef RR_CPU_H
#define RR_CPU_H

enum {
  RR_AVX2 = 1,    // AVX2 and FMA
  RR_AVX512 = 2,  // AVX-512 F, BW, DQ and VL
  RR_VDPBF16 = 4, // AVX-512 BF16, with RR_AVX512
  RR_AMX = 8,     // AMX tiles of bfloat16, with RR_AVX512
  RR_AMD = 16,    // not a unit: AMD made the CPU
};

// rr_cpu returns the units that this CPU, this operating system and this build have, as a sum of the constants above. The first call
// asks Linux for the registers of AMX, which a process must do before it may use them.
int rr_cpu(void);
#endif
