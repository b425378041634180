// Loads memory into the cache before it is used.
#ifndef OPS_CORE_PREFETCH_H_
#define OPS_CORE_PREFETCH_H_

namespace tfps {

// Always inlined: GCC would take a function that only prefetches for one without effect and drop
// it.
[[gnu::always_inline]] inline void Prefetch(const void* at) { __builtin_prefetch(at); }

[[gnu::always_inline]] inline void PrefetchBytes(const char* begin, int bytes) {
  for (int offset = 0; offset < bytes; offset += 64) __builtin_prefetch(begin + offset);
  __builtin_prefetch(begin + bytes - 1);
}

}  // namespace tfps

#endif  // OPS_CORE_PREFETCH_H_
