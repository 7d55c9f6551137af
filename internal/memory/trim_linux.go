package memory

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void rr_trim(void) { malloc_trim(0); }
#else
static void rr_trim(void) {}
#endif
*/
import "C"

import "runtime/debug"

// Release gives memory that Go and C have freed, but kept for later, back to the system: after something large was closed for good.
func Release() {
	debug.FreeOSMemory()
	C.rr_trim()
}
