#include "io/gguf.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "base/random.h"
#include "io/gguf_cursor.h"
#include "io/gguf_file_for_test.h"

namespace axon {
namespace {

using namespace testing_files;
using Type = GgufValueType;

static_assert(GgmlType{12, "Q4_K", 256, 144}.bits_per_weight() == 4.5);

TEST(GgmlTypes, KnownSizes) {
  const auto expect = [](std::uint32_t id, std::string_view name, std::uint32_t bytes, double bits) {
    const GgmlType* type = ggml_type(name);
    ASSERT_NE(type, nullptr) << name;
    EXPECT_EQ(type, ggml_type(id)) << name;
    EXPECT_EQ(type->block_bytes, bytes) << name;
    EXPECT_EQ(type->bits_per_weight(), bits) << name;
  };
  expect(0, "F32", 4, 32);
  expect(1, "F16", 2, 16);
  expect(30, "BF16", 2, 16);
  expect(2, "Q4_0", 18, 4.5);
  expect(8, "Q8_0", 34, 8.5);
  expect(10, "Q2_K", 84, 2.625);
  expect(11, "Q3_K", 110, 3.4375);
  expect(12, "Q4_K", 144, 4.5);
  expect(13, "Q5_K", 176, 5.5);
  expect(14, "Q6_K", 210, 6.5625);
  expect(15, "Q8_K", 292, 9.125);
  expect(16, "IQ2_XXS", 66, 2.0625);
  expect(17, "IQ2_XS", 74, 2.3125);
  expect(18, "IQ3_XXS", 98, 3.0625);
  expect(19, "IQ1_S", 50, 1.5625);
  expect(20, "IQ4_NL", 18, 4.5);
  expect(21, "IQ3_S", 110, 3.4375);
  expect(22, "IQ2_S", 82, 2.5625);
  expect(23, "IQ4_XS", 136, 4.25);
  expect(29, "IQ1_M", 56, 1.75);
  expect(34, "TQ1_0", 54, 1.6875);
  expect(35, "TQ2_0", 66, 2.0625);
  expect(39, "MXFP4", 17, 4.25);
  expect(40, "NVFP4", 36, 4.5);
  expect(41, "Q1_0", 18, 1.125);
  expect(42, "Q2_0", 18, 2.25);
  for (const std::uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, ~0u}) EXPECT_EQ(ggml_type(id), nullptr);
  EXPECT_EQ(ggml_type("q4_k"), nullptr);
}

TEST(GgmlTypes, BytesAreWholeBlocks) {
  const GgmlType& type = *ggml_type("Q4_K");
  EXPECT_EQ(type.bytes(512), 288u);
  EXPECT_EQ(type.bytes(0), 0u);
  EXPECT_EQ(type.bytes(255), std::nullopt);
  EXPECT_EQ(ggml_type("F64")->bytes(std::uint64_t{1} << 61), std::nullopt);
}

Gguf parsed(const std::string& file) {
  auto result = Gguf::parse(bytes_of(file), "some.gguf");
  EXPECT_TRUE(result.ok()) << result.error().message;
  return std::move(result).value();
}

void expect_refused(const std::string& file, ErrorCode code, std::string_view part) {
  const auto result = Gguf::parse(bytes_of(file), "some.gguf");
  ASSERT_FALSE(result.ok()) << part;
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message << "\nnot: " << part;
  EXPECT_EQ(result.error().message.find("some.gguf: "), 0u) << result.error().message;
}

constexpr ErrorCode kBad = ErrorCode::kCorrupt, kBeyond = ErrorCode::kUnsupported;

TEST(GgufParse, TensorsLieWhereTheHeaderSays) {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufFile file;
    file.version = version;
    file.tensor("token_embd.weight", {64, 5}, "Q8_0").tensor("norm", {3}).tensor("exps", {32, 2, 3}, "Q4_0");
    file.tensor("one", {}, "F16").tensor("none", {32, 0}, "Q4_0");
    std::string bytes = file.bytes();
    const std::size_t begin = round_up(file.header().size(), 32);
    for (std::size_t i = begin; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i - begin);
    const Gguf gguf = parsed(bytes);
    ASSERT_EQ(gguf.tensors().size(), 5u);
    const GgufTensor& first = gguf.tensors()[0];
    EXPECT_EQ(first.name, "token_embd.weight");
    EXPECT_EQ(first.type->name, "Q8_0");
    EXPECT_EQ(first.rank, 2u);
    EXPECT_EQ(first.elements(), 320u);
    EXPECT_EQ(first.bytes.size(), 340u);
    EXPECT_EQ(first.bytes.data(), bytes_of(bytes).data() + begin);
    EXPECT_EQ(text_of(gguf.find_tensor("norm")->bytes), bytes.substr(begin + 352, 12));
    EXPECT_EQ(gguf.find_tensor("exps")->bytes.size(), 6u * 18);
    EXPECT_EQ(gguf.find_tensor("one")->elements(), 1u);
    EXPECT_EQ(gguf.find_tensor("one")->rank, 0u);
    EXPECT_EQ(gguf.find_tensor("none")->bytes.size(), 0u);
    EXPECT_EQ(gguf.find_tensor("two"), nullptr);
    EXPECT_EQ(gguf.paths(), std::vector<std::string>{"some.gguf"});
  }
}

TEST(GgufParse, AllKindsOfValues) {
  GgufFile file;
  file.raw("u8", Type::kU8, le(std::uint8_t{200})).raw("i8", Type::kI8, le(std::int8_t{-3}));
  file.raw("u16", Type::kU16, le(std::uint16_t{60000})).raw("i16", Type::kI16, le(std::int16_t{-300}));
  file.raw("u32", Type::kU32, le(4'000'000'000u)).raw("i32", Type::kI32, le(7));
  file.raw("u64", Type::kU64, le(~std::uint64_t{0})).raw("i64", Type::kI64, le(std::int64_t{-1} << 40));
  file.raw("f32", Type::kF32, le(1.5f)).raw("f64", Type::kF64, le(-0.1));
  file.raw("yes", Type::kBool, "\1").raw("no", Type::kBool, std::string_view("\0", 1)).text("text", "h\xC3\xA9");
  const Gguf gguf = parsed(file.bytes());
  EXPECT_EQ(*gguf.find("u8")->get<std::uint64_t>(), 200u);
  EXPECT_EQ(*gguf.find("i8")->get<std::int64_t>(), -3);
  EXPECT_EQ(*gguf.find("u16")->get<std::uint64_t>(), 60000u);
  EXPECT_EQ(*gguf.find("i16")->get<std::int64_t>(), -300);
  EXPECT_EQ(*gguf.find("u32")->get<std::uint64_t>(), 4'000'000'000u);
  EXPECT_EQ(*gguf.find("i32")->get<std::int64_t>(), 7);
  EXPECT_EQ(gguf.find("i32")->whole(), 7u);
  EXPECT_EQ(gguf.find("i8")->whole(), std::nullopt);
  EXPECT_EQ(gguf.find("u64")->whole(), ~std::uint64_t{0});
  EXPECT_EQ(*gguf.find("i64")->get<std::int64_t>(), std::int64_t{-1} << 40);
  EXPECT_EQ(*gguf.find("f32")->get<double>(), 1.5);
  EXPECT_EQ(*gguf.find("f64")->get<double>(), -0.1);
  EXPECT_EQ(gguf.find("f64")->whole(), std::nullopt);
  EXPECT_TRUE(*gguf.find("yes")->get<bool>());
  EXPECT_FALSE(*gguf.find("no")->get<bool>());
  EXPECT_EQ(*gguf.find("text")->get<std::string>(), "h\xC3\xA9");
  EXPECT_EQ(gguf.find("maybe"), nullptr);
  EXPECT_EQ(gguf.find("u8")->brief(), "the number 200");
  EXPECT_EQ(gguf.find("yes")->brief(), "true");
}

TEST(GgufParse, ArraysAreKeptOrCounted) {
  GgufFile file;
  file.array<std::uint32_t>("kv", Type::kU32, {8, 0, 8}).array<std::int32_t>("i", Type::kI32, {4, 5});
  file.array<std::int8_t>("minus", Type::kI8, {4, -5}).array<float>("f", Type::kF32, {0.5f, 2});
  file.array<std::uint8_t>("b", Type::kBool, {1, 0, 1}).texts("tokens", 1000).array<float>("none", Type::kF32, {});
  file.array<std::uint16_t>("most", Type::kU16, std::vector<std::uint16_t>(gguf_limit::kArrayNumbers, 9));
  file.array<float>("long", Type::kF32, std::vector<float>(gguf_limit::kArrayNumbers + 1, 9));
  file.text("big", std::string(gguf_limit::kTextBytes, 'x')).text("huge", std::string(gguf_limit::kTextBytes + 1, 'x'));
  file.u32("after", 1);
  const Gguf gguf = parsed(file.bytes());
  EXPECT_EQ(gguf.find("kv")->wholes(), (std::vector<std::uint64_t>{8, 0, 8}));
  EXPECT_EQ(gguf.find("i")->wholes(), (std::vector<std::uint64_t>{4, 5}));
  EXPECT_EQ(gguf.find("minus")->wholes(), std::nullopt);
  EXPECT_EQ(*gguf.find("minus")->get<GgufValue::Signed>(), (GgufValue::Signed{4, -5}));
  EXPECT_EQ(*gguf.find("f")->get<GgufValue::Reals>(), (GgufValue::Reals{0.5, 2}));
  EXPECT_EQ(gguf.find("b")->wholes(), (std::vector<std::uint64_t>{1, 0, 1}));
  EXPECT_EQ(gguf.find("none")->array_size(), 0u);
  EXPECT_EQ(gguf.find("most")->wholes()->size(), gguf_limit::kArrayNumbers);
  EXPECT_EQ(gguf.find("tokens")->array_size(), 1000u);
  EXPECT_EQ(gguf.find("tokens")->get<GgufValue::Skipped>()->type, Type::kText);
  EXPECT_EQ(gguf.find("tokens")->brief(), "an array of 1000 STRING");
  EXPECT_EQ(gguf.find("long")->array_size(), gguf_limit::kArrayNumbers + 1);
  EXPECT_EQ(gguf.find("long")->wholes(), std::nullopt);
  EXPECT_EQ(gguf.find("big")->get<std::string>()->size(), gguf_limit::kTextBytes);
  EXPECT_EQ(gguf.find("huge")->get<GgufValue::Skipped>()->count, gguf_limit::kTextBytes + 1);
  EXPECT_EQ(gguf.find("huge")->array_size(), std::nullopt);
  EXPECT_EQ(gguf.find("after")->whole(), 1u);
}

std::string head(std::uint32_t version, std::uint64_t tensors, std::uint64_t entries) {
  return "GGUF" + le(version) + le(tensors) + le(entries);
}

TEST(GgufParse, RefusesOtherFiles) {
  expect_refused("", kBad, "does not start with \"GGUF\"");
  expect_refused("GGU", kBad, "does not start with");
  expect_refused("GGML" + head(3, 0, 0).substr(4), kBad, "does not start with");
  expect_refused(head(0, 0, 0), kBad, "version: expected 2 or 3, got 0");
  expect_refused(head(1, 0, 0), kBeyond, "GGUF version 1 is not supported");
  expect_refused(head(4, 0, 0), kBeyond, "GGUF version 4 is not supported");
  expect_refused(head(0x03000000, 0, 0), kBeyond, "big-endian");
  EXPECT_TRUE(Gguf::parse(bytes_of(head(3, 0, 0)), "f").ok());
}

TEST(GgufParse, RefusesCountsThatLie) {
  const std::string rest(1000, '\0');
  expect_refused(head(3, 1ull << 60, 0) + rest, kBad,
                 "tensor_count: is given as 1152921504606846976, but the 1000 bytes");
  expect_refused(head(3, 0, 1ull << 63) + rest, kBad, "metadata_kv_count: is given as 9223372036854775808");
  expect_refused(head(3, 42, 0) + rest, kBad, "tensor_count: is given as 42, but the 1000 bytes after it hold 41");
  expect_refused(head(3, 0, 1) + le(1ull << 63) + rest, kBad,
                 "metadata entry 0: key: its length is given as 9223372036854775808");
  const std::string key = head(3, 0, 1) + gguf_text("k");
  expect_refused(key + le(8u) + le(1ull << 30) + std::string(120, 'x'), kBad,
                 "metadata entry \"k\": value: its length is given as 1073741824, but the file has 120 bytes");
  expect_refused(key + le(9u) + le(4u) + le(1ull << 62) + rest, kBad,
                 "metadata entry \"k\": array count: is given as 4611686018427387904");
  expect_refused(key + le(9u) + le(8u) + le(1ull << 62) + rest, kBad, "array count: is given as 4611686018427387904");
  expect_refused(key + le(9u) + le(8u) + le(2ull) + le(~0ull) + rest, kBad, "array element: its length is given as");
  expect_refused(key + le(8u) + le(5ull) + "abcd", kBad, "its length is given as 5, but the file has 4 bytes after it");
  EXPECT_TRUE(Gguf::parse(bytes_of(key + le(8u) + le(4ull) + "abcd"), "f").ok());
  expect_refused(key + le(9u) + le(0u) + le(1001ull) + rest, kBad, "array count: is given as 1001");
  expect_refused(key + le(9u) + le(9u) + le(1ull) + rest, kBeyond, "arrays of arrays");
  expect_refused(key + le(9u) + le(13u) + le(1ull) + rest, kBad, "array type: expected 0 to 12, got 13");
  expect_refused(key + le(77u) + rest, kBad, "value type: expected 0 to 12, got 77");
  expect_refused(key + le(7u) + "\2" + rest, kBad, "expected a BOOL of 0 or 1, got 2");
  expect_refused(key + le(9u) + le(7u) + le(1ull) + "\2" + rest, kBad, "expected a BOOL of 0 or 1, got 2");
}

TEST(GgufParse, RefusesMoreThanTheLimits) {
  GgufFile entries;
  for (std::size_t i = 0; i <= gguf_limit::kMetadataEntries; ++i) entries.u32(fmt::format("{}", i), 0);
  expect_refused(entries.bytes(), kBeyond, "metadata_kv_count: is 4097, more than 4096");
  expect_refused(head(3, 65'537, 0) + std::string(24 * 65'537, '\0'), kBeyond, "tensor_count: is 65537, more than");
  GgufFile numbers;
  const std::vector<std::uint8_t> most(gguf_limit::kArrayNumbers);
  for (std::size_t i = 0; i <= gguf_limit::kAllNumbers / most.size(); ++i)
    numbers.array(fmt::format("{}", i), Type::kU8, most);
  expect_refused(numbers.bytes(), kBeyond, "metadata entry \"32\": short arrays hold more than 131072 numbers");
  expect_refused(GgufFile().u32(std::string(65'536, 'k'), 0).bytes(), kBeyond, "key: has 65536 bytes");
  EXPECT_TRUE(Gguf::parse(bytes_of(GgufFile().u32(std::string(65'535, 'k'), 0).bytes()), "f").ok());
}

TEST(GgufParse, RefusesBadNames) {
  expect_refused(GgufFile().u32("a\xC3", 0).bytes(), kBad, "metadata entry 0: key: \"a\xEF\xBF\xBD\" is not UTF-8");
  expect_refused(GgufFile().u32("", 0).bytes(), kBad, "key: is empty");
  expect_refused(GgufFile().u32("a", 0).u32("b", 0).u32("a", 1).bytes(), kBad,
                 "metadata entry \"a\": the key comes twice");
  expect_refused(GgufFile().tensor("\xFF", {1}).bytes(), kBad, "tensor 0: name: \"\xEF\xBF\xBD\" is not UTF-8");
  expect_refused(GgufFile().tensor("", {1}).bytes(), kBad, "tensor 0: name: is empty");
  expect_refused(GgufFile().tensor("x", {1}).tensor("y", {1}).tensor("x", {1}).bytes(), kBad,
                 "tensor \"x\": the name comes twice");
}

TEST(GgufParse, RefusesShapesAndTypes) {
  const auto refused = [](const std::vector<std::uint64_t>& dims, std::uint32_t type, ErrorCode code,
                          std::string_view part) {
    expect_refused(GgufFile().tensor_raw("w", dims, type, 0).bytes(), code, part);
  };
  refused({1, 1, 1, 1, 1}, 0, kBad, "tensor \"w\": n_dims: expected 0 to 4, got 5");
  refused({4194305, 4194305, 211106198978564}, 0, kBad,
          "the product of [4194305, 4194305, 211106198978564] does not fit");
  refused({1ull << 32, 1ull << 32, 0}, 0, kBad, "does not fit 64 bits");
  refused({1ull << 62}, 0, kBad, "takes more than 2^64 bytes");
  refused({1ull << 62}, 24, kBad,
          "tensor \"w\": I8 of [4611686018427387904] takes 4611686018427387904 bytes, but the file has");
  refused({33}, 2, kBad, "Q4_0 of [33]: the first must be a multiple of 32");
  refused({16, 2}, 2, kBad, "the first must be a multiple of 32");
  refused({1}, 4, kBeyond, "tensor \"w\": type: there is no tensor type 4");
  refused({1}, 1000, kBeyond, "tensor \"w\": type: there is no tensor type 1000");
  expect_refused(head(3, 1, 0) + gguf_text("w") + le(~0u) + std::string(100, '\0'), kBad,
                 "n_dims: expected 0 to 4, got 4294967295");
}

TEST(GgufParse, RefusesPlacesOutsideTheFile) {
  const auto with = [](std::uint64_t offset, std::size_t data) {
    GgufFile file;
    file.tensor_raw("w", {16}, 0, offset);
    std::string out = file.bytes();
    out.resize(round_up(out.size(), 32) + data);
    return out;
  };
  EXPECT_TRUE(Gguf::parse(bytes_of(with(0, 64)), "f").ok());
  EXPECT_TRUE(Gguf::parse(bytes_of(with(64, 128)), "f").ok());
  expect_refused(with(0, 63), kBad, "tensor \"w\": offset: 64 bytes from 0 do not lie in the file's 63 bytes");
  expect_refused(with(64, 127), kBad, "64 bytes from 64 do not lie in the file's 127 bytes");
  expect_refused(with(~31ull, 128), kBad, "64 bytes from 18446744073709551584 do not lie in");
  expect_refused(with(8, 128), kBad, "offset: 8 is no multiple of the alignment 32");
  GgufFile overlap;
  overlap.tensor("a", {16}).tensor_raw("b", {16}, 0, 32).tensor("c", {16});
  expect_refused(overlap.bytes(), kBad, "tensors \"a\" and \"b\" overlap");
}

TEST(GgufParse, Alignment) {
  for (const std::uint32_t alignment : {1u, 8u, 32u, 4096u, 1u << 20}) {
    GgufFile file;
    file.alignment = alignment;
    file.u32("general.alignment", alignment).tensor("a", {3}).tensor("b", {5});
    const Gguf gguf = parsed(file.bytes());
    EXPECT_EQ(gguf.find_tensor("b")->bytes.size(), 20u);
  }
  for (const std::uint32_t alignment : {0u, 3u, 48u, 1u << 21, 1u << 31}) {
    expect_refused(
        GgufFile().u32("general.alignment", alignment).bytes(), kBad,
        fmt::format("general.alignment: expected a power of two up to 1048576, got the number {}", alignment));
  }
  expect_refused(GgufFile().text("general.alignment", "32").bytes(), kBad,
                 "general.alignment: expected a power of two");
  GgufFile file;
  file.u32("general.alignment", 64).tensor("a", {3}).tensor("b", {5});
  expect_refused(file.bytes(), kBad, "tensor \"b\": offset: 32 is no multiple of the alignment 64");
}

GgufFile small_model() {
  GgufFile file;
  file.text("general.architecture", "llama").u32("llama.block_count", 1).texts("tokenizer.ggml.tokens", 3);
  file.array<std::uint32_t>("heads", Type::kU32, {1, 2}).array<std::uint8_t>("slides", Type::kBool, {1, 0});
  file.tensor("token_embd.weight", {32, 4}, "Q8_0").tensor("output_norm.weight", {32});
  return file;
}

TEST(GgufParse, TruncatedAnywhere) {
  const std::string file = small_model().bytes();
  ASSERT_TRUE(Gguf::parse(bytes_of(file), "f").ok());
  for (std::size_t size = 0; size < file.size(); ++size) {
    // In a block of its own, so that a sanitizer sees each byte beyond.
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(Gguf::parse(std::as_bytes(std::span(cut)), "f").ok()) << size;
  }
}

TEST(GgufParse, AnyFlippedBytes) {
  const std::string whole = small_model().bytes();
  const CounterRng rng(7);
  std::uint64_t draw = 0;
  std::size_t accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string file = whole;
    const std::uint64_t flips = 1 + rng.bits(draw++) % 3;
    for (std::uint64_t j = 0; j < flips; ++j) {
      const std::uint64_t at = rng.bits(draw++) % file.size();
      file[at] = static_cast<char>(rng.bits(draw++));
    }
    const auto result = Gguf::parse(bytes_of(file), "f");
    accepted += result.ok() ? 1u : 0u;
  }
  EXPECT_GT(accepted, 100u);  // in the data, in values
  EXPECT_LT(accepted, 18'000u);
}

// The fuzzer starts from these: what is bad about the bad ones must still be what the reader sees.
TEST(GgufParse, FuzzSeedsAreWhatTheyAreCalled) {
  std::size_t good = 0, bad = 0;
  for (const auto& entry : std::filesystem::directory_iterator(AXON_SOURCE_DIR "/tests/fuzz/corpus/gguf_fuzz")) {
    const std::string file = get(entry.path().string()), name = entry.path().filename().string();
    const auto result = Gguf::parse(bytes_of(file), name);
    EXPECT_EQ(result.ok(), !name.starts_with("bad_")) << name;
    ++(result.ok() ? good : bad);
  }
  EXPECT_GE(good, 5u);
  EXPECT_GE(bad, 10u);
}

TEST(GgufParse, DoesNotTouchTheData) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  GgufFile file;
  file.alignment = page;
  file.u32("general.alignment", static_cast<std::uint32_t>(page)).tensor("w", {page / 4});
  std::memcpy(memory, file.header().data(), file.header().size());
  ASSERT_EQ(mprotect(static_cast<char*>(memory) + page, page, PROT_NONE), 0);
  const auto result = Gguf::parse({static_cast<const std::byte*>(memory), 2 * page}, "f");
  EXPECT_TRUE(result.ok()) << result.error().message;
  munmap(memory, 2 * page);
}

}  // namespace
}  // namespace axon
