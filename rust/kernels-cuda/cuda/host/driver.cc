// A driver's library for tests: the calls that ours makes, over the twin. One card, whose memory ends at a gibibyte unless the environment says otherwise.
#include "launch.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

extern "C" void *twin_allocate(size_t bytes);
extern "C" bool twin_free(void *pointer, size_t bytes);
extern "C" bool twin_launch(const char *, const uint32_t *, const uint32_t *, uint32_t, void **, uint64_t, char *, size_t);

#define CALL extern "C" __attribute__((visibility("default"))) int

namespace {
std::mutex guard;
std::map<uint64_t, size_t> sizes;
size_t used = 0;
uint64_t launches = 0;
std::atomic<int> contexts{0}, streams{0}, modules{0};
// Contexts that this thread is in, the last one current.
thread_local std::vector<void *> current;
char message[512] = "";
// The most shared memory that each kernel may have.
std::map<const void *, uint32_t> shared_of;

int from_environment(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

int most_shared() { return from_environment("TWIN_DRIVER_SHARED", 227 * 1024); }
size_t room() { return from_environment("TWIN_DRIVER_ROOM", 1 << 30); }
size_t left() { return used < room() ? room() - used : 0; }
// Stricter than a driver is about nothing: it is never asked for.
int refused(size_t bytes) { return current.empty() ? 201 : bytes == 0; }
}  // namespace

CALL cuInit(unsigned) { return 0; }
CALL cuDriverGetVersion(int *version) { *version = from_environment("TWIN_DRIVER_VERSION", 13000); return 0; }
CALL cuDeviceGetCount(int *count) { *count = 1; return 0; }
CALL cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : 0; }
CALL cuDeviceGetName(char *name, int room, int) { strncpy(name, "Twin", room); return 0; }
CALL cuDeviceGetAttribute(int *value, int attribute, int) {
  *value = attribute == 75 ? from_environment("TWIN_DRIVER_MAJOR", 9) : attribute == 97 ? most_shared() : 0;
  return 0;
}
CALL cuDevicePrimaryCtxRetain(void **context, int) { *context = &guard, contexts++; return 0; }
CALL cuDevicePrimaryCtxRelease_v2(int) { return contexts-- > 0 ? 0 : 201; }
CALL cuCtxPushCurrent_v2(void *context) {
  if (context != &guard || contexts <= 0) return 201;
  current.push_back(context);
  return 0;
}
CALL cuCtxPopCurrent_v2(void **context) {
  if (current.empty()) return 201;
  *context = current.back(), current.pop_back();
  return 0;
}
CALL cuStreamCreate(void **stream, unsigned) {
  if (current.empty()) return 201;
  *stream = &sizes, streams++;
  return 0;
}
CALL cuStreamDestroy_v2(void *stream) { return current.empty() || stream != &sizes || streams-- <= 0 ? 400 : 0; }
// Contexts, streams and modules that nobody has given back, and contexts that this thread is in.
CALL twin_driver_alive(int alive[4]) { alive[0] = contexts, alive[1] = streams, alive[2] = modules, alive[3] = current.size(); return 0; }
CALL cuStreamSynchronize(void *stream) { return current.empty() ? 201 : stream == &sizes ? 0 : 400; }
CALL cuMemGetInfo_v2(size_t *free, size_t *total) {
  if (current.empty()) return 201;
  *free = left(), *total = room();
  return 0;
}
CALL cuMemAllocAsync(uint64_t *address, size_t bytes, void *) {
  if (int wrong = refused(bytes)) return wrong;
  std::lock_guard<std::mutex> lock(guard);
  if (bytes > left()) return 2;
  *address = (uint64_t)twin_allocate(bytes);
  sizes[*address] = bytes, used += bytes;
  return 0;
}
CALL cuMemFreeAsync(uint64_t address, void *) {
  if (current.empty()) return 201;
  std::lock_guard<std::mutex> lock(guard);
  auto found = sizes.find(address);
  if (found == sizes.end()) return 1;
  bool clean = twin_free((void *)address, found->second);
  used -= found->second;
  sizes.erase(found);
  return clean ? 0 : 700;
}
CALL cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) { if (int wrong = refused(bytes)) return wrong; memcpy((void *)to, from, bytes); return 0; }
CALL cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) { if (int wrong = refused(bytes)) return wrong; memcpy(to, (void *)from, bytes); return 0; }
CALL cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) { if (int wrong = refused(bytes)) return wrong; memmove((void *)to, (void *)from, bytes); return 0; }
CALL cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void *) { if (int wrong = refused(bytes)) return wrong; memset((void *)at, value, bytes); return 0; }
CALL cuModuleLoadData(void **module, const void *image) {
  // An image of a zero is none.
  if (!image || !*(const char *)image) return 200;
  *module = (void *)image, modules++;
  return 0;
}
CALL cuModuleUnload(void *) { return modules-- > 0 ? 0 : 400; }
CALL cuModuleGetFunction(void **function, void *, const char *name) {
  auto found = twin::kernels().find(name);
  if (found == twin::kernels().end()) return 500;
  *function = (void *)&*found;
  return 0;
}
CALL cuFuncSetAttribute(void *function, int attribute, int value) {
  if (attribute != 8 || value > most_shared()) return 1;
  shared_of[function] = value;
  return 0;
}
CALL cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **arguments, void **) {
  if (current.empty()) return 201;
  if (shared > 48 * 1024 && shared > shared_of[function]) return 1;
  uint32_t blocks[3] = {x, y, z}, threads[3] = {bx, by, bz};
  auto *entry = (std::pair<const std::string, twin::Kernel> *)function;
  return twin_launch(entry->first.c_str(), blocks, threads, shared, arguments, launches++, message, sizeof message) ? 0 : 719;
}
CALL cuGetErrorString(int status, const char **text) {
  *text = status == 719 ? message : "the twin's driver refuses";
  return 0;
}
