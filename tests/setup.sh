#!/usr/bin/env bash
# Makes sure that the build has what it needs: installs missing system packages where it may, else says which.
set -euo pipefail

case ${1-} in
  -h | --help)
    echo 'usage: setup.sh [bench-gateway | fuzz] — checks for a Rust toolchain and the packages that the build needs, or what'
    echo 'the measurement of the gateway or fuzzing needs besides'
    exit 0
    ;;
esac
# Debian keeps servers in sbin, which an ordinary user's PATH lacks.
PATH="$PATH:/usr/sbin:/sbin"

if ! command -v cargo >/dev/null; then
  echo 'The Rust toolchain is missing. Install rustup (https://rustup.rs or the package rustup); rust-toolchain.toml does the rest.' >&2
  exit 1
fi

missing=()
need() { # need COMMAND-OR-FILE PACKAGE
  if [[ $1 == /* ]]; then [ -e "$1" ] && return; else command -v "$1" >/dev/null && return; fi
  missing+=("$2")
}
need cc gcc
need g++ g++
need make make
need cmake cmake
need pkg-config pkg-config
need curl curl
need python3 python3
pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
[ -e /usr/include/zlib.h ] || missing+=(zlib1g-dev)

if [ "${1-}" = bench-gateway ]; then
  need nginx nginx-light
  need wrk wrk
fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "The build needs packages that are not installed. Install them with:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
fi

if [ "${1-}" = fuzz ] && ! cargo fuzz --version >/dev/null 2>&1; then
  echo 'Installing cargo-fuzz ...'
  cargo install --quiet --locked cargo-fuzz@0.13.2 || {
    echo 'Fuzzing needs cargo-fuzz. Install it with: cargo install --locked cargo-fuzz' >&2
    exit 1
  }
fi
