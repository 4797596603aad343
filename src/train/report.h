#pragma once
// report.html: a training on one page, from its metrics. No script, no font and no picture from elsewhere.

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "train/history.h"

namespace axon::train {

struct TrainingReport {
  std::string title;
  struct Setting {
    std::string name, value;
  };
  std::vector<Setting> settings{};
  struct Account {
    std::string name;
    Bytes planned, measured;
  };
  std::vector<Account> memory{};
  History history{};
};

// "Trained 1,200 steps (300 updates, 2.00 epochs) in 2 h 3 min; the loss went from 3.21 to 1.85; ..."
std::string summary_of(const History& history);
std::string training_report_html(const TrainingReport& report);
// The loss alone: of training, raw and smoothed, and of validation.
std::string loss_svg(const History& history, const std::string& title);
// Replaces what stands there, whole or not at all. kIo with path and reason.
Status write_training_report(const std::string& path, const TrainingReport& report);

}  // namespace axon::train
