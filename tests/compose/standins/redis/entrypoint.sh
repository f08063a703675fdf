#!/usr/bin/env bash
# Runs the command as the user redis. Protected mode, which the public image leaves out too, refuses other containers.
set -euo pipefail
chown redis:redis .
if [[ $1 == redis-server ]]; then set -- "$@" --protected-mode no; fi
exec setpriv --reuid=redis --regid=redis --init-groups -- "$@"
