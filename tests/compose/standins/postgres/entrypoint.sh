#!/usr/bin/env bash
# Prepares the volume on first start, as the public image does, then runs the command as the user postgres.
set -euo pipefail

# Single-user mode: no server listens before role and database are there.
initialise() {
  local user=${POSTGRES_USER:-postgres} database
  : "${POSTGRES_PASSWORD:?must be set}"
  database=${POSTGRES_DB:-$user}
  initdb --username="$user" --pwfile=<(echo "$POSTGRES_PASSWORD") --encoding=UTF8 --locale=C.UTF-8 \
    --auth-local=trust --auth-host=scram-sha-256 -D "$PGDATA"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  [[ $database == postgres ]] || postgres --single -D "$PGDATA" postgres <<<"CREATE DATABASE \"$database\""
}

if ((EUID == 0)); then
  chown postgres:postgres "$PGDATA"
  chmod 0700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
[[ -s $PGDATA/PG_VERSION ]] || initialise
exec "$@"
