// The threads of the op's device as a ParallelFor.
#ifndef OPS_KERNELS_WORKER_POOL_H_
#define OPS_KERNELS_WORKER_POOL_H_

#include <algorithm>
#include <functional>
#include <utility>

#include "ops/core/shared_work.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

// All of them but `left_alone`.
inline ParallelFor PoolOf(tensorflow::OpKernelContext* ctx, int left_alone) {
  tensorflow::thread::ThreadPool* threads = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  Helpers helpers;
  helpers.processors = threads->NumThreads();
  helpers.most = std::max(0, helpers.processors - 1 - left_alone);
  helpers.schedule = [threads](std::function<void()> help) { threads->Schedule(std::move(help)); };
  return [helpers](int64_t total, int64_t cost_per_unit, SharedWork::Work work) {
    SharedWork::Run(total, cost_per_unit, helpers, std::move(work));
  };
}

inline ParallelFor WorkerPool(tensorflow::OpKernelContext* ctx) { return PoolOf(ctx, 0); }

// For long work: leaves a thread to pulls and pushes.
inline ParallelFor BackgroundPool(tensorflow::OpKernelContext* ctx) { return PoolOf(ctx, 1); }

}  // namespace tfps

#endif  // OPS_KERNELS_WORKER_POOL_H_
