"""Publishes numbered readings at QoS 1 through broken connections, and keeps a list of what was acknowledged.

usage: publisher.py HOST PORT USERNAME PASSWORD TOPIC COUNT ACKNOWLEDGED_FILE [WINDOW] [RATE_PER_S]

The session is kept (clean session off), so whatever the server has not acknowledged is sent again after a
reconnection, with the DUP flag, as the protocol asks. A number is written to the file, a line each, when its PUBACK has
arrived. Exits with 0 when everything is acknowledged.
"""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt


def main() -> int:
    host, port, username, password, topic, count, acknowledged_file = sys.argv[1:8]
    window = int(sys.argv[8]) if len(sys.argv) > 8 else 20
    rate = float(sys.argv[9]) if len(sys.argv) > 9 else 0
    total = int(count)
    slots = threading.Semaphore(window)
    lock = threading.Lock()
    numbers: dict[int, int] = {}
    early: set[int] = set()
    done = threading.Event()
    written = 0

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=f"publisher-{username}", clean_session=False, protocol=mqtt.MQTTv311
    )
    client.username_pw_set(username, password)
    client.max_inflight_messages_set(window)
    client.max_queued_messages_set(0)
    client.reconnect_delay_set(min_delay=1, max_delay=1)

    with open(acknowledged_file, "w", encoding="ascii", buffering=1) as acknowledged:

        def record(number: int) -> None:
            nonlocal written
            acknowledged.write(f"{number}\n")
            written += 1
            slots.release()
            if written == total:
                done.set()

        def on_publish(_client, _data, packet, _reason, _properties) -> None:
            with lock:
                if packet in numbers:
                    record(numbers.pop(packet))
                else:
                    early.add(packet)

        client.on_publish = on_publish
        while True:
            try:
                client.connect(host, int(port), keepalive=20)
                break
            except OSError:
                time.sleep(0.2)
        client.loop_start()
        for number in range(total):
            slots.acquire()
            with lock:
                info = client.publish(topic, json.dumps({"number": number}), qos=1)
                if info.mid in early:
                    early.discard(info.mid)
                    record(number)
                else:
                    numbers[info.mid] = number
            if rate:
                time.sleep(1 / rate)
        finished = done.wait(timeout=300)
        client.disconnect()
        client.loop_stop()
    print(json.dumps({"published": total, "acknowledged": written}))
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
