// The arithmetic of dense weights, vectorised by Eigen. `after` may be `before` itself.
#ifndef OPS_KERNELS_DENSE_VALUES_H_
#define OPS_KERNELS_DENSE_VALUES_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "unsupported/Eigen/CXX11/Tensor"

namespace tfps {

template <typename T>
using ConstValues = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;
template <typename T>
using Values = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;

// after = decay * before + part; exactly `part` for a decay of 0, even if before is NaN.
inline void Decay(const float* before, float decay, const float* part, int64_t n, float* after) {
  const ConstValues<float> old(before, n), added(part, n);
  if (decay == 0) {
    std::copy_n(part, n, after);
  } else if (decay == 1) {
    Values<float>(after, n) = old + added;
  } else {
    Values<float>(after, n) = decay * old + added;
  }
}

// after = before + part, which wraps around on overflow.
template <typename T>
void Add(const T* before, const int64_t* part, int64_t n, T* after) {
  using Unsigned = std::make_unsigned_t<T>;
  for (int64_t i = 0; i < n; ++i) {
    after[i] = static_cast<T>(static_cast<Unsigned>(before[i]) + static_cast<Unsigned>(part[i]));
  }
}

}  // namespace tfps

#endif  // OPS_KERNELS_DENSE_VALUES_H_
