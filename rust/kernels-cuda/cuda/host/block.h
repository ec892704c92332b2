// The threads of one block on the processor: a fiber a CUDA thread, run in a shuffled order until all of them wait or have left.
#pragma once
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace twin {

constexpr int WARP = 32;
constexpr size_t STACK = 64 << 10;

enum class State : uint8_t { Ready, AtBlockBarrier, AtWarpCollective, Left };

// A copy to shared memory that was issued and has not landed.
struct Copy {
  uint32_t to, bytes, valid;
  const void *from;
};

struct Thread {
  void *stack_pointer;
  char *stack;
  uint32_t x, y, z, warp, lane;
  State state;
  int line;
  // Copies since the last commit, and groups that were committed.
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
};

struct WarpState {
  uint32_t arrived;
  int line;
  uint32_t epoch;
  void *arguments[WARP];
};

// What is known of two bytes of shared memory: who wrote them last, who has read them since the last barrier.
struct Cell {
  uint32_t write_epoch, write_warp_epoch, read_epoch, read_warp_epoch;
  uint16_t writer, reader;
  // 0: one thread; 1: several of a warp; 2: several warps.
  uint8_t readers;
  uint8_t in_flight;
};

struct Size {
  uint32_t x, y, z;
};

struct Machine {
  Thread *now = nullptr;
  void *scheduler = nullptr;
  std::vector<Thread> threads;
  std::vector<WarpState> warps;
  std::vector<uint32_t> order;
  Size block{}, block_index{}, grid{};
  uint32_t epoch = 1, waiting = 0, left = 0;
  int barrier_line = 0;
  // Dynamic shared memory, which ends at a page that nobody may touch.
  char *shared = nullptr;
  uint32_t shared_bytes = 0, taken = 0;
  std::vector<Cell> cells;
  uint64_t random = 1;
  const char *kernel = "";
  char message[512] = "";
  sigjmp_buf stop;
};

inline Machine machine;

// Leaves the launch: the block's fibers are abandoned where they stand.
[[noreturn]] inline void fault(const char *format, ...) {
  Machine &m = machine;
  int at = snprintf(m.message, sizeof m.message, "%s, block (%u, %u, %u)", m.kernel, m.block_index.x, m.block_index.y, m.block_index.z);
  if (m.now) at += snprintf(m.message + at, sizeof m.message - at, ", thread (%u, %u, %u)", m.now->x, m.now->y, m.now->z);
  at += snprintf(m.message + at, sizeof m.message - at, ": ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(m.message + at, sizeof m.message - at, format, arguments);
  va_end(arguments);
  siglongjmp(m.stop, 1);
}

extern "C" void twin_switch(void **save, void *to);

inline void wait_as(State state, int line) {
  Thread &t = *machine.now;
  t.state = state;
  t.line = line;
  twin_switch(&t.stack_pointer, machine.scheduler);
}

inline void block_barrier(int line) {
  Machine &m = machine;
  if (m.left) fault("waits at the barrier of line %d, which a thread that left will never reach", line);
  if (m.waiting && m.barrier_line != line)
    fault("waits at the barrier of line %d while others wait at that of line %d", line, m.barrier_line);
  m.barrier_line = line;
  if (++m.waiting < m.threads.size()) return wait_as(State::AtBlockBarrier, line);
  m.waiting = 0;
  m.epoch++;
  for (auto &t : m.threads)
    if (&t != m.now) t.state = State::Ready;
}

// The last lane that arrives computes for all of them: `run` gets every lane's argument.
template <class F> void warp_collective(int line, void *argument, F run) {
  Machine &m = machine;
  WarpState &w = m.warps[m.now->warp];
  if (w.arrived && w.line != line)
    fault("calls the warp's function of line %d while other lanes call that of line %d", line, w.line);
  w.line = line;
  w.arguments[m.now->lane] = argument;
  if (++w.arrived < WARP) return wait_as(State::AtWarpCollective, line);
  w.arrived = 0;
  run(w);
  Thread *first = &m.threads[m.now->warp * WARP];
  for (int lane = 0; lane < WARP; lane++)
    if (&first[lane] != m.now) first[lane].state = State::Ready;
}

inline void warp_barrier(int line) {
  warp_collective(line, nullptr, [](WarpState &w) { w.epoch++; });
}

// --- shared memory

// Whether what thread `by` did in these epochs happened before what the running thread does now.
inline bool before(uint32_t epoch, uint32_t warp_epoch, uint16_t by) {
  Machine &m = machine;
  uint32_t me = uint32_t(m.now - m.threads.data());
  if (epoch != m.epoch || by == me) return true;
  return by / WARP == m.now->warp && warp_epoch != m.warps[m.now->warp].epoch;
}

inline void check_read(uint32_t at, uint32_t bytes) {
  Machine &m = machine;
  uint16_t me = uint16_t(m.now - m.threads.data());
  uint32_t mine = m.warps[m.now->warp].epoch;
  for (uint32_t i = at / 2; i < (at + bytes + 1) / 2; i++) {
    Cell &c = m.cells[i];
    if (c.in_flight) fault("reads shared memory at byte %u before the copy to it was waited for", at);
    if (!c.write_epoch) fault("reads shared memory at byte %u, which nobody wrote", at);
    if (!before(c.write_epoch, c.write_warp_epoch, c.writer))
      fault("reads shared memory at byte %u, which thread %u wrote with no barrier between", at, c.writer);
    if (c.read_epoch != m.epoch) {
      c.read_epoch = m.epoch, c.read_warp_epoch = mine, c.reader = me, c.readers = 0;
    } else if (c.readers < 2 && c.reader / WARP != m.now->warp) {
      c.readers = 2;
    } else if (c.readers < 2) {
      c.readers = c.read_warp_epoch == mine && (c.readers || c.reader != me);
      c.read_warp_epoch = mine, c.reader = me;
    }
  }
}

inline void check_write(uint32_t at, uint32_t bytes) {
  Machine &m = machine;
  uint16_t me = uint16_t(m.now - m.threads.data());
  uint32_t mine = m.warps[m.now->warp].epoch;
  for (uint32_t i = at / 2; i < (at + bytes + 1) / 2; i++) {
    Cell &c = m.cells[i];
    if (c.in_flight) fault("writes shared memory at byte %u while a copy to it is under way", at);
    if (c.write_epoch && !before(c.write_epoch, c.write_warp_epoch, c.writer))
      fault("writes shared memory at byte %u, which thread %u wrote with no barrier between", at, c.writer);
    if (c.read_epoch == m.epoch) {
      bool apart = c.readers == 2 || c.reader / WARP != m.now->warp;
      if (apart || (c.read_warp_epoch == mine && (c.readers || c.reader != me)))
        fault("writes shared memory at byte %u, which thread %u reads with no barrier between", at, c.reader);
    }
    c.write_epoch = m.epoch, c.write_warp_epoch = mine, c.writer = me;
  }
}

// A number in shared memory: every access is checked.
template <class T> struct Reference {
  uint32_t at;
  operator T() const {
    check_read(at, sizeof(T));
    T value;
    memcpy(&value, machine.shared + at, sizeof value);
    return value;
  }
  const Reference &operator=(T value) const {
    check_write(at, sizeof(T));
    memcpy(machine.shared + at, &value, sizeof value);
    return *this;
  }
  const Reference &operator=(const Reference &other) const { return *this = T(other); }
  const Reference &operator+=(T value) const { return *this = T(*this) + value; }
};

// --- cp.async: lands when its thread waits for it

inline void copy_async(uint32_t to, const void *from, uint32_t bytes, uint32_t valid) {
  Machine &m = machine;
  if (to % bytes || uintptr_t(from) % bytes) fault("copies %u bytes that are not aligned", bytes);
  check_write(to, bytes);
  for (uint32_t i = to / 2; i < (to + bytes) / 2; i++) m.cells[i].in_flight = 1;
  m.now->open.push_back({to, bytes, valid, from});
}

inline void commit_copies() {
  Thread &t = *machine.now;
  t.groups.push_back(std::move(t.open));
  t.open.clear();
}

inline void wait_copies(size_t pending) {
  Machine &m = machine;
  auto &groups = m.now->groups;
  while (groups.size() > pending) {
    for (const Copy &c : groups.front()) {
      for (uint32_t i = c.to / 2; i < (c.to + c.bytes) / 2; i++) m.cells[i].in_flight = 0;
      check_write(c.to, c.bytes);
      memset(m.shared + c.to, 0, c.bytes);
      memcpy(m.shared + c.to, c.from, c.valid);
    }
    groups.erase(groups.begin());
  }
}

}  // namespace twin
