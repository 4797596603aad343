# Every target sets up what it needs: a fresh Debian 12 needs only make and git.
#   make demo    build, then a bedtime story inside 64 MiB
#   make test    build, then every test; what reads input also under ASan+UBSan, with bounded runs of the fuzz targets;
#                the kernels also as NEON
#   make neon    the kernels and their tests built for aarch64 and run by an emulator
#   make build   set-up and the release build alone
#   make asan    every unit test under ASan+UBSan (slow to build)
#   make tsan    every unit test under ThreadSanitizer (slow to build)
#   make bench   the kernel benchmarks
#   make install PREFIX=/usr/local
PREFIX ?= /usr/local
PROGRAM := build/release/bit-axon

.PHONY: build demo test release-test fuzz-test neon asan tsan bench install format clean setup

setup:
	@scripts/setup

build:
	@scripts/setup build
	@cmake --preset release
	@cmake --build --preset release --target bit-axon

demo: build
	@echo
	$(PROGRAM) run --memory-budget 64MiB --seed 12 "Write a bedtime story about a small dragon who is afraid of the dark."

# The last lines are ctest's for the release build.
test:
	@$(MAKE) --no-print-directory fuzz-test
	@$(MAKE) --no-print-directory neon
	@$(MAKE) --no-print-directory release-test

fuzz-test: setup
	@cmake --preset asan
	@cmake --build --preset asan --target reads-input
	@ctest --preset asan -L reads-input

# Left out, because an emulator is slow: the level "scalar", which is the code of "neon" there, and the quality of random
# codes, which is a matter of their format and not of the processor.
NEON_LEFT_OUT := /scalar|^Turboquant(Attention|Vector)|EachRate.(Distortion|Beats)
ifeq ($(shell uname -m),aarch64)
neon:
	@echo "neon: this processor runs the release build's tests as NEON"
else
neon: setup
	@scripts/arm64-libraries
	@cmake --preset neon
	@cmake --build --preset neon
	@ctest --preset neon -E '$(NEON_LEFT_OUT)'
endif

asan: setup
	@cmake --preset asan
	@cmake --build --preset asan
	@ctest --preset asan

release-test: setup
	@cmake --preset release
	@cmake --build --preset release
	@ctest --preset release

tsan: setup
	@cmake --preset tsan
	@cmake --build --preset tsan
	@ctest --preset tsan

bench: setup
	@cmake --preset release -DAXON_BENCH=ON
	@cmake --build --preset release
	build/release/kernels_bench

install: build
	@cmake --install build/release --prefix $(PREFIX)

format:
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

clean:
	rm -rf build
