#pragma once
// A past that was never read: for measuring what a token costs behind so many others without reading them all first.

#include <cstddef>

#include "kernels/cpu/thread_pool.h"
#include "state/sequence_state.h"

namespace axon {

// Forgets the sequence and stands it behind `tokens` others, whose keys and values are small numbers in every type of
// cache. States of the scan and the convolution are empty: their values change no time.
void make_up_past(SequenceState& state, std::size_t tokens, cpu::ThreadPool& pool);

}  // namespace axon
