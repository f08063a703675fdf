#!/usr/bin/env bash
# Builds in release mode, starts the engines and runs every load generator.
set -euo pipefail
case ${1-} in -h | --help) echo 'usage: run.sh [SECONDS PER MEASUREMENT] — measures, see BENCHMARKS.md'; exit 0 ;; esac
cd "$(dirname "$0")/.."
seconds=${1-10}
work=$(mktemp -d -t tatami-bench.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
cargo build --release --locked -p tatami
cargo build --release --locked -p bench
./tests/engines/engines.sh fetch
# shellcheck disable=SC2016 # expanded by the inner shell
./tests/engines/engines.sh with "$work/engines" -- bash -euc '
  for engines in embedded real; do
    for window in 1 16; do ./target/release/bench acks --engines $engines --window $window --seconds $0; done
    ./target/release/bench latency --engines $engines --seconds $0
    ./target/release/bench issue --engines $engines --seconds $0
  done' "$seconds"
