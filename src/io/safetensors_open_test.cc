#include <gtest/gtest.h>

#include <cstring>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

constexpr const char* kIndex = "model.safetensors.index.json";

std::string file_with(std::string_view name, std::string_view extra = "") {
  return make_file(fmt::format(R"({{{}"{}":{{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}}})", extra, name), 3);
}

void expect_error(const std::string& path, ErrorCode code, const std::vector<std::string>& parts) {
  const auto result = Safetensors::open(path);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const std::string& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << "\n" << result.error().message;
  }
}

TEST(SafetensorsOpen, OneFile) {
  const Folder folder;
  put(folder / "w.safetensors", file_with("x"));
  auto result = Safetensors::open(folder / "w.safetensors");
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Safetensors tensors = std::move(result).value();
  ASSERT_NE(tensors.find("x"), nullptr);
  EXPECT_EQ(text_of(tensors.find("x")->bytes), std::string("\0\1\2", 3));
  EXPECT_EQ(tensors.find("x")->file->path(), folder / "w.safetensors");
  EXPECT_EQ(tensors.paths(), std::vector<std::string>{folder / "w.safetensors"});
}

TEST(SafetensorsOpen, NothingThere) {
  const Folder folder;
  expect_error(folder / "none.safetensors", ErrorCode::kNotFound, {folder / "none.safetensors"});
  put(folder / "other.bin", "");
  put(folder / ".hidden.safetensors", "");
  expect_error(folder.path(), ErrorCode::kNotFound, {folder.path(), kIndex, "*.safetensors"});
  put(folder / "empty.safetensors", "");
  expect_error(folder.path(), ErrorCode::kCorrupt, {"empty.safetensors", "this one has 0 bytes"});
}

TEST(SafetensorsOpen, AllFilesInLexicalOrder) {
  const Folder folder;
  put(folder / "b.safetensors", file_with("y", R"("__metadata__":{"k":"second","only":"b"},)"));
  put(folder / "a.safetensors", file_with("x", R"("__metadata__":{"k":"first"},)"));
  auto result = Safetensors::open(folder.path());
  ASSERT_TRUE(result.ok()) << result.error().message;
  const std::vector<std::string> expected{folder / "a.safetensors", folder / "b.safetensors"};
  EXPECT_EQ(result.value().paths(), expected);
  EXPECT_EQ(result.value().tensors().size(), 2u);
  EXPECT_EQ(result.value().metadata().at("k"), "first");
  EXPECT_EQ(result.value().metadata().at("only"), "b");
  put(folder / "c.safetensors", file_with("x"));
  expect_error(folder.path(), ErrorCode::kCorrupt, {"\"x\"", folder / "a.safetensors", folder / "c.safetensors"});
}

TEST(SafetensorsOpen, IndexNamesTheShards) {
  const Folder folder;
  put(folder / "s1.safetensors", file_with("x"));
  put(folder / "s2.safetensors", file_with("y"));
  put(folder / "adapters.safetensors", file_with("x"));
  put(folder / kIndex, R"({"metadata":{"total_size":6,"more":[1,-2,{"a":null}]},)"
                       R"("weight_map":{"x":"s1.safetensors","y":"s2.safetensors"}})");
  auto result = Safetensors::open(folder.path());
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result.value().paths().size(), 2u);
  EXPECT_EQ(result.value().find("y")->file->path(), folder / "s2.safetensors");
}

TEST(SafetensorsOpen, IndexAndShardsMustAgree) {
  const Folder folder;
  put(folder / "s1.safetensors", file_with("x"));
  put(folder / "s2.safetensors", file_with("y"));
  const auto index = [&](std::string_view map) {
    put(folder / kIndex, fmt::format(R"({{"weight_map":{{{}}}}})", map));
  };
  index(R"("x":"s1.safetensors","y":"s3.safetensors")");
  expect_error(folder.path(), ErrorCode::kNotFound, {folder / "s3.safetensors", folder / kIndex});
  index(R"("x":"s1.safetensors","y":"s1.safetensors")");
  expect_error(folder.path(), ErrorCode::kCorrupt, {"\"y\" is not in its shard s1.safetensors", kIndex});
  index(R"("x":"s1.safetensors","z":"s2.safetensors")");
  expect_error(folder.path(), ErrorCode::kCorrupt, {folder / "s2.safetensors", "\"y\" is not in"});
  index(R"("x":"s2.safetensors","y":"s1.safetensors")");
  expect_error(folder.path(), ErrorCode::kCorrupt, {"\"x\" is in", "not in s2.safetensors"});
}

TEST(SafetensorsOpen, IndexIsChecked) {
  const Folder folder;
  put(folder / "s.safetensors", file_with("x"));
  const auto refused = [&](std::string_view text, const std::string& part) {
    put(folder / kIndex, text);
    expect_error(folder.path(), ErrorCode::kCorrupt, {kIndex, part});
  };
  for (const std::string_view name :
       {"../s.safetensors", "/s.safetensors", "a/s.safetensors", "..", "", "s.bin", "s\\u0000.safetensors"}) {
    refused(fmt::format(R"({{"weight_map":{{"x":"{}"}}}})", name), "is not the plain name of a .safetensors file");
  }
  refused("", "not valid JSON");
  refused("[]", "expected objects");
  refused("3", "expected objects");
  refused("{}", "weight_map is missing");
  refused(R"({"metadata":{}})", "weight_map is missing");
  refused(R"({"weight_map":[]})", "expected a file name, got an array");
  refused(R"({"weight_map":null})", "got null");
  refused(R"({"metadata":1,"weight_map":{}})", "got a number");
  refused(R"({"weight_map":{"x":1}})", "\"x\": expected a file name, got a number");
  refused(R"({"weight_map":{"x":{}}})", "\"x\": expected a file name, got an object");
  refused(R"({"weight_map":{"x":["s.safetensors"]}})", "\"x\": expected a file name, got an array");
  refused(R"({"weight_map":{"x":"s.safetensors","x":"s.safetensors"}})", "\"x\" comes twice");
  refused(R"({"weight_map":{},"weight_map":{}})", "weight_map comes twice");
  refused(R"({"metadata":{},"metadata":{},"weight_map":{}})", "metadata comes twice");
  refused(R"({"other":{},"weight_map":{}})", "got \"other\"");
}

TEST(SafetensorsOpen, ReadsTheFilesThatMlxWrote) {
  const std::string golden = std::string(AXON_SOURCE_DIR) + "/tests/golden/mlx-tiny/";
  auto forward = Safetensors::open(golden + "forward.safetensors");  // unpadded header, "__metadata__": null
  ASSERT_TRUE(forward.ok()) << forward.error().message;
  EXPECT_EQ(forward.value().tensors().size(), 34u);
  EXPECT_TRUE(forward.value().metadata().empty());
  const TensorView* embed = forward.value().find("a.embed");
  ASSERT_NE(embed, nullptr);
  EXPECT_EQ(embed->shape, Shape({1, 12, 64}));
  EXPECT_EQ(embed->dtype, DType::kF32);
  EXPECT_EQ(embed->bytes.data() - embed->file->bytes().data(), 8 + 2765 + 861888);
  auto model = Safetensors::open(golden + "fp");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model.value().metadata().at("format"), "mlx");
  EXPECT_EQ(model.value().tensors().size(), 90u);
  // The model's own table, row by row, is what the recorded run looked up.
  const TensorView* table = model.value().find("embed_tokens.weight");
  const TensorView* ids = forward.value().find("ids_a");
  ASSERT_TRUE(table != nullptr && ids != nullptr);
  ASSERT_EQ(ids->dtype, DType::kI32);
  for (std::size_t t = 0; t < 12; ++t) {
    std::int32_t id = 0;
    std::memcpy(&id, ids->bytes.data() + 4 * t, 4);
    const auto row = table->bytes.subspan(static_cast<std::size_t>(id) * 256, 256);
    EXPECT_EQ(std::memcmp(row.data(), embed->bytes.data() + t * 256, 256), 0) << t;
  }
}

}  // namespace
}  // namespace axon
