#include "quant/turboquant_tables.h"

#include <array>

namespace axon::turboquant {
namespace {

// Values of windows 0 to 127, newest bit lowest; window 255 - w has the negative of window w. Trained by a generalised
// Lloyd iteration on the sphere in 80 dimensions (docs/turboquant.md).
using Half = std::array<float, 128>;
constexpr Half kTrellis2 = {
    -1.92367f, -0.15234f, -0.63278f, 0.60114f,  -1.06569f, 1.38297f,  0.29095f,  -2.05938f, -0.27523f, 1.47254f,
    0.32203f,  0.83690f,  -0.51153f, -1.65779f, -1.52692f, -0.44701f, -1.32238f, 1.32405f,  -0.18388f, 0.52707f,
    -0.71923f, 1.51748f,  0.54924f,  -0.20492f, -1.61349f, 0.07165f,  0.65135f,  -0.74295f, -2.21225f, 0.16733f,
    -0.60797f, -0.88602f, -0.34194f, -0.87063f, -1.12752f, 0.80318f,  1.07708f,  -0.16172f, 0.51783f,  -0.80078f,
    0.72051f,  -0.03837f, -0.83718f, 2.94597f,  0.39865f,  1.27048f,  2.07408f,  -0.41642f, -0.77692f, 0.11844f,
    -1.50626f, 1.44282f,  -0.14035f, 0.83083f,  1.45404f,  -1.91568f, 0.06615f,  0.78531f,  -0.61201f, 2.17847f,
    -1.26831f, -0.70844f, -0.07216f, 0.69904f,  0.21389f,  1.91393f,  1.20362f,  -0.94505f, 0.04987f,  -0.58644f,
    0.82227f,  -1.26522f, 1.28930f,  -0.77301f, -0.12026f, 1.31136f,  0.93860f,  -0.50314f, -1.25770f, 0.21191f,
    -0.08838f, -1.00991f, -0.55657f, 1.14934f,  -0.27499f, 0.26480f,  -1.21966f, 1.14088f,  -0.66465f, -1.29291f,
    -0.19218f, -0.07478f, 0.28701f,  1.81178f,  -2.39121f, 0.97698f,  -0.05719f, -0.17513f, 0.77901f,  0.43035f,
    -0.57169f, -1.24884f, 0.38711f,  -0.10423f, -0.40464f, 0.35978f,  0.63775f,  -0.99198f, -0.27320f, -0.26833f,
    0.70595f,  -1.67497f, 1.87123f,  0.41567f,  -0.54953f, 0.97896f,  0.56441f,  -1.01602f, -2.39163f, -0.05594f,
    0.72568f,  0.29262f,  1.52390f,  -0.38110f, -0.07543f, -1.92483f, -0.76346f, -1.39787f};

constexpr Half kTrellis2p5 = {
    -2.78408f, -0.15118f, -0.65541f, 0.64002f,  -1.38558f, 1.33107f,  0.17649f,  -2.14693f, -0.21456f, 1.66006f,
    0.31665f,  0.92394f,  -0.88154f, -1.73489f, -1.50851f, -0.59232f, -1.50839f, 1.13409f,  -0.19445f, 0.46848f,
    -0.66553f, 1.43376f,  0.57872f,  -0.38784f, -1.62842f, -0.08814f, 0.53025f,  -0.53052f, -2.23299f, 0.10413f,
    -0.92808f, -0.70491f, -0.44493f, -1.32249f, -0.97687f, 0.84925f,  1.09692f,  0.04845f,  0.49756f,  -0.48774f,
    0.64062f,  -0.07362f, -0.75506f, 3.04589f,  0.28881f,  1.15039f,  1.97043f,  -0.31561f, -0.77082f, 0.25473f,
    -1.22498f, 1.40765f,  -0.02373f, 0.90899f,  1.59060f,  -1.93050f, 0.07816f,  0.74681f,  -0.62092f, 2.48093f,
    -1.46192f, -0.80803f, -0.27241f, 0.69826f,  0.20578f,  1.82733f,  1.33099f,  -0.86958f, -0.30912f, -0.63689f,
    0.84743f,  -1.40491f, 1.26198f,  -0.87432f, -0.19281f, 1.69038f,  0.73572f,  -0.52801f, -1.17943f, 0.15349f,
    -0.25975f, -1.16967f, -0.63555f, 1.14355f,  -0.22746f, 0.26148f,  -1.29773f, 1.13269f,  -0.71598f, -1.11855f,
    -0.07800f, -0.14102f, 0.35148f,  2.02847f,  -2.43812f, 1.07306f,  -0.20999f, -0.03673f, 0.61591f,  0.28908f,
    -0.70612f, -1.10974f, 0.26622f,  -0.14265f, -0.46070f, 0.58851f,  0.33507f,  -1.03125f, -0.26333f, -0.08499f,
    0.76227f,  -1.54444f, 1.87638f,  0.60019f,  -0.62651f, 1.14263f,  0.43892f,  -1.01418f, -1.90072f, -0.10795f,
    0.75132f,  0.32574f,  1.58084f,  -0.27683f, -0.28272f, -2.19145f, -0.80231f, -1.29103f};

constexpr Half kTrellis3 = {
    -2.68053f, -0.21103f, -0.66087f, 0.55431f,  -1.58028f, 1.30883f,  0.19686f,  -2.20100f, -0.18226f, 1.58984f,
    0.25214f,  0.88514f,  -0.92099f, -1.86583f, -1.44597f, -0.55611f, -1.40176f, 1.01117f,  -0.46853f, 0.65165f,
    -0.57949f, 1.57335f,  0.41723f,  -0.14637f, -1.54907f, -0.28771f, 0.40432f,  -0.59589f, -2.10773f, 0.01529f,
    -1.06311f, -0.69875f, -0.48074f, -0.90941f, -1.20512f, 0.91238f,  1.28129f,  0.00532f,  0.57317f,  -0.37939f,
    0.59542f,  -0.08205f, -0.71709f, 3.18888f,  0.18695f,  1.22853f,  1.85347f,  -0.29458f, -0.79181f, 0.32717f,
    -1.05286f, 1.76759f,  -0.03864f, 0.91016f,  1.33069f,  -1.85788f, 0.11085f,  0.89731f,  -0.68697f, 2.58078f,
    -1.40540f, -0.96693f, -0.33845f, 0.66109f,  0.16620f,  1.91729f,  1.39506f,  -0.88314f, -0.23588f, -0.55897f,
    0.91726f,  -1.25319f, 1.59730f,  -0.87574f, -0.40069f, 1.25230f,  0.68049f,  -0.55562f, -1.37903f, 0.10588f,
    -0.46550f, -1.11587f, -0.75570f, 1.33798f,  -0.17688f, 0.26390f,  -1.19255f, 0.98800f,  -0.62863f, -1.02364f,
    -0.27675f, -0.03194f, 0.35807f,  1.73637f,  -2.39682f, 1.12468f,  -0.25618f, 0.11748f,  0.60528f,  0.31084f,
    -0.59741f, -1.04534f, -0.08294f, 0.07165f,  -0.55896f, 0.32778f,  0.48316f,  -0.97652f, -0.30499f, -0.01565f,
    0.76835f,  -1.64228f, 1.93854f,  0.72024f,  -0.45339f, 1.03398f,  0.38064f,  -0.97298f, -2.08740f, -0.01267f,
    0.70019f,  0.29067f,  1.56084f,  -0.17431f, -0.32217f, -2.22911f, -0.73613f, -1.35922f};

constexpr Half kTrellis3p5 = {
    -2.77074f, -0.18952f, -0.50425f, 0.53146f,  -1.60584f, 1.26832f,  0.18190f,  -2.31377f, -0.19925f, 1.51758f,
    0.26256f,  0.85841f,  -0.98800f, -1.81471f, -1.43606f, -0.57093f, -1.48438f, 1.03975f,  -0.38645f, 0.73193f,
    -0.57316f, 1.50883f,  0.52639f,  -0.18781f, -1.74409f, -0.31633f, 0.35873f,  -0.59063f, -2.12739f, 0.01648f,
    -1.02834f, -0.75369f, -0.74245f, -1.07724f, -1.28647f, 0.80517f,  1.19015f,  0.11737f,  0.55210f,  -0.36695f,
    0.50566f,  -0.06215f, -0.49244f, 3.27119f,  0.10316f,  0.98197f,  1.96507f,  -0.25956f, -0.86965f, 0.33065f,
    -1.16473f, 1.68033f,  -0.01794f, 0.95419f,  1.27017f,  -1.57549f, 0.12637f,  0.80691f,  -0.61727f, 2.59388f,
    -1.39446f, -0.97079f, -0.36611f, 0.53773f,  0.02309f,  1.78899f,  1.39380f,  -0.94102f, -0.32657f, -0.71247f,
    0.97276f,  -1.23431f, 1.87242f,  -0.91044f, -0.69544f, 1.23745f,  0.58657f,  -0.47118f, -1.32278f, 0.15472f,
    -0.46845f, -0.97357f, -0.67532f, 1.32001f,  -0.17817f, 0.28105f,  -1.26847f, 0.93677f,  -0.45272f, -0.77310f,
    -0.02361f, -0.23041f, 0.30886f,  1.71638f,  -2.34298f, 1.13755f,  -0.23888f, 0.13287f,  0.68511f,  0.29402f,
    -0.32245f, -1.13447f, 0.00826f,  -0.06533f, -0.61092f, 0.36339f,  0.52960f,  -0.84568f, -0.31402f, -0.04961f,
    0.72810f,  -1.61686f, 2.06504f,  0.71543f,  -0.74947f, 1.07529f,  0.36915f,  -0.97817f, -2.14504f, -0.02137f,
    0.53425f,  0.21952f,  1.52961f,  -0.09097f, -0.29477f, -1.91902f, -0.66021f, -1.24033f};

constexpr Half kTrellis4 = {
    0.01251f,  -0.83341f, 3.33646f,  1.60415f,  0.87757f,  1.94841f,  -0.15787f, -1.46271f, -0.47366f, -2.85368f,
    -0.59637f, 0.31696f,  -1.20559f, 1.42816f,  1.23020f,  0.54658f,  0.94214f,  0.30373f,  -1.08288f, -0.03958f,
    -0.17934f, 0.99060f,  0.20893f,  -0.35832f, 0.15623f,  -0.81459f, -0.39862f, 0.54625f,  -1.43093f, 0.03831f,
    -0.58804f, 0.79817f,  -0.67561f, -0.30111f, -0.53229f, -0.86494f, 0.57870f,  0.17159f,  -0.52053f, 0.72757f,
    0.01567f,  1.20383f,  -0.15066f, 1.47125f,  1.05692f,  0.89069f,  -0.40637f, -1.29338f, -2.02516f, 1.57676f,
    -0.25916f, 1.03530f,  0.11190f,  -0.67825f, 1.37077f,  -0.96650f, 1.88584f,  -0.46051f, 0.41395f,  2.14774f,
    -0.78838f, 0.66496f,  -1.30544f, -1.65862f, -0.10598f, 0.10101f,  -0.76833f, 1.77949f,  -0.98786f, 0.73502f,
    -0.59150f, -1.57575f, 0.53961f,  0.36281f,  0.95989f,  -0.39758f, 0.23638f,  1.21893f,  -1.17164f, -2.30328f,
    0.49866f,  0.83955f,  0.14451f,  -1.65920f, 0.22960f,  -0.57391f, 0.34970f,  1.87808f,  -0.11619f, 0.77975f,
    -1.14912f, -0.36540f, -0.13475f, -0.91263f, 1.05014f,  -0.71185f, 0.18819f,  -0.06259f, 0.72653f,  0.56292f,
    2.63220f,  2.17147f,  -0.34648f, 0.36294f,  -0.21371f, -0.68053f, 0.09691f,  -1.12801f, 1.33318f,  0.30402f,
    1.76086f,  0.43309f,  -1.05543f, 1.79854f,  0.47719f,  -0.36315f, 1.36374f,  -0.29017f, 0.96014f,  -0.72686f,
    1.12738f,  -0.58372f, 0.10025f,  -0.00962f, 2.41148f,  -1.33650f, 1.54590f,  0.26750f};

// Positive centroids of the optimal scalar codes for one coordinate of the unit-variance sphere in 80 dimensions:
// density proportional to (1 - x^2 / 80)^(77/2).
constexpr std::array<float, 1> kScalar1 = {0.800382f};
constexpr std::array<float, 2> kScalar2 = {0.452254f, 1.502061f};
constexpr std::array<float, 4> kScalar3 = {0.244022f, 0.751727f, 1.332239f, 2.119338f};
constexpr std::array<float, 8> kScalar4 = {0.127560f, 0.385383f, 0.651742f, 0.933970f,
                                           1.242739f, 1.596221f, 2.032299f, 2.663219f};

template <std::size_t kSize>
struct Table {
  std::array<float, kSize> exact{};
  std::array<std::int8_t, kSize> values{};
  float step = 0;
};

// The largest magnitude becomes 127. Evaluated by the compiler: no run-time rounding mode or fused multiply-add.
template <std::size_t kSize>
constexpr Table<kSize> with_int8(const std::array<float, kSize>& exact) {
  Table<kSize> table{.exact = exact};
  float largest = 0;
  for (const float v : exact) largest = v > largest ? v : largest;
  table.step = largest / 127.0f;
  for (std::size_t i = 0; i < kSize; ++i) {
    const double scaled = static_cast<double>(exact[i]) / static_cast<double>(table.step);
    table.values[i] = static_cast<std::int8_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  }
  return table;
}

constexpr Table<256> trellis(const Half& half) {
  std::array<float, 256> exact{};
  for (std::size_t w = 0; w < 256; ++w) {
    exact[reverse_bits(static_cast<std::uint8_t>(w))] = w < 128 ? half[w] : -half[255 - w];
  }
  return with_int8(exact);
}

template <std::size_t kSize>
constexpr Table<2 * kSize> scalar(const std::array<float, kSize>& positive) {
  std::array<float, 2 * kSize> exact{};
  for (std::size_t i = 0; i < kSize; ++i) {
    exact[kSize + i] = positive[i];
    exact[kSize - 1 - i] = -positive[i];
  }
  return with_int8(exact);
}

template <std::size_t kSize>
constexpr Codebook view(const Table<kSize>& table) {
  return {table.values, table.step, table.exact};
}

constexpr auto kTable1 = scalar(kScalar1);
constexpr auto kTable2 = scalar(kScalar2);
constexpr auto kTable3 = scalar(kScalar3);
constexpr auto kTable4 = scalar(kScalar4);
constexpr auto kTableT2 = trellis(kTrellis2);
constexpr auto kTableT2p5 = trellis(kTrellis2p5);
constexpr auto kTableT3 = trellis(kTrellis3);
constexpr auto kTableT3p5 = trellis(kTrellis3p5);
constexpr auto kTableT4 = trellis(kTrellis4);

constexpr Codebook kBooks[] = {view(kTable1),    view(kTable2),  view(kTable3),    view(kTable4), view(kTableT2),
                               view(kTableT2p5), view(kTableT3), view(kTableT3p5), view(kTableT4)};

}  // namespace

const Codebook& codebook(Code code) {
  return is_trellis(code) ? kBooks[bits_x2(code)] : kBooks[static_cast<std::size_t>(code) - 1];
}

}  // namespace axon::turboquant
