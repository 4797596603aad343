#include "architectures/file_weights.h"

#include <gtest/gtest.h>

#include "io/gguf_file_for_test.h"

namespace axon {
namespace {

using namespace testing_files;

TEST(FileWeights, Gguf) {
  GgufFile file;
  file.tensor("a", {256, 4}, "Q4_K").tensor("b", {256, 2}, "Q4_K").tensor("c", {100}).tensor("d", {32}, "Q8_0");
  const std::string bytes = file.bytes();
  auto gguf = Gguf::parse(bytes_of(bytes), "f");
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  const FileWeights weights = file_weights(gguf.value());
  EXPECT_EQ(weights.format, "gguf");
  EXPECT_EQ(weights.files, 1u);
  ASSERT_EQ(weights.types.size(), 3u);
  EXPECT_EQ(weights.types[0].name, "Q4_K");
  EXPECT_EQ(weights.types[0].tensors, 2u);
  EXPECT_EQ(weights.types[0].elements, 1536u);
  EXPECT_EQ(weights.types[0].bytes, Bytes{6 * 144});
  EXPECT_EQ(weights.types[1].name, "F32");
  EXPECT_EQ(weights.types[2].bytes, Bytes{34});
  EXPECT_EQ(weights.tensors(), 4u);
  EXPECT_EQ(weights.elements(), 1668u);
  EXPECT_EQ(weights.bytes(), Bytes{6 * 144 + 400 + 34});
  EXPECT_FALSE(weights.packed);
}

FileWeights of_safetensors(std::string_view header, std::size_t data) {
  const std::string file = make_file(header, data);
  auto result = Safetensors::parse(bytes_of(file), "f");
  EXPECT_TRUE(result.ok()) << result.error().message;
  return file_weights(result.value());
}

TEST(FileWeights, Safetensors) {
  const FileWeights weights =
      of_safetensors(R"({"a":{"dtype":"BF16","shape":[4,4],"data_offsets":[0,32]},"b":{"dtype":"F4","shape":[8],)"
                     R"("data_offsets":[32,36]},)"
                     R"("c":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[36,40]},"d":{"dtype":"BF16","shape":[1],)"
                     R"("data_offsets":[40,42]},)"
                     R"("positions":{"dtype":"I32","shape":[3],"data_offsets":[42,54]}})",
                     54);
  EXPECT_EQ(weights.format, "safetensors");
  ASSERT_EQ(weights.types.size(), 4u);
  EXPECT_EQ(weights.types[0].name, "BF16");
  EXPECT_EQ(weights.types[0].tensors, 2u);
  EXPECT_EQ(weights.types[0].bytes, Bytes{34});
  EXPECT_EQ(weights.types[1].name, "I32");
  EXPECT_EQ(weights.types[2].name, "F4");  // as many bytes as the next: by name
  EXPECT_EQ(weights.types[2].elements, 8u);
  EXPECT_EQ(weights.types[3].name, "F8_E4M3");
  EXPECT_EQ(weights.elements(), 16u + 1 + 8 + 4 + 3);
  EXPECT_EQ(weights.bytes(), Bytes{54});
  EXPECT_FALSE(weights.packed);
}

TEST(FileWeights, PackedCodesAreSaidToBe) {
  for (const std::string_view dtype : {"U32", "I32"}) {
    EXPECT_TRUE(
        of_safetensors(fmt::format(R"({{"w":{{"dtype":"{}","shape":[2,2],"data_offsets":[0,16]}}}})", dtype), 16)
            .packed);
  }
  EXPECT_TRUE(of_safetensors(R"({"w":{"dtype":"U8","shape":[8,1],"data_offsets":[0,8]}})", 8).packed);
  EXPECT_FALSE(of_safetensors(R"({"w":{"dtype":"I8","shape":[8,1],"data_offsets":[0,8]}})", 8).packed);
  EXPECT_FALSE(of_safetensors(R"({"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", 8).packed);
}

}  // namespace
}  // namespace axon
