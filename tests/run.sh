#!/usr/bin/env bash
# Every test: gets and starts real engines, runs all tests against them and against the embedded ones, stops what it
# started, and ends with one line of totals.
set -euo pipefail

case ${1-} in
  -h | --help)
    cat <<'TEXT'
usage: run.sh [ARGUMENTS FOR cargo test]

Runs all tests, or those that the arguments choose, for example: run.sh -p auth
All tests include every fuzz target, for a few seconds each.
Engines named by TATAMI_TEST_KAFKA, _POSTGRES, _MONGODB, _REDIS are used instead of starting them.
TEXT
    exit 0
    ;;
esac

cd "$(dirname "$0")/.."
work=$(mktemp -d -t tatami-tests.XXXXXX)
chmod 755 "$work"
log=$work/output
trap 'rm -rf "$work"' EXIT
choice=("$@")
[ ${#choice[@]} -gt 0 ] || choice=(--workspace)

echo "== engines"
./tests/engines/engines.sh fetch
echo "== build"
cargo test --locked --no-run "${choice[@]}"
echo "== tests"
status=0
./tests/engines/engines.sh with "$work/engines" -- \
  cargo test --locked --no-fail-fast "${choice[@]}" 2>&1 | tee "$log" || status=$?

if [ $# -eq 0 ]; then
  echo "== fuzz"
  ./tests/fuzz.sh --seconds 10 2>&1 | tee -a "$log" || status=$?
fi

# One line of totals over all test programs.
awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) s += $(i-1) } }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$log"
grep -E '^test .* FAILED$' "$log" || true
exit "$status"
