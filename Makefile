# A thin cover over meson, so that the common things are one word.
#
#   make              build/veneer
#   make check        all tests, under ten minutes; most of them need root
#   make asan|ubsan|tsan    the same tests on a sanitizer's build
#   make fuzz         every fuzz target for FUZZ_SECONDS
#   make bench        measurements, as ratios to kernel overlayfs (BENCH="--short" and other words)
#   make lint         formatting and static analysis
#   make install      to PREFIX, below DESTDIR
#   make demo         a veneer over this machine's root

BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
BENCH ?=

# The tools below run in parallel themselves.
.NOTPARALLEL:

.PHONY: all build deps deps-check check asan ubsan tsan fuzz bench lint install demo clean

all: build

deps:
	@scripts/deps build

deps-check:
	@scripts/deps check

build: deps
	@scripts/build $(BUILD) --prefix=$(PREFIX)

check: deps-check build
	@scripts/check $(BUILD)

asan: deps-check
	@scripts/build $(BUILD)-asan -Db_sanitize=address -Db_lundef=false -Dlock_ranks=true
	@scripts/check $(BUILD)-asan

ubsan: deps-check
	@scripts/build $(BUILD)-ubsan -Db_sanitize=undefined -Db_lundef=false -Dlock_ranks=true
	@scripts/check $(BUILD)-ubsan

tsan: deps-check
	@scripts/build $(BUILD)-tsan -Db_sanitize=thread -Db_lundef=false -Dlock_ranks=true
	@scripts/check $(BUILD)-tsan

fuzz: deps-check
	@CC=clang scripts/build $(BUILD)-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
	@scripts/fuzz $(BUILD)-fuzz $(FUZZ_SECONDS)

bench: build
	@scripts/deps bench
	@bench/run $(BUILD) $(BENCH)

lint:
	@scripts/deps lint
	@scripts/lint

install: build
	@meson install -C $(BUILD) --no-rebuild

# Installs and builds by itself, as its first steps.
demo:
	@scripts/demo

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-ubsan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-lint
