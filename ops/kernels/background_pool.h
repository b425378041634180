// The threads of the op's device but one, for work on all shards that takes long: pulls and pushes go on beside it.
#ifndef OPS_KERNELS_BACKGROUND_POOL_H_
#define OPS_KERNELS_BACKGROUND_POOL_H_

#include <algorithm>
#include <atomic>

#include "ops/core/parallel.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

inline ParallelFor BackgroundPool(tensorflow::OpKernelContext* ctx) {
  tensorflow::thread::ThreadPool* threads = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return [threads](int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) {
    const int64_t lanes = std::min<int64_t>(threads->NumThreads() - 1, total);
    if (lanes <= 1) {
      SerialFor(total, 0, work);
      return;
    }
    constexpr int64_t kLong = 1'000'000'000;  // so that each lane has a thread
    std::atomic<int64_t> next{0};
    threads->ParallelFor(lanes, kLong, [&](int64_t, int64_t) {
      for (int64_t i = next++; i < total; i = next++) work(i, i + 1);
    });
  };
}

}  // namespace tfps

#endif  // OPS_KERNELS_BACKGROUND_POOL_H_
