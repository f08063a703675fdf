#!/usr/bin/env bash
# Kills parts of the platform again and again in the middle of 20,000 messages, and counts what was lost or stored twice.
set -euo pipefail

case ${1-} in
  -h | --help) echo 'usage: chaos.sh [ROUNDS] — 7 kills a round (20 rounds unless told otherwise); stops at the first loss'; exit 0 ;;
esac

cd "$(dirname "$0")/.."
rounds=${1-20}
work=$(mktemp -d -t tatami-chaos.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
./tests/engines/engines.sh fetch
cargo test --locked --no-run -p tatami -p system-tests
# shellcheck disable=SC2016 # expanded by the inner shell
./tests/engines/engines.sh with "$work/engines" -- bash -euc '
  for round in $(seq "$0"); do
    echo "== round $round of $0"
    cargo test --locked -q -p tatami -p system-tests --test system -- durability --nocapture 2>&1 |
      grep -E "^killed|^gateway|acknowledged and lost|stored twice|test result"
  done' "$rounds"
