#pragma once
// How much heap a test's code may take: a limit on this process, for death tests that show what a hostile file costs.

#include <malloc.h>
#include <sys/resource.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "io/test_files.h"

namespace axon::testing_files {

// Heap and other private writable memory of this process.
inline std::size_t data_bytes() {
  const std::string status = get("/proc/self/status");
  const std::size_t at = status.find("VmData:");
  AXON_CHECK(at != std::string::npos);
  return std::strtoull(status.c_str() + at + 7, nullptr, 10) * 1024;
}

// From here on this process may take `more` bytes, and what earlier tests left free inside the heap. Large blocks are
// mappings of their own, so that growing one does not leave its old places in the sum.
inline void limit_data(std::size_t more) {
  mallopt(M_MMAP_THRESHOLD, 1 << 17);
  malloc_trim(0);
  const rlimit limit{data_bytes() + more, RLIM_INFINITY};
  AXON_CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define AXON_HEAP_IS_NOT_OURS 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define AXON_HEAP_IS_NOT_OURS 1
#endif

}  // namespace axon::testing_files
