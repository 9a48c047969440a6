# make demo   from nothing to ssh in a guest
# make test   everything that is checked
# make bench  figures beside those of a real OpenStack
PROFILE ?= dev
DIR := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
UNKAI := $(CURDIR)/target/$(DIR)/unkai
export UNKAI
# Scripts look below target/.
unexport CARGO_TARGET_DIR

.PHONY: build image demo test bench lint clean-demo

build:
	@cargo build --profile $(PROFILE) --workspace --bins

image: build
	@$(UNKAI) image build mini

demo:
	@scripts/packages.sh run build image
	@$(MAKE) --no-print-directory image PROFILE=release
	@UNKAI=$(CURDIR)/target/release/unkai scripts/demo.sh

clean-demo:
	@scripts/demo.sh --clean

lint:
	@cargo fmt --all -- --check
	@cargo clippy --workspace --all-targets -- -D warnings

test:
	@scripts/packages.sh
	@tests/run.sh

bench:
	@scripts/packages.sh
	@$(MAKE) --no-print-directory image PROFILE=release
	@UNKAI=$(CURDIR)/target/release/unkai bench/run.sh
