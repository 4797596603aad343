#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>
#include <type_traits>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

static_assert(std::is_nothrow_move_constructible_v<SafetensorsWriter>);

// Writes `tensors` with bytes 0, 1, 2 ... in pieces of `piece` bytes.
Status write_all(const std::string& path, const std::vector<TensorHeader>& tensors,
                 const std::map<std::string, std::string>& metadata, std::size_t piece) {
  std::size_t size = 0;
  for (const TensorHeader& t : tensors) size += t.shape.elements() * size_of(t.dtype);
  std::string data(size, '\0');
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i);
  SafetensorsWriter writer = AXON_TRY(SafetensorsWriter::create(path, tensors, metadata));
  SafetensorsWriter moved = std::move(writer);
  for (std::size_t at = 0; at < size; at += piece)
    AXON_TRY(moved.write(bytes_of(std::string_view(data).substr(at, piece))));
  return moved.finish();
}

TEST(SafetensorsWriter, WhatIsWrittenReadsBack) {
  const Folder folder;
  const std::string path = folder / "w.safetensors";
  const std::vector<TensorHeader> tensors = {{"big", DType::kF32, {3, 5}},
                                             {"h", DType::kBF16, {7}},
                                             {"odd\"\\\n\xC3\xA9", DType::kU8, {3}},
                                             {"none", DType::kI64, {0, 4}},
                                             {"scalar", DType::kF64, {}}};
  const std::map<std::string, std::string> metadata{{"format", "mlx"}, {"vocab_mapping", "{0: 0, 1: 1}"}};
  const Status written = write_all(path, tensors, metadata, 7);
  ASSERT_TRUE(written.ok()) << written.error().message;
  EXPECT_EQ(folder.entries(), 1u);
  auto result = Safetensors::open(path);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Safetensors read = std::move(result).value();
  EXPECT_EQ(read.tensors().size(), tensors.size());
  EXPECT_EQ(read.metadata().at("vocab_mapping"), "{0: 0, 1: 1}");
  std::size_t at = 0;
  const std::byte* data = read.find("big")->bytes.data();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
  for (const TensorHeader& t : tensors) {
    const TensorView* view = read.find(t.name);
    ASSERT_NE(view, nullptr) << t.name;
    EXPECT_EQ(view->dtype, t.dtype);
    EXPECT_EQ(view->shape, t.shape);
    EXPECT_EQ(view->bytes.data(), data + at);
    for (const std::byte b : view->bytes) EXPECT_EQ(b, static_cast<std::byte>(at++));
  }
}

TEST(SafetensorsWriter, HeaderIsExact) {
  const Folder folder;
  ASSERT_TRUE(write_all(folder / "a", {{"x", DType::kF16, {2, 1}}}, {{"k", "v"}}, 4).ok());
  const std::string file = get(folder / "a");
  const std::string_view expected =
      R"({"__metadata__":{"k":"v"},"x":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}})";
  ASSERT_EQ(file.size(), 128u + 4u);
  EXPECT_EQ(file.substr(0, 8), std::string("\x78\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(file.substr(8, expected.size()), expected);
  EXPECT_EQ(file.substr(8 + expected.size(), 120 - expected.size()), std::string(120 - expected.size(), ' '));
  ASSERT_TRUE(write_all(folder / "b", {}, {}, 1).ok());
  EXPECT_EQ(get(folder / "b").substr(8, 3), "{} ");
}

TEST(SafetensorsWriter, RefusesWhatTheReaderWouldRefuse) {
  const Folder folder;
  const auto refused = [&](const std::vector<TensorHeader>& tensors, const std::map<std::string, std::string>& metadata,
                           std::string_view part) {
    const auto result = SafetensorsWriter::create(folder / "w", tensors, metadata);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_EQ(folder.entries(), 0u);
  };
  const TensorHeader x{"x", DType::kU8, {1}};
  refused({x, x}, {}, "tensor \"x\": the name is taken");
  refused({{"__metadata__", DType::kU8, {1}}}, {}, "the name is taken");
  refused({{"\xFF", DType::kU8, {1}}}, {}, "is not UTF-8");
  refused({x}, {{"k", "\xC3"}}, "is not UTF-8");
  refused({x}, {{"k", std::string((1 << 20) + 1, 'a')}}, "is longer than 1048576 bytes");
  refused({{"x", DType::kF32, {1ull << 62}}}, {}, "does not fit a file");
  refused({{"x", DType::kU8, {1ull << 63}}, {"y", DType::kU8, {1ull << 63}}}, {}, "does not fit a file");
  refused(std::vector<TensorHeader>(safetensors_limit::kTensors + 1, x), {}, "65537 tensors");
  // U+FFFD itself is UTF-8.
  EXPECT_TRUE(write_all(folder / "w", {{"\xEF\xBF\xBD", DType::kU8, {1}}}, {}, 1).ok());
}

TEST(SafetensorsWriter, ExistingOutputIsRefused) {
  const Folder folder;
  put(folder / "w", "precious");
  const auto result = SafetensorsWriter::create(folder / "w", {}, {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().message, (folder / "w") + " already exists");
  EXPECT_EQ(get(folder / "w"), "precious");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(SafetensorsWriter, AbandonedOutputLeavesNothing) {
  const Folder folder;
  {
    auto writer = SafetensorsWriter::create(folder / "w", {{"x", DType::kU8, {8}}}, {});
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(folder.entries(), 1u);
    EXPECT_FALSE(std::filesystem::exists(folder / "w"));
    ASSERT_TRUE(writer.value().write(bytes_of("1234")).ok());
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(SafetensorsWriterDeathTest, WrongAmountsAreOurBugs) {
  const Folder folder;
  auto writer = SafetensorsWriter::create(folder / "w", {{"x", DType::kU8, {4}}}, {});
  ASSERT_TRUE(writer.ok());
  EXPECT_DEATH(static_cast<void>(writer.value().write(bytes_of("12345"))), "check failed");
  EXPECT_DEATH(static_cast<void>(writer.value().write_at(0, 1, bytes_of("1234"))), "check failed");
  EXPECT_DEATH(static_cast<void>(writer.value().write_at(1, 0, bytes_of("1"))), "check failed");
  EXPECT_DEATH(static_cast<void>(writer.value().finish()), "check failed");
}

TEST(SafetensorsWriter, PiecesMayComeInAnyOrder) {
  const Folder folder;
  const std::vector<TensorHeader> tensors = {
      {"a", DType::kU8, {4}}, {"none", DType::kU8, {0}}, {"b", DType::kU16, {2}}};
  auto writer = SafetensorsWriter::create(folder / "w", tensors, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer.value().write_at(2, 2, bytes_of("gh")).ok());
  ASSERT_TRUE(writer.value().write(bytes_of("ab")).ok());  // pieces of their own do not move where write() goes on
  ASSERT_TRUE(writer.value().write_at(1, 0, {}).ok());
  ASSERT_TRUE(writer.value().write_at(2, 0, bytes_of("ef")).ok());
  ASSERT_TRUE(writer.value().write_at(0, 2, bytes_of("cd")).ok());
  ASSERT_TRUE(writer.value().finish().ok());
  auto read = Safetensors::open(folder / "w");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(text_of(read.value().find("a")->bytes), "abcd");
  EXPECT_EQ(text_of(read.value().find("b")->bytes), "efgh");
}

TEST(SafetensorsWriter, AnyTensorSetRoundTrips) {
  const Folder folder;
  int round = 0;
  EXPECT_TRUE(rc::check("write, read, compare", [&] {
    const auto names =
        *rc::gen::container<std::set<std::string>>(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)));
    std::vector<TensorHeader> tensors;
    for (const std::string& name : names) {
      const auto dtype = static_cast<DType>(*rc::gen::inRange(0, static_cast<int>(DType::kBool) + 1));
      const auto dims = *rc::gen::resize(6, rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange(0, 5)));
      tensors.push_back(
          {name, dtype, Shape::create(std::span(dims).first(std::min<std::size_t>(dims.size(), 6))).value()});
    }
    const auto metadata = *rc::gen::container<std::map<std::string, std::string>>(
        rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127)),
        rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127)));
    const auto piece = *rc::gen::inRange<std::size_t>(1, 100);
    const std::string path = folder / std::to_string(round++);
    const Status written = write_all(path, tensors, metadata, piece);
    RC_ASSERT(written.ok());
    auto read = Safetensors::open(path);
    RC_ASSERT(read.ok());
    RC_ASSERT(read.value().tensors().size() == tensors.size());
    RC_ASSERT(
        std::equal(metadata.begin(), metadata.end(), read.value().metadata().begin(), read.value().metadata().end()));
    std::size_t at = 0;
    for (const TensorHeader& t : tensors) {
      const TensorView* view = read.value().find(t.name);
      RC_ASSERT(view != nullptr && view->dtype == t.dtype && view->shape == t.shape);
      for (const std::byte b : view->bytes) RC_ASSERT(b == static_cast<std::byte>(at++));
    }
    std::filesystem::remove(path);
  }));
}

}  // namespace
}  // namespace axon
