# shellcheck shell=bash
# Sourced by the scripts beside it: messages, the tools they need, and a Docker daemon to work with.

# Debian keeps servers in sbin, which an ordinary user's PATH lacks.
PATH="$PATH:/usr/sbin:/sbin"

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck disable=SC2034 # for those who source this
ROOT=$(cd "$HERE/../.." && pwd -P)
CACHE=${TATAMI_CACHE:-$HOME/.cache/tatami}

say() { printf 'compose: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- packages ----------------------------------------------------------------

# Debian starts a server as soon as it is installed. While this policy is in place it does not; a policy the machine
# already had comes back.
POLICY=/usr/sbin/policy-rc.d
forbid_autostart() {
  allow_autostart # repairs what an interrupted run left behind
  if [[ -e $POLICY ]]; then mv "$POLICY" "$POLICY.before-tatami-compose"; fi
  printf '#!/bin/sh\n# tatami-test-compose\nexit 101\n' >"$POLICY"
  chmod +x "$POLICY"
}

allow_autostart() {
  if grep -qs '^# tatami-test-compose$' "$POLICY"; then rm -f "$POLICY"; fi
  if [[ -e $POLICY.before-tatami-compose ]]; then mv "$POLICY.before-tatami-compose" "$POLICY"; fi
}

apt_install() (
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update
  # Another script of this kind may be installing too; only one may hold the policy.
  exec {lock}>"$CACHE/lock"
  flock "$lock"
  trap allow_autostart EXIT
  forbid_autostart
  apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
  # The policy only covers the installation; without this it starts at next boot.
  if [[ " $* " == *" docker.io "* ]] && have systemctl; then
    systemctl --quiet disable docker.service docker.socket || true
  fi
)

# require PROGRAM PACKAGE ...: pairs; installs what is missing, or says how.
require() {
  local missing=()
  while (($#)); do
    have "$1" || missing+=("$2")
    shift 2
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)) || ! have apt-get; then
    die "missing; install with: apt-get install --no-install-recommends ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  mkdir -p "$CACHE"
  quietly compose-apt.log apt_install "${missing[@]}"
}

# --- the daemon --------------------------------------------------------------

# Both set while a daemon of ours runs.
DAEMON_DIR=
DAEMON_PID=

daemon_answers() { docker version >/dev/null 2>&1; }

# Uses the daemon that runs, else starts a private one: its own socket and its own images, so that nothing of an
# installation that is switched off wakes up with it.
start_daemon() {
  require docker docker.io
  daemon_answers && return
  ((EUID == 0)) || die "no Docker daemon answers, and only root can start one"
  require dockerd docker.io
  mkdir -p "$CACHE/docker"
  DAEMON_DIR=$(mktemp -d /tmp/tatami-docker.XXXXXX) # a short path: the names of sockets have a limit
  export DOCKER_HOST=unix://$DAEMON_DIR/docker.sock
  say "starting a Docker daemon (log: $CACHE/docker.log)"
  # A session of its own, so that Ctrl-C leaves it standing for the clean-up. The pid file is not in the private
  # folder: through it a second daemon on the same images refuses to start.
  setsid dockerd --host "$DOCKER_HOST" --data-root "$CACHE/docker" --exec-root "$DAEMON_DIR/exec" \
    --pidfile "$CACHE/docker.pid" </dev/null >"$CACHE/docker.log" 2>&1 &
  DAEMON_PID=$!
  await_daemon
}

await_daemon() {
  local deadline=$((SECONDS + 60))
  until daemon_answers; do
    if ((SECONDS >= deadline)) || ! kill -0 "$DAEMON_PID" 2>/dev/null; then
      tail -n 5 "$CACHE/docker.log" >&2
      die "the Docker daemon does not start"
    fi
    sleep 0.2
  done
}

# Stops the daemon only if start_daemon started it.
stop_daemon() {
  [[ -n $DAEMON_PID ]] || return 0
  say "stopping the Docker daemon"
  kill "$DAEMON_PID" 2>/dev/null || true
  wait "$DAEMON_PID" || true
  rm -rf "$DAEMON_DIR"
  DAEMON_PID=
}

# Compose 2 is a plugin, Compose 1 a program; COMPOSE, if set, decides.
COMPOSE=${COMPOSE:-}
require_compose() {
  [[ -z $COMPOSE ]] || return 0
  if docker compose version >/dev/null 2>&1; then
    COMPOSE="docker compose"
  else
    require docker-compose docker-compose
    COMPOSE=docker-compose
  fi
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# quietly LOG COMMAND...: silent while all goes well; on failure, the end of what it printed.
quietly() {
  local log=$CACHE/$1 status
  shift
  # Not under `if`: that would switch off `set -e` inside the command.
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  ((status == 0)) && return
  tail -n 30 "$log" >&2
  die "failed: $* (all of it: $log)"
}

# The classic builder is all the images need, and all some machines have.
build() { DOCKER_BUILDKIT=0 quietly docker-build.log docker build "$@"; }
