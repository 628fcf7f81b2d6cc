"""The scenario that every client runs against a real server, and its checks.

    python3 scenario.py --server PROGRAM --work FOLDER [client…]

The scenario generates the records, starts and restarts the server, and checks results; the clients only send and receive.
The line protocol between them is described in README.md.
"""

import argparse
import base64
import dataclasses
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 4
RECORDS_PER_CODEC = 40
PATIENCE_S = 90
TRANSACTION_CHECKS = 16


@dataclasses.dataclass
class Kind:
    """A client: how to run it, and what its library does not support."""

    command: list
    environment: dict = dataclasses.field(default_factory=dict)
    restart: signal.Signals = signal.SIGTERM
    chooses_timestamps: bool = True
    sends_bytes: bool = True
    sends_null_headers: bool = True
    acknowledges: bool = True
    has_admin: bool = True
    has_full_admin: bool = False
    has_transactions: bool = False


def kinds(work):
    libraries = work / "java"
    return {
        "java": Kind(
            ["java", "-cp", f"{libraries}/classes:{libraries}/lib/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
            + ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "Client"],
            restart=signal.SIGKILL,
            has_full_admin=True,
            has_transactions=True,
        ),
        "franz-go": Kind([str(work / "franz-go")]),
        "kafkajs": Kind(
            ["node", str(HERE / "kafkajs" / "client.js")],
            environment={"INTEROP_NODE_MODULES": str(work / "kafkajs" / "node_modules")},
            sends_null_headers=False,
        ),
        "kafka-python": Kind(
            [str(work / "kafka-python" / "bin" / "python"), str(HERE / "kafka-python" / "client.py")],
            sends_null_headers=False,
        ),
        "kcat": Kind(
            ["python3", str(HERE / "kcat" / "client.py")],
            chooses_timestamps=False,
            sends_bytes=False,
            sends_null_headers=False,
            acknowledges=False,
            has_admin=False,
        ),
    }


class Failed(Exception):
    """A check that failed."""


def require(holds, what):
    if not holds:
        raise Failed(what)


def eventually(what, condition, patience_s=PATIENCE_S):
    """Waits until `condition` is true. On a time-out, the last exception of the condition is the reason."""
    deadline = time.monotonic() + patience_s
    reason = "still false"
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
        except (Failed, OSError) as error:
            reason = error
        time.sleep(0.05)
    raise Failed(f"timed out after {patience_s} s: {what}: {reason}")


def as_text(content):
    return "-" if content is None else base64.b64encode(content).decode()


@dataclasses.dataclass(frozen=True)
class Record:
    partition: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: tuple

    def fields(self):
        headers = ",".join(f"{as_text(name.encode())}:{as_text(content)}" for name, content in self.headers)
        return [str(self.partition), str(self.timestamp_ms), as_text(self.key), as_text(self.value), headers]


class Server:
    """The server under test: one data directory, the same two addresses across restarts."""

    def __init__(self, program, folder):
        self.program = program
        self.data = folder / "data"
        self.log_path = folder / "server.log"
        self.kafka_addr = self.http_addr = "127.0.0.1:0"
        self.process = None

    def start(self):
        command = [str(self.program), "--data-dir", str(self.data)]
        command += ["--listen-addr", self.kafka_addr, "--http-addr", self.http_addr]
        command += ["--default-partitions", str(PARTITIONS)]
        run_file = self.data / "run.json"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def running():
            require(self.process.poll() is None, f"the server exited with {self.process.returncode}")
            run = json.loads(run_file.read_text()) if run_file.exists() else {}
            return run if run.get("pid") == self.process.pid else None

        run = eventually("the server writes run.json", running)
        self.kafka_addr, self.http_addr = run["listen_addr"], run["http_addr"]
        eventually("the server is ready", lambda: self.get("/health/ready"), 30)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        if how == signal.SIGTERM:
            require(code == 0, f"the server exited with {code} after SIGTERM")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.http_addr}{path}", timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as refused:
            raise Failed(f"{path} returned {refused.code}: {refused.read().decode()}") from None

    def samples(self, name, **labels):
        """Returns the samples of one metric whose labels include `labels`, keyed by the other labels."""
        found = {}
        for line in self.get("/metrics").splitlines():
            parsed = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if not parsed or parsed[1] != name:
                continue
            own = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', parsed[2] or ""))
            if all(own.get(label) == value for label, value in labels.items()):
                rest = tuple(value for label, value in sorted(own.items()) if label not in labels)
                found[rest] = float(parsed[3])
        return found

    def per_partition(self, name, **labels):
        return {int(rest[0]): int(value) for rest, value in self.samples(name, **labels).items()}

    def batches(self, topic):
        """Returns (partition, bytes, records, codec) of each batch in the topic's files."""
        found = []
        for partition in range(PARTITIONS):
            for path in sorted((self.data / f"{topic}-{partition}").glob("*.log")):
                content = path.read_bytes()
                at = 0
                while at + 61 <= len(content):
                    size = 12 + int.from_bytes(content[at + 8 : at + 12], "big")
                    codec = CODECS[int.from_bytes(content[at + 21 : at + 23], "big") & 7]
                    count = int.from_bytes(content[at + 57 : at + 61], "big")
                    found.append((partition, size, count, codec))
                    at += size
                require(at == len(content), f"{path.name} ends in the middle of a batch")
        return found


class Member:
    """A running member of the group, and its output."""

    def __init__(self, client, topic, group, seen):
        self.held = None
        self.ended = False
        self.client = client
        self.lines = queue.Queue()
        self.seen = seen
        self.process = client.start("consume", topic, group)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            word, *fields = line.rstrip("\n").split("\t")
            if word == "assigned":
                self.held = {int(each) for each in fields[0].split(",") if each}
            elif word == "record":
                self.seen.add(*fields)
            elif word == "closed":
                self.ended = True

    def running(self):
        require(self.process.poll() is None, f"a member exited with {self.process.returncode}")
        return True

    def stop(self):
        self.process.stdin.close()
        code = self.process.wait(timeout=60)
        require(code == 0, f"a member exited with {code}")
        eventually("the member prints closed", lambda: self.ended, 10)


class Seen:
    """Records delivered to the members of one group, checked on arrival."""

    def __init__(self):
        self.lock = threading.Lock()
        self.records = {}
        self.settled = set()
        self.again = 0
        self.wrong = []

    def add(self, partition, offset, timestamp, key, value, headers):
        where, record = (int(partition), int(offset)), (timestamp, key, value, headers)
        with self.lock:
            if where in self.records:
                self.again += 1
                if where in self.settled:
                    self.wrong.append(f"offset {where[1]} of partition {where[0]} was delivered again after its commit")
                if self.records[where] != record:
                    self.wrong.append(f"offset {where[1]} of partition {where[0]} differs on its second delivery")
            self.records[where] = record

    def settle(self):
        """Marks all records so far as committed: none of them may be delivered again."""
        with self.lock:
            self.settled = set(self.records)

    def check(self):
        with self.lock:
            require(not self.wrong, "; ".join(self.wrong[:5]))
            return len(self.records)


class Client:
    def __init__(self, kind, server, log_path):
        self.kind = kind
        self.server = server
        self.log = open(log_path, "ab")
        self.started = []

    def start(self, command, *arguments, stdin=subprocess.PIPE):
        process = subprocess.Popen(
            self.kind.command + [command, self.server.kafka_addr, *arguments],
            env={**os.environ, **self.kind.environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, command, *arguments, text=""):
        process = self.start(command, *arguments)
        try:
            output, _ = process.communicate(text, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"`{command}` did not exit within {PATIENCE_S} s") from None
        require(process.returncode == 0, f"`{command}` exited with {process.returncode}")
        return [line.split("\t") for line in output.splitlines()]

    def kill(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.log.close()


class Scenario:
    def __init__(self, name, kind, server, client):
        self.kind, self.server, self.client = kind, server, client
        self.topic = f"interop.{name}"
        self.group = f"interop-{name}-group"
        self.random = random.Random(name)
        self.sent = {partition: [] for partition in range(PARTITIONS)}
        self.since_start = {partition: 0 for partition in range(PARTITIONS)}
        self.bytes_before_start = 0
        self.seen = Seen()

    def make(self):
        """Creates records for every codec: empty, null, binary, repetitive and random content, repeated and empty headers."""
        now_ms = int(time.time() * 1000) - 60_000
        made = []
        for codec in CODECS:
            for number in range(RECORDS_PER_CODEC):
                label = f"{codec} {number}"
                key = None if number % 5 == 1 else f"key {label}".encode()
                value = f"{label} ".encode() * self.random.randrange(1, 200)
                headers = (("codec", codec.encode()),)
                if self.kind.sends_bytes:
                    if number % 7 == 3:
                        value = self.random.randbytes(self.random.randrange(0, 3000))
                    if number == 8:
                        value = b"\0" * 100_000
                    headers = (("n", str(number).encode()), ("twice", b"1"), ("twice", b"\xff\0"), ("empty", b""))
                    if self.kind.sends_null_headers:
                        headers += (("null", None),)
                if number % 10 == 5 and key is not None:
                    value = None
                made.append((codec, Record(number % PARTITIONS, now_ms + number, key, value, headers)))
        # Sorted by partition within each codec, so that clients can send each partition's records at once.
        made.sort(key=lambda each: (CODECS.index(each[0]), each[1].partition))
        return made

    def produce(self):
        made = self.make()
        lines = "".join("\t".join([codec, *record.fields()]) + "\n" for codec, record in made)
        answers = self.client.run("produce", self.topic, text=lines)
        expected = []
        for _, record in made:
            expected.append((record.partition, len(self.sent[record.partition])))
            self.sent[record.partition].append(record)
            self.since_start[record.partition] += 1
        if self.kind.acknowledges:
            acknowledged = [(int(fields[1]), int(fields[2])) for fields in answers if fields[0] == "acked"]
            require(acknowledged == expected, "each record is acknowledged with the next offset of its partition")

    def total(self):
        return sum(len(records) for records in self.sent.values())

    def consumed(self, *members):
        def everything():
            for member in members:
                member.running()
            count = self.seen.check()
            require(count >= self.total(), f"{count} of {self.total()} records arrived")
            return True

        eventually("the group receives everything", everything)

        def committed():
            lag = self.server.per_partition("streamline_consumer_lag", group=self.group, topic=self.topic)
            require(lag == dict.fromkeys(range(PARTITIONS), 0), f"lag is {lag}")
            return True

        eventually("everything is committed", committed, 30)
        self.seen.settle()

    def shared_out(self, members):
        def settled():
            for member in members:
                member.running()
            held = [member.held for member in members]
            require(all(held), f"a member has no partition: {held}")
            count = sum(len(each) for each in held)
            require(set.union(*held) == set(range(PARTITIONS)) and count == PARTITIONS, f"assigned partitions: {held}")
            return True

        eventually(f"{len(members)} members share the partitions", settled)

    def restart(self):
        self.server.stop(self.kind.restart)
        self.bytes_before_start = sum(size for _, size, _, _ in self.server.batches(self.topic))
        self.since_start = dict.fromkeys(self.since_start, 0)
        self.server.start()
        ends = self.server.per_partition("streamline_log_end_offset", topic=self.topic)
        require(ends == self.ends(), f"the first scrape after a restart shows log ends {ends}")

    def ends(self):
        return {partition: len(records) for partition, records in self.sent.items()}

    def compare_metrics(self):
        """Compares the server's metrics with the records sent and with the files."""
        batches = self.server.batches(self.topic)
        in_files = {partition: [0, 0] for partition in range(PARTITIONS)}
        for partition, size, count, _ in batches:
            in_files[partition][0] += size
            in_files[partition][1] += count
        codecs = {codec for _, _, _, codec in batches}
        require(codecs == set(CODECS), f"batches have the codecs {sorted(codecs)}")
        require({p: count for p, (_, count) in in_files.items()} == self.ends(), "the files contain the records sent")
        expected = {
            "streamline_records_total": self.since_start,
            "streamline_log_end_offset": self.ends(),
            "streamline_log_size_bytes": {partition: size for partition, (size, _) in in_files.items()},
        }
        for name, right in expected.items():
            shown = self.server.per_partition(name, topic=self.topic)
            require(shown == right, f"{name} is {shown}, expected {right}")
        taken = sum(size for size, _ in in_files.values()) - self.bytes_before_start
        shown = self.server.samples("streamline_bytes_in_total", topic=self.topic)
        require(shown == {(): taken}, f"streamline_bytes_in_total is {shown}, expected {taken}")
        shown = self.server.samples("streamline_partitions_total", topic=self.topic)
        require(shown == {(): PARTITIONS}, f"streamline_partitions_total is {shown}")
        answered = sum(self.server.samples("streamline_requests_total", api_key="produce").values())
        timed = self.server.samples("streamline_request_duration_seconds_count", api_key="produce")
        require(timed == {(): answered} and answered > 0, f"{answered} produce requests, {timed} timed")
        failed = self.server.samples("streamline_requests_total", api_key="produce", error="true")
        require(sum(failed.values()) == 0, f"{failed} produce requests failed")

    def compare_records(self):
        require(self.seen.check() == self.total(), "no unsent record was delivered")
        for partition, records in self.sent.items():
            for offset, record in enumerate(records):
                _, timestamp, *content = record.fields()
                shown_timestamp, *shown = self.seen.records[(partition, offset)]
                require(content == shown, f"partition {partition}, offset {offset}: sent {content}, received {shown}")
                if self.kind.chooses_timestamps:
                    require(timestamp == shown_timestamp, f"timestamp {shown_timestamp}, expected {timestamp}")

    def run(self):
        yield "create a topic"
        self.client.run("create", self.topic, str(PARTITIONS))
        yield "produce with every codec"
        self.produce()
        self.compare_metrics()

        yield "one member consumes everything"
        first = Member(self.client, self.topic, self.group, self.seen)
        self.consumed(first)
        sent_out = self.server.samples("streamline_bytes_out_total", topic=self.topic)[()]
        stored = sum(size for _, size, _, _ in self.server.batches(self.topic))
        require(sent_out >= stored, f"streamline_bytes_out_total is {sent_out} after {stored} bytes were read")

        yield "a second member joins, partitions are rebalanced"
        second = Member(self.client, self.topic, self.group, self.seen)
        self.shared_out([first, second])
        groups = self.server.samples("streamline_consumer_groups_total")
        require(groups == {(): 1}, f"streamline_consumer_groups_total is {groups}")
        self.produce()
        self.consumed(first, second)
        self.compare_metrics()

        yield f"the server is restarted while both consume ({self.kind.restart.name})"
        self.restart()
        self.produce()
        self.consumed(first, second)
        self.shared_out([first, second])
        self.compare_metrics()
        first.stop()
        second.stop()

        yield "records are produced without a consumer"
        before = {partition: len(records) for partition, records in self.sent.items()}
        self.produce()
        waiting = {partition: len(records) - before[partition] for partition, records in self.sent.items()}
        lag = self.server.per_partition("streamline_consumer_lag", group=self.group, topic=self.topic)
        require(lag == waiting, f"streamline_consumer_lag is {lag}, expected {waiting}")
        if self.kind.has_full_admin:
            yield "administrative requests"
            answers = self.client.run("admin", self.topic, self.group)
            shown = {int(fields[1]): int(fields[2]) for fields in answers if fields[0] == "lag"}
            require(shown == waiting, f"the admin client computes a lag of {shown}, expected {waiting}")
            size = sum(size for _, size, _, _ in self.server.batches(self.topic))
            require(["size", str(size)] in answers, f"log directories of {size} bytes are described as {answers}")
        if self.kind.has_transactions:
            yield "transactions"
            checks = self.client.run("transactions", f"{self.topic}-transactions")
            require(len(checks) == TRANSACTION_CHECKS, f"{len(checks)} checks of transactions passed: {checks}")

        yield "a later member resumes from the committed offsets"
        third = Member(self.client, self.topic, self.group, self.seen)
        self.consumed(third)
        third.stop()
        self.compare_records()
        if self.kind.has_admin:
            answers = self.client.run("offsets", self.topic, self.group)
            committed = {int(fields[1]): int(fields[2]) for fields in answers}
            require(committed == self.ends(), f"committed offsets are {committed}, expected {self.ends()}")
            yield "the topic is deleted"
            self.client.run("delete", self.topic)
            for name in ("records_total", "bytes_in_total", "log_size_bytes", "partitions_total", "consumer_lag"):
                left = self.server.samples(f"streamline_{name}", topic=self.topic)
                require(not left, f"streamline_{name} still has series of the topic: {left}")


def play(name, kind, program, work):
    """Runs the scenario for one client. Returns true if it passed."""
    folder = work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = Server(program, folder)
    client = Client(kind, server, folder / "client.log")
    began = time.monotonic()
    step = "start the server"
    try:
        server.start()
        scenario = Scenario(name, kind, server, client)
        for step in scenario.run():
            print(f"  {time.monotonic() - began:6.1f} s  {name}: {step}", flush=True)
        step = "stop the server"
        server.stop()
    except Failed as failure:
        client.kill()
        server.kill()
        print(f"{name}: FAILED at \"{step}\": {failure}", flush=True)
        for path in (server.log_path, folder / "client.log"):
            print(f"--- end of {path.name}")
            print("\n".join(path.read_text(errors="replace").splitlines()[-25:]))
        return False
    finally:
        client.kill()
        server.kill()
    took = time.monotonic() - began
    print(f"{name}: ok, {scenario.total()} records, {scenario.seen.again} delivered twice, {took:.1f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description="Runs real Kafka clients through one scenario against the server.")
    parser.add_argument("--server", type=Path, required=True, help="path of the server")
    parser.add_argument("--work", type=Path, required=True, help="directory of the built clients; logs are written to runs/")
    parser.add_argument("client", nargs="*")
    asked = parser.parse_args()
    known = kinds(asked.work.resolve())
    names = asked.client or list(known)
    for name in names:
        if name not in known:
            parser.error(f"no client {name}; clients are {', '.join(known)}")
    passed = sum(play(name, known[name], asked.server.resolve(), asked.work.resolve()) for name in names)
    print(f"{passed} passed, {len(names) - passed} failed")
    sys.exit(0 if passed == len(names) else 1)


if __name__ == "__main__":
    main()
