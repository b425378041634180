// Reads and writes the rows of a table in TFRA's tables.
//
// A row's head, lr_w and lr state are one vector, in a table that holds every row; mf_w and mf
// state, once the row is admitted, are another, in a table for vectors of that length. Vectors hold
// the bytes of a row as it is in memory (see row.h). They include the key, which is never 0, so
// that an absent row reads as one whose key is 0.
#ifndef OPS_TFRA_ROWS_H_
#define OPS_TFRA_ROWS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "ops/core/row.h"
#include "ops/core/table_config.h"
#include "ops/tfra/cuckoo_table.h"

namespace tfps {

// Memory for some rows, each as long as the longest.
class RowBuffer {
 public:
  RowBuffer(const TableConfig& config, int64_t rows)
      : units_(config.row_bytes() / 8), memory_(rows * units_) {}

  RowHead* operator[](int64_t i) { return reinterpret_cast<RowHead*>(&memory_[i * units_]); }

 private:
  int64_t units_;
  std::vector<uint64_t> memory_;
};

inline bool IsAbsent(const RowHead* row) { return row->key == 0; }

enum class Part { kHead, kAll };  // kHead: without mf_w and mf state

class TfraRows {
 public:
  explicit TfraRows(const TableConfig* config) : config_(*config) {}

  // Makes TFRA's tables.
  absl::Status Open(tensorflow::OpKernelContext* ctx);

  // Reads the rows of n keys.
  void Read(const uint64_t* keys, int64_t n, Part part, RowBuffer* rows) const;

  // Writes rows over those with the same keys. The old rows must have the same slots, and must not
  // be admitted if the new ones are not.
  void Write(const std::vector<const RowHead*>& rows, Part part);

  void Remove(const std::vector<const RowHead*>& rows);

  // Bytes of the entries of a row.
  int64_t Bytes(const Policy& policy, bool admitted) const {
    return heads_->entry_bytes() + (admitted ? MfTableOf(policy).entry_bytes() : 0);
  }

 private:
  static int MfFloats(const RowLayout& layout) {
    return layout.admitted_floats() - layout.head_floats();
  }
  CuckooTable& MfTableOf(const Policy& policy) const { return *mf_.at(MfFloats(policy.layout)); }

  const TableConfig& config_;
  std::unique_ptr<CuckooTable> heads_;
  std::map<int, std::unique_ptr<CuckooTable>> mf_;  // by the number of floats of mf_w and mf state
};

}  // namespace tfps

#endif  // OPS_TFRA_ROWS_H_
