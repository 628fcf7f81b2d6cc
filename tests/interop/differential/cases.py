"""The requests that both servers get, in order. Each runs in every version that both support.

A body is a function of the context: the version, ids that the server has given to topics and producers, what earlier
responses left in `state`. It may name fields of all versions; those that a version lacks are not sent.
"""

import time
import uuid
from dataclasses import dataclass, field
from typing import Callable, Optional

from records import batch

NOW_MS = int(time.time() * 1000)
NO_ID = uuid.UUID(int=0)
SOME_ID = uuid.UUID(int=7 << 64 | 9)


@dataclass
class Case:
    api: str
    what: str
    body: Callable
    versions: range = range(0, 1000)
    # Called with the context and the response, on each side.
    after: Optional[Callable] = None
    # Topics that must be known to both servers, or unknown to them, before the next case.
    created: list = field(default_factory=list)
    # The request is repeated until it does not return one of these error codes: Kafka answers before it is ready.
    not_yet: tuple = ()
    # The request is repeated until its response satisfies this: Kafka does some things after it has answered.
    until: Callable = lambda response: True


def topic(c, name, **content):
    """Names a topic in each way that a version may want."""
    return {"Name": name, "TopicId": c.id(name), **content}


def produced(c, name, records, acks=-1, partition=0, **header):
    entry = {"Index": partition, "Records": batch(records, NOW_MS, **header)}
    return {"Acks": acks, "TimeoutMs": 10_000, "TopicData": [topic(c, name, PartitionData=[entry])]}


def fetched(c, name, offset, partition=0, max_bytes=1 << 20, **content):
    entry = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": max_bytes, **content.pop("entry", {})}
    asked = {"Topic": name, "TopicId": c.id(name), "Partitions": [entry]}
    return {"MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 1 << 20, "Topics": [asked], **content}


def created(name, partitions=1, replicas=1, configs=None, **content):
    settings = [{"Name": key, "Value": value} for key, value in (configs or {}).items()]
    return {"Name": name, "NumPartitions": partitions, "ReplicationFactor": replicas, "Configs": settings, **content}


def creation(what, name, **content):
    own = lambda c: f"{name}-{c.version}"
    options = {key: content.pop(key) for key in ("validateOnly",) if key in content}
    return Case("CreateTopics", what, lambda c: {"Topics": [created(own(c), **content)], **options})


def offsets_of(c, name, timestamp, partition=0, isolation=0, epoch=-1):
    entry = {"PartitionIndex": partition, "Timestamp": timestamp, "CurrentLeaderEpoch": epoch}
    asked = {"Name": name, "Partitions": [entry]}
    return {"ReplicaId": -1, "IsolationLevel": isolation, "Topics": [asked], "TimeoutMs": 10_000}


def committed(c, group, name, partition, offset, **content):
    entry = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedMetadata": "note"}
    return {"GroupId": group, "GenerationIdOrMemberEpoch": -1, "Topics": [topic(c, name, Partitions=[entry])], **content}


def offset_fetch(c, group, topics):
    lists = None
    if topics is not None:
        lists = [topic(c, name, PartitionIndexes=partitions) for name, partitions in topics]
    return {"GroupId": group, "Topics": lists, "Groups": [{"GroupId": group, "Topics": lists}]}


def joined(group, member="", protocols=("range",), session=10_000, kind="consumer", **content):
    offered = [{"Name": name, "Metadata": b"\0\1\0\0\0\1\0\1a\xff\xff\xff\xff"} for name in protocols]
    times = {"SessionTimeoutMs": session, "RebalanceTimeoutMs": 10_000}
    return {"GroupId": group, "MemberId": member, "ProtocolType": kind, "Protocols": offered, **times, **content}


def configs(kind, name, keys=None, **content):
    return {"Resources": [{"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}], **content}


def altered(kind, name, changes, **content):
    """Changes are (name, operation, value): 0 sets, 1 deletes, 2 appends, 3 subtracts."""
    entries = [{"Name": key, "ConfigOperation": operation, "Value": value} for key, operation, value in changes]
    return {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": entries}], **content}


def replaced(kind, name, values, **content):
    entries = [{"Name": key, "Value": value} for key, value in values]
    return {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": entries}], **content}


def quota(entity, **operations):
    parts = [{"EntityType": kind, "EntityName": name} for kind, name in entity]
    entries = [{"Key": key, "Value": value or 0.0, "Remove": value is None} for key, value in operations.items()]
    return {"Entries": [{"Entity": parts, "Ops": entries}]}


def quota_filter(*components, strict=False):
    parts = [{"EntityType": kind, "MatchType": match, "Match": name} for kind, match, name in components]
    return {"Components": parts, "Strict": strict}


def keep_member(c, response):
    c.state["member"] = response["MemberId"]
    c.state["generation"] = response.get("GenerationId", -1)


def keep_producer(c, response):
    c.state["producer"] = (response["ProducerId"], response["ProducerEpoch"])


def keep_session(c, response):
    c.state["session"] = response.get("SessionId", 0)


def has_ended(response):
    return response["TransactionStates"][0]["TransactionState"].startswith("Complete")


def transaction(c, **content):
    producer_id, epoch = c.state.get("producer", (-1, -1))
    return {"TransactionalId": "txn", "ProducerId": producer_id, "ProducerEpoch": epoch, **content}


def partitions_to_transaction(c, name, partitions):
    producer_id, epoch = c.state.get("producer", (-1, -1))
    topics = [{"Name": name, "Partitions": partitions}]
    return {
        "V3AndBelowTransactionalId": "txn",
        "V3AndBelowProducerId": producer_id,
        "V3AndBelowProducerEpoch": epoch,
        "V3AndBelowTopics": topics,
        "Transactions": [{"TransactionalId": "txn", "ProducerId": producer_id, "ProducerEpoch": epoch, "Topics": topics}],
    }


SMALL = [(b"key", b"value"), (None, b""), (b"k", None)]
TOPIC, OTHER, EMPTY, COMPACTED = "first", "second", "empty", "compacted"

PREPARE = [
    Case("CreateTopics", "the topics", lambda c: {"Topics": [
        created(TOPIC, 3), created(OTHER, 2), created(EMPTY, 1), created(COMPACTED, 1, configs={"cleanup.policy": "compact"}),
    ]}, versions=range(7, 8), created=[TOPIC, OTHER, EMPTY, COMPACTED]),
    Case("FindCoordinator", "of the group", lambda c: {"Key": "group", "KeyType": 0, "CoordinatorKeys": ["group"]}, not_yet=(15,)),
    Case("FindCoordinator", "of the transactional id", lambda c: {"Key": "txn", "KeyType": 1, "CoordinatorKeys": ["txn"]},
         versions=range(1, 7), not_yet=(15,)),
    Case("FindCoordinator", "of an unknown type", lambda c: {"Key": "x", "KeyType": 9, "CoordinatorKeys": ["x"]}, versions=range(1, 7)),
]

METADATA = [
    Case("Metadata", "of all topics", lambda c: {"Topics": None if c.version else []}),
    Case("Metadata", "of no topic", lambda c: {"Topics": []}, versions=range(1, 14)),
    Case("Metadata", "of some", lambda c: {"Topics": [topic(c, TOPIC), topic(c, EMPTY)]}, versions=range(0, 10)),
    Case("Metadata", "of some by id", lambda c: {"Topics": [{"Name": None, "TopicId": c.id(TOPIC)}]}, versions=range(10, 14)),
    Case("Metadata", "of an unknown id", lambda c: {"Topics": [{"Name": None, "TopicId": SOME_ID}]}, versions=range(10, 14)),
    Case("Metadata", "of an unknown topic", lambda c: {"Topics": [{"Name": "none", "TopicId": NO_ID}], "AllowAutoTopicCreation": False},
         versions=range(4, 14)),
    Case("Metadata", "of an invalid name", lambda c: {"Topics": [{"Name": "no/name", "TopicId": NO_ID}], "AllowAutoTopicCreation": False},
         versions=range(4, 14)),
    Case("DescribeCluster", "as it is", lambda c: {}),
    Case("DescribeCluster", "with operations", lambda c: {"IncludeClusterAuthorizedOperations": True}),
    Case("DescribeCluster", "of controllers", lambda c: {"EndpointType": 2}, versions=range(1, 3)),
    Case("DescribeTopicPartitions", "of two topics", lambda c: {"Topics": [{"Name": OTHER}, {"Name": TOPIC}]}),
    Case("DescribeTopicPartitions", "of all", lambda c: {"Topics": []}),
    Case("DescribeTopicPartitions", "two at a time", lambda c: {"Topics": [{"Name": TOPIC}, {"Name": OTHER}], "ResponsePartitionLimit": 2}),
    Case("DescribeTopicPartitions", "from a cursor", lambda c: {
        "Topics": [{"Name": TOPIC}, {"Name": OTHER}], "Cursor": {"TopicName": OTHER, "PartitionIndex": 1}}),
    Case("DescribeTopicPartitions", "of an unknown topic", lambda c: {"Topics": [{"Name": "none"}]}),
    Case("DescribeTopicPartitions", "of an invalid name", lambda c: {"Topics": [{"Name": "no/name"}]}),
    Case("DescribeTopicPartitions", "from a negative partition", lambda c: {
        "Topics": [{"Name": TOPIC}], "Cursor": {"TopicName": TOPIC, "PartitionIndex": -1}}),
    Case("DescribeLogDirs", "of all", lambda c: {"Topics": None}),
    Case("DescribeLogDirs", "of one partition", lambda c: {"Topics": [{"Topic": EMPTY, "Partitions": [0]}]}),
    Case("DescribeLogDirs", "of an unknown topic", lambda c: {"Topics": [{"Topic": "none", "Partitions": [0]}]}),
    Case("DescribeQuorum", "of the metadata", lambda c: {
        "Topics": [{"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 0}]}]}),
    Case("DescribeQuorum", "of another topic", lambda c: {"Topics": [{"TopicName": TOPIC, "Partitions": [{"PartitionIndex": 0}]}]}),
]

TOPICS = [
    creation("a topic", "new", partitions=2),
    creation("with defaults", "defaults", partitions=-1, replicas=-1),
    Case("CreateTopics", "one that exists", lambda c: {"Topics": [created(TOPIC)]}),
    Case("CreateTopics", "the same twice", lambda c: {"Topics": [created("twice"), created("twice")]}),
    creation("an invalid name", "no/name"),
    Case("CreateTopics", "names of the internal topics", lambda c: {"Topics": [created("__cluster_metadata")]}),
    Case("CreateTopics", "an empty name", lambda c: {"Topics": [created("")]}),
    Case("CreateTopics", "a name of two dots", lambda c: {"Topics": [created("..")]}),
    Case("CreateTopics", "a long name", lambda c: {"Topics": [created("n" * 250)]}),
    creation("no partition", "zero", partitions=0),
    creation("two replicas", "replicas", replicas=2),
    creation("no replica", "replicas", replicas=0),
    creation("without creating it", "dry", validateOnly=True),
    creation("an unknown setting", "setting", configs={"no.such": "1"}),
    creation("a setting that is no number", "setting", configs={"retention.ms": "soon"}),
    creation("a setting without a value", "setting", configs={"retention.ms": None}),
    creation("small segments", "setting", configs={"segment.bytes": "100"}),
    creation("segments of no time", "setting", configs={"segment.ms": "0"}),
    creation("a negative retention", "setting", configs={"retention.ms": "-2"}),
    creation("a policy that does not exist", "setting", configs={"cleanup.policy": "shrink"}),
    creation("no policy", "policy", configs={"cleanup.policy": ""}),
    creation("both policies", "policies", configs={"cleanup.policy": "compact,delete"}),
    creation("three in-sync replicas", "insync", configs={"min.insync.replicas": "3"}),
    creation("no in-sync replica", "insync", configs={"min.insync.replicas": "0"}),
    creation("a preallocated topic", "preallocated", configs={"preallocate": "true"}),
    creation("tiers", "tiers", configs={"remote.storage.enable": "true"}),
    creation("no tiers", "no-tiers", configs={"remote.storage.enable": "false"}),
    creation("a throttled topic", "throttled", configs={"leader.replication.throttled.replicas": "*"}),
    creation("a compression level", "level", configs={"compression.type": "zstd", "compression.zstd.level": "7"}),
    creation("a level that does not exist", "level", configs={"compression.zstd.level": "99"}),
    creation("with an assignment", "assigned", partitions=-1, replicas=-1,
             Assignments=[{"PartitionIndex": 0, "BrokerIds": [1]}, {"PartitionIndex": 1, "BrokerIds": [1]}]),
    creation("with an assignment to a broker that does not exist", "assigned-9", partitions=-1, replicas=-1,
             Assignments=[{"PartitionIndex": 0, "BrokerIds": [9]}]),
    creation("with an assignment with a gap", "assigned-gap", partitions=-1, replicas=-1,
             Assignments=[{"PartitionIndex": 1, "BrokerIds": [1]}]),
    creation("with an assignment and a count", "assigned-count", partitions=1, replicas=1,
             Assignments=[{"PartitionIndex": 0, "BrokerIds": [1]}]),
    creation("with an empty assignment", "assigned-empty", partitions=-1, replicas=-1, Assignments=[{"PartitionIndex": 0, "BrokerIds": []}]),
    Case("CreateTopics", "for the partitions to come", lambda c: {"Topics": [created("growing")]}, versions=range(7, 8), created=["growing"]),
    Case("CreatePartitions", "more", lambda c: {"Topics": [{"Name": "growing", "Count": 2 + c.version}], "TimeoutMs": 9000}),
    Case("CreatePartitions", "fewer", lambda c: {"Topics": [{"Name": TOPIC, "Count": 2}], "TimeoutMs": 9000}),
    Case("CreatePartitions", "as many", lambda c: {"Topics": [{"Name": TOPIC, "Count": 3}], "TimeoutMs": 9000}),
    Case("CreatePartitions", "none", lambda c: {"Topics": [{"Name": TOPIC, "Count": 0}], "TimeoutMs": 9000}),
    Case("CreatePartitions", "of an unknown topic", lambda c: {"Topics": [{"Name": "none", "Count": 2}], "TimeoutMs": 9000}),
    Case("CreatePartitions", "without creating them", lambda c: {
        "Topics": [{"Name": TOPIC, "Count": 5}], "TimeoutMs": 9000, "ValidateOnly": True}),
    Case("CreatePartitions", "with an assignment", lambda c: {
        "Topics": [{"Name": "growing", "Count": 10 + c.version, "Assignments": [{"BrokerIds": [1]}] * (10 if c.version == 0 else 1)}],
        "TimeoutMs": 9000, "ValidateOnly": True}),
    Case("CreatePartitions", "with an assignment to a broker that does not exist", lambda c: {
        "Topics": [{"Name": TOPIC, "Count": 4, "Assignments": [{"BrokerIds": [9]}]}], "TimeoutMs": 9000}),
    Case("DeleteTopics", "an unknown one", lambda c: {"TopicNames": ["none"], "Topics": [{"Name": "none"}], "TimeoutMs": 9000}),
    Case("DeleteTopics", "one of those", lambda c: {
        "TopicNames": [f"new-{1 + c.version}"], "Topics": [{"Name": f"new-{1 + c.version}"}], "TimeoutMs": 9000}),
    Case("DeleteTopics", "an unknown id", lambda c: {"Topics": [{"Name": None, "TopicId": SOME_ID}], "TimeoutMs": 9000}, versions=range(6, 7)),
    Case("DeleteTopics", "name and id together", lambda c: {
        "Topics": [{"Name": TOPIC, "TopicId": c.id(TOPIC)}], "TimeoutMs": 9000}, versions=range(6, 7)),
]

RECORDS = [
    Case("Produce", "three records", lambda c: produced(c, TOPIC, SMALL), versions=range(3, 14)),
    Case("Produce", "with acks=1", lambda c: produced(c, TOPIC, SMALL, acks=1), versions=range(3, 14)),
    Case("Produce", "with acks=2", lambda c: produced(c, TOPIC, SMALL, acks=2), versions=range(3, 14)),
    Case("Produce", "to an unknown partition", lambda c: produced(c, TOPIC, SMALL, partition=9), versions=range(3, 14)),
    Case("Produce", "to an unknown topic", lambda c: {"Acks": -1, "TimeoutMs": 9000, "TopicData": [
        {"Name": "none", "TopicId": SOME_ID, "PartitionData": [{"Index": 0, "Records": batch(SMALL, NOW_MS)}]}]}, versions=range(3, 14)),
    Case("Produce", "a wrong CRC", lambda c: produced(c, TOPIC, SMALL, crc=7), versions=range(3, 14)),
    Case("Produce", "a producer id without an epoch", lambda c: produced(c, TOPIC, SMALL, producer_id=4711, epoch=-1, sequence=0),
         versions=range(3, 14)),
    Case("Produce", "a control batch", lambda c: produced(c, TOPIC, SMALL, attributes=0x20), versions=range(3, 14)),
    Case("Produce", "a record without a key to a compacted topic", lambda c: produced(c, COMPACTED, SMALL), versions=range(3, 14)),
    Case("Produce", "keyed records to a compacted topic", lambda c: produced(c, COMPACTED, [(b"a", b"1"), (b"b", None)]), versions=range(3, 14)),
    Case("Produce", "nothing", lambda c: {"Acks": -1, "TimeoutMs": 9000, "TopicData": []}, versions=range(3, 14)),
    Case("InitProducerId", "of an idempotent producer", lambda c: {
        "TransactionalId": None, "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1},
        after=keep_producer, not_yet=(14,)),
    Case("InitProducerId", "with an id and no epoch", lambda c: {
        "TransactionalId": None, "TransactionTimeoutMs": 60_000, "ProducerId": 5, "ProducerEpoch": -1}, versions=range(3, 6)),
    Case("Produce", "in sequence", lambda c: produced(
        c, OTHER, SMALL, producer_id=c.state["producer"][0], epoch=0, sequence=3 * (c.version - 3)), versions=range(3, 14)),
    Case("Produce", "the last one again", lambda c: produced(
        c, OTHER, SMALL, producer_id=c.state["producer"][0], epoch=0, sequence=30), versions=range(3, 14)),
    Case("Produce", "out of sequence", lambda c: produced(
        c, OTHER, SMALL, producer_id=c.state["producer"][0], epoch=0, sequence=77), versions=range(3, 14)),
    Case("Fetch", "from the start", lambda c: fetched(c, TOPIC, 0)),
    Case("Fetch", "from the middle", lambda c: fetched(c, TOPIC, 4)),
    Case("Fetch", "read_committed", lambda c: fetched(c, TOPIC, 0, IsolationLevel=1)),
    Case("Fetch", "an empty topic", lambda c: fetched(c, EMPTY, 0)),
    Case("Fetch", "beyond the end", lambda c: fetched(c, TOPIC, 10_000)),
    Case("Fetch", "a negative offset", lambda c: fetched(c, TOPIC, -1)),
    Case("Fetch", "one byte", lambda c: fetched(c, TOPIC, 0, max_bytes=1)),
    Case("Fetch", "an unknown partition", lambda c: fetched(c, TOPIC, 0, partition=9)),
    Case("Fetch", "an unknown topic", lambda c: {**fetched(c, TOPIC, 0), "Topics": [
        {"Topic": "none", "TopicId": SOME_ID, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}]}),
    Case("Fetch", "with a leader epoch of the future", lambda c: fetched(c, TOPIC, 0, entry={"CurrentLeaderEpoch": 77}), versions=range(9, 19)),
    Case("Fetch", "after an epoch of the future", lambda c: fetched(c, TOPIC, 0, entry={"LastFetchedEpoch": 77}), versions=range(12, 19)),
    Case("Fetch", "with a new session", lambda c: fetched(c, TOPIC, 0, SessionId=0, SessionEpoch=0), versions=range(7, 19), after=keep_session),
    Case("Fetch", "nothing new in the session", lambda c: {
        "MaxWaitMs": 0, "SessionId": c.state["session"], "SessionEpoch": 1, "Topics": []}, versions=range(18, 19)),
    Case("Fetch", "a wrong epoch of the session", lambda c: {
        "MaxWaitMs": 0, "SessionId": c.state["session"], "SessionEpoch": 9, "Topics": []}, versions=range(18, 19)),
    Case("Fetch", "a session that does not exist", lambda c: {"MaxWaitMs": 0, "SessionId": 12345, "SessionEpoch": 1, "Topics": []},
         versions=range(7, 19)),
    *(Case("ListOffsets", f"at {timestamp}", lambda c, timestamp=timestamp: offsets_of(c, TOPIC, timestamp))
      for timestamp in (-1, -2, -3, -4, -5, -6, NOW_MS, NOW_MS + 1, 0)),
    Case("ListOffsets", "read_committed", lambda c: offsets_of(c, TOPIC, -1, isolation=1)),
    Case("ListOffsets", "of an empty topic", lambda c: offsets_of(c, EMPTY, -3)),
    Case("ListOffsets", "of an unknown topic", lambda c: offsets_of(c, "none", -1)),
    Case("ListOffsets", "with a leader epoch of the future", lambda c: offsets_of(c, TOPIC, -1, epoch=77), versions=range(4, 12)),
    Case("OffsetForLeaderEpoch", "the first", lambda c: {"ReplicaId": -1, "Topics": [
        {"Topic": TOPIC, "Partitions": [{"Partition": 0, "CurrentLeaderEpoch": -1, "LeaderEpoch": 0}]}]}),
    Case("OffsetForLeaderEpoch", "one of the future", lambda c: {"ReplicaId": -1, "Topics": [
        {"Topic": TOPIC, "Partitions": [{"Partition": 0, "CurrentLeaderEpoch": -1, "LeaderEpoch": 77}]}]}),
    Case("OffsetForLeaderEpoch", "of an unknown topic", lambda c: {"ReplicaId": -1, "Topics": [
        {"Topic": "none", "Partitions": [{"Partition": 0, "CurrentLeaderEpoch": -1, "LeaderEpoch": 0}]}]}),
    Case("DeleteRecords", "up to an offset", lambda c: {"Topics": [
        {"Name": OTHER, "Partitions": [{"PartitionIndex": 0, "Offset": 1 + c.version}]}], "TimeoutMs": 9000}),
    Case("DeleteRecords", "all", lambda c: {"Topics": [{"Name": OTHER, "Partitions": [{"PartitionIndex": 0, "Offset": -1}]}], "TimeoutMs": 9000}),
    Case("DeleteRecords", "beyond the end", lambda c: {"Topics": [
        {"Name": OTHER, "Partitions": [{"PartitionIndex": 0, "Offset": 9999}]}], "TimeoutMs": 9000}),
    Case("DeleteRecords", "of an unknown topic", lambda c: {"Topics": [
        {"Name": "none", "Partitions": [{"PartitionIndex": 0, "Offset": 1}]}], "TimeoutMs": 9000}),
    Case("DeleteRecords", "of a compacted topic", lambda c: {"Topics": [
        {"Name": COMPACTED, "Partitions": [{"PartitionIndex": 0, "Offset": 1}]}], "TimeoutMs": 9000}),
    Case("DescribeProducers", "of a partition", lambda c: {"Topics": [{"Name": OTHER, "PartitionIndexes": [0, 1, 9]}]}),
    Case("DescribeProducers", "of an unknown topic", lambda c: {"Topics": [{"Name": "none", "PartitionIndexes": [0]}]}),
]

GROUPS = [
    Case("OffsetCommit", "without a member", lambda c: committed(c, "group", TOPIC, 0, 3), versions=range(2, 11)),
    Case("OffsetCommit", "of an unknown partition", lambda c: committed(c, "group", TOPIC, 9, 3), versions=range(2, 11)),
    Case("OffsetCommit", "of an unknown topic", lambda c: committed(c, "group", "none", 0, 3), versions=range(2, 11)),
    Case("OffsetCommit", "of an unknown member", lambda c: committed(c, "group", TOPIC, 0, 3, MemberId="m", GenerationIdOrMemberEpoch=1),
         versions=range(2, 11)),
    Case("OffsetCommit", "without a group id", lambda c: committed(c, "", TOPIC, 0, 3), versions=range(2, 11)),
    Case("OffsetFetch", "of one partition", lambda c: offset_fetch(c, "group", [(TOPIC, [0, 1, 9])])),
    Case("OffsetFetch", "of all", lambda c: offset_fetch(c, "group", None), versions=range(2, 11)),
    Case("OffsetFetch", "of an unknown group", lambda c: offset_fetch(c, "nobody", [(TOPIC, [0])])),
    Case("OffsetFetch", "of an unknown topic", lambda c: offset_fetch(c, "group", [("none", [0])])),
    Case("OffsetFetch", "without a group id", lambda c: offset_fetch(c, "", [(TOPIC, [0])])),
    Case("DescribeGroups", "without members", lambda c: {"Groups": ["group"], "IncludeAuthorizedOperations": True}),
    Case("DescribeGroups", "of an unknown group", lambda c: {"Groups": ["nobody"]}),
    Case("ListGroups", "all", lambda c: {}),
    Case("ListGroups", "that are stable", lambda c: {"StatesFilter": ["Stable"]}, versions=range(4, 6)),
    Case("ListGroups", "in a state that does not exist", lambda c: {"StatesFilter": ["Happy"]}, versions=range(4, 6)),
    Case("ListGroups", "of a type", lambda c: {"TypesFilter": ["classic"]}, versions=range(5, 6)),
    Case("ListGroups", "of a type that does not exist", lambda c: {"TypesFilter": ["fancy"]}, versions=range(5, 6)),
    Case("JoinGroup", "without a protocol", lambda c: joined("g", protocols=())),
    Case("JoinGroup", "without a group id", lambda c: joined("")),
    Case("JoinGroup", "with a short session", lambda c: joined("g", session=1)),
    Case("JoinGroup", "with a long session", lambda c: joined("g", session=10**9)),
    Case("JoinGroup", "as an unknown member", lambda c: joined("g", member="nobody")),
    Case("JoinGroup", "for the first time", lambda c: joined(f"g-{c.version}"), after=keep_member, versions=range(4, 10)),
    Case("JoinGroup", "for the second time", lambda c: joined("g-9", member=c.state["member"]), after=keep_member, versions=range(9, 10)),
    Case("SyncGroup", "of the leader", lambda c: {
        "GroupId": "g-9", "GenerationId": c.state["generation"], "MemberId": c.state["member"], "ProtocolType": "consumer",
        "ProtocolName": "range", "Assignments": [{"MemberId": c.state["member"], "Assignment": b"\0\0\0\0\0\0\0\0\0\0"}],
    }, versions=range(5, 6)),
    Case("SyncGroup", "with another protocol", lambda c: {
        "GroupId": "g-9", "GenerationId": c.state["generation"], "MemberId": c.state["member"], "ProtocolType": "x",
        "ProtocolName": "y", "Assignments": []}, versions=range(5, 6)),
    Case("Heartbeat", "of the member", lambda c: {"GroupId": "g-9", "GenerationId": c.state["generation"], "MemberId": c.state["member"]}),
    Case("Heartbeat", "of another generation", lambda c: {"GroupId": "g-9", "GenerationId": 77, "MemberId": c.state["member"]}),
    Case("Heartbeat", "of an unknown member", lambda c: {"GroupId": "g-9", "GenerationId": 1, "MemberId": "nobody"}),
    Case("Heartbeat", "in an unknown group", lambda c: {"GroupId": "nobody", "GenerationId": 1, "MemberId": "nobody"}),
    Case("DescribeGroups", "with a member", lambda c: {"Groups": ["g-9"]}),
    Case("DeleteGroups", "with a member", lambda c: {"GroupsNames": ["g-9"]}),
    Case("OffsetDelete", "of a topic with consumers", lambda c: {"GroupId": "g-9", "Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0}]}]}),
    Case("LeaveGroup", "of an unknown member", lambda c: {"GroupId": "g-9", "MemberId": "nobody", "Members": [{"MemberId": "nobody"}]}),
    Case("LeaveGroup", "of the member", lambda c: {
        "GroupId": "g-9", "MemberId": c.state["member"], "Members": [{"MemberId": c.state["member"]}]}, versions=range(5, 6)),
    Case("LeaveGroup", "of an unknown group", lambda c: {"GroupId": "nobody", "MemberId": "m", "Members": [{"MemberId": "m"}]}),
    Case("DescribeGroups", "that its member has left", lambda c: {"Groups": ["g-9"]}),
    Case("OffsetDelete", "of an offset", lambda c: {"GroupId": "group", "Topics": [{"Name": TOPIC, "Partitions": [{"PartitionIndex": 0}]}]}),
    Case("OffsetDelete", "of an unknown group", lambda c: {"GroupId": "nobody", "Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0}]}]}),
    Case("DeleteGroups", "that is unknown", lambda c: {"GroupsNames": ["nobody", ""]}),
]

CONFIGS = [
    Case("DescribeConfigs", "of a topic", lambda c: configs(2, TOPIC, IncludeSynonyms=True)),
    Case("DescribeConfigs", "of a compacted topic", lambda c: configs(2, COMPACTED, ["cleanup.policy"], IncludeSynonyms=True)),
    Case("DescribeConfigs", "one of a topic", lambda c: configs(2, TOPIC, ["retention.ms", "no.such"])),
    Case("DescribeConfigs", "of an unknown topic", lambda c: configs(2, "none")),
    Case("DescribeConfigs", "of an invalid name", lambda c: configs(2, "no/name")),
    Case("DescribeConfigs", "of another broker", lambda c: configs(4, "9")),
    Case("DescribeConfigs", "of a broker without a number", lambda c: configs(4, "one")),
    Case("DescribeConfigs", "of all brokers", lambda c: configs(4, "")),
    Case("DescribeConfigs", "of a type that does not exist", lambda c: configs(3, "x")),
    Case("DescribeConfigs", "of client metrics", lambda c: configs(16, "metrics")),
    Case("AlterConfigs", "of a topic", lambda c: replaced(2, TOPIC, [("retention.ms", str(10**9 + c.version))])),
    Case("AlterConfigs", "without changing it", lambda c: replaced(2, TOPIC, [("retention.ms", "5")], ValidateOnly=True)),
    Case("AlterConfigs", "an unknown setting", lambda c: replaced(2, TOPIC, [("no.such", "5")])),
    Case("AlterConfigs", "of an unknown topic", lambda c: replaced(2, "none", [("retention.ms", "5")])),
    Case("AlterConfigs", "of another broker", lambda c: replaced(4, "9", [("retention.ms", "5")])),
    Case("IncrementalAlterConfigs", "sets one", lambda c: altered(2, TOPIC, [("segment.ms", 0, "123456")])),
    Case("IncrementalAlterConfigs", "deletes one", lambda c: altered(2, TOPIC, [("segment.ms", 1, None)])),
    Case("IncrementalAlterConfigs", "appends to a list", lambda c: altered(2, TOPIC, [("cleanup.policy", 2, "compact")])),
    Case("IncrementalAlterConfigs", "subtracts from a list", lambda c: altered(2, TOPIC, [("cleanup.policy", 3, "compact")])),
    Case("IncrementalAlterConfigs", "appends to a number", lambda c: altered(2, TOPIC, [("segment.ms", 2, "1")])),
    Case("IncrementalAlterConfigs", "sets one twice", lambda c: altered(2, TOPIC, [("segment.ms", 0, "1"), ("segment.ms", 0, "2")])),
    Case("IncrementalAlterConfigs", "sets a null", lambda c: altered(2, TOPIC, [("segment.ms", 0, None)])),
    Case("IncrementalAlterConfigs", "an operation that does not exist", lambda c: altered(2, TOPIC, [("segment.ms", 9, "1")])),
    Case("IncrementalAlterConfigs", "of an unknown topic", lambda c: altered(2, "none", [("segment.ms", 0, "1")])),
    Case("IncrementalAlterConfigs", "of another broker", lambda c: altered(4, "9", [("log.retention.ms", 0, "1")])),
    Case("IncrementalAlterConfigs", "read-only of the broker", lambda c: altered(4, "1", [("log.dirs", 0, "/x")])),
    Case("IncrementalAlterConfigs", "dynamic of all brokers", lambda c: altered(4, "", [("log.retention.ms", 0, "604800000")])),
    Case("IncrementalAlterConfigs", "deletes it", lambda c: altered(4, "", [("log.retention.ms", 1, None)])),
    Case("IncrementalAlterConfigs", "client metrics", lambda c: altered(16, "metrics", [("interval.ms", 0, "10000")])),
    Case("IncrementalAlterConfigs", "client metrics too often", lambda c: altered(16, "metrics", [("interval.ms", 0, "1")])),
    Case("ListConfigResources", "of client metrics", lambda c: {}),
    Case("ListConfigResources", "of all types", lambda c: {"ResourceTypes": []}, versions=range(1, 2)),
    Case("IncrementalAlterConfigs", "deletes client metrics", lambda c: altered(16, "metrics", [("interval.ms", 1, None)])),
    Case("DescribeClientQuotas", "none", lambda c: quota_filter()),
    Case("AlterClientQuotas", "of a user", lambda c: quota([("user", "alice")], producer_byte_rate=1e9)),
    Case("AlterClientQuotas", "of a user's client", lambda c: quota([("user", "alice"), ("client-id", None)], consumer_byte_rate=1e9)),
    Case("AlterClientQuotas", "an unknown quota", lambda c: quota([("user", "alice")], beer_rate=1.0)),
    Case("AlterClientQuotas", "a negative one", lambda c: quota([("user", "alice")], producer_byte_rate=-1.0)),
    Case("AlterClientQuotas", "an unknown entity", lambda c: quota([("planet", "mars")], producer_byte_rate=1.0)),
    Case("AlterClientQuotas", "of an address", lambda c: quota([("ip", "127.0.0.9")], connection_creation_rate=1000.0)),
    Case("AlterClientQuotas", "of something that is no address", lambda c: quota([("ip", "no-host.invalid")], connection_creation_rate=9.0)),
    Case("AlterClientQuotas", "a wrong quota of an address", lambda c: quota([("ip", "127.0.0.9")], producer_byte_rate=9.0)),
    Case("DescribeClientQuotas", "all", lambda c: quota_filter()),
    Case("DescribeClientQuotas", "of a user", lambda c: quota_filter(("user", 0, "alice"))),
    Case("DescribeClientQuotas", "of a user alone", lambda c: quota_filter(("user", 0, "alice"), strict=True)),
    Case("DescribeClientQuotas", "of default clients", lambda c: quota_filter(("client-id", 1, None))),
    Case("DescribeClientQuotas", "of any address", lambda c: quota_filter(("ip", 2, None))),
    Case("DescribeClientQuotas", "of an unknown entity", lambda c: quota_filter(("planet", 2, None))),
    Case("AlterClientQuotas", "removes them", lambda c: {"Entries": [
        *quota([("user", "alice")], producer_byte_rate=None)["Entries"],
        *quota([("user", "alice"), ("client-id", None)], consumer_byte_rate=None)["Entries"],
        *quota([("ip", "127.0.0.9")], connection_creation_rate=None)["Entries"]]}),
    Case("DescribeUserScramCredentials", "of all", lambda c: {"Users": None}),
]

TRANSACTIONS = [
    Case("InitProducerId", "of a transactional producer", lambda c: {
        "TransactionalId": "txn", "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1},
        after=keep_producer, not_yet=(51, 14, 15, 16)),
    Case("InitProducerId", "with an empty id", lambda c: {
        "TransactionalId": "", "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1}),
    Case("InitProducerId", "with a long timeout", lambda c: {
        "TransactionalId": "long", "TransactionTimeoutMs": 10**8, "ProducerId": -1, "ProducerEpoch": -1}),
    Case("InitProducerId", "with no timeout", lambda c: {
        "TransactionalId": "none", "TransactionTimeoutMs": 0, "ProducerId": -1, "ProducerEpoch": -1}),
    Case("AddPartitionsToTxn", "of an unknown topic", lambda c: partitions_to_transaction(c, "none", [0]), versions=range(0, 4)),
    Case("AddPartitionsToTxn", "adds two", lambda c: partitions_to_transaction(c, TOPIC, [1, 2]), versions=range(0, 4)),
    Case("AddOffsetsToTxn", "adds a group", lambda c: transaction(c, GroupId="txn-group")),
    Case("TxnOffsetCommit", "commits an offset", lambda c: {**transaction(c, GroupId="txn-group", Topics=[
        topic(c, TOPIC, Partitions=[{"PartitionIndex": 0, "CommittedOffset": 5 + c.version, "CommittedMetadata": ""}])])}),
    Case("OffsetFetch", "before the transaction ends", lambda c: {**offset_fetch(c, "txn-group", [(TOPIC, [0])]), "RequireStable": True},
         versions=range(7, 10)),
    Case("Produce", "in the transaction", lambda c: {
        **produced(c, TOPIC, SMALL, partition=1, producer_id=c.state["producer"][0], epoch=c.state["producer"][1],
                   sequence=3 * (c.version - 3), attributes=0x10), "TransactionalId": "txn"}, versions=range(3, 12)),
    Case("DescribeTransactions", "that is open", lambda c: {"TransactionalIds": ["txn", "nobody"]}),
    Case("ListTransactions", "all", lambda c: {"StateFilters": [], "ProducerIdFilters": []}),
    Case("ListTransactions", "in a state that does not exist", lambda c: {"StateFilters": ["Happy"], "ProducerIdFilters": []}),
    Case("ListTransactions", "of a pattern", lambda c: {"StateFilters": [], "ProducerIdFilters": [], "TransactionalIdPattern": "t.*"},
         versions=range(2, 3)),
    Case("ListTransactions", "of a pattern that is none", lambda c: {"StateFilters": [], "ProducerIdFilters": [], "TransactionalIdPattern": "("},
         versions=range(2, 3)),
    Case("Fetch", "an open transaction", lambda c: fetched(c, TOPIC, 0, partition=1, IsolationLevel=1)),
    Case("ListOffsets", "of an open transaction", lambda c: offsets_of(c, TOPIC, -1, partition=1, isolation=1)),
    Case("DescribeProducers", "with an open transaction", lambda c: {"Topics": [{"Name": TOPIC, "PartitionIndexes": [1]}]}),
    Case("EndTxn", "of a fenced epoch", lambda c: {**transaction(c, Committed=True), "ProducerEpoch": 0}),
    Case("EndTxn", "of an unknown id", lambda c: {**transaction(c, Committed=True), "TransactionalId": "nobody"}),
    Case("EndTxn", "aborts", lambda c: transaction(c, Committed=False), versions=range(4, 5)),
    Case("DescribeTransactions", "that has ended", lambda c: {"TransactionalIds": ["txn"]}, until=has_ended),
    Case("Fetch", "an aborted transaction", lambda c: fetched(c, TOPIC, 0, partition=1, IsolationLevel=1)),
    Case("OffsetFetch", "after the transaction", lambda c: {**offset_fetch(c, "txn-group", [(TOPIC, [0])]), "RequireStable": True},
         versions=range(7, 10), not_yet=(88,)),
    Case("InitProducerId", "again", lambda c: {
        "TransactionalId": "txn", "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1},
        after=keep_producer, not_yet=(51,), versions=range(5, 6)),
    Case("EndTxn", "of an empty transaction", lambda c: transaction(c, Committed=True), versions=range(4, 5)),
    Case("Produce", "that adds its partition", lambda c: {
        **produced(c, TOPIC, SMALL, partition=2, producer_id=c.state["producer"][0], epoch=c.state["producer"][1],
                   sequence=3 * (c.version - 12), attributes=0x10), "TransactionalId": "txn"}, versions=range(12, 14)),
    Case("EndTxn", "commits", lambda c: transaction(c, Committed=True), versions=range(5, 6), not_yet=(51,)),
    Case("EndTxn", "commits again", lambda c: transaction(c, Committed=True), versions=range(5, 6), not_yet=(51,)),
    Case("DescribeTransactions", "that is committed", lambda c: {"TransactionalIds": ["txn"]}, until=has_ended),
    Case("WriteTxnMarkers", "for a producer that is unknown", lambda c: {"Markers": [
        {"ProducerId": 987654, "ProducerEpoch": 3, "TransactionResult": False, "CoordinatorEpoch": 0,
         "Topics": [{"Name": TOPIC, "PartitionIndexes": [2]}]}]}),
    Case("Fetch", "committed and aborted transactions", lambda c: fetched(c, TOPIC, 0, partition=2, IsolationLevel=1)),
]

CLUSTER = [
    Case("ElectLeaders", "of one partition", lambda c: {"ElectionType": 0, "TopicPartitions": [{"Topic": TOPIC, "Partitions": [0]}]}),
    Case("ElectLeaders", "of all", lambda c: {"ElectionType": 0, "TopicPartitions": None}),
    Case("ElectLeaders", "that is unclean", lambda c: {"ElectionType": 1, "TopicPartitions": [{"Topic": TOPIC, "Partitions": [0]}]},
         versions=range(1, 3)),
    Case("ElectLeaders", "of an unknown topic", lambda c: {"ElectionType": 0, "TopicPartitions": [{"Topic": "none", "Partitions": [0]}]}),
    Case("AlterPartitionReassignments", "to the same broker", lambda c: {"Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0, "Replicas": [1]}]}]}),
    Case("AlterPartitionReassignments", "to a broker that does not exist", lambda c: {"Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0, "Replicas": [9]}]}]}),
    Case("AlterPartitionReassignments", "to none", lambda c: {"Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0, "Replicas": []}]}]}),
    Case("AlterPartitionReassignments", "is cancelled", lambda c: {"Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0, "Replicas": None}]}]}),
    Case("AlterPartitionReassignments", "of an unknown topic", lambda c: {"Topics": [
        {"Name": "none", "Partitions": [{"PartitionIndex": 0, "Replicas": [1]}]}]}),
    Case("ListPartitionReassignments", "of all", lambda c: {"Topics": None}),
    Case("ListPartitionReassignments", "of one", lambda c: {"Topics": [{"Name": TOPIC, "PartitionIndexes": [0]}]}),
    Case("AlterReplicaLogDirs", "to a directory that does not exist", lambda c: {"Dirs": [
        {"Path": "/no/such", "Topics": [{"Name": TOPIC, "Partitions": [0]}]}]}),
    Case("UpdateFeatures", "an unknown one", lambda c: {"FeatureUpdates": [{"Feature": "no.such", "MaxVersionLevel": 1}]}),
    Case("UpdateFeatures", "of too high a level", lambda c: {"FeatureUpdates": [{"Feature": "transaction.version", "MaxVersionLevel": 99}]}),
    Case("UpdateFeatures", "as it is", lambda c: {"FeatureUpdates": [{"Feature": "transaction.version", "MaxVersionLevel": 2}], "ValidateOnly": True}),
    Case("UnregisterBroker", "that does not exist", lambda c: {"BrokerId": 9}),
    Case("DescribeAcls", "without an authorizer", lambda c: {
        "ResourceTypeFilter": 1, "PrincipalFilter": None, "HostFilter": None, "ResourceNameFilter": None, "Operation": 1, "PermissionType": 1}),
    Case("CreateAcls", "without an authorizer", lambda c: {"Creations": [
        {"ResourceType": 2, "ResourceName": "t", "Principal": "User:a", "Host": "*", "Operation": 3, "PermissionType": 3}]}),
    Case("DeleteAcls", "without an authorizer", lambda c: {"Filters": [
        {"ResourceTypeFilter": 2, "ResourceNameFilter": "t", "PrincipalFilter": None, "HostFilter": None, "Operation": 1, "PermissionType": 1}]}),
    Case("CreateDelegationToken", "without tokens", lambda c: {"Renewers": [], "MaxLifetimeMs": 1000}),
    Case("RenewDelegationToken", "without tokens", lambda c: {"Hmac": b"x", "RenewPeriodMs": 1000}),
    Case("ExpireDelegationToken", "without tokens", lambda c: {"Hmac": b"x", "ExpiryTimePeriodMs": 1000}),
    Case("DescribeDelegationToken", "without tokens", lambda c: {"Owners": None}),
    Case("SaslHandshake", "without SASL", lambda c: {"Mechanism": "PLAIN"}),
    Case("ApiVersions", "with the name of a client", lambda c: {"ClientSoftwareName": "diff", "ClientSoftwareVersion": "1"}),
    Case("ApiVersions", "with an invalid name", lambda c: {"ClientSoftwareName": "!", "ClientSoftwareVersion": "1"}, versions=range(3, 6)),
]

CASES = PREPARE + METADATA + TOPICS + RECORDS + GROUPS + CONFIGS + TRANSACTIONS + CLUSTER
