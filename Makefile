# `make` lists the commands. CI runs the same ones.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help up setup build test fuzz lint ci demo test-compose bench bench-gateway chaos clean

help: ## lists the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

up: setup ## builds and runs the whole platform on this machine (options: make up ARGS="--host 0.0.0.0")
	cargo build --release --locked -p tatami
	./target/release/tatami up $(ARGS)

setup: ## installs what the build needs, or says what to install
	@./tests/setup.sh

build: setup ## builds the binary in release mode
	cargo build --release --locked -p tatami

test: setup ## runs every test, against embedded engines and against real ones
	@./tests/run.sh

fuzz: setup ## feeds random inputs to what reads requests and tokens (options: make fuzz ARGS="--seconds 3600 --target path")
	@./tests/fuzz.sh $(ARGS)

lint: setup ## formatting, lints (warnings are errors) and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

ci: lint test ## what CI runs

demo: ## the tour of the README against a running platform, with real clients
	@./tests/engines/engines.sh fetch
	@./tests/demo/demo.sh

test-compose: ## docker compose up in a real Docker engine, then the tour
	@./tests/compose/run.sh

bench: setup ## measures, see BENCHMARKS.md
	@./bench/run.sh

bench-gateway: setup ## measures the gateway beside nginx, see BENCHMARKS.md (options: make bench-gateway ARGS="--rounds 9")
	@./tests/setup.sh bench-gateway
	@./bench/gateway.sh $(ARGS)

chaos: setup ## kills parts of the platform many times under load and counts what was lost
	@./tests/chaos.sh

clean: ## removes what was built
	cargo clean
