// The limit of memory for a pull: for each key one random line of an index, then the row that it
// names, whose first floats are copied out. table_speed.py compiles it and calls it.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kAhead = 16;
constexpr int kEntries = 12;  // of an index line, as in the table's

struct alignas(64) Line {
  uint32_t unused[4];
  uint32_t rows[kEntries];
};

uint64_t Mix(uint64_t x) {  // SplitMix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t Scale(uint64_t bits, uint64_t range) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * range) >> 64);
}

char* Map(size_t bytes) {
  constexpr size_t kHuge = size_t{2} << 20;
  void* mapped =
      mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* aligned =
      reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped) + kHuge - 1) / kHuge * kHuge);
  madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

struct Memory {
  Line* lines;
  uint64_t num_lines;
  char* rows;
  int64_t row_bytes;
};

void Copy(const Memory& memory, const uint64_t* keys, int64_t n, int width, float* out) {
  uint64_t hashes[4 * kAhead];
  const char* rows[4 * kAhead];
  const auto line = [&](uint64_t hash) { return memory.lines + Scale(hash, memory.num_lines); };
  for (int64_t i = -2 * kAhead; i < n; ++i) {
    if (const int64_t far = i + 2 * kAhead; far < n) {
      hashes[far % (4 * kAhead)] = Mix(keys[far]);
      __builtin_prefetch(line(hashes[far % (4 * kAhead)]));
    }
    if (const int64_t near = i + kAhead; near >= 0 && near < n) {
      const uint64_t hash = hashes[near % (4 * kAhead)];
      const char* row =
          memory.rows + line(hash)->rows[(hash & 0xff) * kEntries >> 8] * memory.row_bytes;
      rows[near % (4 * kAhead)] = row;
      for (int offset = 0; offset < 4 * width; offset += 64) __builtin_prefetch(row + offset);
      __builtin_prefetch(row + 4 * width - 1);
    }
    if (i >= 0) std::memcpy(out + i * width, rows[i % (4 * kAhead)], 4 * width);
  }
}

}  // namespace

extern "C" {

// Memory for `num_rows` rows of `row_bytes`, or nullptr.
Memory* memory_limit_new(int64_t num_rows, int64_t row_bytes) {
  const uint64_t num_lines = num_rows * 3 / 2 / kEntries + 1;
  auto* memory = new Memory{reinterpret_cast<Line*>(Map(num_lines * sizeof(Line))), num_lines,
                            Map(num_rows * row_bytes), row_bytes};
  for (uint64_t i = 0; i < num_lines; ++i) {
    for (int j = 0; j < kEntries; ++j) {
      memory->lines[i].rows[j] = static_cast<uint32_t>(Scale(Mix(i * kEntries + j), num_rows));
    }
  }
  for (int64_t i = 0; i < num_rows * row_bytes; i += 64) memory->rows[i] = 1;
  return memory;
}

void memory_limit_delete(Memory* memory, int64_t num_rows) {
  munmap(memory->lines, memory->num_lines * sizeof(Line));
  munmap(memory->rows, num_rows * memory->row_bytes);
  delete memory;
}

// Copies `width` floats for each of `batches` times `n` keys to out (n, width), on two threads or
// however many are asked for.
void memory_limit_run(const Memory* memory, const uint64_t* keys, int64_t batches, int64_t n,
                      int width, int threads, float* out) {
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([=] {
      const int64_t begin = n * t / threads, end = n * (t + 1) / threads;
      for (int64_t b = 0; b < batches; ++b) {
        Copy(*memory, keys + b * n + begin, end - begin, width, out + begin * width);
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

}  // extern "C"
