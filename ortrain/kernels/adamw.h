// The optimizer in one pass over memory. What rows.h says of all its functions holds here too.
#ifndef RR_ADAMW_H
#define RR_ADAMW_H
#include <stddef.h>

#include "pool.h"

// rr_adamw_scalars has the constants of one step. Package optim computes them: Scalars and AdamW.
typedef struct {
  float beta1, beta2;
  float square_scale;   // (1 - β2)/(1 - β1)²
  float gradient_scale; // (1 - β1)·clipping
  float decay_factor;   // 1 - lr·weight decay
  float step_size;      // lr·√(1 - β2^t)/(1 - β1^t)
  float epsilon;        // ε·√(1 - β2^t)
} rr_adamw_scalars;

// rr_adamw makes one step of AdamW in place, on n parameters p with moments m and v and gradients g:
//
//	h = g·gradient_scale,  m = β1·m + h,  v = β2·v + square_scale·h²,  p = p·decay_factor - step_size·m/(√v + epsilon)
int rr_adamw(const rr_pool *pool, float *p, float *m, float *v, const float *g, size_t n, const rr_adamw_scalars *scalars);

// rr_sum_of_squares computes Σ g² of n elements. Squares are float32, as ReduceSumSquare has them; sums of 1024 are added in double.
int rr_sum_of_squares(const rr_pool *pool, const float *g, size_t n, double *sum);

// rr_accumulate computes sum = sum + g·weight, or sum = g·weight where keep is 0, whatever sum held.
int rr_accumulate(const rr_pool *pool, float *sum, const float *g, size_t n, float weight, int keep);
#endif
