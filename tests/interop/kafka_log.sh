#!/usr/bin/env bash
# Exchanges log directories with Apache Kafka: Kafka's tools read logs written by Streamline, and Streamline opens logs
# written by a Kafka broker. tests/interop/kafka_log.sh [build]
#
# Kafka is downloaded from Maven once and kept under target/interop/kafka-log. SERVER is the server to test instead of the
# release build; "build" only prepares.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/interop/kafka-log
mkdir -p "$work"

stamp=$(cat "$here/kafka-log/pom.xml" "$here/kafka-log/Workload.java" | sha256sum)
if [ ! -f "$work/stamp" ] || [ "$(cat "$work/stamp")" != "$stamp" ]; then
    echo "building kafka-log"
    rm -rf "$work/classes"
    mvn -q -B -f "$here/kafka-log/pom.xml" dependency:build-classpath "-Dmdep.outputFile=$work/classpath"
    javac -d "$work/classes" -cp "$(cat "$work/classpath")" "$here/kafka-log/Workload.java"
    echo "$stamp" >"$work/stamp"
fi
[ "${1:-}" != build ] || exit 0

if [ -z "${SERVER:-}" ]; then
    (cd "$root" && cargo build --release --locked)
    SERVER=$target/release/streamline
fi
exec python3 "$here/kafka_log.py" --server "$SERVER" --work "$work"
