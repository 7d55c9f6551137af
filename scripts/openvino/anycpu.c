// Lets OpenVINO's plug-in compute on CPUs that are not Intel's, for tests: loaded before the program, it makes ONNX Runtime call every
// device one of Intel. See anycpu.sh.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "onnxruntime_c_api.h"

static uint32_t ORT_API_CALL vendor(const OrtHardwareDevice *device) {
  (void)device;
  return 0x8086;
}

// patch replaces the function that says a device's vendor, in the table that all users of ONNX Runtime read.
static void patch(const OrtApi *api) {
  uint32_t (**entry)(const OrtHardwareDevice *) = (uint32_t (**)(const OrtHardwareDevice *))&api->HardwareDevice_VendorId;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)entry & ~(page - 1);
  if (!mprotect((void *)begin, (uintptr_t)(entry + 1) - begin, PROT_READ | PROT_WRITE)) *entry = vendor;
}

// dlsym is how the program finds ONNX Runtime's functions.
void *dlsym(void *library, const char *name) {
  void *(*real)(void *, const char *) = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  void *found = real(library, name);
  if (found && !strcmp(name, "OrtGetApiBase")) patch(((const OrtApiBase *(*)(void))found)()->GetApi(ORT_API_VERSION));
  return found;
}
