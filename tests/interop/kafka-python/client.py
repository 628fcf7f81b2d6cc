"""The scenario's client on kafka-python. The line protocol is described in ../README.md."""

import base64
import sys
import threading

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import CommitFailedError, KafkaError


def say(*fields):
    print("\t".join(str(field) for field in fields), flush=True)


def from_text(field):
    return None if field == "-" else base64.b64decode(field)


def to_text(content):
    return "-" if content is None else base64.b64encode(content).decode()


def produce(bootstrap, topic):
    by_codec = {}
    for line in sys.stdin:
        codec, partition, timestamp, key, value, headers = line.rstrip("\n").split("\t")
        pairs = [pair.split(":") for pair in headers.split(",") if pair]
        by_codec.setdefault(codec, []).append(
            dict(
                partition=int(partition),
                timestamp_ms=int(timestamp),
                key=from_text(key),
                value=from_text(value),
                headers=[(from_text(name).decode(), from_text(content)) for name, content in pairs],
            )
        )
    for codec, records in by_codec.items():
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            linger_ms=20,
            compression_type=None if codec == "none" else codec,
        )
        acknowledged = [producer.send(topic, **record) for record in records]
        producer.flush()
        for future in acknowledged:
            metadata = future.get(timeout=60)
            say("acked", metadata.partition, metadata.offset)
        producer.close()


class Reporter(ConsumerRebalanceListener):
    """Says which partitions are held after each change of the group."""

    def __init__(self):
        self.held = set()

    def on_partitions_revoked(self, revoked):
        self.held -= {each.partition for each in revoked}
        self.report()

    def on_partitions_assigned(self, assigned):
        self.held |= {each.partition for each in assigned}
        self.report()

    def report(self):
        say("assigned", ",".join(str(partition) for partition in sorted(self.held)))


def consume(bootstrap, topic, group):
    stop = threading.Event()

    def wait_for_end_of_input():
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=10000,
        heartbeat_interval_ms=500,
        fetch_max_wait_ms=200,
    )
    consumer.subscribe([topic], listener=Reporter())
    while not stop.is_set():
        received = consumer.poll(timeout_ms=100)
        for records in received.values():
            for record in records:
                headers = ",".join(f"{to_text(name.encode())}:{to_text(content)}" for name, content in record.headers)
                key, value = to_text(record.key), to_text(record.value)
                say("record", record.partition, record.offset, record.timestamp, key, value, headers)
        if received:
            try:
                consumer.commit()
            except (CommitFailedError, KafkaError) as error:
                print(f"not committed: {error!r}", file=sys.stderr)
    consumer.close()
    say("closed")


def main(command, bootstrap, topic, last=None):
    if command == "produce":
        return produce(bootstrap, topic)
    if command == "consume":
        return consume(bootstrap, topic, last)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    if command == "create":
        admin.create_topics([NewTopic(topic, int(last), 1)])
    elif command == "delete":
        admin.delete_topics([topic])
    elif command == "offsets":
        for where, committed in admin.list_group_offsets({last: None})[last].items():
            if where.topic == topic:
                say("offset", where.partition, committed.offset)
    else:
        raise SystemExit(f"unknown command {command}")
    admin.close()


main(*sys.argv[1:])
