#pragma once
// The search behind "what would fit": the longest context, the best precision, the largest training batch and length.

#include "plan/train_plan.h"

namespace axon {

enum class SolveFor { kContext, kWeights, kKv, kTrain };
Result<SolveFor> parse_solve_for(std::string_view text);  // "context", "weights", "kv", "train"

// One answer and what it takes.
struct Option {
  std::string what;   // "context 49,152", "weights q6", "batch 4 x 2,048 tokens"
  RunChoice run;      // for context, weights, kv
  TrainChoice train;  // for train
  Bytes total;
  std::string command;  // what to type
};

struct Solution {
  SolveFor what = SolveFor::kContext;
  std::optional<Option> best;      // the best that fits; absent when nothing does
  bool best_of_all = false;        // nothing better exists: the model's maximum, the precision that it is stored in
  std::vector<Option> cheaper;     // at most two, each smaller than the one before, all fit
  std::vector<Option> also;        // other answers that fit: the longest single example for training
  std::optional<Option> smallest;  // when nothing fits: the least that was tried
};

// `choice` gives what is not solved for. Longest context: exact to the token. Weights and kv: the named precisions in
// falling size, none larger than what is stored. Training of our models, where a batch takes next to nothing: the
// longest length at the given batch, whatever length is given. Of other families: the largest batch at the given
// length; if not even one example fits, the longest length.
Result<Solution> solve(const Subject& subject, SolveFor what, const RunChoice& run, const TrainChoice& train,
                       Bytes budget);

}  // namespace axon
