#!/usr/bin/env bash
# Uses each engine by its service name: writes something in `write` mode, finds it again in `read` mode.
set -euo pipefail

MODE=${1:-write}
export PGPASSWORD=${POSTGRES_PASSWORD:-tatami}
DATABASE=postgresql://tatami@postgres:5432/tatami

fail() { echo "check-engines: $*" >&2; exit 1; }
expect() { [[ $2 == "$3" ]] || fail "$1 answered '$2' instead of '$3'"; echo "  $1: $3"; }

# Topics are not made on demand, so that comes first; an answer means that the controller works too.
create_topic() {
  python3 - "$1" <<'PY'
import sys
from confluent_kafka.admin import AdminClient, NewTopic
admin = AdminClient({"bootstrap.servers": "kafka:9092"})
for future in admin.create_topics([NewTopic(sys.argv[1], 1, 1)]).values():
    future.result(10)
PY
}

mongo() {
  python3 - "$1" <<'PY'
import sys, pymongo
database = pymongo.MongoClient("mongodb://mongodb:27017", serverSelectionTimeoutMS=5000).check
database.client.admin.command("ping")
if sys.argv[1] == "write":
    database.readings.insert_one({"_id": 1, "value": "kept"})
print(database.readings.find_one({"_id": 1})["value"])
PY
}

if [[ $MODE == write ]]; then
  create_topic check
  echo kept | kcat -q -P -b kafka:9092 -t check -X acks=all
  psql -qd "$DATABASE" -c "CREATE TABLE kept AS SELECT 'kept'::text AS value"
  redis-cli -h redis set check kept >/dev/null
fi

expect kafka "$(kcat -q -C -b kafka:9092 -t check -o beginning -e)" kept
expect postgres "$(psql -Atd "$DATABASE" -c 'SELECT value FROM kept')" kept
expect mongodb "$(mongo "$MODE")" kept
expect redis "$(redis-cli -h redis get check)" kept
