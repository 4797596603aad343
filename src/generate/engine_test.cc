// The contract: what is planned from headers is what the ledger grants, to the byte, for every choice of options.

#include "generate/engine.h"

#include <gtest/gtest.h>

#include <set>

#include "generate/tiny_engine_for_test.h"
#include "memory/no_allocation.h"
#include "model/adapter_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

TEST(Engine, PlanEqualsLedgerForEveryChoice) {
  const EngineFolder folder;
  EngineOptions base = EngineFolder::small_options();
  std::vector<std::pair<std::string, EngineOptions>> cases;
  const auto add = [&](const std::string& what, auto change) {
    EngineOptions options = base;
    change(options);
    cases.emplace_back(what, options);
  };
  for (const char* weights : {"keep", "f32", "bf16", "q8", "q4", "q4g32", "q3"}) {
    add(weights, [&](EngineOptions& o) { o.weights = ok(parse_weight_format(weights)); });
  }
  for (const std::size_t context : {1u, 7u, 8u, 9u, 65536u}) {
    add(fmt::format("context {}", context), [&](EngineOptions& o) { o.session.context = context; });
  }
  for (const std::size_t chunk : {1u, 31u, 256u}) {
    add(fmt::format("chunk {}", chunk), [&](EngineOptions& o) { o.session.prefill_chunk = chunk; });
  }
  for (const std::size_t threads : {1u, 2u, 3u}) {
    add(fmt::format("threads {}", threads), [&](EngineOptions& o) {
      o.threads = threads;
      o.weights = ok(parse_weight_format("q4"));
    });
  }
  add("fast", [](EngineOptions& o) { o.session.arithmetic = Arithmetic::kFast; });
  add("rows of logits", [](EngineOptions& o) { o.session.logits_rows = 32; });
  add("texts", [](EngineOptions& o) { o.text = 3_MiB; });
  for (const KvType& type : kv_types()) {
    add(fmt::format("kv {}", type.name()), [&](EngineOptions& o) { o.session.kv = type; });
  }
  add("all kv", [](EngineOptions& o) { o.more_kv.assign(kv_types().begin(), kv_types().end()); });

  const auto ids = some_ids(50);
  for (const auto& [what, options] : cases) {
    const EnginePlan plan = folder.plan(options);
    auto engine = ok(folder.create(options, plan.total()));
    EXPECT_EQ(engine->ledger().used(), plan.total()) << what;
    std::set<std::string> accounts;
    for (const PlanLine& line : plan.lines) {
      EXPECT_TRUE(accounts.insert(line.account).second) << line.account << " comes twice";
      EXPECT_EQ(engine->ledger().used(line.account), line.bytes) << what << ": " << line.account;
    }
    EXPECT_TRUE(
        engine->session().prefill(std::span(ids).first(std::min<std::size_t>(50, options.session.context))).ok());
    if (engine->session().room() > 0) engine->session().step(1);
    engine->sampler().sample(engine->session().logits());
    for (std::size_t i = 1; i < engine->sessions(); ++i) {
      EXPECT_EQ(engine->session(i).options().kv_type(), options.more_kv[i - 1]);
      EXPECT_TRUE(engine->session(i).prefill(ids).ok());
    }
    EXPECT_EQ(engine->ledger().peak(), plan.total()) << what;
  }
}

TEST(Engine, OneByteLessIsRefused) {
  const EngineFolder folder;
  for (const char* weights : {"keep", "q4"}) {
    EngineOptions options = EngineFolder::small_options();
    options.weights = ok(parse_weight_format(weights));
    const Bytes total = folder.plan(options).total();
    EXPECT_TRUE(folder.create(options, total).ok());
    const auto refused = folder.create(options, total - 1_B);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
    EXPECT_TRUE(folder.create(options, total).ok());  // nothing is left of the attempt
  }
}

TEST(Engine, AnAdapterIsPlannedAndUsed) {
  const EngineFolder folder;
  const auto ids = some_ids(50);
  const auto logits = [&](Engine& engine) {
    EXPECT_TRUE(engine.session().prefill(ids).ok());
    engine.session().step(1);
    return std::vector<float>(engine.session().logits().begin(), engine.session().logits().end());
  };
  const std::vector<float> without = logits(*folder.create());
  const auto plain = folder.plan(EngineFolder::small_options());
  for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
    for (const char* weights : {"keep", "q8"}) {
      const Folder made;
      const Config config = engine_config();
      HeldAdapter held(some_shape(config, kind, every_target()));
      held.randomise(1);
      ok(write_adapter(made / "adapter", held.set(), AdapterForm::kPeft, config, {}));
      const AdapterFiles adapter = ok(AdapterFiles::open(made / "adapter", config));
      EngineOptions options = EngineFolder::small_options();
      options.weights = ok(parse_weight_format(weights));
      options.adapter = &adapter;
      options.more_kv = {DType::kF16};
      const EnginePlan plan = folder.plan(options);
      const auto engine = ok(folder.create(options, plan.total()));
      for (const PlanLine& line : plan.lines) {
        EXPECT_EQ(engine->ledger().used(line.account), line.bytes) << line.account;
        if (line.account == account::kAdapters) {
          EXPECT_EQ(line.bytes, adapter.bytes());
        }
      }
      EXPECT_GT(difference(logits(*engine), without), 0.05);
      {
        const NoAllocation sealed;
        engine->session().step(2);
        engine->session().logits();
      }
      EXPECT_TRUE(engine->session(1).prefill(ids).ok());
      EXPECT_EQ(engine->ledger().peak(), plan.total());
      EXPECT_FALSE(folder.create(options, plan.total() - 1_B).ok());
    }
  }
  // A scale of 0 is the model itself.
  const Folder made;
  HeldAdapter held(some_shape(engine_config(), AdapterKind::kLora, every_target()));
  held.randomise(1);
  ok(write_adapter(made / "adapter", held.set(), AdapterForm::kMlxLm, engine_config(), {}));
  const AdapterFiles adapter = ok(AdapterFiles::open(made / "adapter", engine_config(), 0.0));
  EngineOptions options = EngineFolder::small_options();
  options.adapter = &adapter;
  EXPECT_EQ(logits(*ok(folder.create(options, 1_GiB))), without);
  for (const PlanLine& line : plain.lines) EXPECT_NE(line.account, account::kAdapters);
}

TEST(Engine, EverySessionMustHoldTheModel) {
  Config config = engine_config();
  config.num_heads = 8;  // head_dim 8: no compressed type
  const EngineFolder folder(config);
  EngineOptions options = EngineFolder::small_options();
  options.more_kv = {DType::kF16};
  EXPECT_TRUE(Engine::plan(folder.files(), &folder.shape(), options).ok());
  options.more_kv.push_back(kv_types().back());
  const auto refused = Engine::plan(folder.files(), &folder.shape(), options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST(Engine, MemoryGrowsOnlyWithWhatItShould) {
  const EngineFolder folder;
  const auto line = [&](std::string_view account, auto change) {
    EngineOptions options = EngineFolder::small_options();
    change(options);
    for (const PlanLine& l : folder.plan(options).lines) {
      if (l.account == account) return l.bytes;
    }
    return 0_B;
  };
  const auto context = [&](std::string_view account, std::size_t n) {
    return line(account, [n](EngineOptions& o) { o.session.context = n; });
  };
  // 2 attention layers, 64 wide, keys and values, float32; never more than the window of 8.
  EXPECT_EQ(context(account::kKvCache, 4), Bytes{2 * 2 * 4 * 64 * 4});
  EXPECT_EQ(context(account::kKvCache, 8), Bytes{2 * 2 * 8 * 64 * 4});
  EXPECT_EQ(context(account::kKvCache, 60000), Bytes{2 * 2 * 8 * 64 * 4});
  EXPECT_EQ(line(account::kKvCache, [](EngineOptions& o) { o.session.arithmetic = Arithmetic::kFast; }),
            Bytes{2 * 2 * 8 * 64 * 2});
  EXPECT_EQ(context(account::kWorkspace, 60000), context(account::kWorkspace, 32));
  EXPECT_EQ(context(account::kSsmState, 60000), Bytes{4 * 4 * 128 * 4});
  EXPECT_EQ(context(account::kConvState, 60000), Bytes{4 * 3 * 128 * 4});
  EXPECT_EQ(line(account::kText, [](EngineOptions&) {}), 1_KiB + kEncodeBytes);
  EXPECT_EQ(line(account::kProcess, [](EngineOptions&) {}), kProcessBytes);
  EXPECT_EQ(line(account::kTokenizer, [](EngineOptions&) {}), folder.shape().bytes());
  EXPECT_EQ(line(account::kConversion, [](EngineOptions&) {}), 0_B);
}

TEST(Engine, TokenizerMustFitTheModel) {
  Config config = engine_config();
  config.vocab_size = kTokens - 1;
  const EngineFolder small(config);
  const auto refused = small.create(EngineFolder::small_options(), 1_GiB);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("259"), std::string::npos) << refused.error().message;
  config.vocab_size = kTokens;
  EXPECT_TRUE(EngineFolder(config).create(EngineFolder::small_options(), 1_GiB).ok());
}

TEST(Engine, RunsWithoutATokenizer) {
  const EngineFolder folder;
  const EngineOptions options = EngineFolder::small_options();
  ModelFiles files = folder.files();
  const EnginePlan plan = ok(Engine::plan(files, nullptr, options));
  for (const PlanLine& line : plan.lines) EXPECT_NE(line.account, account::kTokenizer);
  const auto engine = ok(Engine::create(std::move(files), nullptr, {}, plan, options, plan.total()));
  EXPECT_EQ(engine->ledger().peak(), plan.total());
}

TEST(Engine, LoadingCanBeCancelled) {
  const EngineFolder folder;
  const EngineOptions options = EngineFolder::small_options();
  ModelFiles files = folder.files();
  const EnginePlan plan = ok(Engine::plan(files, nullptr, options));
  const auto engine = Engine::create(std::move(files), nullptr, {}, plan, options, 1_GiB,
                                     [](std::size_t, std::size_t) { return false; });
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace axon
