"""Programs that are built on Kafka run against the server, and survive the loss of the program and of the server.

    python3 programs.py --server PROGRAM --work FOLDER [program…]

Programs: streams, connect, mirror; all by default. With `--server kafka` they run against Apache Kafka instead.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

import servers
from servers import Failed, Java, Kafka, Process, Streamline, check, free_ports, wait_until

WORDS = [f"word-{number}" for number in range(40)]
LOGGING = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


class Bench:
    """A server in an empty directory, and the programs at hand."""

    def __init__(self, program, work, folder):
        self.program = program
        self.folder = folder
        streams = (work / "streams.classpath").read_text().strip()
        self.java = Java(f"{work / 'classes'}:{streams}", LOGGING)
        self.connect = Java((work / "connect.classpath").read_text().strip(), LOGGING)
        self.server = self.start()

    def start(self, address="127.0.0.1:0"):
        if self.program == "kafka":
            return Kafka(self.java, self.folder)
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return Streamline(self.program, data, self.folder / "server.log", address)

    def kill_server(self):
        """Kills the server and starts it again, unless it is Kafka, which takes too long."""
        if self.program != "kafka":
            self.server.end(signal.SIGKILL)
            self.server = self.start(self.server.bootstrap)

    def create(self, topic, partitions):
        self.java.run("Topics", "create", self.server.bootstrap, topic, str(partitions))

    def write(self, topic, records, bootstrap=None):
        text = "".join(f"{key}\t{value}\n" for key, value in records)
        self.java.run("Topics", "write", bootstrap or self.server.bootstrap, topic, text=text)

    def read(self, topic, bootstrap=None):
        """Returns the committed records of a topic as lists of (key, value) by partition."""
        found = defaultdict(list)
        for line in self.java.output("Topics", "read", bootstrap or self.server.bootstrap, topic).splitlines():
            partition, _, key, value = line.split("\t")
            found[int(partition)].append((key, value))
        return found

    def ended(self):
        """Ends the server. It must exit with 0."""
        if self.program == "kafka":
            self.server.end()
        else:
            self.server.stop()


def lines_of_words(seed, count):
    chance = random.Random(seed)
    return [(f"line-{number}", " ".join(chance.choices(WORDS, k=5))) for number in range(count)]


def counted(bench, topic):
    """Returns the outputs of each word, in order."""
    outputs = defaultdict(list)
    for records in bench.read(topic).values():
        for word, count in records:
            outputs[word].append(int(count))
    return outputs


def streams(bench):
    """Counts words. The application and the server are killed in the middle; with exactly_once_v2 no increment may be lost or
    repeated, with at_least_once none may be lost."""
    lines = [lines_of_words(part, 600) for part in range(3)]
    total = sum(len(value.split()) for part in lines for _, value in part)
    for guarantee in ("exactly_once_v2", "at_least_once"):
        source, target = f"lines-{guarantee}", f"counts-{guarantee}"
        bench.create(source, 3)
        bench.create(target, 2)
        state = bench.folder / f"state-{guarantee}"
        command = bench.java.command("WordCount", bench.server.bootstrap, source, target, guarantee, str(state))
        log = bench.folder / f"{guarantee}.log"

        def progress(share):
            def reached():
                application.alive()
                return sum(max(counts) for counts in counted(bench, target).values()) >= share * total

            wait_until(reached, f"{guarantee}: {share:.0%} of the words are counted", 180)

        with Process(command, log) as application:
            bench.write(source, lines[0])
            progress(0.1)
            application.end(signal.SIGKILL)
        with Process(command, log) as application:
            bench.write(source, lines[1])
            progress(0.4)
            bench.kill_server()
            bench.write(source, lines[2])
            progress(1.0)
            application.end()
        outputs = counted(bench, target)
        expected = defaultdict(int)
        for part in lines:
            for _, value in part:
                for word in value.split():
                    expected[word] += 1
        if guarantee == "exactly_once_v2":
            for word, counts in outputs.items():
                check_sequence(word, counts)
            found = {word: len(counts) for word, counts in outputs.items()}
            check(found == expected, f"streams, {guarantee}: each of {total} words is counted once", str(found)[:500])
            left = bench.java.output("Topics", "open", bench.server.bootstrap)
            check(not left, f"streams, {guarantee}: no transaction is left open", left)
        else:
            short = {word: max(outputs[word], default=0) for word in expected if max(outputs[word], default=0) < expected[word]}
            check(not short, f"streams, {guarantee}: none of {total} words is missing", str(short))


def check_sequence(word, counts):
    expected = list(range(1, len(counts) + 1))
    if counts != expected:
        at = next(place for place, pair in enumerate(zip(counts, expected)) if pair[0] != pair[1])
        raise Failed(f"{word}: the counts around {at} are {counts[max(0, at - 3) : at + 4]}")


class Worker(Process):
    """A distributed worker of Connect, and its REST interface."""

    def __init__(self, bench, port, name):
        properties = bench.folder / f"{name}.properties"
        settings = {
            "bootstrap.servers": bench.server.bootstrap,
            "group.id": "connect-cluster",
            "listeners": f"http://127.0.0.1:{port}",
            "config.storage.topic": "connect-configs",
            "offset.storage.topic": "connect-offsets",
            "status.storage.topic": "connect-status",
            "config.storage.replication.factor": 1,
            "offset.storage.replication.factor": 1,
            "status.storage.replication.factor": 1,
            "offset.storage.partitions": 5,
            "offset.flush.interval.ms": 500,
            "exactly.once.source.support": "enabled",
            **plugins(bench),
        }
        write_properties(properties, settings)
        self.port = port
        command = bench.connect.command("org.apache.kafka.connect.cli.ConnectDistributed", str(properties))
        super().__init__(command, bench.folder / f"{name}.log")
        wait_until(lambda: self.alive() or self.call("/connectors") is not None, "the start of the worker")

    def call(self, path, body=None):
        """Sends a request and returns its answer; `None` if the worker does not answer yet."""
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except (OSError, urllib.error.HTTPError):
            return None

    def create(self, name, config):
        wait_until(lambda: self.call("/connectors", {"name": name, "config": config}), f"the connector {name} is created")

    def running(self, name):
        status = self.call(f"/connectors/{name}/status")
        failed = [task for task in (status or {}).get("tasks", []) if task["state"] == "FAILED"]
        if failed:
            raise Failed(f"the connector {name} failed: {failed[0]['trace'][:2000]}")
        return status and status["tasks"] and all(task["state"] == "RUNNING" for task in status["tasks"])


def plugins(bench):
    """Returns the settings of a worker whose plugins are on the classpath."""
    empty = bench.folder / "plugins"
    empty.mkdir(exist_ok=True)
    return {
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "plugin.discovery": "service_load",
        "plugin.path": empty,
    }


def write_properties(path, settings):
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def source_of(file, topic):
    return {
        "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
        "tasks.max": "1",
        "file": str(file),
        "topic": topic,
    }


def sink_of(file, topic):
    return {
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
        "tasks.max": "1",
        "file": str(file),
        "topics": topic,
    }


def append_lines(file, start, count):
    with file.open("a") as out:
        out.writelines(f"line {number}\n" for number in range(start, start + count))


def copied(process, target, count):
    def complete():
        process.alive()
        return target.exists() and len(target.read_text().splitlines()) >= count

    wait_until(complete, f"{count} lines are copied to {target.name}")
    return target.read_text().splitlines()


def connect(bench):
    """Copies a file to a topic and the topic to a file, with a standalone worker and with distributed ones."""
    expected = [f"line {number}" for number in range(300)]
    source, target = bench.folder / "standalone-in.txt", bench.folder / "standalone-out.txt"
    append_lines(source, 0, 300)
    worker = bench.folder / "standalone.properties"
    settings = {
        "bootstrap.servers": bench.server.bootstrap,
        "listeners": f"http://127.0.0.1:{free_ports(1)[0]}",
        "offset.storage.file.filename": bench.folder / "standalone.offsets",
        **plugins(bench),
    }
    write_properties(worker, settings)
    connectors = []
    for name, config in (("in", source_of(source, "standalone")), ("out", sink_of(target, "standalone"))):
        connectors.append(bench.folder / f"{name}.properties")
        write_properties(connectors[-1], {"name": name, **config})
    command = bench.connect.command("org.apache.kafka.connect.cli.ConnectStandalone", str(worker), *map(str, connectors))
    with Process(command, bench.folder / "standalone.log") as process:
        check(copied(process, target, 300) == expected, "connect, standalone: the file is copied through a topic")
        process.end()

    source, target = bench.folder / "distributed-in.txt", bench.folder / "distributed-out.txt"
    append_lines(source, 0, 150)
    port = free_ports(1)[0]
    with Worker(bench, port, "worker") as first:
        first.create("source", source_of(source, "distributed"))
        first.create("sink", sink_of(target, "distributed"))
        wait_until(lambda: first.running("source") and first.running("sink"), "the connectors run")
        copied(first, target, 150)
        first.end(signal.SIGKILL)
    bench.kill_server()
    append_lines(source, 150, 150)
    # The new worker finds the connectors, their configs and offsets in the compacted topics.
    with Worker(bench, port, "worker") as second:
        copied(second, target, 300)
        second.end()
    found = [value for records in bench.read("distributed").values() for _, value in records]
    check(found == expected, "connect, distributed: each line is in the topic once", f"{len(found)} lines")
    lines = target.read_text().splitlines()
    check(set(lines) == set(expected), "connect, distributed: each line is in the file", f"{len(lines)} lines")


def mirror(bench):
    """Mirrors topics and the offsets of groups between the server and a Kafka broker, both ways."""
    other = bench.folder / "other"
    other.mkdir()
    with Kafka(bench.java, other) as kafka:
        sides = {"kafka": kafka.bootstrap, "here": bench.server.bootstrap}
        settings = {
            "clusters": "kafka, here",
            "replication.factor": 1,
            "offset-syncs.topic.replication.factor": 1,
            "checkpoints.topic.replication.factor": 1,
            "heartbeats.topic.replication.factor": 1,
            "offset.storage.replication.factor": 1,
            "config.storage.replication.factor": 1,
            "status.storage.replication.factor": 1,
            "refresh.topics.interval.seconds": 1,
            "refresh.groups.interval.seconds": 1,
            "sync.group.offsets.interval.seconds": 1,
            "emit.checkpoints.interval.seconds": 1,
            "offset.lag.max": 0,
            "dedicated.mode.enable.internal.rest": "false",
        }
        for alias, bootstrap in sides.items():
            settings[f"{alias}.bootstrap.servers"] = bootstrap
        expected = {}
        for source, target in (("kafka", "here"), ("here", "kafka")):
            settings[f"{source}->{target}.enabled"] = "true"
            settings[f"{source}->{target}.topics"] = f"from-{source}"
            settings[f"{source}->{target}.groups"] = f"group-{source}"
            settings[f"{source}->{target}.sync.group.offsets.enabled"] = "true"
            topic = f"from-{source}"
            expected[topic] = [(f"key-{number % 7}", f"{source} {number}") for number in range(500)]
            bench.java.run("Topics", "create", sides[source], topic, "3")
            bench.write(topic, expected[topic], sides[source])
        properties = bench.folder / "mirror.properties"
        write_properties(properties, settings)
        command = bench.connect.command("org.apache.kafka.connect.mirror.MirrorMaker", str(properties))
        with Process(command, bench.folder / "mirror.log") as maker:
            for source, target in (("kafka", "here"), ("here", "kafka")):
                topic, mirrored = f"from-{source}", f"{source}.from-{source}"

                def complete():
                    maker.alive()
                    try:
                        found = bench.read(mirrored, sides[target])
                    except Failed:
                        return None  # The topic does not exist yet.
                    return found if sum(map(len, found.values())) >= 500 else None

                found = wait_until(complete, f"{mirrored} has all records", 180)
                check(found == bench.read(topic, sides[source]), f"mirror, {source} to {target}: every record once, in order")
                bench.java.run("Topics", "group", sides[source], topic, f"group-{source}")

                def translated():
                    maker.alive()
                    lines = bench.java.output("Topics", "offsets", sides[target], f"group-{source}").splitlines()
                    return sum(int(line.split("\t")[2]) for line in lines if line.startswith(f"{mirrored}\t")) == 500

                wait_until(translated, f"the offsets of group-{source} arrive", 180)
                check(True, f"mirror, {source} to {target}: the group's offsets are translated")
            maker.end()
        kafka.end()


PROGRAMS = {"streams": streams, "connect": connect, "mirror": mirror}


def main():
    parser = argparse.ArgumentParser(description="Runs programs that are built on Kafka against the server.")
    parser.add_argument("--server", required=True, help='path of the server, or "kafka"')
    parser.add_argument("--work", required=True, type=Path, help="directory of the programs")
    parser.add_argument("program", nargs="*", help=f"of {', '.join(PROGRAMS)}")
    asked = parser.parse_args()
    program = asked.server if asked.server == "kafka" else os.path.abspath(asked.server)
    work = asked.work.resolve()
    failures = 0
    for name in asked.program or PROGRAMS:
        if name not in PROGRAMS:
            parser.error(f"no program {name}; programs are {', '.join(PROGRAMS)}")
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=work))
        bench = Bench(program, work, folder)
        try:
            PROGRAMS[name](bench)
            bench.ended()
            shutil.rmtree(folder)
        except (Failed, subprocess.TimeoutExpired) as failure:
            failures += 1
            print(f"FAILED {name}: {failure}\n(files kept in {folder})", flush=True)
        finally:
            bench.server.__exit__()
    print(f"{servers.passed} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
