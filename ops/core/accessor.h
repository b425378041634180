// The life of a feasign: what its counts are worth, when it earns an mf vector and when it is
// evicted. All arithmetic is in float64, so that counts stay exact until the first decay.
#ifndef OPS_CORE_ACCESSOR_H_
#define OPS_CORE_ACCESSOR_H_

#include <cstdint>
#include <limits>

namespace tfps {

struct AccessorOptions {
  double nonclk_coeff = 0.1;             // what a show without a click is worth
  double clk_coeff = 1.0;                // what a click is worth
  double create_threshold = 10;          // score from which a feasign owns an mf vector
  double base_update_threshold = 1.5;    // score from which a feasign is exported
  double delta_update_threshold = 0.25;  // delta_score from which it is in a delta
  int delta_keep_days = 16;              // unseen days up to which it is exported
  double delete_threshold = 0.8;         // score below which it is evicted
  int delete_after_unseen_days = 30;     // unseen days above which it is evicted
  double decay_rate = 0.98;              // shows and clicks are multiplied by it each day
};

class Accessor {
 public:
  explicit Accessor(const AccessorOptions& options) : options_(options) {}

  double Score(double show, double click) const {
    return (show - click) * options_.nonclk_coeff + click * options_.clk_coeff;
  }

  bool Admits(double show, double click) const {
    return Score(show, click) >= options_.create_threshold;
  }

  bool Evicts(double show, double click, int unseen_days) const {
    return unseen_days > options_.delete_after_unseen_days ||
           Score(show, click) < options_.delete_threshold;
  }

  // Whether a base export holds the row, and whether a delta does.
  bool InBase(double show, double click, double delta_score, int unseen_days) const {
    return InExport(show, click, unseen_days) && delta_score >= 0;
  }
  bool InDelta(double show, double click, double delta_score, int unseen_days) const {
    return InExport(show, click, unseen_days) && delta_score >= options_.delta_update_threshold;
  }

  // Ages a row by one day. unseen_days saturates at its largest value.
  void Age(double* show, double* click, uint16_t* unseen_days) const {
    *show *= options_.decay_rate;
    *click *= options_.decay_rate;
    if (*unseen_days < std::numeric_limits<uint16_t>::max()) ++*unseen_days;
  }

 private:
  bool InExport(double show, double click, int unseen_days) const {
    return Score(show, click) >= options_.base_update_threshold &&
           unseen_days <= options_.delta_keep_days;
  }

  AccessorOptions options_;
};

}  // namespace tfps

#endif  // OPS_CORE_ACCESSOR_H_
