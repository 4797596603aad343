#include "train/data_packer.h"

#include <algorithm>

namespace axon::train {

void CompatPacker::restart() {
  held_.clear();
  next_ = 0;
  rows_ = 0;
}

Status CompatPacker::add(const ExampleSource& source, std::size_t index) {
  AXON_TRY(source.read(index, example_));
  const std::uint32_t line = source.shape(index).line;
  if (!held_.empty()) held_.push_back({separator_, held_.back().line, 0, false});
  const TokenSequence& sequence = example_.sequences[0];
  for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
    held_.push_back({sequence.ids[t], line, sequence.trained[t], t == 0});
  }
  return Ok{};
}

void CompatPacker::take(std::size_t count, std::size_t width, Packed& out) {
  out.ids.assign(width, 0);
  out.trained.assign(width, 0);
  out.lines.clear();
  out.started = 0;
  for (std::size_t t = 0; t < count; ++t) {
    const Token& token = held_[t];
    out.ids[t] = token.id;
    out.trained[t] = token.trained;
    out.started += token.starts ? 1 : 0;
    if (out.lines.empty() || out.lines.back() != token.line) out.lines.push_back(token.line);
  }
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(count));
  ++rows_;
}

Result<bool> CompatPacker::next(const ExampleSource& source, std::span<const std::uint32_t> order, Packed& out) {
  const std::size_t width = source.max_seq_len();
  while (held_.size() < width && next_ < order.size()) {
    AXON_TRY(add(source, order[next_]));
    ++next_;
  }
  if (held_.empty()) return restart(), false;
  take(std::min(held_.size(), width), width, out);
  return true;
}

}  // namespace axon::train
