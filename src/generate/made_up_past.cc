#include "generate/made_up_past.h"

#include <algorithm>
#include <cstring>

namespace axon {
namespace {

// 0.06 to 0.12 as half precision, 2e-12 as float32, and harmless as codes and as any kind of scale.
void fill(std::byte* data, std::size_t size) {
  std::uint32_t state = 1;
  for (std::size_t i = 0; i + 4 <= size; i += 4) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t bits = 0x2C002C00u | (state & 0x03FF03FFu);
    std::memcpy(data + i, &bits, 4);
  }
}

// Of the ring, the slots that `tokens` tokens have written.
void fill_floats(const KvCache& cache, std::size_t head, std::size_t tokens) {
  const std::size_t row = cache.head_dim * size_of(cache.dtype);
  for (void* const part : {cache.k, cache.v}) {
    fill(static_cast<std::byte*>(part) + head * cache.capacity * row, std::min(tokens, cache.capacity) * row);
  }
}

void fill_compressed(const KvCache& cache, std::size_t head) {
  const std::size_t size = cache.head_plan.bytes.count;
  fill(reinterpret_cast<std::byte*>(cache.compressed) + head * size, size);
  cache.head(head).header() = {};
}

}  // namespace

void make_up_past(SequenceState& state, std::size_t tokens, cpu::ThreadPool& pool) {
  state.reset();
  if (tokens == 0) return;
  for (std::size_t layer = 0; layer < state.shapes().size(); ++layer) {
    if (!state.shapes()[layer].attention) continue;
    const KvCache& cache = state.kv(layer);
    pool.split(cache.heads, 1, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t h = begin; h < end; ++h) {
        if (cache.layout == nullptr) {
          fill_floats(cache, h, tokens);
        } else {
          fill_compressed(cache, h);
        }
      }
    });
  }
  state.advance(tokens);
}

}  // namespace axon
