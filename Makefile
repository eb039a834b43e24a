# The front door. `make demo` and `make test` work as the first command on a bare Debian or Ubuntu machine.
#
#   make CMAKE_FLAGS="-DSEMIVOX_CUDA=OFF"    passes options to CMake
#   make JOBS=4                              limits parallel compilation
PRESET ?= default
CMAKE_FLAGS ?=
JOBS ?= $(shell nproc)
DEVICE ?= auto
BUILD = $(if $(filter default,$(PRESET)),build,build-$(PRESET))
SOURCES = $(wildcard $(foreach folder,engine kernels layers methods io apps tests tests/emulator bench,$(folder)/*.hpp $(folder)/*.cpp $(folder)/*.cu)) \
          $(wildcard tests/emulator/include/*.h tests/emulator/include/*/*.h)

.DEFAULT_GOAL := build
.PHONY: build configure packages test asan demo bench gpu-check format format-check clean help

build: configure  ## build the program, build/semivox
	@cmake --build $(BUILD) --parallel $(JOBS) --target semivox

configure: packages
	@if [ ! -f $(BUILD)/build.ninja ] || [ -n '$(CMAKE_FLAGS)' ]; then cmake --preset $(PRESET) $(CMAKE_FLAGS); fi

packages:  ## install what the build needs, or say how
	@scripts/bootstrap.sh

test: configure  ## build and run all tests
	@cmake --build $(BUILD) --parallel $(JOBS)
	@scripts/run_tests.sh $(BUILD)

asan:  ## the tests again under the address and undefined-behaviour sanitizers (build-asan)
	@$(MAKE) --no-print-directory test PRESET=asan

# Without a GPU there is no point in compiling for one: the demo then builds the CPU program, unless the other one is there.
demo: PRESET := $(or $(filter-out default,$(PRESET)),$(if $(wildcard build/semivox /dev/nvidia0),default,cpu))
demo: build  ## train, predict, evaluate on synthetic scans, at most 10 minutes (DEMO=short: a quick check)
	@BUILD=$(BUILD) scripts/demo.sh

bench: build  ## all benchmarks and, where Python has PyTorch, the comparison with it (DEVICE=cpu or cuda); bench/results
	@SEMIVOX=$(BUILD)/semivox bench/run.sh $(DEVICE)

gpu-check: packages  ## on a machine with a GPU: parity, compute-sanitizer, training on both devices, benchmarks
	@scripts/gpu_check.sh

format:  ## format all sources with clang-format
	@clang-format -i $(SOURCES)

format-check:  ## fail when a source is not formatted
	@clang-format --dry-run --Werror $(SOURCES)

clean:  ## remove the build folders
	rm -rf build build-cpu build-asan

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep -E '^[a-z-]+:.*##' Makefile
