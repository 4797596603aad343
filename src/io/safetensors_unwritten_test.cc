// A file that nobody wrote is the file that the writer writes, but for its data.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

// Both files and what they say of each tensor: type, shape, bytes, and where its bytes begin in the file.
std::string listing(const Safetensors& file, const std::byte* begin) {
  std::string out;
  for (const auto& [name, t] : file.tensors()) {
    out += fmt::format("{} {} {} {} at {}\n", name.size(), name_of(t.dtype), to_string(t.shape), t.bytes.size(),
                       t.bytes.data() - begin);
    EXPECT_NE(t.file, nullptr);
    EXPECT_TRUE(t.file == nullptr || t.file->bytes().data() == begin);
  }
  return out;
}

const std::byte* begin_of(const Safetensors& file) { return file.tensors().begin()->second.file->bytes().data(); }

// The writer's file, with zeros for data.
Safetensors written(const std::string& path, const std::vector<TensorHeader>& tensors) {
  SafetensorsWriter writer = SafetensorsWriter::create(path, tensors, {}).value();
  for (const TensorHeader& t : tensors) {
    const std::string zeros(t.shape.elements() * size_of(t.dtype), '\0');
    EXPECT_TRUE(writer.write(bytes_of(zeros)).ok());
  }
  EXPECT_TRUE(writer.finish().ok());
  return Safetensors::open(path).value();
}

TEST(SafetensorsUnwritten, EqualsTheWritersFile) {
  const Folder folder;
  const std::vector<TensorHeader> tensors = {{"big", DType::kF32, {3, 5}},
                                             {"h", DType::kBF16, {7}},
                                             {"odd\"\\\n\xC3\xA9", DType::kU8, {3}},
                                             {"none", DType::kI64, {0, 4}},
                                             {"scalar", DType::kF64, {}}};
  const Safetensors file = written(folder / "w", tensors);
  auto made = Safetensors::unwritten(tensors, "planned");
  ASSERT_TRUE(made.ok()) << made.error().message;
  const Safetensors moved = std::move(made).value();
  EXPECT_EQ(listing(moved, begin_of(moved)), listing(file, begin_of(file)));
  EXPECT_TRUE(
      std::ranges::equal(moved.tensors().begin()->second.file->bytes(), file.tensors().begin()->second.file->bytes()));
  EXPECT_EQ(moved.tensors().begin()->second.file->path(), "planned");
}

TEST(SafetensorsUnwritten, TakesNoMemoryForItsData) {
  auto made = Safetensors::unwritten({{"x", DType::kF32, {1u << 20, 1u << 18}}}, "planned");
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(made.value().find("x")->bytes.size(), std::size_t{1} << 40);
  EXPECT_EQ(made.value().find("x")->bytes.back(), std::byte{0});
}

TEST(SafetensorsUnwritten, RefusesWhatTheWriterRefuses) {
  const TensorHeader x{"x", DType::kU8, {1}};
  const auto refused = [](const std::vector<TensorHeader>& tensors, std::string_view part,
                          ErrorCode code = ErrorCode::kInvalidArgument) {
    const auto made = Safetensors::unwritten(tensors, "planned");
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code, code);
    EXPECT_NE(made.error().message.find(part), std::string::npos) << made.error().message;
  };
  refused({x, x}, "the name is taken");
  refused({{"x", DType::kU8, {1ull << 63}}, {"y", DType::kU8, {1ull << 63}}}, "does not fit a file");
  refused({{"x", DType::kU8, {~0ull}}}, "planned: the tensors do not fit a file");
  refused({{"x", DType::kU8, {1ull << 60}}}, "planned: no address space", ErrorCode::kIo);
}

TEST(SafetensorsUnwritten, AnyTensorSetIsAsWritten) {
  const Folder folder;
  EXPECT_TRUE(rc::check("listings", [&] {
    const auto names = *rc::gen::nonEmpty(
        rc::gen::container<std::set<std::string>>(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127))));
    std::vector<TensorHeader> tensors;
    for (const std::string& name : names) {
      const auto dtype = static_cast<DType>(*rc::gen::inRange(0, static_cast<int>(DType::kBool) + 1));
      const auto dims = *rc::gen::resize(6, rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange(0, 5)));
      tensors.push_back(
          {name, dtype, Shape::create(std::span(dims).first(std::min<std::size_t>(dims.size(), 6))).value()});
    }
    const Safetensors file = written(folder / "w", tensors);
    auto made = Safetensors::unwritten(tensors, "planned");
    RC_ASSERT(made.ok());
    RC_ASSERT(listing(made.value(), begin_of(made.value())) == listing(file, begin_of(file)));
    std::filesystem::remove(folder / "w");
  }));
}

}  // namespace
}  // namespace axon
