#!/usr/bin/env bash
# Builds local stand-ins for the public images, for machines that reach no image registry.
# See usage() below, or run with --help.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Stand-ins for the public images that Dockerfile and docker-compose.yml name.

  standins.sh                       for each image: keep it, else pull it, else build a stand-in under its name
  standins.sh --rebuild [IMAGE...]  build stand-ins anew, all or these, even where an image is present
  standins.sh --list                the images, and where each came from

A stand-in answers to the environment variables, volumes, ports and user that docker-compose.yml relies on, and to
nothing more. It holds Debian's PostgreSQL and Redis, the mongod and Kafka that tests/engines/engines.sh fetches, and
this machine's Rust toolchain, so versions differ from what the tag says.

Environment:
  TATAMI_CACHE   where downloads and a private Docker daemon's images are kept (default ~/.cache/tatami)
TEXT
}

LABEL=org.tatami.standin
SUITE=bookworm

# Every name in the two files that a registry would serve; a name without a tag is one of our own.
images() {
  {
    sed -nE 's/^FROM +([^ ]+:[^ ]+).*/\1/p' "$ROOT/Dockerfile"
    sed -nE 's/^ +image: +([^ ]+:[^ ]+).*/\1/p' "$ROOT/docker-compose.yml"
  } | awk '!seen[$0]++'
}

list() {
  local image origin
  while read -r image; do
    origin=missing
    if has_image "$image"; then
      origin=$(docker image inspect -f "{{with index .Config.Labels \"$LABEL\"}}stand-in: {{.}}{{else}}pulled{{end}}" "$image")
    fi
    printf '%-24s %s\n' "$image" "$origin"
  done < <(images)
}

# --- Debian ------------------------------------------------------------------

# Where this machine gets Debian from, one line of sources.list per part; empty on other systems.
debian_sources() {
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    grep -E " $SUITE(-updates|-security)? main\$" | sort -u || true
}

debian() {
  local scratch=$1 tag=$2 sources mirror
  ((EUID == 0)) || die "only root can build the Debian base image"
  require debootstrap debootstrap
  sources=$(debian_sources)
  mirror=$(awk -v suite="$SUITE" '$3 == suite {print $2; exit}' <<<"$sources")
  quietly debootstrap.log debootstrap --variant=minbase "$SUITE" "$scratch/root" ${mirror:+"$mirror"}
  if [[ -n $sources ]]; then echo "$sources" >"$scratch/root/etc/apt/sources.list"; fi
  slim "$scratch/root"
  tar -C "$scratch/root" -c . |
    docker import -c "LABEL $LABEL=debootstrap" -c 'CMD ["bash"]' -c 'ENV DEBIAN_FRONTEND=noninteractive' - "$tag" >/dev/null
}

# As in the public image: no documentation, and an apt that stores no downloads, no index caches, starts no servers.
slim() {
  rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,info,locale}/*
  printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >"$1/etc/dpkg/dpkg.cfg.d/slim"
  cat >"$1/etc/apt/apt.conf.d/slim" <<'CONF'
APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
  printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
  chmod +x "$1/usr/sbin/policy-rc.d"
}

# --- the others --------------------------------------------------------------

# Builds standins/NAME with the files already in the scratch folder beside its Dockerfile.
dockerfile() {
  local scratch=$1 tag=$2 name=$3
  cp -r "$HERE/standins/$name/." "$scratch/"
  build --label "$LABEL=$name" -t "$tag" "$scratch"
}

fetch_engines() { "$ROOT/tests/engines/engines.sh" fetch; }

postgres() { dockerfile "$@" postgres; }
redis() { dockerfile "$@" redis; }

mongo() {
  fetch_engines
  cp "$CACHE/mongodb/mongod" "$1/"
  dockerfile "$@" mongo
}

kafka() {
  fetch_engines
  cp -r "$CACHE/kafka/lib" "$1/libs"
  dockerfile "$@" kafka
}

# The toolchain without its documentation, and the certificate authorities this machine trusts beyond the public
# ones: behind an inspecting proxy cargo needs them as much inside the container as outside.
rust() {
  local scratch=$1 tag=$2 version sysroot
  have rustc || die "no Rust on this machine to make $tag from"
  version=$(rustc --version | cut -d ' ' -f 2)
  [[ $tag == rust:"${version%.*}"-* ]] || die "$tag is wanted, but this machine's Rust is $version"
  sysroot=$(rustc --print sysroot)
  mkdir "$scratch/toolchain" "$scratch/certificates"
  cp -r "$sysroot/bin" "$sysroot/lib" "$scratch/toolchain/"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$scratch/certificates" {} + 2>/dev/null || true
  dockerfile "$@" rust
}

# --- all ---------------------------------------------------------------------

# Where no registry can be reached this fails within a second.
pull() { docker pull -q "$1" >/dev/null 2>&1; }

builder_of() {
  case $1 in
    debian:"$SUITE"*) echo debian ;;
    rust:*-"$SUITE") echo rust ;;
    postgres:*) echo postgres ;;
    redis:*) echo redis ;;
    mongo:*) echo mongo ;;
    apache/kafka:*) echo kafka ;;
    *) die "no stand-in is known for $1" ;;
  esac
}

SCRATCH=
stand_in() {
  local image=$1 builder began=$SECONDS
  builder=$(builder_of "$image")
  say "$image: building a stand-in"
  SCRATCH=$(mktemp -d "$CACHE/standin.XXXXXX")
  "$builder" "$SCRATCH" "$image"
  rm -rf "$SCRATCH"
  say "$image: $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB after $((SECONDS - began)) s"
}

# Debian comes first in images(), and the others build on it.
provide() {
  local image
  for image in $(images); do
    has_image "$image" || pull "$image" || stand_in "$image"
  done
}

# rebuild IMAGE...: these, or all.
rebuild() {
  local image
  # shellcheck disable=SC2046 # names have no spaces
  (($#)) || set -- $(images)
  for image in "$@"; do stand_in "$image"; done
}

cleanup() {
  [[ -z $SCRATCH ]] || rm -rf "$SCRATCH"
  stop_daemon
}

main() {
  case ${1:-} in
    -h | --help) usage; return ;;
    '' | --rebuild | --list) ;;
    *) usage >&2; exit 2 ;;
  esac
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  start_daemon
  mkdir -p "$CACHE"
  case ${1:-} in
    '') provide ;;
    --rebuild) rebuild "${@:2}" ;;
  esac
  list
}

main "$@"
