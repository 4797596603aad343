#include <gtest/gtest.h>

#include "generate/session.h"
#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

// A window with room for codes beside the tail, which texts here wrap several times.
Config wide_config() {
  Config config = engine_config();
  config.swa_window_size = 72;
  return config;
}

std::unique_ptr<Engine> engine_with(const EngineFolder& folder, const KvType& kv, Arithmetic arithmetic) {
  EngineOptions options = EngineFolder::small_options();
  options.session.context = 400;
  options.session.arithmetic = arithmetic;
  options.session.kv = kv;
  return folder.create(options);
}

// Logits after some of what is read.
std::vector<float> read_on(Session& session, std::span<const std::uint32_t> ids) {
  std::vector<float> out;
  const auto add = [&] {
    const auto row = session.logits();
    out.insert(out.end(), row.begin(), row.end());
  };
  EXPECT_TRUE(session.prefill(ids.first(37)).ok());
  add();
  for (const std::uint32_t id : ids.subspan(37)) {
    session.step(id);
    add();
  }
  return out;
}

TEST(SessionSaved, GoesOnToTheBitForEveryKvType) {
  const EngineFolder folder(wide_config());
  const Folder out;
  const auto ids = some_ids(400, 256), others = some_ids(150, 256, 9);
  for (const KvType& kv : kv_types()) {
    for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kFast}) {
      const auto engine = engine_with(folder, kv, arithmetic), second = engine_with(folder, kv, arithmetic);
      Session& session = engine->session();
      // The tail half full, just full, flushed; the ring before its wrap and long after.
      for (const std::size_t before : {0u, 5u, 40u, 41u, 71u, 72u, 73u, 200u, 331u}) {
        SCOPED_TRACE(fmt::format("{} after {} tokens", kv.name(), before));
        session.reset();
        ASSERT_TRUE(session.prefill(std::span(ids).first(before)).ok());
        ASSERT_TRUE(session.save(out / "state", {.model = "m", .made_with = ""}).ok());
        const auto expected = read_on(session, std::span(ids).subspan(before, 50));
        Session& fresh = second->session();
        fresh.reset();
        ASSERT_TRUE(fresh.prefill(others).ok());  // what it remembered before must not matter
        ASSERT_TRUE(fresh.restore(ok(SavedState::open(out / "state")), "m").ok());
        EXPECT_EQ(fresh.position(), before);
        EXPECT_EQ(read_on(fresh, std::span(ids).subspan(before, 50)), expected);
      }
      EXPECT_EQ(second->ledger().peak(), second->ledger().used());
    }
  }
}

TEST(SessionSaved, AFailedRestoreLeavesAFreshSession) {
  const EngineFolder folder(wide_config());
  const Folder out;
  const auto ids = some_ids(120);
  const auto engine = engine_with(folder, parse_kv_type("tq3").value(), Arithmetic::kExact);
  Session& session = engine->session();
  const auto expected = read_on(session, std::span(ids).first(60));
  ASSERT_TRUE(session.save(out / "state", {.model = "m", .made_with = "x"}).ok());
  const Status refused = session.restore(ok(SavedState::open(out / "state")), "n");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(session.position(), 0u);
  EXPECT_EQ(read_on(session, std::span(ids).first(60)), expected);
}

}  // namespace
}  // namespace axon
