#!/usr/bin/env bash
# Fuzzing: random inputs, bred from those in fuzz/corpus, for what reads input before anybody is known.
# See usage() below, or run with --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: fuzz.sh [--seconds N] [--target NAME]... [--keep]
       fuzz.sh --target NAME FILE...

Runs the targets of fuzz/, or those that are named, each for 60 seconds or for N. What it learns stays in the build
directory for the next time; --keep adds to fuzz/corpus those inputs that reach code which no other there reaches.
With files it runs one target with these inputs only.
TEXT
}

seconds=60
keep=
targets=()
files=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift ;;
    --target) targets+=("$2"); shift ;;
    --keep) keep=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) files+=("$1") ;;
  esac
  shift
done
if [ ${#targets[@]} -eq 0 ]; then
  for source in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$source" .rs)"); done
fi
for target in "${targets[@]}"; do
  [ -e "fuzz/fuzz_targets/$target.rs" ] || { echo "There is no target $target." >&2; exit 2; }
done
[ ${#files[@]} -eq 0 ] || [ ${#targets[@]} -eq 1 ] || { usage >&2; exit 2; }

build=${CARGO_TARGET_DIR:-target}/fuzz

totals() { # totals PASSED FAILED
  local word=ok
  [ "$2" -eq 0 ] || word=FAILED
  echo "test result: $word. $1 passed; $2 failed; 0 ignored"
}

# On the stable toolchain: no sanitizer, which needs another one and finds nothing where there is no unsafe code. Linking
# everything at once costs more than it speeds up.
build() {
  ./tests/setup.sh fuzz &&
    CARGO_PROFILE_RELEASE_LTO=off cargo fuzz build --fuzz-dir fuzz --sanitizer none --features fuzzer \
      --codegen-units 16 --target-dir "$build"
}
if ! build; then
  echo 'The fuzz targets were not built.'
  totals 0 ${#targets[@]}
  exit 1
fi
programs=$build/$(rustc -vV | sed -n 's/^host: //p')/release

if [ ${#files[@]} -gt 0 ]; then
  exec "$programs/${targets[0]}" "${files[@]}"
fi

run() { # run TARGET: one line, and on failure what to do
  local target=$1 learnt=$build/corpus/$1 found=$build/found/$1 log=$build/$1.log
  mkdir -p "$learnt" "$found"
  # The corpus of the repository is only read: new inputs go to the first folder.
  if RUST_BACKTRACE=0 "$programs/$target" "$learnt" "fuzz/corpus/$target" -artifact_prefix="$found/" -max_total_time="$seconds" \
    -max_len=4096 -timeout=5 -rss_limit_mb=512 -print_final_stats=1 >"$log" 2>&1; then
    echo "test $target ... ok ($(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs)"
    return
  fi
  # The message, without what concerns the fuzzer itself.
  sed -n '/panicked at/,/^\(NOTE\|SUMMARY\|==\)/p; /^SUMMARY/p' "$log" | grep -avE '^(NOTE|note|==)' | cut -c1-2000 || true
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  echo "Again: ./tests/fuzz.sh --target $target $input"
  echo "Keep it: cp $input fuzz/corpus/$target/, and 'cargo test -p fuzz' fails until it is mended."
  echo "test $target ... FAILED"
  return 1
}

# As many at a time as there are processors.
failed=0
running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  (code=0; report=$(run "$target") || code=$?; echo "$report"; exit "$code") &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
done
totals $((${#targets[@]} - failed)) "$failed"

if [ -n "$keep" ]; then
  for target in "${targets[@]}"; do
    "$programs/$target" -merge=1 "fuzz/corpus/$target" "$build/corpus/$target" >/dev/null 2>&1
  done
fi
[ "$failed" -eq 0 ]
