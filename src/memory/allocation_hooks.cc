// Replaces the global operator new so that NoAllocation can hold. Linked into programs, never into the library.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "memory/no_allocation.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define AXON_SANITIZER_OWNS_NEW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define AXON_SANITIZER_OWNS_NEW 1
#endif
#endif

#if !defined(AXON_SANITIZER_OWNS_NEW)
namespace {

void* checked_allocate(std::size_t size, std::size_t alignment) {
  if (axon::NoAllocation::active()) {
    std::fprintf(stderr, "check failed: %zu bytes were allocated where nothing may be\n", size);
    std::abort();
  }
  if (size == 0) size = 1;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(size)
                : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t size) { return checked_allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t a) { return checked_allocate(size, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif
