# Every target sets up what it needs: a fresh Debian 12 needs only make and git.
#   make demo    build, then a bedtime story inside 64 MiB
#   make test    build, then every test (release, and the fuzz targets and unit tests under ASan+UBSan)
#   make build   set-up and the release build alone
#   make tsan    the unit tests under ThreadSanitizer
#   make bench   the kernel benchmarks
#   make install PREFIX=/usr/local
PREFIX ?= /usr/local
PROGRAM := build/release/bit-axon

.PHONY: build demo test release-test asan-test tsan bench install format clean setup

setup:
	@scripts/setup

build: setup
	@cmake --preset release $(QUIET)
	@cmake --build --preset release --target bit-axon

demo: build
	@echo
	$(PROGRAM) run --memory-budget 64MiB --seed 12 "Write a bedtime story about a small dragon who is afraid of the dark."

# The last lines are ctest's for the release build.
test: asan-test release-test

asan-test: setup
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
