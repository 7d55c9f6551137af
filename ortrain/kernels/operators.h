// The kernels as operators of ONNX Runtime's CPU provider.
#ifndef RR_OPERATORS_H
#define RR_OPERATORS_H
#include "onnxruntime_c_api.h"

// rr_add_operators adds the operators to the options of a session. It returns NULL, or an error message that the caller frees.
char *rr_add_operators(const OrtApi *api, OrtSessionOptions *options);
#endif
