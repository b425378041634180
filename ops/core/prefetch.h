// Bringing memory into the cache ahead of its use.
#ifndef OPS_CORE_PREFETCH_H_
#define OPS_CORE_PREFETCH_H_

namespace tfps {

// Always inlined: GCC takes a function that does nothing else for one without effect, and drops it.
[[gnu::always_inline]] inline void Prefetch(const void* at) { __builtin_prefetch(at); }

[[gnu::always_inline]] inline void PrefetchBytes(const char* begin, int bytes) {
  for (int offset = 0; offset < bytes; offset += 64) __builtin_prefetch(begin + offset);
  __builtin_prefetch(begin + bytes - 1);
}

}  // namespace tfps

#endif  // OPS_CORE_PREFETCH_H_
