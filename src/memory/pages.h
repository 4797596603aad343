#pragma once
// Bringing pages into memory before they are needed.

#include <cstddef>

namespace axon {

enum class PageUse { kRead, kWrite };

// Makes every page of a mapping resident: file pages are read (kRead), anonymous ones zeroed (kWrite). Contents do not
// change. `data` need not be aligned. Pages that the system cannot bring now come when they are touched.
void populate_pages(const void* data, std::size_t size, PageUse use);

}  // namespace axon
