#pragma once
// How failure is told: Result<T> for what may go wrong outside, AXON_CHECK for what may not go wrong inside.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace axon {

// What went wrong, in the caller's terms. The CLI maps it to an exit status.
enum class ErrorCode { kInvalidArgument, kNotFound, kCorrupt, kOverBudget, kUnsupported, kCancelled, kIo };

struct Error {
  ErrorCode code;
  std::string message;
};

template <class... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return {code, fmt::format(format, std::forward<Args>(args)...)};
}

// Either a value or the reason there is none. A Result must be looked at.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  T& value() & { return *checked(); }
  T&& value() && { return std::move(*checked()); }
  const Error& error() const { return *std::get_if<1>(&state_); }

 private:
  T* checked() {
    T* value = std::get_if<0>(&state_);
    if (value == nullptr) {
      std::fprintf(stderr, "value() of an error: %s\n", error().message.c_str());
      std::abort();
    }
    return value;
  }
  std::variant<T, Error> state_;
};

struct Ok {};
using Status = Result<Ok>;

}  // namespace axon

// Evaluates to the value, or returns the error to the caller. GNU statement expression: g++ and clang++ only.
// The line number keeps the names of nested uses apart.
#define AXON_CONCAT_(a, b) a##b
#define AXON_CONCAT(a, b) AXON_CONCAT_(a, b)
#define AXON_TRY_(name, expr)            \
  __extension__({                        \
    auto name = (expr);                  \
    if (!name.ok()) return name.error(); \
    std::move(name).value();             \
  })
#define AXON_TRY(expr) AXON_TRY_(AXON_CONCAT(axon_result_, __COUNTER__), expr)

// A broken invariant is our bug, never the user's input: say where and stop.
#define AXON_CHECK(condition)                                                            \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

#if defined(AXON_CHECKS)
#define AXON_DCHECK(condition) AXON_CHECK(condition)
#else
#define AXON_DCHECK(condition) static_cast<void>(sizeof(condition))
#endif
