#include "ops/tfra/cuckoo_table.h"

#include <algorithm>
#include <utility>

#include "ops/tfra/library.h"
#include "tensorflow/core/framework/node_def_builder.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/version.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// All that a table's methods need of a kernel: a device.
class Context {
 public:
  explicit Context(tensorflow::DeviceBase* device) : context_(Params(device), 0) {}
  OpKernelContext* get() { return &context_; }

 private:
  OpKernelContext::Params* Params(tensorflow::DeviceBase* device) {
    params_.device = device;
    return &params_;
  }

  OpKernelContext::Params params_;
  OpKernelContext context_;
};

Tensor KeysTensor(const uint64_t* keys, int64_t n) {
  Tensor tensor(tensorflow::DT_INT64, TensorShape({n}));
  std::copy_n(reinterpret_cast<const int64_t*>(keys), n, tensor.flat<int64_t>().data());
  return tensor;
}

}  // namespace

absl::Status CuckooTable::Create(OpKernelContext* ctx, int dim,
                                 std::unique_ptr<CuckooTable>* table) {
  tensorflow::NodeDef node;
  TF_RETURN_IF_ERROR(tensorflow::NodeDefBuilder("rows", kCuckooTableOp)
                         .Attr("key_dtype", tensorflow::DT_INT64)
                         .Attr("value_dtype", tensorflow::DT_FLOAT)
                         .Attr("value_shape", TensorShape({dim}))
                         .Finalize(&node));
  auto* device = static_cast<tensorflow::DeviceBase*>(ctx->device());
  // Only this manager names the table, so that it lives as long as the reference that is kept. The
  // device's own manager may be locked, as it is creating the resource that this table belongs to.
  tensorflow::ResourceMgr names;
  absl::Status status;
  const std::unique_ptr<OpKernel> kernel =
      tensorflow::CreateOpKernel(tensorflow::DeviceType(tensorflow::DEVICE_CPU), device,
                                 ctx->get_allocator({}), node, TF_GRAPH_DEF_VERSION, &status);
  TF_RETURN_IF_ERROR(status);
  const tensorflow::AllocatorAttributes on_host;
  OpKernelContext::Params params;
  params.device = device;
  params.op_kernel = kernel.get();
  params.resource_manager = &names;
  params.output_attr_array = &on_host;
  OpKernelContext creation(&params);
  kernel->Compute(&creation);
  TF_RETURN_IF_ERROR(creation.status());
  tensorflow::core::RefCountPtr<Interface> found;
  TF_RETURN_IF_ERROR(tensorflow::LookupResource(
      &creation, creation.mutable_output(0)->scalar<tensorflow::ResourceHandle>()(), &found));
  table->reset(new CuckooTable(std::move(found), dim));
  return absl::OkStatus();
}

CuckooTable::CuckooTable(tensorflow::core::RefCountPtr<Interface> table, int dim)
    : dim_(dim), table_(std::move(table)), device_(tensorflow::Env::Default()) {
  one_thread_.num_threads = 1;
  device_.set_tensorflow_cpu_worker_threads(&one_thread_);
}

void CuckooTable::Find(const uint64_t* keys, int64_t n, float* values) const {
  if (n == 0) return;
  Tensor found(tensorflow::DT_FLOAT, TensorShape({n, dim_}));
  Tensor absent(tensorflow::DT_FLOAT, TensorShape({1, dim_}));
  absent.flat<float>().setZero();
  TF_CHECK_OK(table_->Find(Context(&device_).get(), KeysTensor(keys, n), &found, absent));
  std::copy_n(found.flat<float>().data(), n * dim_, values);
}

void CuckooTable::Insert(const uint64_t* keys, int64_t n, const float* values) {
  if (n == 0) return;
  Tensor tensor(tensorflow::DT_FLOAT, TensorShape({n, dim_}));
  std::copy_n(values, n * dim_, tensor.flat<float>().data());
  TF_CHECK_OK(table_->Insert(Context(&device_).get(), KeysTensor(keys, n), tensor));
}

void CuckooTable::Remove(const uint64_t* keys, int64_t n) {
  if (n == 0) return;
  TF_CHECK_OK(table_->Remove(Context(&device_).get(), KeysTensor(keys, n)));
}

}  // namespace tfps
