#!/usr/bin/env bash
# Runs real Kafka clients of other languages against the server: tests/interop/run.sh [client…]
# Clients: java franz-go kafkajs kafka-python kcat, all by default. They are built under target/interop and kept there.
# SERVER is the server to test instead of the release build; "build" as the only argument only builds the clients.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/interop
mkdir -p "$work"

clients=("$@")
only_build=
if [ "${1:-}" = build ]; then
    only_build=yes
    clients=("${@:2}")
fi
[ ${#clients[@]} -gt 0 ] || clients=(java franz-go kafkajs kafka-python kcat)

# Builds a client if its sources have changed: build CLIENT COMMAND…
build() {
    local client=$1 stamp="$work/$1.stamp" now
    shift
    now=$(find "$here/$client" -type f -not -path '*/target/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$now" ]; then
        echo "building $client"
        "$@"
        echo "$now" >"$stamp"
    fi
}

build_java() { mvn -q -B -f "$here/java/pom.xml" -Dout="$work/java" compile; }

build_franz_go() { (cd "$here/franz-go" && go build -o "$work/franz-go" .); }

build_kafkajs() {
    mkdir -p "$work/kafkajs"
    cp "$here/kafkajs/package.json" "$work/kafkajs/"
    npm install --prefix "$work/kafkajs" --no-package-lock --no-audit --no-fund --loglevel=error
}

build_kafka_python() {
    rm -rf "$work/kafka-python"
    python3 -m venv "$work/kafka-python"
    "$work/kafka-python/bin/pip" install --quiet --disable-pip-version-check -r "$here/kafka-python/requirements.txt"
}

for client in "${clients[@]}"; do
    case $client in
        java) build java build_java ;;
        franz-go) build franz-go build_franz_go ;;
        kafkajs) build kafkajs build_kafkajs ;;
        kafka-python) build kafka-python build_kafka_python ;;
        kcat) command -v kcat >/dev/null || { echo "kcat is missing: apt-get install kcat" >&2; exit 1; } ;;
        *) echo "no such client: $client" >&2; exit 2 ;;
    esac
done
[ -z "$only_build" ] || exit 0

if [ -z "${SERVER:-}" ]; then
    (cd "$root" && cargo build --release --locked)
    SERVER=$target/release/streamline
fi
exec python3 "$here/scenario.py" --server "$SERVER" --work "$work" "${clients[@]}"
