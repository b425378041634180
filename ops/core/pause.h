// A hint to the processor that this thread spins until another one changes something.
#ifndef OPS_CORE_PAUSE_H_
#define OPS_CORE_PAUSE_H_

namespace tfps {

[[gnu::always_inline]] inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace tfps

#endif  // OPS_CORE_PAUSE_H_
