#!/usr/bin/env bash
# Builds the image from the Dockerfile, runs it in a separate Docker engine, and checks the state that Docker reports:
# healthy while it serves, unhealthy while it is stuck, healthy again afterwards, stopped with exit code 0.
#
# Needs root and Debian's buildah, podman, runc, docker.io and mmdebstrap, and no image registry: the base image is built
# from Debian packages, and the machine's Rust toolchain is mounted in place of the one in rust:1-bookworm, at its own path,
# so that dependencies compiled in the target folder are reused. Everything started here is stopped at the end.
# The base image is kept in the target folder; "base" as the argument builds only that.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
base=docker.io/library/rust:1-bookworm
image=localhost/streamline:test
container=streamline-test
size_max=$((48 * 1024 * 1024))

work=$(mktemp -d)
store=(--storage-driver overlay --root "$work/store" --runroot "$work/run")

cleanup() {
    local code=$?
    set +e
    if [ "$code" -ne 0 ] && [ -S "$work/docker.sock" ]; then
        echo "--- log of the container"
        command docker -H "unix://$work/docker.sock" logs "$container" 2>&1 | tail -20
        echo "--- log of the Docker engine"
        tail -20 "$work/dockerd.log"
    fi
    if [ -f "$work/dockerd.pid" ]; then
        command docker -H "unix://$work/docker.sock" rm -f "$container" >/dev/null 2>&1
        local engine
        engine=$(cat "$work/dockerd.pid")
        kill "$engine"
        for _ in $(seq 100); do
            kill -0 "$engine" 2>/dev/null || break
            sleep 0.1
        done
    fi
    # Deepest mounts first, so that removing the folder does not reach into a mount.
    awk -v under="$work/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap cleanup EXIT

began=$(date +%s)
say() { echo "[$(($(date +%s) - began)) s] $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

base_tar=$target/container/base.tar
if [ ! -f "$base_tar" ]; then
    say "build the base image"
    mkdir -p "$target/container"
    # The files are discarded with the container and need not be flushed to disk.
    mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=ca-certificates,gcc,make,libc6-dev \
        bookworm "$work/base.tar" >"$work/base.log" 2>&1 || { tail -20 "$work/base.log"; fail "cannot build the base image"; }
    mv "$work/base.tar" "$base_tar"
fi
[ "${1:-}" != base ] || exit 0

say "import the base image"
mkdir -p "$cargo_home"
podman "${store[@]}" --cgroup-manager=cgroupfs --events-backend=file import --quiet \
    --change "ENV PATH=$cargo_home/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=$cargo_home RUSTUP_HOME=$rustup_home" \
    "$base_tar" "$base" >/dev/null

say "build the image"
buildah "${store[@]}" build --isolation=chroot --pull=never --format docker --tag "$image" \
    --build-arg "COMMIT=$(git -C "$root" rev-parse --short=12 HEAD)" \
    --volume "$cargo_home:$cargo_home" --volume "$rustup_home:$rustup_home:ro" --volume "$target:/src/target" \
    "$root" >"$work/build.log" 2>&1 || { tail -40 "$work/build.log"; fail "cannot build the image"; }
podman "${store[@]}" --cgroup-manager=cgroupfs --events-backend=file save --quiet --format docker-archive \
    --output "$work/image.tar" "$image"

say "start a Docker engine"
mkdir -p "$work/exec"
dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "unix://$work/docker.sock" \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false --default-ulimit nofile=20000:20000 \
    >"$work/dockerd.log" 2>&1 &
docker() { command docker --host "unix://$work/docker.sock" "$@"; }
for _ in $(seq 150); do
    docker info >/dev/null 2>&1 && break
    sleep 0.2
done
docker info >/dev/null || fail "the Docker engine does not respond"
docker load --quiet --input "$work/image.tar" >/dev/null

health_becomes() {
    local wanted=$1 now=
    for _ in $(seq 150); do
        now=$(docker inspect --format '{{.State.Health.Status}}' "$container")
        [ "$now" = "$wanted" ] && { say "Docker reports $wanted"; return; }
        sleep 0.2
    done
    docker inspect --format '{{json .State.Health}}' "$container"
    fail "Docker reports $now, expected $wanted"
}

# Read-only and without capabilities: the image needs only its volume.
docker run --detach --name "$container" --network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges \
    --memory=256m --health-interval=1s --health-timeout=2s --health-retries=2 --health-start-period=0s \
    "$image" >/dev/null
health_becomes healthy

user=$(docker inspect --format '{{.Config.User}}' "$container")
[ "$user" = 10001:10001 ] || fail "the container runs as $user"
size=$(docker image inspect --format '{{.Size}}' "$image")
[ "$size" -le "$size_max" ] || fail "the image has $size bytes, more than $size_max"
say "image of $((size / 1024)) KiB, user $user"

say "create a topic in the container"
docker exec "$container" streamline topics create orders

server=$(docker inspect --format '{{.State.Pid}}' "$container")
kill -STOP "$server"
health_becomes unhealthy
kill -CONT "$server"
health_becomes healthy

stop_and_check() {
    local before code
    before=$(date +%s%N)
    docker stop --time 10 "$container" >/dev/null
    code=$(docker inspect --format '{{.State.ExitCode}}' "$container")
    [ "$code" = 0 ] || fail "the server stopped with exit code $code"
    say "stopped in $((($(date +%s%N) - before) / 1000000)) ms with exit code 0"
}
stop_and_check
docker start "$container" >/dev/null
health_becomes healthy
docker exec "$container" streamline topics list | grep -q orders || fail "the topic is missing after a restart"
say "the topic is still there after a restart"
stop_and_check
