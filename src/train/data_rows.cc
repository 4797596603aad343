#include "train/data_rows.h"

#include <algorithm>

namespace axon::train {

RowBuffers::RowBuffers(Carver& carver, std::size_t rows, std::size_t capacity)
    : ids_(carver.mat<TokenId>(rows, capacity)),
      labels_(carver.mat<std::uint32_t>(rows, capacity)),
      segments_(carver.mat<Segment>(rows, capacity)),
      lines_(carver.mat<std::uint32_t>(rows, capacity)),
      views_(carver.span<Row>(rows)),
      filled_(carver.span<Filled>(rows)) {}

void RowBuffers::clear() {
  used_ = 0;
  examples_ = 0;
}

void RowBuffers::open_row() {
  AXON_CHECK(used_ < ids_.rows);
  filled_[used_++] = Filled{};
}

std::size_t RowBuffers::room() const { return used_ == 0 ? 0 : ids_.cols - filled_[used_ - 1].positions; }

RowBuffers::Place RowBuffers::segment(std::size_t positions, SegmentRole role, std::uint32_t line) {
  AXON_CHECK(positions > 0 && positions <= room());
  const std::size_t row = used_ - 1;
  Filled& filled = filled_[row];
  const std::size_t begin = filled.positions;
  filled.positions += positions;
  segments_.row(row)[filled.segments++] = {.begin = static_cast<std::uint32_t>(begin),
                                           .end = static_cast<std::uint32_t>(filled.positions),
                                           .line = line,
                                           .role = role};
  const Place place{ids_.row(row).subspan(begin, positions), labels_.row(row).subspan(begin, positions)};
  std::fill(place.ids.begin(), place.ids.end(), TokenId{0});
  std::fill(place.labels.begin(), place.labels.end(), kIgnore);
  return place;
}

void RowBuffers::line(std::uint32_t line) {
  Filled& filled = filled_[used_ - 1];
  lines_.row(used_ - 1)[filled.lines++] = line;
}

void RowBuffers::example(const Example& example, std::uint32_t line) {
  const bool pair = !example.sequences[1].ids.empty();
  for (std::size_t s = 0; s < (pair ? 2u : 1u); ++s) {
    const TokenSequence& sequence = example.sequences[s];
    const SegmentRole role = !pair ? SegmentRole::kDocument : s == 0 ? SegmentRole::kChosen : SegmentRole::kRejected;
    const Place place = segment(sequence.ids.size() - 1, role, line);
    for (std::size_t t = 0; t < place.ids.size(); ++t) {
      place.ids[t] = sequence.ids[t];
      if (sequence.trained[t + 1] != 0) place.labels[t] = sequence.ids[t + 1];
    }
  }
  this->line(line);
  count_example();
}

Batch RowBuffers::batch() {
  Batch batch{.rows = views_.first(used_), .examples = examples_};
  for (std::size_t r = 0; r < used_; ++r) {
    const Filled& filled = filled_[r];
    const std::span<Segment> segments = segments_.row(r).first(filled.segments);
    views_[r] = {.ids = ids_.row(r).first(filled.positions),
                 .labels = labels_.row(r).first(filled.positions),
                 .segments = segments,
                 .lines = lines_.row(r).first(filled.lines)};
    for (Segment& segment : segments) {
      const auto labels = views_[r].labels.subspan(segment.begin, segment.end - segment.begin);
      const auto ignored = static_cast<std::size_t>(std::count(labels.begin(), labels.end(), kIgnore));
      segment.targets = static_cast<std::uint32_t>(labels.size() - ignored);
      batch.targets += segment.targets;
    }
    batch.tokens += filled.positions;
  }
  return batch;
}

}  // namespace axon::train
