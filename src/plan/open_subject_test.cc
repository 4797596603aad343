#include "io/gguf_file_for_test.h"
#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;
using testing_model::EngineFolder;

Result<std::unique_ptr<Subject>> opened(const std::string& target, bool fallback = false, std::uint64_t layers = 0,
                                        std::uint64_t hidden = 0) {
  return open_subject(target, {.default_model = kNano, .fallback = fallback, .layers = layers, .hidden_size = hidden});
}

std::string llama_config() { return SmallConfig{}.json(); }
constexpr const char* kStrange = R"({"model_type":"strange","num_hidden_layers":3,"hidden_size":32})";

// A safetensors file of one tensor [rows, cols] in bf16.
std::string small_file(std::uint64_t rows, std::uint64_t cols) {
  testing_model::FileTensors tensors;
  tensors["a.weight"] = {DType::kBF16, {rows, cols}, std::vector<std::byte>(rows * cols * 2)};
  return testing_model::file_of(tensors);
}

TEST(OpenSubject, NothingIsTheShippedModel) {
  const auto subject = ok(opened(""));
  EXPECT_EQ(subject->facts().evidence, "files");
  EXPECT_EQ(subject->facts().family, "bit_axon");
  EXPECT_EQ(subject->facts().title, "bit-axon-nano");
}

// "3b" is one of ours, "20b" a size.
TEST(OpenSubject, PresetsBeforeSizes) {
  for (const std::string_view name : preset_names()) {
    EXPECT_EQ(ok(opened(std::string(name)))->facts().evidence, "preset") << name;
  }
  for (const char* size : {"20b", "3.0b", "4b", "770m"}) EXPECT_EQ(ok(opened(size))->facts().evidence, "size") << size;
}

TEST(OpenSubject, KnownModelsByTheirNames) {
  for (const KnownModel& known : known_models()) {
    const auto subject = ok(opened(std::string(known.name)));
    EXPECT_EQ(subject->facts().evidence, "known model");
    EXPECT_EQ(subject->facts().title, known.title);
    EXPECT_EQ(subject->facts().source, known.source);
  }
  EXPECT_EQ(ok(opened("meta-llama/Llama-3.1-8B-Instruct"))->facts().title, "Llama 3.1 8B");
}

TEST(OpenSubject, UnknownNamesGetSuggestions) {
  const std::string lama = error_of(opened("lama-3.1-8b"), ErrorCode::kNotFound);
  EXPECT_TRUE(lama.starts_with("lama-3.1-8b: no such folder or file, nor a preset (nano, small, medium, 3b, 6b)"))
      << lama;
  EXPECT_NE(lama.find("similar: llama-3.1-8b"), std::string::npos) << lama;
  EXPECT_NE(lama.find("nor a size such as 20b"), std::string::npos) << lama;
  const std::string none = error_of(opened("zzzzzzzzzzzzzz"), ErrorCode::kNotFound);
  EXPECT_NE(none.find("bit-axon plan --list shows them"), std::string::npos) << none;
  for (const char* no_size : {"1e3b", "-1b", "0b", "nanb", "1.5.2b", " 20b", "999999t"}) {
    EXPECT_NE(error_of(opened(no_size), ErrorCode::kNotFound).find("nor a size"), std::string::npos) << no_size;
  }
}

TEST(OpenSubject, OurFolders) {
  const EngineFolder made;
  EXPECT_EQ(ok(opened(made.path()))->facts().evidence, "files");
  EXPECT_EQ(ok(opened(made.path() + "/"))->facts().evidence, "files");
  EXPECT_EQ(ok(opened(made.path() + "/model.safetensors"))->facts().evidence, "files");
  EXPECT_EQ(ok(opened(made.path() + "/config.json"))->facts().evidence, "config.json");
  const Folder bare;
  put_file(bare / "config.json", to_json(testing_model::engine_config()));
  const auto subject = ok(opened(bare.path()));
  EXPECT_EQ(subject->facts().evidence, "config.json");
  EXPECT_EQ(subject->command(choice_of(10)), fmt::format("bit-axon plan {} --context 10", bare.path()));
}

TEST(OpenSubject, OtherPeoplesFolders) {
  const Folder folder;
  put_file(folder / "config.json", llama_config());
  const auto config = ok(opened(folder.path()));
  EXPECT_EQ(config->facts().evidence, "config.json");
  EXPECT_EQ(config->facts().family, "llama");
  EXPECT_EQ(config->facts().title, std::filesystem::path(folder.path()).filename().string());
  put_file(folder / "model.safetensors", small_file(10, 64));
  const auto both = ok(opened(folder.path()));
  EXPECT_EQ(both->facts().evidence, "config.json and the headers of 1 files");
  const Footprint kept = footprint_of(*both, choice_of(10));
  EXPECT_EQ(bytes_of(kept, "weights: BF16"), 1280u);  // the file's bytes, not the config's
  EXPECT_EQ(bytes_of(kept, "kv cache"), 4u * 2 * 32 * 2 * 10);
  EXPECT_EQ(total_of(*both, choice_of(10, "q4")), total_of(*config, choice_of(10, "q4")));
  // The config alone, although there are files.
  EXPECT_EQ(ok(opened(folder / "config.json"))->facts().evidence, "config.json");
  EXPECT_EQ(bytes_of(footprint_of(*ok(opened(folder / "model.safetensors")), choice_of(10)), "weights: BF16"), 1280u);
}

TEST(OpenSubject, AFileWithoutAConfig) {
  const Folder folder;
  put_file(folder / "some.safetensors", small_file(3, 5));
  const auto subject = ok(opened(folder / "some.safetensors"));
  EXPECT_EQ(subject->facts().evidence, "safetensors header");
  EXPECT_EQ(subject->facts().parameters, 15u);
  EXPECT_EQ(total_of(*subject, choice_of(100)), 30_B);
}

TEST(OpenSubject, AnUnknownFamily) {
  const Folder folder;
  put_file(folder / "config.json", kStrange);
  const std::string refused = error_of(opened(folder.path()), ErrorCode::kUnsupported);
  EXPECT_NE(refused.find("model_type \"strange\" is unknown"), std::string::npos) << refused;
  EXPECT_NE(refused.find("--fallback"), std::string::npos) << refused;
  const std::string without = error_of(opened(folder.path(), true), ErrorCode::kUnsupported);
  EXPECT_NE(without.find("safetensors files"), std::string::npos) << without;
  put_file(folder / "model.safetensors", small_file(100, 32));
  const auto subject = ok(opened(folder.path(), true));
  EXPECT_EQ(subject->facts().parameters, 3200u);
  EXPECT_EQ(subject->facts().title, "A model of 3,200 parameters");
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice_of(10)), "kv cache"), 2u * 3 * 32 * 10 * 2);
  EXPECT_EQ(bytes_of(footprint_of(*ok(opened(folder.path(), true, 5)), choice_of(10)), "kv cache"),
            2u * 5 * 32 * 10 * 2);
}

TEST(OpenSubject, ASizeWithTheFormula) {
  const auto subject = ok(opened("20b", true, 24, 2880));
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice_of(4096, "fp4", "fp4")), "kv cache"), 283'115'520u);
  EXPECT_EQ(subject->command(choice_of(4096)),
            "bit-axon plan 20b --fallback --layers 24 --hidden-size 2880 --context 4096");
  EXPECT_EQ(error_of(opened("20b", true, 24, 0)), "--fallback for a bare size needs --layers and --hidden-size");
  EXPECT_EQ(error_of(opened("20b", true, 0, 2880)), "--fallback for a bare size needs --layers and --hidden-size");
}

TEST(OpenSubject, GgufFilesAndTheirFolders) {
  const Folder folder;
  testing_files::GgufFile file;
  file.text("general.architecture", "llama").u32("llama.block_count", 1).u32("llama.embedding_length", 64);
  file.u32("llama.context_length", 8192).u32("llama.feed_forward_length", 128).u32("llama.attention.head_count", 4);
  file.u32("llama.attention.head_count_kv", 2);
  file.tensor("token_embd.weight", {64, 100}, "Q8_0").tensor("output_norm.weight", {64});
  file.tensor("blk.0.attn_norm.weight", {64}).tensor("blk.0.attn_q.weight", {64, 64}, "Q8_0");
  file.tensor("blk.0.attn_k.weight", {64, 32}, "Q8_0").tensor("blk.0.attn_v.weight", {64, 32}, "Q8_0");
  file.tensor("blk.0.attn_output.weight", {64, 64}, "Q8_0").tensor("blk.0.ffn_norm.weight", {64});
  file.tensor("blk.0.ffn_gate.weight", {64, 128}, "Q8_0").tensor("blk.0.ffn_up.weight", {64, 128}, "Q8_0");
  file.tensor("blk.0.ffn_down.weight", {128, 64}, "Q8_0");
  file.write(folder / "one.gguf");
  for (const std::string& target : {folder.path(), folder / "one.gguf"}) {
    const auto subject = ok(opened(target));
    EXPECT_EQ(subject->facts().evidence, "GGUF header");
    EXPECT_EQ(subject->facts().family, "llama");
    const Footprint kept = footprint_of(*subject, choice_of(10));
    EXPECT_EQ(wrong_sums(kept), "");
    EXPECT_EQ(bytes_of(kept, "weights: Q8_0"), (100u * 64 + 2 * 4096 + 2 * 2048 + 3 * 8192) / 32 * 34);
    EXPECT_EQ(bytes_of(kept, "weights: F32"), 3u * 64 * 4);
    EXPECT_EQ(bytes_of(kept, "kv cache"), 2u * 2 * 16 * 2 * 10);
  }
  file.write(folder / "two.gguf");
  EXPECT_NE(error_of(opened(folder.path())).find("holds 2 GGUF models"), std::string::npos);
}

TEST(OpenSubject, BadFilesNameThePlace) {
  const Folder folder;
  EXPECT_NE(error_of(opened(folder.path()), ErrorCode::kNotFound).find("looked for config.json and *.gguf"),
            std::string::npos);
  put_file(folder / "notes.txt", "x");
  EXPECT_NE(error_of(opened(folder / "notes.txt"), ErrorCode::kUnsupported).find("expected a folder, config.json"),
            std::string::npos);
  put_file(folder / "config.json", "{\"model_type\": ");
  EXPECT_NE(error_of(opened(folder.path()), ErrorCode::kCorrupt).find("config.json"), std::string::npos);
  put_file(folder / "config.json", "[1]");
  EXPECT_NE(error_of(opened(folder.path())).find("expected an object"), std::string::npos);
  SmallConfig absurd;
  absurd.layers = 1u << 20;
  put_file(folder / "config.json", absurd.json());
  EXPECT_NE(error_of(opened(folder.path())).find("num_hidden_layers must be a number from 1 to 4096"),
            std::string::npos);
  put_file(folder / "config.json", llama_config());
  put_file(folder / "model.safetensors", "short");
  EXPECT_NE(error_of(opened(folder.path()), ErrorCode::kCorrupt).find("model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace axon
