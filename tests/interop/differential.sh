#!/usr/bin/env bash
# Sends the same requests to Apache Kafka and to the server, and compares the responses field by field:
# tests/interop/differential.sh [API…]
#
# SERVER is the server to test instead of the release build. With names of APIs, only their differences are printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
"$here/programs.sh" build
if [ -z "${SERVER:-}" ]; then
    (cd "$root" && cargo build --release --locked)
    SERVER=$target/release/streamline
fi
exec python3 "$here/differential.py" --server "$SERVER" --work "$target/interop/programs" "$@"
