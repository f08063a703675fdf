#!/usr/bin/env bash
# The first hour of a user, against a running platform, with real clients. Prints what it does and what it sees.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: demo.sh [--help]

Runs the tour of the README against a running platform: login, template, device, readings over MQTT (password and
certificate), actuation, history, ticket websocket, socket.io, and a second tenant that sees nothing of the first.

Environment:
  GATEWAY          URL of the gateway           (http://127.0.0.1:8000)
  MQTT_HOST        host of the MQTT listeners   (127.0.0.1)
  MQTT_PORT        user and password            (1883)
  MQTTS_PORT       client certificates          (8883)
  ADMIN_PASSWORD   password of user admin       (asked for when it is not set)
TEXT
}

HERE=$(cd "$(dirname "$0")" && pwd)
CLIENTS=$HERE/../clients
GATEWAY=${GATEWAY:-http://127.0.0.1:8000}
MQTT_HOST=${MQTT_HOST:-127.0.0.1}
MQTT_PORT=${MQTT_PORT:-1883}
MQTTS_PORT=${MQTTS_PORT:-8883}
CACHE=${TATAMI_CACHE:-$HOME/.cache/tatami}
export NODE_PATH=${TATAMI_TEST_NODE_PATH:-$CACHE/node/node_modules}
WORK=
TOKEN=
ANSWER=
STATUS=

step() { printf '\n\033[1m%s\033[0m\n' "== $*"; }
say() { printf '   %s\n' "$*"; }
fail() { printf '   FAILED: %s\n' "$*" >&2; exit 1; }

# call METHOD PATH [BODY]: sends a request with the current token and keeps status and answer.
call() {
  local method=$1 path=$2 body=${3-}
  local arguments=(-sS -X "$method" -o "$WORK/answer" -w '%{http_code}')
  [ -z "$TOKEN" ] || arguments+=(-H "Authorization: Bearer $TOKEN")
  [ -z "$body" ] || arguments+=(-H 'Content-Type: application/json' -d "$body")
  STATUS=$(curl "${arguments[@]}" "$GATEWAY$path")
  ANSWER=$(cat "$WORK/answer")
}

# expect STATUS METHOD PATH [BODY]: like call, and fails when the status is another.
expect() {
  local wanted=$1
  shift
  call "$@"
  [ "$STATUS" = "$wanted" ] || fail "$1 $2 answered $STATUS instead of $wanted: $ANSWER"
  say "$1 $2 -> $STATUS $(cut -c1-140 "$WORK/answer")"
}

# json EXPRESSION: a value out of the last answer, as Python writes it.
json() { python3 -c 'import json, sys; a = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$WORK/answer" "$1"; }

# eventually DESCRIPTION COMMAND...: tries until the command succeeds, for 30 seconds at most.
eventually() {
  local what=$1 deadline=$((SECONDS + 30))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "waited 30 s in vain for: $what (last answer: $STATUS $ANSWER)"
    sleep 0.2
  done
}

# wait_for_line PATTERN FILE: waits until a program that runs beside us has printed something.
wait_for_line() { eventually "$1 in $2" grep -q -- "$1" "$2"; }

need() {
  local tool
  for tool in curl python3 openssl node mosquitto_pub mosquitto_sub; do
    command -v "$tool" >/dev/null || fail "$tool is missing; tests/engines/engines.sh fetch installs the clients"
  done
  [ -d "$NODE_PATH/ws" ] || fail "the node clients are missing; run tests/engines/engines.sh fetch"
}

login() {
  local user=$1 password=$2
  TOKEN=
  call POST /auth "{\"username\": \"$user\", \"passwd\": \"$password\"}"
  [ "$STATUS" = 200 ] || fail "login of $user answered $STATUS: $ANSWER"
  TOKEN=$(json 'a["jwt"]')
  say "POST /auth as $user -> $STATUS, a token of ${#TOKEN} characters"
}

history_has() {
  call GET "/history/device/$1/history?attr=temperature&lastN=10"
  [ "$STATUS" = 200 ] && [[ "$ANSWER" == *"$2"* ]]
}

# tour: what one tenant does, with the current token; sets DEVICE.
tour() {
  local tenant=$1
  step "$tenant: a template and a device"
  expect 200 POST /template '{"label": "thermometer", "attrs": [
    {"label": "temperature", "type": "dynamic", "value_type": "float"},
    {"label": "fan", "type": "actuator", "value_type": "float"}]}'
  local template
  template=$(json 'a["template"]["id"]')
  expect 200 POST /device "{\"label\": \"kitchen\", \"templates\": [$template]}"
  DEVICE=$(json 'a["devices"][0]["id"]')
  expect 200 GET "/device/$DEVICE"
  expect 200 GET /device

  step "$tenant: a password for the device, and an application that listens"
  expect 200 POST "/basic-auth/v1/devices/$DEVICE/basic-credentials"
  local username password
  username=$(json 'a["credentials"]["username"]')
  password=$(json 'a["credentials"]["password"]')
  expect 200 GET /kafka-ws/v1/ticket
  local ws="${GATEWAY/http/ws}/kafka-ws/v1/topics/$tenant.device-data?ticket=$(json 'a["ticket"]')"
  node "$CLIENTS/websocket.js" "$ws" 3 >"$WORK/$tenant.ws" &
  local ws_pid=$! version live_token socketio_pids=()
  for version in 2 4; do
    expect 200 GET /stream/socketio
    live_token=$(json 'a["token"]')
    node "$CLIENTS/socketio.js" "$version" "$GATEWAY" "$live_token" 2 >"$WORK/$tenant.sio$version" &
    socketio_pids+=($!)
  done
  for version in ws sio2 sio4; do wait_for_line connected "$WORK/$tenant.$version"; done

  step "$tenant: the device publishes with user and password (QoS 0 and 1)"
  local pub=(mosquitto_pub -h "$MQTT_HOST" -p "$MQTT_PORT" -i "demo-$tenant-$DEVICE" -u "$username" -P "$password" -t "$tenant:$DEVICE/attrs")
  "${pub[@]}" -q 1 -m '{"temperature": 21.5}' && say "mosquitto_pub -q 1 {\"temperature\": 21.5}: acknowledged"
  "${pub[@]}" -q 0 -m '{"temperature": 22.5}' && say "mosquitto_pub -q 0 {\"temperature\": 22.5}: sent"

  step "$tenant: the same device with a certificate of Tatami's authority"
  expect 200 GET /x509/v1/ca
  json 'a["caPem"]' >"$WORK/$tenant.ca.pem"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$tenant:$DEVICE" \
    -keyout "$WORK/$tenant.key" -out "$WORK/$tenant.csr" 2>/dev/null
  expect 201 POST /x509/v1/certificates "$(python3 -c '
import json, sys
print(json.dumps({"csr": open(sys.argv[1]).read(), "belongsTo": {"device": sys.argv[2]}}))' "$WORK/$tenant.csr" "$DEVICE")"
  json 'a["certificatePem"]' >"$WORK/$tenant.crt"
  local tls=(--cafile "$WORK/$tenant.ca.pem" --cert "$WORK/$tenant.crt" --key "$WORK/$tenant.key" -h "$MQTT_HOST" -p "$MQTTS_PORT")
  mosquitto_pub "${tls[@]}" -i "demo-tls-$DEVICE" -t "$tenant:$DEVICE/attrs" -q 1 -m '{"temperature": 23.5}'
  say "mosquitto_pub over TLS {\"temperature\": 23.5}: acknowledged"

  step "$tenant: the application sees it"
  local value
  for value in 21.5 22.5 23.5; do eventually "$value in the history" history_has "$DEVICE" "$value"; done
  say "history: $(cut -c1-200 "$WORK/answer")"
  wait "$ws_pid" || fail "the ticket websocket saw: $(cat "$WORK/$tenant.ws")"
  say "ticket websocket: $(grep -c attrs "$WORK/$tenant.ws") frames, the first: $(grep -m1 attrs "$WORK/$tenant.ws")"
  local pid
  for pid in "${socketio_pids[@]}"; do wait "$pid" || fail "socket.io saw: $(cat "$WORK/$tenant".sio*)"; done
  for version in 2 4; do
    grep -q "\"event\":\"$DEVICE\"" "$WORK/$tenant.sio$version" || fail "socket.io $version saw no event $DEVICE"
    say "socket.io-client $version.x: event $DEVICE: $(grep -m1 "\"event\":\"$DEVICE\"" "$WORK/$tenant.sio$version" | cut -c1-140)"
  done

  step "$tenant: an actuation reaches the device, with password and with certificate"
  stdbuf -oL mosquitto_sub -h "$MQTT_HOST" -p "$MQTT_PORT" -u "$username" -P "$password" -i "sub-$tenant-$DEVICE" \
    -t "$tenant:$DEVICE/config" -q 1 -C 1 -W 30 -d >"$WORK/$tenant.config" &
  local sub_pid=$!
  stdbuf -oL mosquitto_sub "${tls[@]}" -i "sub-tls-$DEVICE" -t "$tenant:$DEVICE/config" -q 1 -C 1 -W 30 -d >"$WORK/$tenant.config-tls" &
  local sub_tls_pid=$!
  wait_for_line Subscribed "$WORK/$tenant.config"
  wait_for_line Subscribed "$WORK/$tenant.config-tls"
  expect 200 PUT "/device/$DEVICE/actuate" '{"attrs": {"fan": 100}}'
  wait "$sub_pid" && wait "$sub_tls_pid" || fail "no actuation arrived"
  grep -q '{"fan":100}' "$WORK/$tenant.config" || fail "the device saw: $(cat "$WORK/$tenant.config")"
  say "mosquitto_sub on $tenant:$DEVICE/config: {\"fan\":100} (both)"
}

# strangers: the current token belongs to another tenant than the device; nothing of it may be seen.
strangers() {
  local tenant=$1 device=$2
  step "the other tenant sees nothing of $tenant"
  expect 404 GET "/device/$device"
  expect 404 PUT "/device/$device/actuate" '{"attrs": {"fan": 1}}'
  expect 404 GET "/history/device/$device/history?attr=temperature"
  expect 400 POST "/basic-auth/v1/devices/$device/basic-credentials"
}

platform_answers() {
  curl -s -o /dev/null "$GATEWAY/" || fail "nothing answers at $GATEWAY; start the platform with: make up"
}

ask_for_password() {
  [ -z "${ADMIN_PASSWORD-}" ] || return 0
  [ -t 0 ] || fail 'set ADMIN_PASSWORD to the password of user admin'
  read -rsp 'Password of user admin: ' ADMIN_PASSWORD
  echo
}

main() {
  case ${1-} in -h | --help) usage; exit 0 ;; esac
  need
  platform_answers
  ask_for_password
  WORK=$(mktemp -d)
  trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$WORK"' EXIT

  step "log in as admin"
  login admin "$ADMIN_PASSWORD"
  local admin_token=$TOKEN tenant
  tour admin
  local admin_device=$DEVICE

  tenant=t$(date +%s)
  step "a second user in a new tenant: $tenant"
  expect 200 POST /auth/user "{\"username\": \"user_$tenant\", \"service\": \"$tenant\", \"email\": \"$tenant@example.com\",
    \"name\": \"Second User\", \"profile\": \"admin\"}"
  login "user_$tenant" "$(json 'a[0]["user"].get("initialPassword") or a[0]["initialPassword"]')"
  tour "$tenant"
  local other_device=$DEVICE
  strangers admin "$admin_device"
  expect 200 GET /kafka-ws/v1/ticket
  node "$CLIENTS/websocket.js" "${GATEWAY/http/ws}/kafka-ws/v1/topics/admin.device-data?ticket=$(json 'a["ticket"]')" 1 10 >"$WORK/foreign" || true
  grep -q 4403 "$WORK/foreign" || fail "a socket of $tenant on admin's topic saw: $(cat "$WORK/foreign")"
  say "websocket on admin.device-data: $(cat "$WORK/foreign" | tail -1)"
  TOKEN=$admin_token
  strangers "$tenant" "$other_device"
  TOKEN=
  expect 401 GET /device
  printf '\nThe tour is complete: everything was seen as expected.\n'
}

main "$@"
