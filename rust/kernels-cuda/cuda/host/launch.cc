// The twin's device: memory that ends at a page nobody may touch, and launches of kernels by name.
#include "launch.h"

#include <csignal>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>

asm(R"(.text
.globl twin_switch
twin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace twin {
namespace {

constexpr size_t PAGE = 4096;
constexpr size_t ALIGNMENT = 16;
constexpr unsigned char POISON = 0xff;

std::mutex one_launch;
const std::function<void()> *body;
struct sigaction earlier;

// Bytes of shared memory's mapping, the guard apart.
size_t shared_room = 0;
char *shared_end = nullptr;

uint32_t below(uint32_t bound) {
  machine.random = machine.random * 6364136223846793005u + 1442695040888963407u;
  return uint32_t((machine.random >> 33) % bound);
}

void on_fault(int signal, siginfo_t *info, void *context) {
  if (machine.now) fault("touches memory that is not its own, at %p", info->si_addr);
  if (earlier.sa_flags & SA_SIGINFO) return earlier.sa_sigaction(signal, info, context);
  std::signal(signal, SIG_DFL);
}

void enter() {
  (*body)();
  Machine &m = machine;
  Thread &t = *m.now;
  if (!t.open.empty() || !t.groups.empty()) fault("leaves with copies under way");
  if (m.waiting) fault("leaves while others wait at the barrier of line %d", m.barrier_line);
  if (m.warps[t.warp].arrived) fault("leaves while its warp waits for it in line %d", m.warps[t.warp].line);
  m.left++;
  wait_as(State::Left, 0);
}

void reserve_shared(uint32_t bytes) {
  Machine &m = machine;
  size_t room = (bytes + PAGE - 1) / PAGE * PAGE + PAGE;
  if (room > shared_room) {
    if (shared_end) munmap(shared_end - shared_room, shared_room + PAGE);
    char *base = (char *)mmap(nullptr, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(base + room, PAGE, PROT_NONE);
    shared_room = room, shared_end = base + room;
  }
  m.shared_bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  m.shared = shared_end - m.shared_bytes;
  m.cells.resize(m.shared_bytes / 2 + 1);
}

void run_block() {
  Machine &m = machine;
  uint32_t count = uint32_t(m.threads.size());
  m.epoch = 1, m.waiting = m.left = 0;
  memset(m.shared, POISON, m.shared_bytes);
  memset((void *)m.cells.data(), 0, m.cells.size() * sizeof(Cell));
  for (auto &w : m.warps) w.arrived = 0, w.epoch = 1;
  for (uint32_t i = 0; i < count; i++) {
    Thread &t = m.threads[i];
    t.state = State::Ready;
    t.open.clear();
    t.groups.clear();
    void **top = (void **)(t.stack + STACK);
    *--top = nullptr;
    *--top = (void *)enter;
    t.stack_pointer = top - 6;
    m.order[i] = i;
  }
  for (uint32_t i = count; i > 1; i--) std::swap(m.order[i - 1], m.order[below(i)]);
  while (m.left < count) {
    bool moved = false;
    for (uint32_t i : m.order) {
      Thread &t = m.threads[i];
      if (t.state != State::Ready) continue;
      moved = true;
      m.now = &t;
      twin_switch(&m.scheduler, t.stack_pointer);
    }
    m.now = nullptr;
    if (moved) continue;
    for (auto &t : m.threads)
      if (t.state != State::Left) {
        m.now = &t;
        fault("waits in line %d for threads that wait elsewhere", t.line);
      }
  }
}

}  // namespace

std::map<std::string, Kernel> &kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

bool launch(const char *name, Size grid, Size block, uint32_t shared, uint64_t seed, const std::function<void()> &kernel, char *message, size_t room) {
  std::lock_guard<std::mutex> guard(one_launch);
  Machine &m = machine;
  m.kernel = name, m.grid = grid, m.block = block, m.random = seed * 2 + 1;
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &earlier);
  uint32_t count = block.x * block.y * block.z;
  while (m.threads.size() < count) {
    m.threads.emplace_back();
    m.threads.back().stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  while (m.threads.size() > count) {
    munmap(m.threads.back().stack, STACK);
    m.threads.pop_back();
  }
  m.order.resize(count);
  m.warps.resize(count / WARP);
  for (uint32_t i = 0; i < count; i++) {
    Thread &t = m.threads[i];
    t.x = i % block.x, t.y = i / block.x % block.y, t.z = i / block.x / block.y;
    t.warp = i / WARP, t.lane = i % WARP;
  }
  reserve_shared(shared);
  body = &kernel;
  volatile bool whole = true;
  if (sigsetjmp(m.stop, 1) == 0) {
    // Blocks in an order that no kernel may rely on.
    uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z, first = blocks ? below(uint32_t(blocks)) : 0;
    for (uint64_t k = 0; k < blocks; k++) {
      uint64_t i = (first + k) % blocks;
      m.block_index = {uint32_t(i % grid.x), uint32_t(i / grid.x % grid.y), uint32_t(i / grid.x / grid.y)};
      run_block();
    }
  } else {
    whole = false;
    snprintf(message, room, "%s", m.message);
  }
  m.now = nullptr;
  sigaction(SIGSEGV, &earlier, nullptr);
  return whole;
}

}  // namespace twin

using namespace twin;

extern "C" void *twin_allocate(size_t bytes) {
  size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, room = (whole + PAGE - 1) / PAGE * PAGE;
  char *base = (char *)mmap(nullptr, PAGE + room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  mprotect(base, PAGE, PROT_NONE);
  mprotect(base + PAGE + room, PAGE, PROT_NONE);
  memset(base + PAGE, POISON, room);
  return base + PAGE + room - whole;
}

// Whether nothing was written before or behind the allocation, as far as its pages go.
extern "C" bool twin_free(void *pointer, size_t bytes) {
  size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, room = (whole + PAGE - 1) / PAGE * PAGE;
  char *base = (char *)pointer + whole - room - PAGE;
  bool clean = true;
  for (char *p = base + PAGE; p < (char *)pointer; p++) clean &= (unsigned char)*p == POISON;
  for (char *p = (char *)pointer + bytes; p < base + PAGE + room; p++) clean &= (unsigned char)*p == POISON;
  munmap(base, PAGE + room + PAGE);
  return clean;
}

extern "C" bool twin_launch(const char *name, const uint32_t *grid, const uint32_t *block, uint32_t shared, void **arguments, uint64_t seed, char *message, size_t room) {
  auto found = kernels().find(name);
  if (found == kernels().end()) {
    snprintf(message, room, "there is no kernel %s", name);
    return false;
  }
  Size blocks{grid[0], grid[1], grid[2]}, threads{block[0], block[1], block[2]};
  uint64_t count = uint64_t(threads.x) * threads.y * threads.z;
  if (count == 0 || count > 1024 || count % WARP || shared > 227 * 1024 || grid[1] > 65535 || grid[2] > 65535 || uint64_t(grid[0]) * grid[1] * grid[2] >> 32) {
    snprintf(message, room, "%s cannot be launched on %u x %u x %u blocks of %u threads with %u bytes", name, grid[0], grid[1], grid[2], unsigned(count), shared);
    return false;
  }
  return launch(name, blocks, threads, shared, seed, found->second(arguments), message, room);
}
