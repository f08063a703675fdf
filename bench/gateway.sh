#!/usr/bin/env bash
# Builds in release mode and measures the gateway beside nginx. The options are those of `bench gateway`.
set -euo pipefail
case ${1-} in -h | --help) echo 'usage: gateway.sh [OPTIONS OF bench gateway] — measures, see BENCHMARKS.md'; exit 0 ;; esac
cd "$(dirname "$0")/.."
# Debian keeps servers in sbin, which an ordinary user's PATH lacks.
export PATH="$PATH:/usr/sbin:/sbin"
cargo build --release --locked -p tatami
cargo build --release --locked -p bench
# Ten thousand idle connections are as many files, in the generator and in what is measured.
ulimit -n "$(ulimit -Hn)"
exec "${CARGO_TARGET_DIR:-target}/release/bench" gateway "$@"
