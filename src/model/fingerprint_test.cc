#include "model/fingerprint.h"

#include <gtest/gtest.h>

#include <set>

#include "model/tiny_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

std::string of(const Config& config, const FileTensors& tensors, std::string_view precision = "keep") {
  Folder folder;
  put_model(folder, config, tensors);
  const ModelFiles files = ok(open_model(folder.path()));
  return fingerprint(files.config, files.tensors, precision);
}

TEST(Fingerprint, IsTheSameForTheSameModelWhateverItsWindow) {
  const Config config = tiny_config();
  Config other = config;
  other.swa_window_size = 16;
  other.max_seq_len = 512;
  other.ssm_scan_step = 8;
  const std::string one = of(config, tiny_tensors(config, 1, {}));
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(one, of(config, tiny_tensors(config, 1, {})));
  EXPECT_EQ(one, of(other, tiny_tensors(other, 1, {})));
}

TEST(Fingerprint, TellsOtherWeightsNumbersAndPrecisionsApart) {
  const Config config = tiny_config();
  const FileTensors tensors = tiny_tensors(config, 1, {});
  std::set<std::string> all = {of(config, tensors)};
  all.insert(of(config, tensors, "q4"));
  all.insert(of(config, tiny_tensors(config, 2, {})));
  Config eps = config, top = config;
  eps.rms_norm_eps = 1e-5;
  top.moe_top_k = 1;
  all.insert(of(eps, tensors));
  all.insert(of(top, tensors));
  FileTensors touched = tensors;  // one tensor of many, in one place
  touched.rbegin()->second.bytes.back() ^= std::byte{1};
  all.insert(of(config, touched));
  EXPECT_EQ(all.size(), 6u);
}

}  // namespace
}  // namespace axon
