#pragma once
// How many steps an epoch has.

#include "train/data.h"
#include "train/settings.h"

namespace axon::train {

// Steps of `processes` that go once through the data; packed, about as many. The original drops an epoch's rows that
// fill no batch, and keeps a batch of fewer pairs.
double steps_of_epoch(const ExampleSource& data, const TrainSettings& settings, std::size_t processes);

}  // namespace axon::train
