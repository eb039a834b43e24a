// Messages: joins values into a string.
//
// Without <sstream>: every file reports errors, and stream code in each of them was a good part of the time
// to compile.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace semivox {

/// One value of a message, as `std::ostream <<` would print it.
class Printed {
 public:
  Printed(std::string_view word) : word_(word), kind_(Kind::word) {}
  Printed(const std::string& word) : word_(word), kind_(Kind::word) {}
  Printed(const char* word) : word_(word), kind_(Kind::word) {}
  Printed(char letter) : letter_(letter), kind_(Kind::letter) {}
  Printed(std::signed_integral auto number) : whole_(number), kind_(Kind::whole) {}
  Printed(std::unsigned_integral auto number) : natural_(number), kind_(Kind::natural) {}
  Printed(std::floating_point auto number) : real_(number), kind_(Kind::real) {}

  void append_to(std::string& message) const;

 private:
  enum class Kind { word, letter, whole, natural, real };
  std::string_view word_;
  union {
    char letter_;
    long long whole_;
    unsigned long long natural_;
    double real_ = 0;
  };
  Kind kind_;
};

std::string joined(std::initializer_list<Printed> values);

/// Joins its arguments into one string; real numbers with six digits.
template <class... Args>
std::string text(const Args&... args) {
  return joined({Printed(args)...});
}

}  // namespace semivox
