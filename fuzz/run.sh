#!/usr/bin/env bash
# Runs fuzz targets: fuzz/run.sh [SECONDS] [TARGET…]
# Each target runs its committed corpus and then searches for new inputs until SECONDS (default 20) have passed. Without
# targets, all of them run, one per core. New inputs are kept in target/fuzz/TARGET for the next run; failing inputs are
# written to fuzz/artifacts/TARGET. Requires cargo-fuzz.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# The sanitizer flags are unstable, but the toolchain is the stable one.
export RUSTC_BOOTSTRAP=1

seconds=${1:-20}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)

cargo fuzz build
host=$(rustc -vV | sed -n 's/^host: //p')

run_target() {
    local target=$1 found=$CARGO_TARGET_DIR/fuzz/$1 log=$CARGO_TARGET_DIR/fuzz/$1.log
    mkdir -p "$found" "fuzz/artifacts/$target"
    if TMPDIR=$scratch "$CARGO_TARGET_DIR/$host/release/$target" "$found" "fuzz/corpus/$target" \
        "-artifact_prefix=fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 >"$log" 2>&1; then
        echo "figures: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
    else
        echo "$target: FAILED"
        tail -n 40 "$log"
        return 1
    fi
}
export -f run_target
scratch=$(mktemp -d -p /dev/shm streamline-fuzz-XXXXXX 2>/dev/null || mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export host seconds scratch

printf '%s\0' "${targets[@]}" | xargs -0 -P "$(nproc)" -I '{}' bash -c 'set -euo pipefail; run_target "$1"' _ '{}'
echo "${#targets[@]} targets found nothing"
