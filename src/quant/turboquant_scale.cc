#include "quant/turboquant_scale.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/dtype.h"

namespace axon::turboquant {
namespace {

// 2^(i / 64): even i are the steps of a stored byte, odd i the borders between them. Literals, so that no library's
// logarithm decides what is stored or read.
constexpr std::array<float, 64> kOctave = {
    1.0f,        1.01088929f, 1.0218972f,  1.03302491f, 1.04427373f, 1.05564523f, 1.06714046f, 1.07876074f,
    1.09050775f, 1.10238254f, 1.1143868f,  1.12652159f, 1.13878858f, 1.15118921f, 1.1637249f,  1.17639697f,
    1.18920708f, 1.20215678f, 1.21524739f, 1.22848058f, 1.24185777f, 1.25538075f, 1.26905096f, 1.28287005f,
    1.29683959f, 1.31096125f, 1.32523668f, 1.33966756f, 1.35425556f, 1.36900246f, 1.38390994f, 1.39897966f,
    1.41421354f, 1.42961335f, 1.44518077f, 1.46091783f, 1.47682619f, 1.49290776f, 1.50916445f, 1.52559817f,
    1.54221082f, 1.55900443f, 1.5759809f,  1.59314215f, 1.61049032f, 1.62802744f, 1.64575553f, 1.66367662f,
    1.68179286f, 1.70010638f, 1.71861935f, 1.73733389f, 1.75625217f, 1.77537644f, 1.79470909f, 1.81425214f,
    1.8340081f,  1.85397911f, 1.87416768f, 1.89457595f, 1.91520655f, 1.93606174f, 1.95714414f, 1.97845602f};

constexpr int kMiddle = 128;

StoredScale store_byte(float scale, int exponent) {
  if (scale == 0) return {};
  int octave = 0;
  const float mantissa = 2 * std::frexp(scale, &octave);  // scale = mantissa * 2^(octave - 1), mantissa in [1, 2)
  int step = 0;
  while (step < 32 && mantissa >= kOctave[static_cast<std::size_t>(2 * step + 1)]) ++step;
  const int byte = kMiddle + 32 * (octave - 1 - exponent) + step;
  if (byte > 255) return {255, true};
  if (byte >= 1) return {static_cast<std::uint16_t>(byte), false};
  return {static_cast<std::uint16_t>(2 * scale >= load_scale(ScaleKind::kByte, 1, exponent) ? 1 : 0), true};
}

}  // namespace

StoredScale store_scale(ScaleKind kind, float scale, int exponent) {
  if (kind == ScaleKind::kByte) return store_byte(scale, exponent);
  constexpr std::uint16_t kLargest = 0x7BFF, kLeastNormal = 0x0400;
  const std::uint16_t bits = float_to_f16(std::ldexp(scale, -exponent));
  if (bits > kLargest) return {kLargest, true};
  return {bits, scale > 0 && bits < kLeastNormal};
}

float load_scale(ScaleKind kind, std::uint16_t bits, int exponent) {
  if (kind == ScaleKind::kHalf) return std::ldexp(f16_to_float(bits), exponent);
  if (bits == 0) return 0;
  const int steps = static_cast<int>(bits) - kMiddle;
  const int octave = steps >= 0 ? steps / 32 : -((31 - steps) / 32);  // rounded down
  return std::ldexp(kOctave[static_cast<std::size_t>(2 * (steps - 32 * octave))], exponent + octave);
}

int scale_exponent(float typical) {
  if (!(typical > 0)) return 0;
  int octave = 0;
  const float mantissa = 2 * std::frexp(typical, &octave);
  return octave - 1 + (mantissa >= kOctave[32] ? 1 : 0);
}

}  // namespace axon::turboquant
