#!/usr/bin/env bash
# Runs the command as the user mongodb; like the public image, lets mongod listen to other containers.
set -euo pipefail
chown mongodb:mongodb /data/db
if [[ $1 == mongod ]]; then set -- "$@" --bind_ip_all; fi
exec setpriv --reuid=mongodb --regid=mongodb --init-groups -- "$@"
