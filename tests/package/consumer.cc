// Plans and runs the model given as argument: a few greedy tokens, through the installed headers.

#include <cstdio>

#include "generate/generate.h"
#include "plan/run_plan.h"

namespace {

axon::Result<std::string> answer(const char* folder) {
  using namespace axon;
  ModelFiles files = AXON_TRY(open_model(folder));
  const MappedFile json = AXON_TRY(MappedFile::open(files.tokenizer_path));
  const TokenizerShape shape = AXON_TRY(Tokenizer::measure(json.text(), files.tokenizer_path));
  EngineOptions options;
  options.session.context = 256;
  options.sampling.temperature = 0;
  const EnginePlan plan = AXON_TRY(Engine::plan(files, &shape, options));
  const auto engine = AXON_TRY(Engine::create(std::move(files), &shape, json.text(), plan, options, plan.total()));
  std::vector<TokenId> ids;
  AXON_TRY(engine->tokenizer().encode("Once upon a time", ids));
  AXON_TRY(engine->session().prefill(ids));
  const std::atomic<bool> never{false};
  return generate(
             engine->session(), engine->sampler(), engine->tokenizer(), {.max_tokens = 16, .stop = {}, .stop_ids = {}},
             [](std::string_view) {}, never)
      .text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const axon::Result<std::string> text = answer(argv[1]);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", text.error().message.c_str());
    return 1;
  }
  std::printf("%s\n", axon::Result<std::string>(text).value().c_str());
  return 0;
}
