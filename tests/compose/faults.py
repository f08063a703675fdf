"""Stops and kills containers of the running stack in the middle of QoS 1 publishing, and counts what was lost.

usage: faults.py PROJECT PYTHON STATE_FILE          stops each service, kills persister, agent and engines, checks
       faults.py PROJECT PYTHON STATE_FILE --again  finds the same devices and readings again (after down and up)

PYTHON is an interpreter that has paho-mqtt, for tests/clients/publisher.py. The password of admin is in ADMIN_PASSWORD.
A fault has a device of its own, so that its readings can be told from all others.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass

GATEWAY = "http://127.0.0.1:8000"
PUBLISHER = pathlib.Path(__file__).resolve().parent.parent / "clients" / "publisher.py"
SERVICES = [
    *("gateway", "auth", "device-manager", "data-broker", "persister"),
    *("history", "kafka-ws", "iot-agent-mqtt", "x509-identity"),
]
KILLED = ["persister", "iot-agent-mqtt", "kafka", "mongodb", "postgres", "redis", "kafka"]
COUNT = 3000
RATE_PER_S = 500
STOP_LIMIT_S = 15
HEALTH_LIMIT_S = 120
STORE_LIMIT_S = 60


class Failure(Exception):
    """What was expected did not happen."""


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def until(what: str, limit_s: float, condition) -> float:
    """Waits for a condition, and returns how many seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            raise Failure(f"waited {limit_s:.0f} s in vain for: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


@dataclass
class Containers:
    """The containers of a Compose project, by the names of their services."""

    project: str

    def id_of(self, service: str) -> str:
        label = "label=com.docker.compose"
        return docker("ps", "-aq", "--filter", f"{label}.project={self.project}", "--filter", f"{label}.service={service}")

    def state(self, service: str, expression: str) -> str:
        return docker("inspect", "-f", "{{.State." + expression + "}}", self.id_of(service))

    def await_health(self, service: str) -> float:
        return until(f"health of {service}", HEALTH_LIMIT_S, lambda: self.state(service, "Health.Status") == "healthy")

    def stop(self, service: str) -> str:
        """Asks it to end, as `docker stop` does, and starts it again."""
        began = time.monotonic()
        docker("stop", "--time", "40", self.id_of(service))
        took, code = time.monotonic() - began, self.state(service, "ExitCode")
        if code != "0" or took > STOP_LIMIT_S:
            raise Failure(f"{service} ended with {code} after {took:.1f} s")
        docker("start", self.id_of(service))
        return f"exit {code} after {took:.1f} s"

    def kill(self, service: str) -> str:
        """SIGKILL from outside, after which Docker itself restarts the container; only root may do that."""
        if os.geteuid() == 0:
            before = self.state(service, "StartedAt")
            os.kill(int(self.state(service, "Pid")), signal.SIGKILL)
            until(f"restart of {service}", 30, lambda: self.state(service, "StartedAt") != before)
            return "killed, restarted by Docker"
        docker("kill", self.id_of(service))
        docker("start", self.id_of(service))
        return "killed and started"


class Api:
    """A user of the gateway."""

    def __init__(self) -> None:
        self.token = ""
        self.log_in()

    def log_in(self) -> None:
        self.token = self.call("POST", "/auth", {"username": "admin", "passwd": os.environ["ADMIN_PASSWORD"]})["jwt"]

    def call(self, method: str, path: str, body=None):
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(GATEWAY + path, content, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Failure(f"{method} {path} answered {error.code}: {error.read(200)!r}") from error

    def new_device(self, label: str) -> tuple[str, dict]:
        attribute = {"label": "number", "type": "dynamic", "value_type": "integer"}
        template = self.call("POST", "/template", {"label": label, "attrs": [attribute]})["template"]["id"]
        device = self.call("POST", "/device", {"label": label, "templates": [template]})["devices"][0]["id"]
        return device, self.call("POST", f"/basic-auth/v1/devices/{device}/basic-credentials")["credentials"]

    def stored(self, device: str) -> Counter:
        """How often each number is in the history."""
        samples = self.call("GET", f"/history/device/{device}/history?attr=number&lastN=0") or []
        return Counter(int(sample["value"]) for sample in samples)


def fault(label: str, api: Api, python: str, strike) -> dict:
    """Publishes, strikes after a third of the messages, and checks what the history has in the end."""
    device, credentials = api.new_device(label)
    with tempfile.TemporaryDirectory() as folder:
        acknowledged = pathlib.Path(folder, "acknowledged")
        acknowledged.touch()
        arguments = ["127.0.0.1", "1883", credentials["username"], credentials["password"], f"admin:{device}/attrs"]
        arguments += [str(COUNT), str(acknowledged), "50", str(RATE_PER_S)]
        publisher = subprocess.Popen([python, PUBLISHER, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            until("a third of the acknowledgements", 60, lambda: acknowledged.read_text().count("\n") >= COUNT // 3)
            outcome = strike()
            printed, _ = publisher.communicate(timeout=180)
        finally:
            publisher.kill()
        if publisher.returncode:
            raise Failure(f"{label}: the publisher ended with {publisher.returncode}: {printed}")
        numbers = {int(line) for line in acknowledged.read_text().split()}
    check(label, api, device, numbers, outcome)
    return {"label": label, "device": device, "numbers": len(numbers)}


def check(label: str, api: Api, device: str, acknowledged: set[int], outcome: str) -> None:
    stored: Counter = Counter()

    def all_there() -> bool:
        nonlocal stored
        try:
            stored = api.stored(device)
        except (Failure, OSError):  # what was struck may still be starting
            return False
        return acknowledged <= stored.keys()

    try:
        waited = until(f"{label}: all readings in the history", STORE_LIMIT_S, all_there)
    except Failure as failure:
        raise Failure(f"{failure}; missing {len(acknowledged - stored.keys())} of {len(acknowledged)}") from failure
    twice = sum(count > 1 for count in stored.values())
    counted = f"acknowledged {len(acknowledged)}, lost {len(acknowledged - stored.keys())}, twice {twice}"
    print(f"  {label}: {outcome}; {counted}; complete after {waited:.1f} s", flush=True)
    if twice:
        raise Failure(f"{label}: {twice} readings are stored twice")


def strike_all(containers: Containers, api: Api, python: str) -> list[dict]:
    done = []
    for verb, services in ("stop", SERVICES), ("kill", KILLED):
        for service in services:

            def strike(verb=verb, service=service) -> str:
                outcome = getattr(containers, verb)(service)
                return f"{outcome}, healthy again after {containers.await_health(service):.1f} s"

            done.append(fault(f"{verb} {service}", api, python, strike))
            for other in SERVICES:
                containers.await_health(other)
    return done


def find_again(api: Api, done: list[dict]) -> None:
    for one in done:
        if (api.call("GET", f"/device/{one['device']}") or {}).get("label") != one["label"]:
            raise Failure(f"the device of '{one['label']}' is gone")
        found = len(api.stored(one["device"]))
        if found != one["numbers"]:
            raise Failure(f"the history of '{one['label']}' has {found} of {one['numbers']} readings")
    print(f"  {len(done)} devices and {sum(one['numbers'] for one in done)} readings are there again")


def main() -> int:
    project, python, state = sys.argv[1:4]
    state_file = pathlib.Path(state)
    try:
        api = Api()
        if "--again" in sys.argv[4:]:
            find_again(api, json.loads(state_file.read_text()))
        else:
            state_file.write_text(json.dumps(strike_all(Containers(project), api, python)))
    except Failure as failure:
        print(f"  FAILED: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
