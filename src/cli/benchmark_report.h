#pragma once
// What benchmark found: as text, as JSON (docs/benchmark.md is its schema) and as a picture.

#include <string>
#include <vector>

#include "cli/common.h"
#include "generate/benchmark.h"

namespace axon::cli {

struct BenchmarkReport {
  struct Side {
    std::string model, weights, kv;
  };
  std::vector<Side> sides;  // as many as the result has subjects
  std::string processor, level;
  std::size_t threads = 0, prefill_chunk = 0, context = 0, decode = 0, repetitions = 0, max_seq_len = 0;
  bool exact = false;
  std::vector<std::size_t> prefill_left_out, depth_left_out;  // too long for the model, and not typed
  BenchmarkResult result;
  // Where no memory is read but a cache: the ceiling of reading is the cache's.
  Bytes last_level_cache;
  bool in_cache() const { return result.read_memory < last_level_cache; }
  // "A" and "B" where there are two, else nothing.
  std::string letter(std::size_t side) const {
    return sides.size() > 1 ? std::string(1, static_cast<char>('A' + side)) : "";
  }
};

std::string benchmark_text(const BenchmarkReport& report);
Json benchmark_json(const BenchmarkReport& report);
std::string benchmark_svg(const BenchmarkReport& report);

// A part of the time of each case: a verb, or what passes outside of them. Parts that no case has are left out.
struct BenchmarkPart {
  std::string name;
  std::vector<double> seconds;  // of a prompt or token of each case
  std::vector<double> shares;   // of its time
};
std::vector<BenchmarkPart> parts_of(std::span<const BenchmarkCaseResult> cases);

// "12.3 ms", "45.6 us", "1.23 s".
std::string seconds_words(double seconds);
// "my-model, weights as stored, kv fp16"
std::string side_words(const BenchmarkReport::Side& side);

}  // namespace axon::cli
