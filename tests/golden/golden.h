#pragma once
// What the golden tests share: recorded tensors by name, and a model loaded for exact comparison.

#include <memory>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "generate/session.h"

#include <gtest/gtest.h>

namespace axon::golden {

inline std::string path(const std::string& relative) {
  return std::string(AXON_SOURCE_DIR) + "/tests/golden/" + relative;
}

template <class T>
T ok(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

class Recorded {
 public:
  explicit Recorded(const std::string& file) : file_(ok(Safetensors::open(path(file)))) {}
  const TensorView& tensor(const std::string& name) const {
    const TensorView* t = file_.find(name);
    if (t == nullptr) {
      ADD_FAILURE() << name << " was not recorded";
      std::abort();
    }
    return *t;
  }
  std::vector<float> floats(const std::string& name) const {
    const TensorView& t = tensor(name);
    std::vector<float> out(t.shape.elements());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = load_float(t.dtype, t.bytes.data(), i);
    return out;
  }
  std::vector<std::uint32_t> ids(const std::string& name) const {
    const TensorView& t = tensor(name);
    std::vector<std::uint32_t> out(t.shape.elements());
    AXON_CHECK(t.dtype == DType::kI32);
    std::copy_n(t.bytes.data(), t.bytes.size(), reinterpret_cast<std::byte*>(out.data()));
    return out;
  }

 private:
  Safetensors file_;
};

// A model in exact arithmetic with room for `rows` logits at once.
struct Loaded {
  Ledger ledger{Bytes{std::uint64_t{1} << 40}};
  std::unique_ptr<cpu::CpuDevice> device;
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;

  Loaded(const std::string& folder, std::size_t rows, std::size_t chunk = 256,
         Arithmetic arithmetic = Arithmetic::kExact) {
    ModelFiles files = ok(open_model(folder));
    const Config config = files.config;
    const WeightsPlan plan = ok(plan_weights(config, files.tensors, {}, 2));
    device = ok(cpu::CpuDevice::create(ledger, device_limits(config, plan, chunk), 2, arithmetic));
    model = std::make_unique<Model>(ok(Model::load(config, std::move(files.tensors), plan, ledger, device->pool())));
    session = std::make_unique<Session>(
        ok(Session::create(*model, *device, ledger,
                           {.context = 4096, .prefill_chunk = chunk, .arithmetic = arithmetic, .logits_rows = rows})));
  }

  // Logits of every position of `ids`, fed in one call, from the empty state.
  std::vector<float> logits(std::span<const std::uint32_t> ids) {
    session->reset();
    std::vector<float> out;
    const std::size_t chunk = session->options().prefill_chunk;
    for (std::size_t at = 0; at < ids.size(); at += chunk) {
      const std::size_t n = std::min(chunk, ids.size() - at);
      ok(session->prefill(ids.subspan(at, n)));
      for (std::size_t r = 0; r < n; ++r) {
        const auto row = session->logits_of(r, 1).row(0);
        out.insert(out.end(), row.begin(), row.end());
      }
    }
    return out;
  }
};

inline float largest(std::span<const float> values) {
  float out = 0;
  for (const float v : values) out = std::max(out, std::fabs(v));
  return out;
}

inline float largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float out = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) out = std::max(out, std::fabs(a[i] - b[i]));
  return out;
}

}  // namespace axon::golden
