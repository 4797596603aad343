#pragma once
// The slow twin of Matmul: the same contract in double precision, one element at a time. It judges the kernels.

#include "kernels/device.h"

namespace axon::reference {

// For one product. kFast meets quantised weights with activations rounded to int8 exactly as the kernels round them
// (in float32, so that no tie falls differently); everything after the rounding is double.
void matmul(const Product& product, Arithmetic arithmetic);
// Device::matmul_transposed, exact in every arithmetic.
void matmul_transposed(const Product& p);

}  // namespace axon::reference
