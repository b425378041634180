// Preloaded into a process: its clock of the day, also for TensorFlow, which the process itself
// makes jump.
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jumped = 0;  // seconds

extern "C" {

void jump_clock(long seconds) { jumped += seconds; }

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const int result = static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += jumped;
  return result;
}

int gettimeofday(timeval* now, void* zone) noexcept {
  const int result = static_cast<int>(syscall(SYS_gettimeofday, now, zone));
  now->tv_sec += jumped;
  return result;
}

time_t time(time_t* now) noexcept {
  timespec value;
  clock_gettime(CLOCK_REALTIME, &value);
  if (now != nullptr) *now = value.tv_sec;
  return value.tv_sec;
}

}  // extern "C"
