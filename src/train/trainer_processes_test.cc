// Several processes that train together, played by threads.

#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "train/training_for_test.h"

namespace axon::train {
namespace {

using namespace testing;
using testing_model::distance;

// Two threads as two processes.
class Meeting {
 public:
  explicit Meeting(std::size_t count) : barrier_(static_cast<std::ptrdiff_t>(count)), slots_(count) {}
  template <class T>
  void sum(std::size_t rank, std::span<T> values) {
    slots_[rank] = values.data();
    barrier_.arrive_and_wait();
    std::vector<T> total(values.size());
    for (const void* slot : slots_) {
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += static_cast<const T*>(slot)[i];
    }
    barrier_.arrive_and_wait();
    std::ranges::copy(total, values.begin());
    barrier_.arrive_and_wait();
  }
  void wait() { barrier_.arrive_and_wait(); }
  std::size_t count() const { return slots_.size(); }

 private:
  std::barrier<> barrier_;
  std::vector<const void*> slots_;
};
class ThreadRanks final : public Ranks {
 public:
  ThreadRanks(Meeting& meeting, std::size_t rank) : meeting_(meeting), rank_(rank) {}
  std::size_t rank() const override { return rank_; }
  std::size_t count() const override { return meeting_.count(); }
  void sum(std::span<float> values) override { meeting_.sum(rank_, values); }
  void sum(std::span<double> values) override { meeting_.sum(rank_, values); }
  void broadcast(std::span<std::byte>) override { AXON_CHECK(false); }
  void barrier() override { meeting_.wait(); }
  [[noreturn]] void abort(int status) override { std::_Exit(status); }

 private:
  Meeting& meeting_;
  std::size_t rank_;
};

// What each process has and says at the end.
struct Side {
  std::unique_ptr<Training> training;
  Result<TrainEnd> end = TrainEnd::kStopped;
};
std::vector<Side> run_together(Recipe recipe, const std::string& folder, std::size_t count,
                               const std::function<RunOptions(std::size_t, Training&)>& options = {}) {
  Meeting meeting(count);
  std::vector<Side> sides(count);
  recipe.ranks = count;
  for (std::size_t r = 0; r < count; ++r) {
    recipe.rank = r;
    sides[r].training = training_of(recipe);
  }
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < count; ++r) {
    threads.emplace_back([&, r] {
      ThreadRanks ranks(meeting, r);
      RunOptions mine = options ? options(r, *sides[r].training) : RunOptions{};
      mine.ranks = &ranks;
      sides[r].end = run(*sides[r].training, folder, mine);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return sides;
}

TEST(Processes, AreOneWithALargerBatch) {
  for (const bool pack : {false, true}) {
    for (const bool dora : {false, true}) {
      Recipe recipe;
      recipe.settings.pack = pack;
      recipe.settings.adapter = dora ? AdapterKind::kDora : AdapterKind::kLora;
      recipe.settings.eval_every = 2;
      recipe.validation = some_examples(5, false, 8);
      recipe.settings.batch_size = 1;
      Recipe twice = recipe;
      twice.settings.batch_size = 2;
      const Whole alone(twice);
      const Folder folder;
      const auto sides = run_together(recipe, folder.path(), 2);
      for (const Side& side : sides) {
        ASSERT_TRUE(side.end.ok()) << side.end.error().message;
        EXPECT_LE(distance(Parameters(*side.training).values, alone.parameters.values), 1e-6);
      }
      EXPECT_TRUE(Parameters(*sides[0].training) == Parameters(*sides[1].training)) << "the same bits in all";
      const auto together = steps_of(folder.path()), one = steps_of(alone.folder.path());
      ASSERT_EQ(together.size(), one.size());
      for (std::size_t i = 0; i < one.size(); ++i) {
        EXPECT_NEAR(together[i].loss, one[i].loss, 1e-5);
        EXPECT_EQ(together[i].tokens, one[i].tokens);
        EXPECT_EQ(together[i].epoch, one[i].epoch);
      }
    }
  }
}

TEST(Processes, StopAndGoOnTogether) {
  Recipe recipe;
  recipe.settings.batch_size = 1;
  recipe.settings.dropout = 0.2;
  const Folder whole, stopped;
  const auto expected = run_together(recipe, whole.path(), 2);
  // Only the second hears of it, in the middle of a window: they end with that window.
  auto sides = run_together(recipe, stopped.path(), 2, [](std::size_t rank, Training&) {
    return RunOptions{.stop_after = rank == 1 ? 2u : ~std::uint64_t{0}};
  });
  for (Side& side : sides) EXPECT_EQ(side.end.value(), TrainEnd::kStopped);
  EXPECT_EQ(checkpoints_in(stopped.path()), std::vector<std::string>{"step-00000003"});
  sides = run_together(recipe, stopped.path(), 2, [](std::size_t, Training&) { return RunOptions{.resume = true}; });
  for (std::size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(sides[r].end.value(), TrainEnd::kDone);
    EXPECT_TRUE(Parameters(*sides[r].training) == Parameters(*expected[r].training));
  }
  EXPECT_EQ(comparable_lines(stopped.path()), comparable_lines(whole.path()));
  const auto alone = training_of(recipe);  // and one process is not two
  const auto refused = run(*alone, stopped.path(), {.resume = true});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("the number of processes was 2, and is 1"), std::string::npos);
}

// None waits for ever in a sum that the other never comes to.
TEST(Processes, ALossThatIsNoNumberEndsAll) {
  Recipe recipe;
  recipe.settings.batch_size = 1;
  const Folder folder;
  const auto sides = run_together(recipe, folder.path(), 2, [](std::size_t rank, Training& training) {
    return RunOptions{.on_metrics = [rank, &training](const MetricsLine& line) {
      if (rank == 1 && step_of(line) == 1) training.adapters().values()[0] = NAN;
    }};
  });
  ASSERT_FALSE(sides[0].end.ok());
  ASSERT_FALSE(sides[1].end.ok());
  EXPECT_EQ(sides[0].end.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(sides[0].end.error().message.find("loss of another process"), std::string::npos);
  EXPECT_EQ(sides[1].end.error().message.find("another process"), std::string::npos);
}

TEST(Processes, TheOriginalHasOne) {
  const ModelFiles files = ok(open_model(model_folder()));
  TrainingInputs inputs{.settings = some_settings(), .ranks = 2, .data = {}, .validation = {}};
  inputs.settings.compat = true;
  const auto source = [](const Tokenizer*, Ledger&) -> Result<std::unique_ptr<ExampleSource>> {
    return std::unique_ptr<ExampleSource>(
        std::make_unique<TokenExamples>(AXON_TRY(TokenExamples::create(some_examples(9, false), kLongest, false))));
  };
  const auto refused = Training::create(ok(open_model(model_folder())), nullptr, {}, inputs, {source, {}}, 1_GiB);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace axon::train
