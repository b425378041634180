// One of TFRA's CuckooHashTables: vectors of floats by key.
//
// TFRA's own op makes it, and everything else goes through TensorFlow's LookupInterface. Each call
// runs on the calling thread. All methods may be called at the same time from any number of
// threads: TFRA finds, inserts or removes each key atomically, but not several keys.
#ifndef OPS_TFRA_CUCKOO_TABLE_H_
#define OPS_TFRA_CUCKOO_TABLE_H_

#include <cstdint>
#include <memory>

#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/lookup_interface.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/refcount.h"

namespace tfps {

class CuckooTable {
 public:
  // A new table of vectors of `dim` floats on the device of `ctx`. TFRA must be loaded.
  static absl::Status Create(tensorflow::OpKernelContext* ctx, int dim,
                             std::unique_ptr<CuckooTable>* table);

  int dim() const { return dim_; }

  // Bytes of one key and its vector. TFRA does not report its spare memory.
  int64_t entry_bytes() const { return 8 + 4 * dim_; }

  // Writes the vectors of n keys to values (n, dim); zeros for an absent key.
  void Find(const uint64_t* keys, int64_t n, float* values) const;

  // Inserts or overwrites values (n, dim). Throws what TFRA throws if there is no memory.
  void Insert(const uint64_t* keys, int64_t n, const float* values);

  void Remove(const uint64_t* keys, int64_t n);

 private:
  using Interface = tensorflow::lookup::LookupInterface;

  CuckooTable(tensorflow::core::RefCountPtr<Interface> table, int dim);

  int dim_;
  tensorflow::core::RefCountPtr<Interface> table_;
  // A device without threads of its own: the caller has already split the work.
  mutable tensorflow::DeviceBase device_;
  tensorflow::DeviceBase::CpuWorkerThreads one_thread_;
};

}  // namespace tfps

#endif  // OPS_TFRA_CUCKOO_TABLE_H_
