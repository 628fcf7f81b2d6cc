"""The scenario's client on kcat: translates the line protocol of ../README.md to its options and output.

kcat sets no timestamps, prints no acknowledgements, and separates records by bytes that a record must not contain; the
scenario asks nothing of it that it cannot do.
"""

import base64
import json
import re
import subprocess
import sys
import threading

RECORD_END, KEY_END = "\x01", "\x02"


def say(*fields):
    print("\t".join(str(field) for field in fields), flush=True)


def from_text(field):
    return None if field == "-" else base64.b64decode(field)


def to_text(content):
    return "-" if content is None else base64.b64encode(content.encode()).decode()


def create(bootstrap, topic):
    """Topics appear when a client names one that the server does not have yet."""
    asked = ["kcat", "-b", bootstrap, "-L", "-J", "-t", topic, "-X", "allow.auto.create.topics=true"]
    subprocess.run(asked, check=True, stdout=subprocess.DEVNULL)


def produce(bootstrap, topic):
    # Records of one codec, one partition and the same headers go through one process, in order.
    runs = []
    for line in sys.stdin:
        codec, partition, _timestamp, key, value, headers = line.rstrip("\n").split("\t")
        same = (codec, partition, headers)
        if not runs or runs[-1][0] != same:
            runs.append((same, []))
        runs[-1][1].append((from_text(key), from_text(value)))
    for (codec, partition, headers), records in runs:
        command = ["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", partition, "-z", codec]
        command += ["-D", RECORD_END, "-K", KEY_END, "-Z", "-X", "acks=all", "-X", "linger.ms=20"]
        for header in headers.split(",") if headers else []:
            name, content = (from_text(each).decode() for each in header.split(":"))
            command += ["-H", f"{name}={content}"]
        content = b"".join(
            (key or b"") + KEY_END.encode() + (value or b"") + RECORD_END.encode() for key, value in records
        )
        subprocess.run(command, input=content, check=True)


def consume(bootstrap, topic, group):
    command = ["kcat", "-b", bootstrap, "-J", "-u", "-E"]
    for setting in (
        "auto.offset.reset=earliest",
        "auto.commit.interval.ms=200",
        "session.timeout.ms=10000",
        "heartbeat.interval.ms=500",
        "fetch.wait.max.ms=200",
        "reconnect.backoff.max.ms=500",
    ):
        command += ["-X", setting]
    kcat = subprocess.Popen(
        command + ["-G", group, topic], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def report_assignments():
        for line in kcat.stderr:
            sys.stderr.write(line)
            change = re.search(r"rebalanced \(memberid [^)]*\): (assigned|revoked):(.*)", line)
            if change:
                held = re.findall(r"\[(\d+)\]", change[2]) if change[1] == "assigned" else []
                say("assigned", ",".join(sorted(held, key=int)))

    def stop_at_end_of_input():
        sys.stdin.read()
        kcat.terminate()

    threading.Thread(target=report_assignments, daemon=True).start()
    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    for line in kcat.stdout:
        record = json.loads(line)
        headers = record.get("headers") or []
        pairs = ",".join(f"{to_text(name)}:{to_text(content)}" for name, content in zip(headers[::2], headers[1::2]))
        key, value = to_text(record["key"]), to_text(record["payload"])
        say("record", record["partition"], record["offset"], record["ts"], key, value, pairs)
    if kcat.wait() != 0:
        raise SystemExit(f"kcat ended with {kcat.returncode}")
    say("closed")


def main(command, bootstrap, topic, last=None):
    if command == "create":
        create(bootstrap, topic)
    elif command == "produce":
        produce(bootstrap, topic)
    elif command == "consume":
        consume(bootstrap, topic, last)
    else:
        raise SystemExit(f"kcat has no command {command}")


main(*sys.argv[1:])
