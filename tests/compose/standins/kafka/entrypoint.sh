#!/usr/bin/env bash
# Writes server.properties from the environment, formats the volume if it is new, and becomes the broker.
set -euo pipefail

PROPERTIES=/opt/kafka/config/server.properties

# KAFKA_LOG_DIRS is log.dirs, as in the public image; what steers the Java machine is no property.
properties() {
  local name key
  for name in "${!KAFKA_@}"; do
    case $name in
      KAFKA_HEAP_OPTS | KAFKA_OPTS) continue ;;
    esac
    key=${name#KAFKA_}
    key=${key,,}
    echo "${key//_/.}=${!name}"
  done
}

# At level info this logger would print every setting.
kafka() {
  local log=-Dorg.slf4j.simpleLogger
  # shellcheck disable=SC2086 # options are words
  exec java ${KAFKA_HEAP_OPTS:-} ${KAFKA_OPTS:-} -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -cp '/opt/kafka/libs/*' \
    "$log.showDateTime=true" "$log.dateTimeFormat=HH:mm:ss.SSS" \
    "$log.log.org.apache.kafka.common.config.AbstractConfig=warn" "$@"
}

properties >"$PROPERTIES"
(kafka kafka.tools.StorageTool format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$PROPERTIES")
kafka kafka.Kafka "$PROPERTIES"
