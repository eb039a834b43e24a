#include "engine/text.hpp"

#include <cstdio>

#include "engine/error.hpp"

namespace semivox {

void Printed::append_to(std::string& message) const {
  switch (kind_) {
    case Kind::word:
      message += word_;
      return;
    case Kind::letter:
      message += letter_;
      return;
    case Kind::whole:
      message += std::to_string(whole_);
      return;
    case Kind::natural:
      message += std::to_string(natural_);
      return;
    case Kind::real:
      char digits[32];
      std::snprintf(digits, sizeof digits, "%g", real_);
      message += digits;
      return;
  }
}

std::string joined(std::initializer_list<Printed> values) {
  std::string message;
  for (const Printed& value : values) value.append_to(message);
  return message;
}

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw InternalError(text(file, ":", line, ": ", condition, ": ", message));
}

}  // namespace semivox
