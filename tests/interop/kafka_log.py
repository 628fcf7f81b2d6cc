"""Streamline and Apache Kafka read each other's log directories, record for record.

    python3 kafka_log.py --server PROGRAM --work FOLDER

1. A Kafka broker writes a topic in every codec, with transactions. `streamline dump-log` reads its directory, both while
   the broker is running and after a clean shutdown, and Streamline serves a copy of it, without the aborted transactions
   to consumers of committed records, and appends to it.
2. Streamline writes a topic in every codec, and extends the copy above. Kafka's DumpLogSegments reads both, and checks the
   indexes.

The expected records are those that the writing side served to Kafka's own consumer. All servers listen on loopback.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TOPIC = "both-read-this"
PARTITIONS = 2
# 2,000 uncompressed, which fill more than one segment, and 400 in each codec.
RECORDS = 2_000 + 4 * 400
TRANSACTED = 40
ABORTED = 20
APPENDED = 50
PATIENCE_S = 90
# Harmless output of Kafka's tools on standard error: the logging library lacks its configuration, and the dump tool reports
# the first offset of every segment but the first as a gap, in Kafka's own logs too. A real gap has a different line.
NOISE = re.compile(r"SLF4J|.*StatusLogger|Non-consecutive offsets in |  -1 is followed by ")
DUMP = "org.apache.kafka.tools.DumpLogSegments"

passed = 0


class Failed(Exception):
    """A check that failed."""


def check(holds, what, detail=""):
    global passed
    if not holds:
        raise Failed(f"{what}{': ' if detail else ''}{detail}")
    passed += 1
    print(f"ok  {what}", flush=True)


def same_records(found, expected, what):
    """Compares lists of (partition, offset, timestamp, key, value, headers). Reports the first difference."""
    found, expected = sorted(found), sorted(expected)
    for one, other in zip(found, expected):
        if one != other:
            raise Failed(f"{what}: found {one}, expected {other}")
    check(len(found) == len(expected), what, f"{len(found)} records, expected {len(expected)}")


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise Failed(f"timed out after {PATIENCE_S} s: {what}")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Java:
    def __init__(self, work):
        self.classpath = f"{work / 'classes'}:{(work / 'classpath').read_text().strip()}"

    def command(self, *arguments):
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", self.classpath, *arguments]

    def run(self, *arguments):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=300)
        complaints = [line for line in done.stderr.splitlines() if line and not NOISE.match(line)]
        # The dump tool always exits with 0, and reports findings on standard error.
        if done.returncode != 0 or (complaints and arguments[0] == DUMP):
            raise Failed(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def consume(self, bootstrap, count, isolation="read_uncommitted"):
        lines = self.run("Workload", "consume", bootstrap, TOPIC, str(count), isolation).splitlines()
        records = []
        for line in lines:
            partition, offset, timestamp, key, value, headers = line.split("\t")
            records.append((int(partition), int(offset), int(timestamp), key, value, headers))
        return records


class Process:
    """A server process."""

    def __init__(self, command, log):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def alive(self):
        if self.process.poll() is not None:
            raise Failed(f"the server exited early:\n{self.log.read_text()[-4000:]}")

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"the server did not exit within {PATIENCE_S} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Kafka(Process):
    def __init__(self, java, folder):
        self.data = folder / "kafka-data"
        broker, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{broker}"
        properties = folder / "kafka.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        identity = java.run("kafka.tools.StorageTool", "random-uuid").split()[-1]
        java.run("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties))
        super().__init__(java.command("kafka.Kafka", str(properties)), folder / "kafka.log")
        wait_until(lambda: self.alive() or answers(broker), "the start of Kafka")


class Streamline(Process):
    def __init__(self, program, data, log):
        command = [program, "--listen-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir", str(data)]
        run = data / "run.json"
        run.unlink(missing_ok=True)
        super().__init__(command, log)
        wait_until(lambda: self.alive() or run.exists(), "the start of Streamline")
        self.bootstrap = json.loads(run.read_text())["listen_addr"]

    def stop(self):
        self.end()
        check(self.process.returncode == 0, "Streamline exits with code 0", str(self.process.returncode))


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def logs_of(data):
    return sorted(data.glob(f"{TOPIC}-*/*.log"))


def partition_of(path):
    return int(path.parent.name.rsplit("-", 1)[1])


def dump_with_streamline(program, data):
    """Returns all records of the topic and all other output of `streamline dump-log`."""
    directories = sorted({log.parent for log in logs_of(data)})
    command = [program, "dump-log", "--deep", "--output", "json", *map(str, directories)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    damages = [each for each in objects if each["type"] == "damage" or each.get("mismatches")]
    if done.returncode != 0 or damages:
        raise Failed(f"dump-log: exit {done.returncode}, {damages[:5]}\n{done.stderr[-2000:]}")
    records = []
    partition = None
    for each in objects:
        if each["type"] == "batch":
            partition = partition_of(Path(each["file"]))
        if each["type"] == "record" and "control" not in each:
            headers = ",".join(f"{header['key']}={header['value']}" for header in each["headers"])
            key, value = (each[name] if each[name] is not None else "null" for name in ("key", "value"))
            records.append((partition, each["offset"], each["timestamp"], key, value, headers))
    return records, objects


RECORD = re.compile(
    r"\| offset: (\d+) \w+: (-?\d+) keySize: (-?\d+) valueSize: (-?\d+) sequence: -?\d+ headerKeys: \[(.*?)\]"
    r"(?: endTxnMarker: (?P<marker>\w+).*)?(?: key: (?P<key>\S+))?(?: payload: (?P<value>\S+))?$"
)


def dump_with_kafka(java, data):
    """Returns all records of the topic read by Kafka's DumpLogSegments, without the headers' values, and the codecs."""
    records, codecs = [], Counter()
    for log in logs_of(data):
        output = java.run(DUMP, "--deep-iteration", "--print-data-log", "--files", str(log))
        for line in output.splitlines():
            if line.startswith("baseOffset:"):
                if "isvalid: true" not in line:
                    raise Failed(f"{log}: {line}")
                codecs[re.search(r"compresscodec: (\w+)", line).group(1)] += 1
            elif line.startswith("|"):
                match = RECORD.match(line)
                if not match:
                    raise Failed(f"{log}: cannot parse the line {line}")
                if match["marker"]:
                    continue
                offset, timestamp = int(match[1]), int(match[2])
                key, value = match["key"] or "null", match["value"] or "null"
                records.append((partition_of(log), offset, timestamp, key, value, match[5]))
            elif re.search(r"Found|not valid|invalid|mismatch", line, re.IGNORECASE):
                raise Failed(f"{log}: {line}")
    return records, codecs


def without_header_values(records):
    strip = lambda headers: ",".join(header.split("=")[0] for header in headers.split(",") if header)
    return [(*record[:5], strip(record[5])) for record in records]


def check_indexes(java, data, what):
    entries = Counter()
    for log in logs_of(data):
        for kind in ("index", "timeindex"):
            index = log.with_suffix(f".{kind}")
            if not index.exists():
                continue
            # The tool exits with 0 even on errors, so its output must consist of entries only.
            for line in java.run(DUMP, "--files", str(index)).splitlines():
                if line.startswith(("offset:", "timestamp:")):
                    entries[kind] += 1
                elif line.strip() and not line.startswith("Dumping"):
                    raise Failed(f"{index}: {line}")
    check(entries["index"] > 50 and entries["timeindex"] > 20, what, str(entries))


def kafka_writes(java, program, folder):
    """Fills a topic of Kafka. Returns its data directory after a clean shutdown, a copy from before it, all records, and
    those of them that are committed."""
    with Kafka(java, folder) as kafka:
        java.run("Workload", "produce", kafka.bootstrap, TOPIC, "transactions")
        records = java.consume(kafka.bootstrap, RECORDS + TRANSACTED)
        check(len(records) == RECORDS + TRANSACTED, "Kafka serves the produced records", str(len(records)))
        committed = java.consume(kafka.bootstrap, RECORDS + TRANSACTED - ABORTED, "read_committed")
        check(len(committed) == RECORDS + TRANSACTED - ABORTED, "Kafka hides aborted records", str(len(committed)))
        found, objects = dump_with_streamline(program, kafka.data)
        same_records(found, records, "dump-log reads the directory of a running Kafka broker")
        codecs = {each["compression"] for each in objects if each["type"] == "batch"}
        check(codecs == set(CODECS), "Kafka's batches have every codec", str(codecs))
        markers = Counter(each["control"] for each in objects if "control" in each and each["type"] == "record")
        check(markers == {"commit": PARTITIONS, "abort": PARTITIONS}, "transaction markers are recognised", str(markers))
        crashed = folder / "after-a-crash"
        shutil.copytree(kafka.data, crashed)
        kafka.end()
    found, objects = dump_with_streamline(program, kafka.data)
    same_records(found, records, "dump-log reads the directory of a cleanly stopped Kafka broker")
    entries = Counter()
    for each in objects:
        if each["type"] in ("index", "timeindex"):
            entries[each["type"]] += each["entries"]
    check(entries["index"] > 20 and entries["timeindex"] > 5, "Kafka's indexes match its log", str(entries))
    for internal in sorted(kafka.data.glob("__*")):
        done = subprocess.run([program, "dump-log", "--verify-only", internal], capture_output=True, text=True)
        check(done.returncode == 0, f"dump-log reads {internal.name}", done.stdout[-2000:] + done.stderr[-2000:])
    return kafka.data, crashed, records, committed


def transaction_indexes(data):
    return {
        f"{index.parent.name}/{index.name}": index.read_bytes() for index in data.glob(f"{TOPIC}-*/*.txnindex")
    }


def streamline_adopts(java, program, folder, data, records, committed, indexes, how):
    """Checks that Streamline opens a copy of Kafka's topic, serves and extends it, and that Kafka's tools read the result."""
    own = folder / f"adopted-{how.replace(' ', '-')}"
    own.mkdir()
    for partition in data.glob(f"{TOPIC}-*"):
        shutil.copytree(partition, own / partition.name)
    with Streamline(program, own, folder / f"{own.name}.log") as server:
        same_records(
            java.consume(server.bootstrap, len(records)), records, f"Streamline serves Kafka's records after {how}"
        )
        same_records(
            java.consume(server.bootstrap, len(committed), "read_committed"),
            committed,
            f"Streamline hides what Kafka aborted after {how}",
        )
        java.run("Workload", "append", server.bootstrap, TOPIC)
        longer = java.consume(server.bootstrap, len(records) + APPENDED)
        same_records([each for each in longer if each in set(records)], records, "Kafka's records are unchanged")
        check(len(longer) == len(records) + APPENDED, "Streamline appends to Kafka's log", str(len(longer)))
        server.stop()
    found = transaction_indexes(own)
    check(found == indexes, f"the transaction indexes are Kafka's after {how}", f"{found}, expected {indexes}")
    read_back(java, program, own, longer, f"Kafka's directory extended by Streamline after {how}")


def streamline_writes(java, program, folder):
    own = folder / "streamline-data"
    own.mkdir()
    with Streamline(program, own, folder / "streamline.log") as server:
        java.run("Workload", "produce", server.bootstrap, TOPIC)
        records = java.consume(server.bootstrap, RECORDS)
        check(len(records) == RECORDS, "Streamline serves the produced records", str(len(records)))
        server.stop()
    codecs = read_back(java, program, own, records, "Streamline's directory")
    check(set(codecs) == set(CODECS), "Streamline's batches have every codec", str(codecs))
    check(len(logs_of(own)) > PARTITIONS, "there is more than one segment", str(logs_of(own)))


def read_back(java, program, data, records, what):
    """Checks that both offline readers return the records served."""
    found, codecs = dump_with_kafka(java, data)
    same_records(found, without_header_values(records), f"DumpLogSegments reads {what}")
    check_indexes(java, data, f"DumpLogSegments accepts the indexes of {what}")
    found, _ = dump_with_streamline(program, data)
    same_records(found, records, f"dump-log reads {what}")
    return codecs


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server", required=True)
    arguments.add_argument("--work", required=True, type=Path)
    arguments = arguments.parse_args()
    program = os.path.abspath(arguments.server)
    java = Java(arguments.work)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.work))
    try:
        clean, crashed, records, committed = kafka_writes(java, program, folder)
        indexes = transaction_indexes(clean)
        check(len(indexes) == PARTITIONS, "Kafka has transaction indexes", str(list(indexes)))
        streamline_adopts(java, program, folder, clean, records, committed, indexes, "a clean shutdown")
        for index in crashed.glob(f"{TOPIC}-*/*.txnindex"):
            index.unlink()
        streamline_adopts(java, program, folder, crashed, records, committed, indexes, "a crash")
        streamline_writes(java, program, folder)
    except Failed as failure:
        print(f"FAILED {failure}\n(files kept in {folder})\n{passed} passed, 1 failed")
        return 1
    shutil.rmtree(folder)
    print(f"{passed} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
