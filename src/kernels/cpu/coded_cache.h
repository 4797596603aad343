#pragma once
// A head of a compressed cache as regions for the kernels on codes.

#include "kernels/cpu/coded_region.h"
#include "quant/turboquant_head.h"

namespace axon::cpu {

// The run's keys, or values. `factors` [kTileTokens] is the memory of the region's factors.
CodedRegion keys_of(const turboquant::HeadView& head, const turboquant::TokenRun& run, std::span<float> factors);
CodedRegion values_of(const turboquant::HeadView& head, const turboquant::TokenRun& run, std::span<float> factors);

}  // namespace axon::cpu
