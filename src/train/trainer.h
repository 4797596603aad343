#pragma once
// The training itself: steps, updates, validation, checkpoints, heat, and how it goes on after anything.

#include <atomic>
#include <functional>
#include <optional>
#include <string>

#include "base/random.h"
#include "thermal/governor.h"
#include "train/allreduce.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/training.h"

namespace axon::train {

struct TrainerFiles {
  std::string folder;                                              // of the training
  std::string data;                                                // named in messages
  std::function<Status(const std::string& folder)> write_adapter;  // the adapter's files, into a folder that is there
  bool resume = false;

  std::string checkpoints() const { return folder + "/checkpoints"; }
  std::string metrics() const { return folder + "/metrics.jsonl"; }
};

// Every metrics line as it is written, and an event for each checkpoint.
using OnMetrics = std::function<void(const MetricsLine&)>;

enum class TrainEnd { kDone, kStopped };

class Trainer {
 public:
  // All must outlive it; `governor` may be null.
  Trainer(Training& training, Ranks& ranks, Governor* governor, TrainerFiles files);

  // Steps of the whole training.
  std::uint64_t total_steps() const { return total_steps_; }
  std::uint64_t steps_done() const { return at_.step; }

  // Goes on from the last checkpoint (files.resume) or begins; ends when all steps are done, or behind a checkpoint
  // once `stop` is set. kInvalidArgument: checkpoints that stand there without resume, or that belong to other
  // settings, another model or other data (each difference is named). kCorrupt when a loss is not a number: the batch
  // is named, and the last checkpoint is whole. kIo: a file could not be written; the same.
  // With several processes an error may be of this one alone, and the others wait: the caller must end them with
  // Ranks::abort.
  Result<TrainEnd> run(const std::atomic<bool>& stop, const OnMetrics& on_metrics = {});

  // Losses over the validation data (eval_batches of it) with the adapters as they are. Rests where a step would.
  Result<LossSums> validate();

  double paused_seconds() const { return governor_ == nullptr ? 0 : governor_->status().paused_s; }

 private:
  // All that changes beside values, moments and gradients: what a checkpoint keeps in numbers.
  struct Counters {
    std::uint64_t step = 0, update = 0;
    std::uint64_t half_updates = 0;  // of them, those in which half of the ranks learned
    bool half = false;               // in this window
    double last_norm = 0, last_rate = 0;
    LossSums window;  // of the steps since the last update
    DataPosition position;
  };
  // What the processes agree on before a step.
  struct Agreement {
    bool stop = false, hot = false, half = false;
  };

  Schedule schedule() const;
  std::uint64_t count_steps() const;
  bool window_ends() const;
  bool first() const { return ranks_.rank() == 0; }
  Result<Agreement> agree(const std::atomic<bool>& stop, double& paused);
  Status begin();
  Status remove_metrics() const;
  Status resume(Checkpoints& checkpoints, std::uint64_t step);
  Status step(double paused);
  Result<Batch> next_batch();
  double epochs_done() const;
  Status update();
  Status validate_and_tell();
  Status save();
  void rest();
  Status cool_down(const std::atomic<bool>& stop);
  Status tell(const MetricsLine& line);
  Status event(std::string name, std::string detail = {});
  std::vector<ParameterRange> ranges() const;
  CheckpointNumbers numbers() const;
  Status read_numbers(const CheckpointNumbers& came);
  Error not_a_number(const Batch& batch, std::string_view what) const;

  Training& training_;
  Ranks& ranks_;
  Governor* governor_;
  TrainerFiles files_;
  const TrainSettings& settings_;
  std::uint64_t total_steps_ = 0;
  Counters at_;
  std::optional<Checkpoints> checkpoints_;
  std::optional<std::uint64_t> saved_;
  std::optional<MetricsFile> metrics_;
  OnMetrics on_metrics_;
  const std::atomic<bool>* stop_ = nullptr;  // while run() goes on
  ThermalAction last_action_ = ThermalAction::kFull;
};

}  // namespace axon::train
