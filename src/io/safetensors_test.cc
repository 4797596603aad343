#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "base/random.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

struct Refused {
  std::string header;
  std::size_t data_size;
  ErrorCode code;
  std::string part;  // of the message
};

void expect_refused(const Refused& c) {
  const std::string file = make_file(c.header, c.data_size);
  const auto result = Safetensors::parse(bytes_of(file), "some.safetensors");
  ASSERT_FALSE(result.ok()) << c.header;
  EXPECT_EQ(result.error().code, c.code) << c.header << ": " << result.error().message;
  EXPECT_NE(result.error().message.find(c.part), std::string::npos) << c.header << ": " << result.error().message;
  EXPECT_EQ(result.error().message.find("some.safetensors: "), 0u) << result.error().message;
}

std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"x":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

TEST(Shape, ProductRankAndText) {
  EXPECT_EQ(Shape({2, 3, 4}).elements(), 24u);
  EXPECT_EQ(Shape().elements(), 1u);
  EXPECT_EQ(Shape({5, 0}).elements(), 0u);
  EXPECT_EQ(to_string(Shape({2560, 64})), "[2560, 64]");
  EXPECT_EQ(to_string(Shape()), "[]");
  EXPECT_EQ(Shape({1, 2}), Shape({1, 2}));
  EXPECT_FALSE(Shape({1, 2}) == Shape({1, 2, 1}));
  EXPECT_FALSE(Shape({1, 2}) == Shape({2, 1}));
  const std::vector<std::uint64_t> seven(7, 1);
  EXPECT_FALSE(Shape::create(seven).ok());
  const std::vector<std::uint64_t> huge{1ull << 32, 1ull << 32};
  EXPECT_FALSE(Shape::create(huge).ok());
  const std::vector<std::uint64_t> largest{1ull << 32, (1ull << 32) - 1};
  EXPECT_TRUE(Shape::create(largest).ok());
}

TEST(SafetensorsParse, TensorsLieWhereTheHeaderSays) {
  const std::string file = make_file(
      R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},"a":{"shape":[2],"data_offsets":[0,8],"dtype":"F32"},)"
      R"("s":{"dtype":"I16","shape":[],"data_offsets":[11,13]},"__metadata__":{"format":"mlx","":"\u00e9"}})",
      13);
  auto result = Safetensors::parse(bytes_of(file), "f");
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Safetensors tensors = std::move(result).value();
  ASSERT_EQ(tensors.tensors().size(), 3u);
  EXPECT_EQ(tensors.find("a")->shape, Shape({2}));
  EXPECT_EQ(tensors.find("a")->dtype, DType::kF32);
  EXPECT_EQ(text_of(tensors.find("a")->bytes), std::string("\0\1\2\3\4\5\6\7", 8));
  EXPECT_EQ(text_of(tensors.find("b")->bytes), "\x8\x9\xA");
  EXPECT_EQ(tensors.find("s")->shape.rank(), 0u);
  EXPECT_EQ(text_of(tensors.find("s")->bytes), "\xB\xC");
  EXPECT_EQ(tensors.find("c"), nullptr);
  EXPECT_EQ(tensors.find("__metadata__"), nullptr);
  EXPECT_EQ(tensors.metadata().at("format"), "mlx");
  EXPECT_EQ(tensors.metadata().at(""), "\xC3\xA9");
}

TEST(SafetensorsParse, AcceptsWhatTheFormatAllows) {
  const std::vector<std::pair<std::string, std::size_t>> files = {
      {"{}", 0},
      {"{}   \n", 0},
      {R"({"__metadata__":null})", 0},
      {R"({"__metadata__":{}})", 0},
      {one("\"F32\"", "[0]", "[0,0]"), 0},
      {one("\"F32\"", "[1,1,1,1,1,1]", "[0,4]"), 4},
      {one("\"BOOL\"", "[18446744073709551615,0]", "[0,0]"), 0},
      {R"({ "x" : { "dtype" : "F64" , "shape" : [ 1 ] , "data_offsets" : [ 0 , 8 ] } } )", 8},
      // Empty tensors at one place, also between others.
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
       R"("y":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3},
  };
  for (const auto& [header, size] : files) {
    const std::string file = make_file(header, size);
    const auto result = Safetensors::parse(bytes_of(file), "f");
    EXPECT_TRUE(result.ok()) << header << ": " << result.error().message;
  }
}

TEST(SafetensorsParse, RefusesBrokenFraming) {
  for (std::size_t n = 0; n < 8; ++n) {
    const auto result = Safetensors::parse(bytes_of(std::string(n, '\0')), "f");
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find(fmt::format("this one has {} bytes", n)), std::string::npos);
  }
  std::string file = make_file("{}", 0);
  file[0] = 3;
  EXPECT_FALSE(Safetensors::parse(bytes_of(file), "f").ok());
  file[7] = '\xFF';
  EXPECT_FALSE(Safetensors::parse(bytes_of(file), "f").ok());
  const ErrorCode bad = ErrorCode::kCorrupt;
  expect_refused({"", 0, bad, "does not start with '{'"});
  expect_refused({" {}", 0, bad, "does not start with '{'"});
  expect_refused({"[]", 0, bad, "does not start with '{'"});
  expect_refused({"{", 0, bad, "not valid JSON"});
  expect_refused({"{}{}", 0, bad, "not valid JSON"});
  expect_refused({"{} x", 0, bad, "not valid JSON"});
  expect_refused({std::string("{}\0", 3), 0, bad, "not valid JSON"});
  expect_refused({"{\"\xFF\":null}", 0, bad, "not valid JSON"});
  expect_refused({R"({"x":{"dtype":{"a":{"b":{}}}}})", 0, bad, "dtype: expected a string, got an object"});
  expect_refused({R"({"__metadata__":{"a":[[[1]]]}})", 0, bad, "expected a string, got an array"});
}

TEST(SafetensorsParse, RefusesAHeaderLongerThanTheFormatAllows) {
  // Sparse: nothing but the first page is ever touched.
  constexpr std::size_t kSize = 200'000'000;
  void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::uint64_t length = safetensors_limit::kHeaderBytes + 1;
  std::memcpy(memory, &length, 8);
  const auto result = Safetensors::parse({static_cast<const std::byte*>(memory), kSize}, "f");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("length is given as 100000001"), std::string::npos);
  munmap(memory, kSize);
}

TEST(SafetensorsParse, RefusesBrokenFields) {
  const ErrorCode bad = ErrorCode::kCorrupt;
  for (const std::string_view missing : {"dtype", "shape", "data_offsets"}) {
    std::string header = one("\"U8\"", "[1]", "[0,1]");
    const std::size_t at = header.find(fmt::format("\"{}", missing));
    const std::size_t end = std::min(header.find(",\"", at), header.size() - 2);
    header.erase(at, end - at + (header[end] == ',' ? 1 : 0));
    if (header.ends_with(",}}")) header.erase(header.size() - 3, 1);
    expect_refused({header, 1, bad, fmt::format("tensor \"x\": the field {} is missing", missing)});
  }
  expect_refused({R"({"x":{}})", 0, bad, "is missing"});
  expect_refused({R"({"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}})", 1, bad, "dtype comes twice"});
  expect_refused({R"({"x":{"dtype":"U8","shape":[],"shape":[],"data_offsets":[0,1]}})", 1, bad, "shape comes twice"});
  expect_refused({R"({"x":{"dtype":"U8","shape":[],"data_offsets":[0,1],"data_offsets":[0,1]}})", 1, bad,
                  "data_offsets comes twice"});
  expect_refused(
      {R"({"x":{"dtype":"U8","shape":[],"data_offsets":[0,1],"strides":[1]}})", 1, bad, "got the field \"strides\""});
  expect_refused({one("1", "[1]", "[0,1]"), 1, bad, "dtype: expected a string, got the number 1"});
  expect_refused({one("null", "[1]", "[0,1]"), 1, bad, "dtype: expected a string, got null"});
  expect_refused({one("[\"U8\"]", "[1]", "[0,1]"), 1, bad, "dtype: expected a string, got an array"});
  expect_refused({one("\"U8\"", "1", "[0,1]"), 1, bad, "shape: expected an array, got the number 1"});
  expect_refused({one("\"U8\"", "\"1\"", "[0,1]"), 1, bad, "shape: expected an array, got a string"});
  expect_refused({one("\"U8\"", "[[1]]", "[0,1]"), 1, bad, "shape: expected whole numbers from 0, got an array"});
  expect_refused({one("\"U8\"", "[true]", "[0,1]"), 1, bad, "shape: expected whole numbers from 0, got a boolean"});
  expect_refused({one("\"U8\"", "[1]", "{}"), 1, bad, "data_offsets: expected an array, got an object"});
  expect_refused({one("\"U8\"", "[1]", "[0]"), 1, bad, "expected 2 numbers, got 1"});
  expect_refused({one("\"U8\"", "[1]", "[]"), 1, bad, "expected 2 numbers, got 0"});
  expect_refused({one("\"U8\"", "[1]", "[0,1,1]"), 1, bad, "expected 2 numbers, got more"});
  expect_refused({R"({"x":null})", 0, bad, "tensor \"x\": expected an object, got null"});
  expect_refused({R"({"x":[]})", 0, bad, "tensor \"x\": expected an object, got an array"});
  expect_refused({R"({"x":7})", 0, bad, "tensor \"x\": expected an object, got the number 7"});
  expect_refused({R"({"x\u0001\n":7})", 0, bad, "tensor \"x\\u0001\\n\": expected"});
}

TEST(SafetensorsParse, RefusesNumbersThatAreNotPlain) {
  const ErrorCode bad = ErrorCode::kCorrupt;
  for (const std::string_view number : {"-1", "1.0", "1e0", "1E0", "18446744073709551616", "0.5", "-0.0"}) {
    expect_refused({one("\"U8\"", fmt::format("[{}]", number), "[0,1]"), 1, bad, "expected whole numbers from 0"});
    expect_refused({one("\"U8\"", "[1]", fmt::format("[0,{}]", number)), 1, bad, "expected whole numbers from 0"});
  }
  expect_refused({one("\"U8\"", "[0]", "[-0,0]"), 0, bad, "got 0"});
  expect_refused({one("\"U8\"", "[-0]", "[0,0]"), 0, bad, "got 0"});
  expect_refused({one("\"U8\"", "[01]", "[0,1]"), 1, bad, "not valid JSON"});
  expect_refused({one("\"U8\"", "[+1]", "[0,1]"), 1, bad, "not valid JSON"});
}

TEST(SafetensorsParse, HoldsWhatWeOnlyPlanFrom) {
  const std::vector<std::pair<std::string, std::size_t>> sizes = {
      {"F8_E4M3", 24}, {"F8_E5M2", 24}, {"F8_E8M0", 24}, {"F8_E4M3FNUZ", 24}, {"F8_E5M2FNUZ", 24}, {"F6_E2M3", 18},
      {"F6_E3M2", 18}, {"F4", 12},      {"C64", 192},    {"BOOL", 24},        {"F64", 192},        {"I64", 192}};
  for (const auto& [dtype, size] : sizes) {
    const std::string file = make_file(one(fmt::format("\"{}\"", dtype), "[2,12]", fmt::format("[0,{}]", size)), size);
    const auto result = Safetensors::parse(bytes_of(file), "f");
    EXPECT_TRUE(result.ok()) << result.error().message;
  }
  const ErrorCode bad = ErrorCode::kCorrupt;
  expect_refused({one("\"F4\"", "[3]", "[0,1]"), 1, bad, "tensor \"x\": F4 [3] does not fill whole bytes"});
  expect_refused({one("\"F4\"", "[3]", "[0,2]"), 2, bad, "does not fill whole bytes"});
  expect_refused({one("\"F6_E2M3\"", "[2]", "[0,2]"), 2, bad, "does not fill whole bytes"});
  expect_refused({one("\"F4\"", "[4]", "[0,4]"), 4, bad, "hold 4 bytes, but F4 [4] needs 2"});
}

TEST(SafetensorsParse, RefusesDtypesAndShapesBeyondUs) {
  for (const std::string_view dtype : {"F8_E4M4", "F3", "C128", "f32", ""}) {
    expect_refused({one(fmt::format("\"{}\"", dtype), "[1]", "[0,1]"), 1, ErrorCode::kUnsupported,
                    fmt::format("tensor \"x\": dtype \"{}\" is not supported", dtype)});
  }
  expect_refused({one("\"U8\"", "[1,1,1,1,1,1,1]", "[0,1]"), 1, ErrorCode::kUnsupported, "more than 6 dimensions"});
  const ErrorCode bad = ErrorCode::kCorrupt;
  expect_refused({one("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, bad, "does not fit 64 bits"});
  expect_refused({one("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), 0, bad, "does not fit 64 bits"});
  // 2^62 elements of 4 bytes: the byte count wraps to 0.
  expect_refused({one("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, bad, "needs more than 2^64"});
}

TEST(SafetensorsParse, RefusesOffsetsThatDoNotFit) {
  const ErrorCode bad = ErrorCode::kCorrupt;
  expect_refused({one("\"U8\"", "[4]", "[0,4]"), 3, bad, "do not lie in the file's 3 bytes"});
  expect_refused({one("\"U8\"", "[4]", "[4,0]"), 4, bad, "do not lie in the file's 4 bytes"});
  expect_refused({one("\"U8\"", "[4]", "[18446744073709551612,0]"), 4, bad, "do not lie in"});
  expect_refused({one("\"U8\"", "[0]", "[5,5]"), 4, bad, "do not lie in"});
  expect_refused({one("\"U8\"", "[5]", "[0,4]"), 4, bad, "hold 4 bytes, but U8 [5] needs 5"});
  expect_refused({one("\"F32\"", "[]", "[0,2]"), 2, bad, "hold 2 bytes, but F32 [] needs 4"});
  expect_refused({one("\"U8\"", "[0]", "[0,1]"), 1, bad, "hold 1 bytes, but U8 [0] needs 0"});
}

TEST(SafetensorsParse, RefusesHolesOverlapsAndTrailingBytes) {
  const auto two = [](std::string_view a, std::string_view b, std::size_t na, std::size_t nb) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":{}}},)"
                       R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":{}}}}})",
                       na, a, nb, b);
  };
  const ErrorCode bad = ErrorCode::kCorrupt;
  expect_refused({two("[0,4]", "[3,7]", 4, 4), 7, bad, "tensors \"a\" and \"b\" overlap"});
  expect_refused({two("[3,7]", "[0,4]", 4, 4), 7, bad, "tensors \"b\" and \"a\" overlap"});
  expect_refused({two("[0,4]", "[0,4]", 4, 4), 4, bad, "overlap"});
  expect_refused({two("[0,4]", "[2,2]", 4, 0), 4, bad, "overlap"});
  expect_refused({two("[0,4]", "[5,7]", 4, 2), 7, bad, "\"b\": begins at 5, but the data before it ends at 4: a hole"});
  expect_refused({one("\"U8\"", "[3]", "[1,4]"), 4, bad, "a hole"});
  expect_refused({one("\"U8\"", "[4]", "[0,4]"), 5, bad, "the tensors end at 4, but the file has 5 bytes of data"});
  expect_refused({"{}", 1, bad, "the tensors end at 0, but the file has 1 bytes of data"});
}

TEST(SafetensorsParse, RefusesDoubledNamesAndOddMetadata) {
  const ErrorCode bad = ErrorCode::kCorrupt;
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused({fmt::format(R"({{"x":{0},"x":{0}}})", entry), 0, bad, "tensor \"x\": the name comes twice"});
  expect_refused({fmt::format(R"({{"x":{0},"\u0078":{0}}})", entry), 0, bad, "tensor \"x\": the name comes twice"});
  expect_refused({R"({"__metadata__":{},"__metadata__":{}})", 0, bad, "__metadata__ comes twice"});
  expect_refused({R"({"__metadata__":null,"__metadata__":{}})", 0, bad, "__metadata__ comes twice"});
  expect_refused({R"({"__metadata__":{"a":"1","a":"2"}})", 0, bad, "the key \"a\" comes twice"});
  expect_refused({R"({"__metadata__":{"a":1}})", 0, bad, "__metadata__: \"a\": expected a string, got the number 1"});
  expect_refused({R"({"__metadata__":{"a":null}})", 0, bad, "expected a string, got null"});
  expect_refused({R"({"__metadata__":{"a":{}}})", 0, bad, "expected a string, got an object"});
  expect_refused({R"({"__metadata__":[]})", 0, bad, "__metadata__: expected an object of strings, got an array"});
  expect_refused({R"({"__metadata__":"x"})", 0, bad, "__metadata__: expected an object of strings, got a string"});
}

TEST(SafetensorsParse, RefusesMoreThanItHolds) {
  const auto many = [](std::size_t count) {
    std::string header = "{";
    for (std::size_t i = 0; i < count; ++i) {
      header +=
          fmt::format(R"("{:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}{})", i, i + 1 < count ? "," : "}");
    }
    return header;
  };
  const std::string most = make_file(many(safetensors_limit::kTensors), 0);
  EXPECT_TRUE(Safetensors::parse(bytes_of(most), "f").ok());
  expect_refused({many(safetensors_limit::kTensors + 1), 0, ErrorCode::kUnsupported, "more than 65536 tensors"});
  std::string metadata = R"({"__metadata__":{)";
  for (std::size_t i = 0; i <= safetensors_limit::kMetadataEntries; ++i) metadata += fmt::format("\"{}\":\"\",", i);
  metadata.back() = '}';
  expect_refused({metadata + "}", 0, ErrorCode::kUnsupported, "more than 4096 entries"});
}

TEST(SafetensorsParse, EveryTruncationIsAnError) {
  const std::string file = make_file(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
      11);
  ASSERT_TRUE(Safetensors::parse(bytes_of(file), "f").ok());
  for (std::size_t n = 0; n < file.size(); ++n) {
    const std::vector<char> exact(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(Safetensors::parse(std::as_bytes(std::span(exact)), "f").ok()) << n;
  }
}

TEST(SafetensorsParse, FlippedHeadersNeverReachOutsideTheFile) {
  const std::string good =
      make_file(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
                11);
  const CounterRng rng(7);
  std::uint64_t draw = 0;
  std::size_t accepted = 0;
  for (int round = 0; round < 60'000; ++round) {
    std::string file = good;
    const std::uint64_t flips = 1 + rng.bits(draw++) % 3;
    for (std::uint64_t i = 0; i < flips; ++i) {
      const std::uint64_t at = rng.bits(draw++) % (file.size() - 11);
      const std::uint64_t value = rng.bits(draw++);
      constexpr std::string_view kJson = "0123456789,:[]{}\"-";
      file[at] = value % 2 == 0 ? static_cast<char>(value >> 8) : kJson[(value >> 8) % kJson.size()];
    }
    auto result = Safetensors::parse(bytes_of(file), "f");
    if (!result.ok()) continue;
    ++accepted;
    const auto whole = bytes_of(file);
    for (const auto& [name, view] : result.value().tensors()) {
      ASSERT_GE(view.bytes.data(), whole.data());
      ASSERT_LE(view.bytes.data() + view.bytes.size(), whole.data() + whole.size());
      ASSERT_EQ(packed_bytes(view.dtype, view.shape.elements()), view.bytes.size());
    }
  }
  EXPECT_GT(accepted, 100u);  // names and metadata may change: some files stay valid
}

TEST(SafetensorsParse, DoesNotTouchTheData) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::string header = one("\"U8\"", fmt::format("[{}]", page), fmt::format("[0,{}]", page));
  header.resize(page - 8, ' ');
  const std::string file = make_file(header, 0);
  std::memcpy(memory, file.data(), page);
  ASSERT_EQ(mprotect(static_cast<char*>(memory) + page, page, PROT_NONE), 0);
  const auto result = Safetensors::parse({static_cast<const std::byte*>(memory), 2 * page}, "f");
  EXPECT_TRUE(result.ok()) << result.error().message;
  munmap(memory, 2 * page);
}

}  // namespace
}  // namespace axon
