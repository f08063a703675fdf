#!/usr/bin/env bash
# Tries docker-compose.yml for real: builds, starts, waits for health, runs the demo, takes everything down.
# See usage() below, or run with --help.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
Runs the platform from docker-compose.yml, then the demo against it.

  run.sh             build the image, start everything, run tests/demo/demo.sh, take everything down
  run.sh --no-build  the same with the image `tatami` as it is
  run.sh --serve     instead of the demo, leave everything running until Ctrl-C
  run.sh --faults    instead of the demo, stop each service and kill the engines under load, and count what was
                     lost; then replace all containers, and find the data again
  run.sh --engines   only Kafka, PostgreSQL, MongoDB and Redis: use each from another container, replace their
                     containers, and find the data again

The stack is a Compose project of its own, tatami-test: no data of a stack you use is touched, but the ports are the
same (8000, 1883, 8883). Images come from a registry or, where none can be reached, from standins.sh beside this
script. If no Docker daemon answers, a private one is started, and stopped at the end.

Environment:
  ADMIN_PASSWORD   the user admin's password in the stack under test (default admin)
  HEALTH_SECONDS   how long everything may take to become healthy (default 300)
  COMPOSE          the Compose to use (default: `docker compose` if there is one, else docker-compose)
  TATAMI_CACHE     where downloads, logs and a private daemon's images are kept (default ~/.cache/tatami)
TEXT
}

PROJECT=tatami-test
ENGINES=(kafka postgres mongodb redis)
HEALTH_SECONDS=${HEALTH_SECONDS:-300}

STACK=(-p "$PROJECT" -f "$ROOT/docker-compose.yml")
# shellcheck disable=SC2086 # COMPOSE may be two words
stack() { $COMPOSE "${STACK[@]}" "$@"; }

# Set here, so that a developer's .env does not decide what is tested.
fix_settings() {
  export TATAMI_BIND=127.0.0.1
  export TATAMI_AUTH__ADMIN_PASSWORD=${ADMIN_PASSWORD:-admin}
  export TATAMI_INTERNAL__SECRET=for-this-test-only-and-longer-than-32-characters
  export TATAMI_POSTGRES_PASSWORD=for-this-test-only
  export TATAMI_IOT_AGENT_MQTT__HOSTNAMES='["localhost", "127.0.0.1"]'
}

# --- start and health --------------------------------------------------------

# One line per container: its service, then healthy, starting, unhealthy, or what else it is.
states() {
  docker ps -aq --filter "label=com.docker.compose.project=$PROJECT" | xargs -r docker inspect -f \
    '{{index .Config.Labels "com.docker.compose.service"}} {{if and .State.Running (not .State.Restarting)}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' \
    2>/dev/null | sort || true
}

# start COUNT SERVICE...: returns when COUNT containers are healthy. `up` waits too, for what others depend on, but
# says nothing meanwhile; so it runs beside the display.
start() {
  local wanted=$1 began=$SECONDS
  shift
  # shellcheck disable=SC2086 # COMPOSE may be two words
  (exec $COMPOSE "${STACK[@]}" up -d --no-build "$@" >"$CACHE/compose-up.log" 2>&1 </dev/null) &
  UP=$!
  await_health "$wanted" "$began"
  await_up
  say "all healthy after $((SECONDS - began)) s"
}

await_health() {
  local wanted=$1 began=$2 now healthy waiting before=
  while true; do
    now=$(states)
    healthy=$(grep -c ' healthy$' <<<"$now" || true)
    waiting=$(awk 'NF && $2 != "healthy" {printf "%s%s %s", sep, $1, $2; sep = ", "}' <<<"$now")
    if [[ $healthy:$waiting != "$before" ]]; then
      say "$((SECONDS - began)) s: $healthy of $wanted healthy${waiting:+; $waiting}"
      before=$healthy:$waiting
    fi
    ((healthy < wanted)) || return 0
    ((SECONDS - began < HEALTH_SECONDS)) || fail_start "not healthy after $HEALTH_SECONDS s"
    # When it has ended well, all containers run, and only the last ones' health is to come.
    if [[ -n $UP ]] && ! kill -0 "$UP" 2>/dev/null; then await_up; fi
    sleep 1
  done
}

await_up() {
  [[ -n $UP ]] || return 0
  wait "$UP" || fail_start "docker-compose up failed"
  UP=
}

fail_start() {
  local service state
  tail -n 20 "$CACHE/compose-up.log" >&2
  while read -r service state; do
    [[ -n $service && $state != healthy && $state != created ]] || continue
    say "--- $service is $state; its last lines:"
    stack logs --no-color --tail=30 "$service" >&2 || true
  done < <(states)
  die "$*"
}

# --- the tests ---------------------------------------------------------------

# Data must outlive containers: they are removed and made anew, the volumes stay.
test_engines() {
  build -t tatami-test-tools "$HERE/tools"
  start "${#ENGINES[@]}" "${ENGINES[@]}"
  check_engines write
  say "replacing the containers"
  quietly compose-down.log stack rm -fsv
  start "${#ENGINES[@]}" "${ENGINES[@]}"
  check_engines read
}

check_engines() {
  say "using the engines from another container: $1"
  docker run --rm --network "${PROJECT}_default" -e POSTGRES_PASSWORD="$TATAMI_POSTGRES_PASSWORD" \
    tatami-test-tools check-engines.sh "$1"
}

build_image() {
  local began=$SECONDS
  say "building the image; the first time takes a quarter of an hour (log: $CACHE/docker-build.log)"
  quietly docker-build.log stack build
  remove_superseded
  say "tatami: $(($(docker image inspect -f '{{.Size}}' tatami) / 1000000)) MB after $((SECONDS - began)) s"
}

# The classic builder's cache is untagged images, gigabytes each for a compiled workspace. Those that the last build
# made no use of go; in a daemon that is not ours, they may be someone else's.
remove_superseded() {
  [[ -n $DAEMON_DIR ]] || return 0
  docker images -q --filter dangling=true |
    grep -vxFf <(sed -nE 's/^ ---> ([0-9a-f]{12})$/\1/p' "$CACHE/docker-build.log") |
    xargs -r docker rmi >/dev/null 2>&1 || true
}

start_platform() {
  [[ $BUILD == no ]] || build_image
  start_services
}

start_services() {
  local services
  services=$(stack config --services)
  start "$(wc -l <<<"$services")"
}

DEMO=$ROOT/tests/demo/demo.sh
demo() {
  GATEWAY=http://127.0.0.1:8000 MQTT_HOST=127.0.0.1 MQTT_PORT=1883 MQTTS_PORT=8883 \
    ADMIN_PASSWORD=$TATAMI_AUTH__ADMIN_PASSWORD "$DEMO"
}

# Containers are stopped, killed and at last removed and made anew, the volumes stay.
PYTHON=$CACHE/python/bin/python
faults() {
  local state=$CACHE/compose-faults.json
  export ADMIN_PASSWORD=$TATAMI_AUTH__ADMIN_PASSWORD
  say "stopping and killing containers in the middle of publishing"
  "$PYTHON" "$HERE/faults.py" "$PROJECT" "$PYTHON" "$state"
  say "replacing the containers"
  quietly compose-down.log stack down -t 40
  start_services
  "$PYTHON" "$HERE/faults.py" "$PROJECT" "$PYTHON" "$state" --again
}

serve() {
  say "http://127.0.0.1:8000, user admin, password $TATAMI_AUTH__ADMIN_PASSWORD; Ctrl-C ends it"
  [[ -z ${DOCKER_HOST:-} ]] || say "to look inside: export DOCKER_HOST=$DOCKER_HOST"
  while true; do sleep 1; done
}

# --- command line ------------------------------------------------------------

UP=
TEST=demo
BUILD=yes

parse() {
  local argument
  for argument in "$@"; do
    case $argument in
      --engines) TEST=engines ;;
      --faults) TEST=faults ;;
      --serve) TEST=serve ;;
      --no-build) BUILD=no ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
}

take_down() { quietly compose-down.log stack down -v --remove-orphans -t 20; }

# Whatever happened: no containers, no volumes, and no daemon that was not there before. A signal that comes twice
# must not leave this half done.
cleanup() {
  trap '' INT TERM HUP
  # While it runs it makes new containers.
  if [[ -n $UP ]] && kill "$UP" 2>/dev/null; then wait "$UP" || true; fi
  say "taking everything down"
  (take_down) || true
  stop_daemon
}

main() {
  parse "$@"
  # Said now, not after a build of many minutes.
  [[ $TEST != demo || -x $DEMO ]] || die "there is no $DEMO to run"
  mkdir -p "$CACHE"
  fix_settings
  require_compose
  trap stop_daemon EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  start_daemon
  trap cleanup EXIT
  take_down # an interrupted run may have left something
  "$HERE/standins.sh"
  [[ $TEST != @(demo|faults) ]] || "$ROOT/tests/engines/engines.sh" fetch # their clients
  case $TEST in
    engines) test_engines ;;
    demo) start_platform; demo ;;
    faults) start_platform; faults ;;
    serve) start_platform; serve ;;
  esac
  say "passed"
}

main "$@"
