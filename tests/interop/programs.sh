#!/usr/bin/env bash
# Runs programs that are built on Kafka against the server: Kafka Streams, Connect, MirrorMaker 2.
# tests/interop/programs.sh [build | PROGRAM…]
#
# They are downloaded from Maven once and kept under target/interop/programs. SERVER is the server to test instead of the
# release build, or "kafka" for Apache Kafka, which must pass as well; "build" only prepares.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/interop/programs
mkdir -p "$work"

stamp=$(cat "$here"/programs/*/* | sha256sum)
if [ ! -f "$work/stamp" ] || [ "$(cat "$work/stamp")" != "$stamp" ]; then
    echo "building programs"
    rm -rf "$work/classes"
    for part in streams connect; do
        mvn -q -B -f "$here/programs/$part/pom.xml" dependency:build-classpath "-Dmdep.outputFile=$work/$part.classpath"
    done
    javac -d "$work/classes" -cp "$(cat "$work/streams.classpath")" "$here"/programs/streams/*.java
    echo "$stamp" >"$work/stamp"
fi
[ "${1:-}" != build ] || exit 0

if [ -z "${SERVER:-}" ]; then
    (cd "$root" && cargo build --release --locked)
    SERVER=$target/release/streamline
fi
exec python3 "$here/programs.py" --server "$SERVER" --work "$work" "$@"
