// A test program in one header: include it in exactly one .cc and write TEST(Name) { CHECK_EQ(a,
// b); }. A failed check is printed and fails its test, which goes on. The program exits with 1 if
// any test failed.
#ifndef OPS_TESTS_CHECK_H_
#define OPS_TESTS_CHECK_H_

#include <atomic>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace tfps_test {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline std::atomic<int>& FailedChecks() {
  static std::atomic<int> failed{0};
  return failed;
}

inline int Register(const char* name, void (*run)()) {
  Tests().push_back({name, run});
  return 0;
}

// One instance of this for all checks of a kind of two types: a lambda at each check would make one
// each, and they would be most of what a test costs to compile.
template <typename Holds, typename A, typename B>
void Check(const A& a, const B& b, Holds holds, const char* what, const char* file, int line) {
  if (holds(a, b)) return;
  ++FailedChecks();
  std::ostringstream message;
  message.precision(17);
  message << file << ":" << line << ": " << what << " does not hold: " << a << " vs " << b << "\n";
  std::cerr << message.str();
}

struct Near {
  double tolerance;
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    return std::fabs(a - b) <= tolerance;
  }
};

}  // namespace tfps_test

#define TEST(name)                                                              \
  static void Test##name();                                                     \
  static const int registered_##name = tfps_test::Register(#name, &Test##name); \
  static void Test##name()

#define CHECK_THAT(a, b, holds, what) tfps_test::Check((a), (b), holds, what, __FILE__, __LINE__)
#define CHECK_EQ(a, b) CHECK_THAT(a, b, std::equal_to<>(), #a " == " #b)
#define CHECK_NE(a, b) CHECK_THAT(a, b, std::not_equal_to<>(), #a " != " #b)
#define CHECK_LT(a, b) CHECK_THAT(a, b, std::less<>(), #a " < " #b)
#define CHECK_LE(a, b) CHECK_THAT(a, b, std::less_equal<>(), #a " <= " #b)
#define CHECK_GT(a, b) CHECK_THAT(a, b, std::greater<>(), #a " > " #b)
#define CHECK_GE(a, b) CHECK_THAT(a, b, std::greater_equal<>(), #a " >= " #b)
#define CHECK_TRUE(a) CHECK_EQ(static_cast<bool>(a), true)
#define CHECK_FALSE(a) CHECK_EQ(static_cast<bool>(a), false)
#define CHECK_NEAR(a, b, tolerance) \
  CHECK_THAT(a, b, (tfps_test::Near{tolerance}), #a " is within " #tolerance " of " #b)

int main() {
  int failed = 0;
  for (const tfps_test::Test& test : tfps_test::Tests()) {
    const int before = tfps_test::FailedChecks();
    test.run();
    if (tfps_test::FailedChecks() != before) {
      ++failed;
      std::cerr << "FAILED " << test.name << "\n";
    }
  }
  const int total = static_cast<int>(tfps_test::Tests().size());
  std::cout << total - failed << " passed, " << failed << " failed" << std::endl;
  return failed == 0 && total > 0 ? 0 : 1;
}

#endif  // OPS_TESTS_CHECK_H_
