"""Sends the same requests to Apache Kafka and to Streamline, in every version, and compares the responses field by field.

    python3 differential.py --server PROGRAM --work FOLDER --jar JAR [API…]

The requests are in differential/cases.py, the intended differences in differential/differences.toml. A difference that is not
listed there fails the test, and so does a listed one that does not occur.
"""

import argparse
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import time
import tomllib
import uuid
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "differential"))

from cases import CASES, SOME_ID  # noqa: E402
from messages import Schemas  # noqa: E402
from servers import Failed, Java, Kafka, Streamline  # noqa: E402

HERE = Path(__file__).resolve().parent / "differential"
PATIENCE_S = 30
# Time for a new topic to appear in the metadata. One that does not is reported by what is asked of it.
CREATION_S = 3
# Fields whose values are of one server alone, such as its address.
OWN_VALUES = {
    "ThrottleTimeMs", "ErrorMessage", "Host", "Port", "ClusterId", "LogDir", "TotalBytes", "UsableBytes", "PartitionSize",
    "TransactionStartTimeMs", "LastTimestamp", "LogAppendTimeMs", "LastFetchTimestamp", "LastCaughtUpTimestamp",
    "FinalizedFeaturesEpoch", "Documentation", "CoordinatorEpoch", "BatchIndexErrorMessage",
}
# Fields of ids that a server chooses: compared is whether there is one.
CHOSEN_IDS = {"ProducerId", "SessionId", "MemberId", "Leader", "LeaderId", "MemberEpoch"}
# Fields that identify an element of an array.
KEYS = (
    "Name", "TopicName", "Topic", "TopicId", "ResourceName", "Key", "GroupId", "TransactionalId", "ApiKey", "PartitionIndex",
    "PartitionId", "Partition", "Index", "NodeId", "BrokerId", "EntityType",
)


class Closed(Exception):
    """The server closed the connection."""


class Side:
    """One of the two servers, and what it has answered so far."""

    def __init__(self, schemas, bootstrap):
        self.schemas = schemas
        self.address = bootstrap.rsplit(":", 1)
        self.socket = None
        self.correlation_id = 0
        self.ids = {}
        self.state = {}
        answer = self.call("ApiVersions", 3, {"ClientSoftwareName": "diff", "ClientSoftwareVersion": "1"})
        self.apis = {each["ApiKey"]: range(each["MinVersion"], each["MaxVersion"] + 1) for each in answer["ApiKeys"]}

    def call(self, api, version, body):
        """Sends a request and returns the response, or raises Closed."""
        if self.socket is None:
            self.socket = socket.create_connection((self.address[0], int(self.address[1])), PATIENCE_S)
        self.correlation_id += 1
        request = self.schemas.request(api, version, self.correlation_id, body)
        try:
            self.socket.sendall(struct.pack(">i", len(request)) + request)
            content = self.receive(struct.unpack(">i", self.receive(4))[0])
        except (ConnectionError, Closed):
            self.socket.close()
            self.socket = None
            raise Closed from None
        if struct.unpack(">i", content[:4])[0] != self.correlation_id:
            raise Failed(f"{api} {version}: the response has another correlation id")
        return self.schemas.response(api, version, content)

    def receive(self, count):
        content = b""
        while len(content) < count:
            part = self.socket.recv(count - len(content))
            if not part:
                raise Closed
            content += part
        return content

    def learn_ids(self):
        answer = self.call("Metadata", 12, {"Topics": None})
        self.ids = {each["Name"]: each["TopicId"] for each in answer["Topics"] if each["ErrorCode"] == 0}
        leaders = {each["Name"]: [one["LeaderId"] for one in each["Partitions"]] for each in answer["Topics"]}
        return {name for name, led in leaders.items() if led and min(led) >= 0}


class Context:
    """What the body of a request may depend on."""

    def __init__(self, side, version):
        self.version, self.state, self.side = version, side.state, side

    def id(self, topic):
        return self.side.ids.get(topic, SOME_ID)


class Plain:
    """Makes responses of two servers comparable."""

    def __init__(self, side):
        self.names = {identity: name for name, identity in side.ids.items()}
        self.out = {}

    def flatten(self, value, path, name):
        if name in OWN_VALUES:
            self.out[path] = "…"
        elif isinstance(value, dict):
            for key, each in value.items():
                self.flatten(each, f"{path}.{key}" if path else key, key)
        elif isinstance(value, list):
            self.array(value, path, name)
        elif isinstance(value, uuid.UUID):
            self.out[path] = self.names.get(value, "none" if value.int == 0 else "some id")
        elif name in CHOSEN_IDS:
            self.out[path] = value if value in (None, 0, -1, "") else "chosen"
        elif name == "Records":
            self.out[path] = batches(value)
        elif isinstance(value, bytes):
            self.out[path] = value.hex()
        else:
            self.out[path] = value

    def array(self, elements, path, name):
        if not elements or not isinstance(elements[0], dict):
            self.out[path] = sorted(map(str, elements))
            return
        seen = defaultdict(int)
        for element in elements:
            keys = [element[key] for key in KEYS if element.get(key) not in (None, "")]
            if "Entity" in element:
                keys = [",".join(sorted(f"{each['EntityType']}={each['EntityName']}" for each in element["Entity"]))]
            label = str(self.names.get(keys[0], keys[0])) if keys else "…"
            seen[label] += 1
            if seen[label] > 1:
                label += f"#{seen[label]}"
            self.flatten(element, f"{path}[{label}]", "")
        self.out[f"{path}.length"] = len(elements)


def batches(content):
    """Describes the batches of a fetched log, without what differs between servers."""
    found, at = [], 0
    content = content or b""
    while at + 61 <= len(content):
        base, size, epoch = struct.unpack(">qii", content[at : at + 16])
        attributes, last_delta = struct.unpack(">hi", content[at + 21 : at + 27])
        producer_epoch, sequence, count = struct.unpack(">hii", content[at + 51 : at + 61])
        payload = content[at + 61 : at + 12 + size].hex() if not attributes & 0x20 else "marker"
        found.append((base, epoch, attributes, last_delta, producer_epoch, sequence, count, payload))
        at += 12 + size
    return str(found)


def codes(value):
    """Returns all error codes in a response."""
    if isinstance(value, dict):
        return {value["ErrorCode"]} | set().union(*map(codes, value.values())) if "ErrorCode" in value else set().union(
            set(), *map(codes, value.values()))
    if isinstance(value, list):
        return set().union(set(), *map(codes, value))
    return set()


def ask(side, case, version):
    """Returns the flat response of one server; its connection may have been closed instead."""
    context = Context(side, version)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            response = side.call(case.api, version, case.body(context))
        except Closed:
            return {"connection": "closed"}
        except TimeoutError:
            side.socket.close()
            side.socket = None
            return {"connection": "no response"}
        is_ready = not codes(response) & set(case.not_yet) and case.until(response)
        if is_ready or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if case.after:
        case.after(context, response)
    plain = Plain(side)
    plain.flatten(response, "", "")
    return plain.out


def settle(sides, case):
    """Waits until both servers know the topics that a request has created."""
    for side in sides:
        deadline = time.monotonic() + CREATION_S
        while not set(case.created) <= side.learn_ids() and time.monotonic() < deadline:
            time.sleep(0.1)


def compare(sides, case):
    """Returns (version, path, Kafka's value, ours) of each field that differs."""
    kafka, ours = sides
    found = []
    key = kafka.schemas.requests[case.api].api_key
    for version in kafka.apis.get(key, ()):
        if version in case.versions and version in ours.apis.get(key, ()):
            one, other = ask(kafka, case, version), ask(ours, case, version)
            found += [(version, *difference) for difference in differences(one, other)]
    settle(sides, case)
    return found


def differences(one, other):
    """Returns (path, value, value) of what differs. An element of an array that only one side has is one difference."""
    found = {}
    for path in sorted(one.keys() | other.keys()):
        values = one.get(path, "absent"), other.get(path, "absent")
        if values[0] == values[1]:
            continue
        if "absent" in values:
            without = other if values[1] == "absent" else one
            for end in (match.end() for match in re.finditer(r"\]", path)):
                if not any(each.startswith(path[:end]) for each in without):
                    path = path[:end]
                    values = tuple("absent" if value == "absent" else "present" for value in values)
                    break
        found[path] = values
    return [(path, *values) for path, values in found.items()]


def missing(sides):
    """Returns the differences in the supported APIs themselves."""
    kafka, ours = sides
    found = []
    for key, versions in sorted(kafka.apis.items()):
        own = ours.apis.get(key)
        name = kafka.schemas.names[key]
        if own is None:
            found.append((name, "absent"))
        elif own != versions:
            found.append((name, f"{own.start}–{own.stop - 1} instead of {versions.start}–{versions.stop - 1}"))
    return found


class Intended:
    """The list of intended differences."""

    def __init__(self):
        self.entries = tomllib.loads((HERE / "differences.toml").read_text())["difference"]
        self.used = set()

    def covers(self, api, what, path):
        for number, entry in enumerate(self.entries):
            if all(re.fullmatch(entry.get(name, ".*"), value) for name, value in (("api", api), ("case", what), ("path", path))):
                self.used.add(number)
                return True
        return False

    def unused(self):
        return [entry for number, entry in enumerate(self.entries) if number not in self.used]


def ranges(numbers):
    numbers = sorted(set(numbers))
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def run(sides, wanted):
    """Compares everything, prints what is not intended, and returns the numbers of requests and differences."""
    intended, failures, compared = Intended(), 0, 0
    for name, how in missing(sides):
        if not intended.covers(name, "supported versions", how):
            failures += 1
            print(f"DIFFERS {name}: {how}", flush=True)
    for case in CASES:
        found = defaultdict(list)
        for version, path, kafkas, own in compare(sides, case):
            if not intended.covers(case.api, case.what, path):
                found[(path, str(kafkas)[:300], str(own)[:300])].append(version)
        compared += 1
        if wanted and case.api not in wanted:
            continue
        for (path, kafkas, own), versions in found.items():
            failures += 1
            print(f"DIFFERS {case.api} {ranges(versions)}, {case.what}: {path}: Kafka {kafkas}, here {own}", flush=True)
    if not wanted:
        for entry in intended.unused():
            failures += 1
            print(f"UNUSED {entry}", flush=True)
    return compared, failures


def main():
    parser = argparse.ArgumentParser(description="Compares the responses of Apache Kafka and Streamline.")
    parser.add_argument("--server", required=True, help="path of the server")
    parser.add_argument("--work", required=True, type=Path, help="directory of Kafka")
    parser.add_argument("api", nargs="*", help="APIs of which differences are printed; all by default")
    asked = parser.parse_args()
    work = asked.work.resolve()
    classpath = (work / "streams.classpath").read_text().strip()
    jar = next(jar for jar in classpath.split(":") if re.search(r"/kafka-clients-[^/]*\.jar$", jar))
    folder = Path(tempfile.mkdtemp(prefix="differential-", dir=work))
    schemas = Schemas(jar)
    data = folder / "data"
    data.mkdir()
    try:
        with Kafka(Java(classpath), folder) as kafka, Streamline(os.path.abspath(asked.server), data, folder / "server.log") as ours:
            compared, failures = run([Side(schemas, kafka.bootstrap), Side(schemas, ours.bootstrap)], asked.api)
            ours.stop()
            kafka.end()
    except Failed as failure:
        print(f"FAILED {failure}\n(files kept in {folder})")
        return 1
    shutil.rmtree(folder)
    print(f"{compared - min(compared, failures)} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
