# Commands of the repository; README.md tells what each is for. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo
# Reduced numbers of the scenarios; `make soak` runs the full ones.
export GLASSHIVE_CONNECTIONS ?= 10000

.PHONY: help run demo test lint build soak bench packages deploy-test clean prerequisites prerequisites-test prerequisites-deploy

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

prerequisites:
	@tests/install.sh demo

prerequisites-test:
	@tests/install.sh test

prerequisites-deploy:
	@tests/install.sh deploy

build: prerequisites ## build the release binaries into target/release
	$(CARGO) build --release --workspace --bins

run: build ## start a lab to play with: namespaces and real ports as root, loopback otherwise
	target/release/glasshive-lab run

demo: build ## let real clients visit, review what was recorded, leave it under run/demo/
	target/release/glasshive-lab demo

lint:
	$(CARGO) fmt --all --check
	rustfmt --check --edition 2024 decoys/src/services/*.rs
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

test: prerequisites-test lint ## formats, lints, tests with reduced numbers: what CI runs
	$(CARGO) build --workspace --bins --tests --locked
	$(CARGO) test --workspace --locked --no-fail-fast -- --test-threads=4

soak: prerequisites-test ## the full numbers: over an hour, 20 GB below TMPDIR; what is seen belongs in tests/SOAK.md
	$(CARGO) build --workspace --bins --tests --locked
	CARGO=$(CARGO) tests/soak.sh

# BENCH="--full --only store": flags of `glasshive-lab bench`; --peers measures other products too.
bench: build ## throughput, memory and latency beside controls; a table, and JSON under run/bench/
	@tests/install.sh bench
	@$(if $(findstring --peers,$(BENCH)),tests/install-peers.sh,true)
	target/release/glasshive-lab bench $(BENCH)

packages: prerequisites-deploy ## the three Debian packages and what hosts without internet need beside them, in target/packages
	tests/packages.sh

# GLASSHIVE_PROFILE=release deploys what users get; the test profile is built already where tests were.
deploy-test: export GLASSHIVE_PROFILE ?= dev
# Upgrades are between two builds; what that stamp means is told in tests/packages.sh.
deploy-test: packages ## as root: a deployment by Ansible onto booted hosts, judged from the outside
	GLASSHIVE_TEST_STAMP=0.2.0+2 tests/packages.sh
	timeout --foreground 900 tests/deploy/run

clean: ## remove what runs left behind, keep the build
	rm -rf run
