"""Publishes numbered readings at QoS 1 through broken connections, and keeps a list of what was acknowledged.

usage: publisher.py HOST PORT USERNAME PASSWORD TOPIC COUNT ACKNOWLEDGED_FILE [WINDOW] [RATE_PER_S]

The session is kept (clean session off), so whatever the server has not acknowledged is sent again after a
reconnection, with the DUP flag, as the protocol asks. A number is written to the file, a line each, when its PUBACK has
arrived. Exits with 0 when everything is acknowledged.
"""

import json
import queue
import sys
import time

if {"-h", "--help"} & set(sys.argv):
    print(__doc__)
    sys.exit(0)
try:
    import paho.mqtt.client as mqtt
except ImportError:
    sys.exit("paho-mqtt is missing; ~/.cache/tatami/python/bin/python has it after: tests/engines/engines.sh fetch")

PATIENCE_S = 120


def main() -> int:
    if len(sys.argv) < 8:
        print(__doc__, file=sys.stderr)
        return 2
    host, port, username, password, topic, count, acknowledged_file = sys.argv[1:8]
    window = int(sys.argv[8]) if len(sys.argv) > 8 else 20
    rate = float(sys.argv[9]) if len(sys.argv) > 9 else 0
    total = int(count)

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=f"publisher-{username}", clean_session=False, protocol=mqtt.MQTTv311
    )
    client.username_pw_set(username, password)
    client.max_inflight_messages_set(window)
    client.max_queued_messages_set(0)
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    # The callback runs under locks of the client, so it only hands the packet identifier over.
    acknowledged_packets: queue.SimpleQueue[int] = queue.SimpleQueue()
    client.on_publish = lambda _client, _data, packet, _reason, _properties: acknowledged_packets.put(packet)
    while True:
        try:
            client.connect(host, int(port), keepalive=20)
            break
        except OSError:
            time.sleep(0.2)
    client.loop_start()

    in_flight: dict[int, int] = {}
    written = 0
    with open(acknowledged_file, "w", encoding="ascii", buffering=1) as acknowledged:
        for number in range(total):
            in_flight[client.publish(topic, json.dumps({"number": number}), qos=1).mid] = number
            while in_flight and (len(in_flight) >= window or number == total - 1):
                try:
                    packet = acknowledged_packets.get(timeout=PATIENCE_S)
                except queue.Empty:
                    print(json.dumps({"published": number + 1, "acknowledged": written}))
                    return 1
                acknowledged.write(f"{in_flight.pop(packet)}\n")
                written += 1
            if rate:
                time.sleep(1 / rate)
    client.disconnect()
    client.loop_stop()
    print(json.dumps({"published": total, "acknowledged": written}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
