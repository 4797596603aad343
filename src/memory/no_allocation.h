#pragma once
// NoAllocation: while one lives, operator new on this thread is a failed check. The token loop runs inside one.
//
// The check needs the program to link allocation_hooks.cc, which replaces the global operator new: bit-axon and the
// tests do, a program that embeds the library need not (then the guard costs nothing and checks nothing).

namespace axon {

class NoAllocation {
 public:
  NoAllocation() { ++depth(); }
  ~NoAllocation() { --depth(); }
  NoAllocation(const NoAllocation&) = delete;
  NoAllocation& operator=(const NoAllocation&) = delete;
  static bool active() { return depth() != 0; }

 private:
  static int& depth() {
    static thread_local int value = 0;
    return value;
  }
};

}  // namespace axon
