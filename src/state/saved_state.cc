#include "state/saved_state.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/random.h"

namespace axon {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::string_view kFormat = "bit-axon state", kVersion = "1", kValue = "value.", kChecksum = "checksum";
constexpr std::string_view kUnread = "unread", kSeen = "seen";
// 1,024 layers take a quarter of it.
constexpr std::uint64_t kHeaderBytesMax = 1 << 20;
constexpr std::size_t kPieceBytes = 256 << 10;  // of the file, in memory at a time
constexpr int kExponentMax = 160;               // of scales: beyond what float has

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

std::optional<std::uint64_t> parse_number(std::string_view text, int base) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Told apart by any change of a single word; not by an adversary.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes) {
    const std::size_t size = bytes.size();
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
      std::uint64_t word;
      std::memcpy(&word, bytes.data(), 8);
      add(word);
    }
    std::uint64_t rest = 0;
    if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
    add(rest);
    add(size);
  }
  template <class Metadata>
  void add_metadata(const Metadata& metadata) {
    for (const auto& [key, value] : metadata) {
      if (key == kChecksum) continue;
      add(std::as_bytes(std::span(key)));
      add(std::as_bytes(std::span(value)));
    }
  }
  std::uint64_t value() const { return mix64(state_); }

 private:
  void add(std::uint64_t word) { state_ = std::rotl(state_ ^ word, 29) * 0x9E3779B97F4A7C15ull; }
  std::uint64_t state_ = hash64(kFormat);
};

// What is in use of one head of a compressed cache.
struct Part {
  std::size_t at, size;
};
std::array<Part, 5> parts_of_head(const turboquant::HeadPlan& plan, std::size_t head_dim, std::uint64_t position) {
  std::size_t front = plan.tiles_at;
  if (plan.coded_tokens != 0) {
    const std::size_t coded = std::min<std::uint64_t>(plan.left_tail(position), plan.coded_tokens);
    const std::size_t tiles = (coded + turboquant::kTileTokens - 1) / turboquant::kTileTokens;
    front = tiles == plan.tiles ? plan.tail_at : plan.offset_of_tile(tiles);
  }
  const std::size_t slots = std::min<std::uint64_t>(position, plan.tail_tokens);
  const turboquant::TileOffsets tail = turboquant::tail_offsets(head_dim, plan.tail_tokens);
  const std::size_t values = slots * head_dim, scales = slots * scale_bytes(turboquant::ScaleKind::kHalf);
  return {Part{0, front}, Part{plan.tail_at + tail.key_codes, values}, Part{plan.tail_at + tail.key_scales, scales},
          Part{plan.tail_at + tail.value_codes, values}, Part{plan.tail_at + tail.value_scales, scales}};
}

// The tensors of the state, layer by layer.
std::vector<TensorHeader> tensors_of(std::span<const LayerStateShape> shapes, const KvType& kv,
                                     std::uint64_t position) {
  std::vector<TensorHeader> out;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const LayerStateShape& layer = shapes[i];
    if (!layer.attention) {
      out.push_back({fmt::format("layer_{}.ssm.h", i), DType::kF32, {layer.state, layer.inner}});
      out.push_back({fmt::format("layer_{}.ssm.tail", i), DType::kF32, {layer.taps - 1, layer.inner}});
    } else if (kv.layout != nullptr) {
      const turboquant::HeadPlan plan = turboquant::plan_head(*kv.layout, layer.head_dim, layer.capacity).value();
      std::uint64_t bytes = 0;
      for (const Part part : parts_of_head(plan, layer.head_dim, position)) bytes += part.size;
      out.push_back({fmt::format("layer_{}.kv", i), DType::kU8, {layer.heads, bytes}});
    } else {
      const std::uint64_t used = std::min<std::uint64_t>(position, layer.capacity);
      const Shape shape = {layer.heads, used, layer.head_dim};
      out.push_back({fmt::format("layer_{}.kv.k", i), kv.dtype, shape});
      out.push_back({fmt::format("layer_{}.kv.v", i), kv.dtype, shape});
    }
  }
  return out;
}

// Calls visit(tensor, bytes) for each stretch of memory that belongs to the tensors above, in the order of the file.
template <class Visit>
Status for_each_stretch(const SequenceState& state, std::uint64_t position, Visit&& visit) {
  std::size_t tensor = 0;
  const auto stretch = [&](void* at, std::size_t size) {
    return visit(tensor, std::span(static_cast<std::byte*>(at), size));
  };
  const auto matrix = [&](Mat<float> m) { return stretch(m.data, m.rows * m.cols * sizeof(float)); };
  for (std::size_t i = 0; i < state.shapes().size(); ++i) {
    if (!state.shapes()[i].attention) {
      for (const Mat<float> m : {state.ssm(i).h, state.ssm(i).tail}) {
        AXON_TRY(matrix(m));
        ++tensor;
      }
      continue;
    }
    const KvCache& kv = state.kv(i);
    if (kv.layout != nullptr) {
      for (std::size_t h = 0; h < kv.heads; ++h) {
        for (const Part part : parts_of_head(kv.head_plan, kv.head_dim, position)) {
          AXON_TRY(stretch(kv.head(h).bytes + part.at, part.size));
        }
      }
      ++tensor;
      continue;
    }
    const std::size_t row = kv.head_dim * size_of(kv.dtype);
    const std::size_t used = std::min<std::uint64_t>(position, kv.capacity);
    for (void* ring : {kv.k, kv.v}) {
      for (std::size_t h = 0; h < kv.heads; ++h) {
        AXON_TRY(stretch(static_cast<std::byte*>(ring) + h * kv.capacity * row, used * row));
      }
      ++tensor;
    }
  }
  return Ok{};
}

// What `text_of` says of each attention layer, equal ones once.
template <class TextOf>
std::string of_attention(std::span<const LayerStateShape> shapes, TextOf&& text_of) {
  std::vector<std::string> all;
  for (const LayerStateShape& layer : shapes) {
    if (!layer.attention) continue;
    std::string text = text_of(layer);
    if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
  }
  return fmt::format("{}", fmt::join(all, ","));
}
std::string ring_of(std::span<const LayerStateShape> shapes) {
  return of_attention(shapes, [](const LayerStateShape& layer) { return fmt::format("{}", layer.capacity); });
}
std::string codebook_of(std::span<const LayerStateShape> shapes, const KvType& kv) {
  if (kv.layout == nullptr) return {};
  return of_attention(
      shapes, [&](const LayerStateShape& layer) { return hex(turboquant::codebook_id(*kv.layout, layer.head_dim)); });
}

std::map<std::string, std::string> metadata_of(const SequenceState& state, const StateNotes& notes) {
  std::map<std::string, std::string> out = {{"format", std::string(kFormat)},
                                            {"version", std::string(kVersion)},
                                            {"position", fmt::format("{}", state.position())},
                                            {"model", notes.model},
                                            {"kv", std::string(state.kv_type().name())},
                                            {"ring", ring_of(state.shapes())},
                                            {"codebook", codebook_of(state.shapes(), state.kv_type())},
                                            {"made_with", notes.made_with}};
  for (const auto& [name, value] : notes.values) out[fmt::format("{}{}", kValue, name)] = value;
  return out;
}

// The file's own lists, after those of the state.
void add_lists(std::vector<TensorHeader>& tensors, std::size_t unread, std::size_t seen) {
  tensors.push_back({std::string(kUnread), DType::kU32, {unread}});
  tensors.push_back({std::string(kSeen), DType::kU64, {seen}});
}

template <class T>
std::vector<T> list_of(const TensorView& view) {
  std::vector<T> out(view.bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), view.bytes.data(), view.bytes.size());
  return out;
}

}  // namespace

Status save_state(const SequenceState& state, const StateNotes& notes, const std::string& path) {
  std::vector<TensorHeader> tensors = tensors_of(state.shapes(), state.kv_type(), state.position());
  add_lists(tensors, notes.unread.size(), notes.seen.size());
  std::map<std::string, std::string> metadata = metadata_of(state, notes);
  Checksum sum;
  sum.add_metadata(metadata);
  AXON_TRY(for_each_stretch(state, state.position(), [&](std::size_t, std::span<const std::byte> bytes) -> Status {
    sum.add(bytes);
    return Ok{};
  }));
  sum.add(std::as_bytes(notes.unread));
  sum.add(std::as_bytes(notes.seen));
  metadata[std::string(kChecksum)] = hex(sum.value());
  SafetensorsWriter writer = AXON_TRY(SafetensorsWriter::create(path, tensors, metadata, Existing::kReplace));
  AXON_TRY(for_each_stretch(state, state.position(),
                            [&](std::size_t, std::span<const std::byte> bytes) { return writer.write(bytes); }));
  AXON_TRY(writer.write(std::as_bytes(notes.unread)));
  AXON_TRY(writer.write(std::as_bytes(notes.seen)));
  return writer.finish();
}

Result<SavedState> SavedState::open(const std::string& path) {
  MappedFile file = AXON_TRY(MappedFile::open(path));
  SavedState out = AXON_TRY(parse(file.bytes(), path));
  out.file_ = std::move(file);
  return out;
}

Result<SavedState> SavedState::parse(std::span<const std::byte> bytes, std::string_view what) {
  // Before the header takes memory in proportion to its size.
  std::uint64_t header = 0;
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  if (header > kHeaderBytesMax && header <= bytes.size()) {
    return make_error(ErrorCode::kCorrupt, "{}: no saved state: its header has {} bytes, at most {} were expected",
                      what, header, kHeaderBytesMax);
  }
  SavedState out;
  out.what_ = what;
  out.tensors_ = AXON_TRY(Safetensors::parse(bytes, what));
  AXON_TRY(out.read_metadata());
  return out;
}

Status SavedState::read_metadata() {
  const Safetensors::Metadata& metadata = tensors_.metadata();
  const auto text = [&](std::string_view key) {
    const auto it = metadata.find(key);
    return it == metadata.end() ? std::string_view() : std::string_view(it->second);
  };
  if (text("format") != kFormat) {
    return make_error(ErrorCode::kCorrupt, "{}: no saved state: its metadata has no format \"{}\"", what_, kFormat);
  }
  if (text("version") != kVersion) {
    return make_error(ErrorCode::kUnsupported, "{}: a saved state of version {}, this program reads version {}", what_,
                      fmt::format("\"{}\"", text("version")), kVersion);
  }
  const auto position = parse_number(text("position"), 10), checksum = parse_number(text(kChecksum), 16);
  if (!position || !checksum) {
    return make_error(ErrorCode::kCorrupt, "{}: {} is \"{}\", expected a number", what_,
                      position ? kChecksum : std::string_view("position"),
                      position ? text(kChecksum) : text("position"));
  }
  position_ = *position;
  checksum_ = *checksum;
  model_ = text("model");
  kv_ = text("kv");
  ring_ = text("ring");
  codebook_ = text("codebook");
  made_with_ = text("made_with");
  for (const auto& [name, dtype] : {std::pair{kUnread, DType::kU32}, std::pair{kSeen, DType::kU64}}) {
    const TensorView* view = tensors_.find(name);
    if (view != nullptr && view->dtype == dtype && view->shape.rank() == 1) continue;
    return make_error(ErrorCode::kCorrupt, "{}: tensor \"{}\" is missing or is no list of {}", what_, name,
                      axon::name_of(dtype));
  }
  return Ok{};
}

const std::string* SavedState::value(std::string_view name) const {
  const auto it = tensors_.metadata().find(fmt::format("{}{}", kValue, name));
  return it == tensors_.metadata().end() ? nullptr : &it->second;
}

std::vector<std::uint32_t> SavedState::unread() const { return list_of<std::uint32_t>(*tensors_.find(kUnread)); }
std::vector<std::uint64_t> SavedState::seen() const { return list_of<std::uint64_t>(*tensors_.find(kSeen)); }

Error SavedState::mismatch(ErrorCode code, std::string_view thing, std::string_view got,
                           std::string_view expected) const {
  return make_error(code, "{}: {} {}, but this run's is {}{}", what_, thing, got, expected,
                    made_with_.empty() ? std::string() : fmt::format("; it was made with {}", made_with_));
}

Status SavedState::check(const StateTarget& target) const {
  if (model_ != target.model) {
    return mismatch(ErrorCode::kInvalidArgument,
                    "a state of another model, other weights or another precision:", model_, target.model);
  }
  if (kv_ != target.kv.name()) return mismatch(ErrorCode::kInvalidArgument, "its KV type is", kv_, target.kv.name());
  if (const std::string ring = ring_of(target.shapes); ring_ != ring) {
    return mismatch(ErrorCode::kInvalidArgument,
                    "its KV ring (the smaller of context and attention window, in tokens) is", ring_, ring);
  }
  if (const std::string codebook = codebook_of(target.shapes, target.kv); codebook_ != codebook) {
    return mismatch(ErrorCode::kUnsupported, fmt::format("its codebook of {} is", kv_), codebook_, codebook);
  }
  if (position_ > target.context) {
    return make_error(ErrorCode::kInvalidArgument, "{}: remembers {} tokens, but the context is {}", what_, position_,
                      target.context);
  }
  return check_tensors(target);
}

Status SavedState::check_tensors(const StateTarget& target) const {
  const std::uint64_t unread = tensors_.find(kUnread)->shape[0], seen = tensors_.find(kSeen)->shape[0];
  const std::uint64_t words = (target.vocab_size + 63) / 64;
  if (unread > target.context || seen > words) {
    return make_error(ErrorCode::kCorrupt, "{}: \"{}\" has {} numbers, at most {} can be right", what_,
                      unread > target.context ? kUnread : kSeen, unread > target.context ? unread : seen,
                      unread > target.context ? target.context : words);
  }
  std::vector<TensorHeader> expected = tensors_of(target.shapes, target.kv, position_);
  add_lists(expected, unread, seen);
  for (const TensorHeader& tensor : expected) {
    const TensorView* view = tensors_.find(tensor.name);
    if (view != nullptr && view->dtype == tensor.dtype && view->shape == tensor.shape) continue;
    return make_error(ErrorCode::kCorrupt, "{}: tensor \"{}\" is {}, expected {} {} after {} tokens", what_,
                      tensor.name,
                      view == nullptr ? std::string("missing")
                                      : fmt::format("{} {}", axon::name_of(view->dtype), to_string(view->shape)),
                      axon::name_of(tensor.dtype), to_string(tensor.shape), position_);
  }
  if (tensors_.tensors().size() != expected.size()) {
    return make_error(ErrorCode::kCorrupt, "{}: {} tensors, expected {}", what_, tensors_.tensors().size(),
                      expected.size());
  }
  return Ok{};
}

Status SavedState::copy(SequenceState& state) const {
  const std::vector<TensorHeader> tensors = tensors_of(state.shapes(), state.kv_type(), position_);
  Checksum sum;
  sum.add_metadata(tensors_.metadata());
  std::size_t current = tensors.size(), at = 0;
  std::span<const std::byte> from;
  AXON_TRY(for_each_stretch(state, position_, [&](std::size_t tensor, std::span<std::byte> to) -> Status {
    if (tensor != std::exchange(current, tensor)) from = tensors_.find(tensors[tensor].name)->bytes, at = 0;
    for (std::size_t done = 0; done < to.size();) {
      const std::size_t size = std::min(kPieceBytes, to.size() - done);
      std::memcpy(to.data() + done, from.data() + at, size);
      done += size;
      at += size;
      const bool piece_ends = at % kPieceBytes < size || at == from.size();
      if (piece_ends && !file_.bytes().empty()) file_.drop(from.first(at));
    }
    sum.add(to);
    return Ok{};
  }));
  const std::vector<std::uint32_t> ids = unread();
  sum.add(std::as_bytes(std::span(ids)));
  const std::vector<std::uint64_t> words = seen();
  sum.add(std::as_bytes(std::span(words)));
  if (sum.value() == checksum_) return Ok{};
  return make_error(ErrorCode::kCorrupt, "{}: its checksum is {}, but what it holds has {}: the file is damaged", what_,
                    hex(checksum_), hex(sum.value()));
}

Status SavedState::check_contents(const StateTarget& target, const SequenceState& state) const {
  for (const std::uint32_t id : unread()) {
    if (id < target.vocab_size) continue;
    return make_error(ErrorCode::kCorrupt, "{}: has an unread token {}, but the vocabulary has {}", what_, id,
                      target.vocab_size);
  }
  for (std::size_t i = 0; i < target.shapes.size(); ++i) {
    const KvCache& kv = state.kv(i);
    for (std::size_t h = 0; kv.layout != nullptr && h < kv.heads; ++h) {
      const turboquant::HeadHeader& header = kv.head(h).header();
      for (const int exponent : {header.key_exponent, header.value_exponent}) {
        if (exponent >= -kExponentMax && exponent <= kExponentMax) continue;
        return make_error(ErrorCode::kCorrupt, "{}: layer {}, head {}: a scale exponent of {}, expected {} to {}",
                          what_, i, h, exponent, -kExponentMax, kExponentMax);
      }
    }
  }
  return Ok{};
}

Status SavedState::restore(StateTarget target, SequenceState& state) const {
  target.shapes = state.shapes();
  target.kv = state.kv_type();
  state.reset();
  Status status = check(target);
  if (status.ok()) status = copy(state);
  if (status.ok()) status = check_contents(target, state);
  if (status.ok()) {
    state.advance(position_);
  } else {
    state.reset();
  }
  return status;
}

}  // namespace axon
