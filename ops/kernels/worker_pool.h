// The CPU worker threads of the op's device, as the core's ParallelFor.
#ifndef OPS_KERNELS_WORKER_POOL_H_
#define OPS_KERNELS_WORKER_POOL_H_

#include <utility>

#include "ops/core/parallel.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

inline ParallelFor WorkerPool(tensorflow::OpKernelContext* ctx) {
  tensorflow::thread::ThreadPool* threads = ctx->device()->tensorflow_cpu_worker_threads()->workers;
  return
      [threads](int64_t total, int64_t cost_per_unit, std::function<void(int64_t, int64_t)> work) {
        threads->ParallelFor(total, cost_per_unit, std::move(work));
      };
}

}  // namespace tfps

#endif  // OPS_KERNELS_WORKER_POOL_H_
