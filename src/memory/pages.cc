#include "memory/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace axon {

void populate_pages(const void* data, std::size_t size, PageUse use) {
  if (size == 0) return;
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(data) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(data) + size;
#if defined(MADV_POPULATE_READ)
  // Linux 5.14; older kernels say EINVAL.
  const int advice = use == PageUse::kRead ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
  if (madvise(reinterpret_cast<void*>(begin), (end - begin + page - 1) / page * page, advice) == 0) return;
#endif
  for (std::uintptr_t at = begin; at < end; at += page) {
    auto* byte = reinterpret_cast<volatile std::byte*>(at);
    const std::byte value = *byte;
    if (use == PageUse::kWrite) *byte = value;
  }
}

}  // namespace axon
