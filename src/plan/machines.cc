#include "plan/machines.h"

#include <algorithm>

#include "base/error.h"
#include "memory/system_mac.h"

namespace axon {
namespace {

// The page that Bit-Axon's original published for the 16 GB MacBook Air. Its "MB" are MiB: it says 16,384 of them for
// 16 GB. It subtracts 6,500 and calls the rest "~8,000"; it is 9,884.
constexpr std::string_view kPage =
    "Bit-Axon's memory-budget page, \"Available Memory\" (macOS 15, MacBook Air M4 16 GB)";
constexpr std::string_view kPageElsewhere =
    "assumption: as on the 16 GB MacBook Air of Bit-Axon's memory-budget page; macOS and apps take more where there is "
    "more";
constexpr std::string_view kMacMini =
    "\"LLM Model Memory Usage 101\": of 16 GB, 12-13 GB are left after macOS and apps; 12.5 is taken";
constexpr std::string_view kGpuShare =
    "Metal's recommendedMaxWorkingSetSize with iogpu.wired_limit_mb 0, as logged: 10922.67 of 16384 MiB "
    "(github.com/abetlen/llama-cpp-python/issues/687), 21845.34 of 32768 (github.com/ollama/ollama/issues/434), "
    "49152 of 65536 (github.com/ggml-org/llama.cpp/issues/1870), 73728 of 98304 "
    "(github.com/ggml-org/llama.cpp/issues/3213); newer systems allow more";
constexpr std::string_view kUbuntu =
    "Ubuntu 24.04 LTS Desktop's minimum of 4 GB (release notes): the system and a few programs; 26.04 LTS asks 6 GB";

std::vector<Reserve> page_reserves(std::string_view source) {
  return {{"macOS and its services", 2'500_MiB, source},
          {"other apps (browser, editor)", 2'000_MiB, source},
          {"GPU framework (MLX)", 500_MiB, source, true},
          {"GPU safety margin against swapping", 1'500_MiB, source, true}};
}

MachineProfile mac(std::string_view name, std::string_view title, Bytes ram, std::vector<Reserve> reserves,
                   std::string_view source) {
  return {name, title, ram, std::move(reserves), mac_gpu_share(ram), kGpuShare, source};
}

MachineProfile other(std::string_view name, std::string_view title, Bytes ram, std::vector<Reserve> reserves,
                     std::string_view source) {
  return {name, title, ram, std::move(reserves), std::nullopt, {}, source};
}

void add_macs(std::vector<MachineProfile>& list) {
  const std::vector<Reserve> mini = {{"macOS and apps", 3'584_MiB, kMacMini}};
  const std::vector<Reserve> mini_32 = {
      {"macOS and apps", 3'584_MiB, "assumption: as on the 16 GB Mac mini of \"LLM Model Memory Usage 101\""}};
  const std::string_view air = "support.apple.com/en-us/122209 (MacBook Air 13-inch, M4, 2025: 16, 24 or 32 GB)";
  const std::string_view specs = "support.apple.com/en-us/121555 (Mac mini, 2024: 16, 24 or 32 GB with M4)";
  list.push_back(mac("macbook-air-m4-16gb", "MacBook Air M4, 16 GB", 16_GiB, page_reserves(kPage), air));
  list.push_back(mac("macbook-air-m4-24gb", "MacBook Air M4, 24 GB", 24_GiB, page_reserves(kPageElsewhere), air));
  list.push_back(mac("macbook-pro-16gb", "MacBook Pro M4, 16 GB", 16_GiB, page_reserves(kPageElsewhere),
                     "support.apple.com/en-us/121552 (MacBook Pro 14-inch, M4, 2024: 16, 24 or 32 GB)"));
  list.push_back(
      mac("macbook-pro-36gb", "MacBook Pro M4 Max, 36 GB", 36_GiB, page_reserves(kPageElsewhere),
          "support.apple.com/en-us/121553 (MacBook Pro 14-inch, M4 Pro or M4 Max, 2024: M4 Max from 36 GB)"));
  list.push_back(mac("mac-mini-16gb", "Mac mini, 16 GB", 16_GiB, mini, specs));
  list.push_back(mac("mac-mini-32gb", "Mac mini, 32 GB", 32_GiB, mini_32, specs));
}

void add_others(std::vector<MachineProfile>& list) {
  const std::string_view generic = "a common size, no particular model";
  const std::vector<Reserve> desktop = {{"Linux desktop and programs", 4_GiB, kUbuntu}};
  list.push_back(other("linux-laptop-8gb", "Linux laptop, 8 GB", 8_GiB, desktop, generic));
  list.push_back(other("linux-laptop-16gb", "Linux laptop, 16 GB", 16_GiB, desktop, generic));
  list.push_back(other("linux-laptop-32gb", "Linux laptop, 32 GB", 32_GiB, desktop, generic));
  list.push_back(other("windows-laptop-16gb", "Windows laptop, 16 GB, under WSL 2", 16_GiB,
                       {{"Windows: the half that WSL 2 does not get by default", 8_GiB,
                         "learn.microsoft.com/en-us/windows/wsl/wsl-config: memory defaults to 50% of the total"},
                        {"Linux inside WSL 2", 512_MiB, "assumption: no desktop, a shell and its services"}},
                       generic));
  list.push_back(other("raspberry-pi-5-8gb", "Raspberry Pi 5, 8 GB", 8_GiB,
                       {{"Raspberry Pi OS with its desktop", 1_GiB, "assumption: the desktop alone, no browser"}},
                       "www.raspberrypi.com/products/raspberry-pi-5 (8 GB variant)"));
  list.push_back(other("steam-deck-16gb", "Steam Deck, desktop mode", 16_GiB,
                       {{"memory dedicated to the GPU", 1_GiB,
                         "Valve's talk on the hardware, November 2021: at least 1 GB of the 16 is the GPU's"},
                        {"SteamOS desktop mode", 2_GiB, "assumption: the desktop and Steam"}},
                       "www.steamdeck.com/en/tech (16 GB LPDDR5)"));
  list.push_back(other("cloud-8gb", "Cloud machine without a desktop, 8 GiB", 8_GiB,
                       {{"Linux and its services", 512_MiB, "assumption: a server image with nothing else running"}},
                       "aws.amazon.com/ec2/instance-types/m7i (m7i.large: 8 GiB)"));
}

Bytes sum_of(const std::vector<Reserve>& reserves, bool on_gpu) {
  Bytes sum;
  for (const Reserve& reserve : reserves) {
    if (on_gpu || !reserve.gpu_only) sum += reserve.bytes;
  }
  return sum;
}

}  // namespace

Bytes MachineProfile::reserved() const { return sum_of(reserves, /*on_gpu=*/false); }

Bytes MachineProfile::budget() const {
  AXON_CHECK(reserved() < ram);
  return ram - reserved();
}

std::optional<Bytes> MachineProfile::gpu_budget() const {
  if (!gpu_share) return std::nullopt;
  const Bytes kept = sum_of(reserves, /*on_gpu=*/true);
  AXON_CHECK(kept < ram);
  return std::min(ram - kept, Bytes{static_cast<std::uint64_t>(static_cast<double>(ram.count) * *gpu_share)});
}

const std::vector<MachineProfile>& machine_profiles() {
  static const std::vector<MachineProfile> profiles = [] {
    std::vector<MachineProfile> list;
    add_macs(list);
    add_others(list);
    return list;
  }();
  return profiles;
}

const MachineProfile* find_machine(std::string_view name) {
  for (const MachineProfile& profile : machine_profiles()) {
    if (profile.name == name) return &profile;
  }
  return nullptr;
}

}  // namespace axon
