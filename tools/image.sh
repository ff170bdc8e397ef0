#!/usr/bin/env bash
# Builds the image, starts the broker from it with a read-only root, asks its own health check, stops it, and removes everything.
#
# With docker or podman where an engine answers. Without one: buildah, as root, on a base made from Debian's packages where
# no registry is reached; the broker is then started by chroot in a mount namespace of its own, which proves the files, the user and
# the read-only root, but no limits and no network of its own.
#
#   JOBKEY_ENGINE=docker|podman|buildah   choose         JOBKEY_IMAGE=name:tag   keep the image under this name (docker, podman)
#   JOBKEY_BASE=image                     another base   JOBKEY_BASE_MIRROR=url  where debootstrap finds Debian's packages
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'image: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
need() { command -v "$1" >/dev/null || PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2"; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/jobkey-image.XXXXXX")
image=${JOBKEY_IMAGE:-localhost/jobkey-broker:check}
base=${JOBKEY_BASE:-}
broker='' # process id, or container id

cleanup() {
    local code=$?
    trap - EXIT INT TERM
    case "${engine:-}" in
    docker | podman)
        [ -z "$broker" ] || "$engine" rm --force --volumes "$broker" >/dev/null 2>&1 || true
        [ -n "${JOBKEY_IMAGE:-}" ] || "$engine" rmi --force "$image" >/dev/null 2>&1 || true
        ;;
    buildah)
        [ -z "$broker" ] || kill -KILL "$broker" 2>/dev/null || true
        b rm --all >/dev/null 2>&1 || true
        ;;
    esac
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT INT TERM

b() { buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"; }

pick_engine() {
    local candidate
    if [ -n "${JOBKEY_ENGINE:-}" ]; then
        echo "$JOBKEY_ENGINE"
        return
    fi
    for candidate in docker podman; do
        if command -v "$candidate" >/dev/null && timeout 20 "$candidate" info >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo buildah
}

# The index and the proxy that pip uses here, for the build alone: as a secret they stay in no layer.
pip_conf() {
    local key value name
    echo '[global]'
    for key in index-url trusted-host proxy; do
        name="PIP_$(tr 'a-z-' 'A-Z_' <<<"$key")"
        value=${!name:-$(.venv/bin/python -I -m pip config get "global.$key" 2>/dev/null || true)}
        [ -z "$value" ] || echo "$key = $value"
    done
    if [ "$engine" = buildah ]; then echo 'cert = /etc/ssl/certs/ca-certificates.crt'; fi # this machine's, mounted below
}

# A broker.yaml with one issuer, one policy and both signing backends: the bench's, since it has to be a whole one.
configure() {
    port=$(.venv/bin/python -c 'from bench.server import free_port; print(free_port())')
    .venv/bin/python - "$work/etc" "$port" <<'PYTHON'
import sys
from pathlib import Path

from bench.server import configure

configure(Path(sys.argv[1]), port=int(sys.argv[2]), issuer="http://127.0.0.1:9", data="/data")
PYTHON
    chmod a+x "$work" # the broker's user has to reach its configuration, and nothing else in here
    chmod -R a+rX "$work/etc"
}

await_health() { # a command that asks, and one that tells whether the broker still runs
    local deadline=$((SECONDS + 30))
    until "$1"; do
        "$2" || return 1
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.3
    done 2>/dev/null
}

# ---- docker, podman

with_engine() {
    say "building with $engine"
    "$engine" build ${base:+--build-arg BASE="$base"} --secret "id=pip-conf,src=$work/pip.conf" --tag "$image" .
    broker=$("$engine" run --detach --read-only --cap-drop ALL --security-opt no-new-privileges \
        --env "JOBKEY_HEALTH_URL=http://127.0.0.1:$port" --volume "$work/etc:/etc/jobkey:ro" "$image")
    if ! await_health engine_health engine_runs; then
        "$engine" logs "$broker" >&2
        die "the broker did not become healthy"
    fi
    "$engine" stop --time 10 "$broker" >/dev/null
    local code
    code=$("$engine" inspect --format '{{.State.ExitCode}}' "$broker")
    [ "$code" = 0 ] || die "the broker ended with $code when asked to stop"
    say "built, started with a read-only root, healthy, stopped"
}
engine_health() {
    "$engine" exec "$broker" /opt/jobkey/bin/python -I -S -c "$(health_code)" >/dev/null
}
engine_runs() { [ "$("$engine" inspect --format '{{.State.Running}}' "$broker")" = true ]; }
health_code() { "$engine" inspect --format '{{index .Config.Healthcheck.Test 5}}' "$image"; }

# ---- buildah, without an engine

with_buildah() {
    need buildah buildah
    need unshare util-linux
    [ "$(id -u)" = 0 ] || die "no container engine answers, and building without one takes root"
    make_base
    say "building with buildah on $base"
    local proxy=() name
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || proxy+=(--build-arg "$name=${!name}")
    done
    b build --quiet --format docker --isolation chroot --network host --build-arg BASE="$base" "${proxy[@]}" \
        --secret "id=pip-conf,src=$work/pip.conf" --volume /etc/ssl/certs:/etc/ssl/certs:ro \
        --volume /etc/resolv.conf:/etc/resolv.conf:ro --tag "$image" . >"$work/build.log" 2>&1 ||
        { tail -n 60 "$work/build.log" >&2 && die "the build failed"; }
    local container
    container=$(b from "$image")
    root=$(b mount "$container")
    b inspect --type image "$image" >"$work/image.json"
    mkdir -p "$root/etc/jobkey"
    install -d -m 0700 -o 65532 -g 65532 "$work/data"
    no_build_tools
    inside "$(image_command run)" >"$work/broker.log" 2>&1 &
    broker=$!
    if ! await_health buildah_health buildah_runs; then
        cat "$work/broker.log" >&2
        die "the broker did not become healthy"
    fi
    kill -TERM "$broker"
    local code=0
    timeout 15 tail --pid="$broker" -f /dev/null || die "the broker did not stop within 15 s"
    wait "$broker" || code=$?
    broker=''
    [ "$code" = 0 ] || die "the broker ended with $code when asked to stop"
    say "built ($(du -sm --exclude=proc "$root" | cut -f1) MB with its base), started by chroot with a read-only root, healthy, stopped"
    say "no container engine here: limits, capabilities and a network of its own were not tried"
}
buildah_health() (inside "$(image_command health)" >/dev/null)
buildah_runs() { kill -0 "$broker"; }

make_base() {
    local default
    default=$(sed -n 's/^ARG BASE=//p' Dockerfile)
    if timeout 60 buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs pull --quiet "${base:=$default}" >/dev/null 2>&1; then
        return
    fi
    need debootstrap debootstrap
    say "$base is not to be had here: making a base from Debian's packages"
    local container
    PATH="$PATH:/usr/sbin:/sbin" debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$work/rootfs" ${JOBKEY_BASE_MIRROR:+"$JOBKEY_BASE_MIRROR"} >"$work/base.log" 2>&1 ||
        { tail -n 20 "$work/base.log" >&2 && die "debootstrap failed; JOBKEY_BASE_MIRROR names another mirror"; }
    base=localhost/jobkey-base:check
    container=$(b from scratch)
    b add --quiet "$container" "$work/rootfs" / >/dev/null
    b commit --quiet "$container" "$base" >/dev/null
    b rm "$container" >/dev/null
    rm -rf "$work/rootfs"
}

# The image's own environment, user and command, quoted for a shell: what is tried is what the image says.
image_command() {
    .venv/bin/python -I - "$1" "$work/image.json" "http://127.0.0.1:$port" <<'PYTHON'
import json
import shlex
import sys

what, inspected, health = sys.argv[1:]
config = json.load(open(inspected))["Docker"]["config"]
command = config["Entrypoint"] + config["Cmd"] if what == "run" else config["Healthcheck"]["Test"][1:]
variables = [*config["Env"], f"JOBKEY_HEALTH_URL={health}"]
print(shlex.join(["--userspec=" + config["User"], "ROOT", "/usr/bin/env", "-i", *variables, *command]))
PYTHON
}

# Becomes chroot with these arguments (call it in a subshell), where only /data can be written and no mount is seen outside.
inside() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    local script='
        root=$1 data=$2 etc=$3
        mount --bind "$root" "$root"
        mount --bind "$data" "$root/data"
        mount --bind "$etc" "$root/etc/jobkey"
        mount -o remount,bind,ro "$root/etc/jobkey"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -o remount,bind,ro "$root"
        ! touch "$root/written" 2>/dev/null || { echo "the root can be written" >&2; exit 1; }
        eval "set -- $4"
        user=$1
        shift 2
        exec chroot "$user" "$root" "$@"'
    exec unshare --mount --propagation private sh -euc "$script" sh "$root" "$work/data" "$work/etc" "$1"
}

no_build_tools() {
    local found
    found=$(find "$root/opt/jobkey" -maxdepth 5 \( -name 'pip' -o -name 'hatchling' -o -name 'setuptools' \) -print)
    [ -z "$found" ] || die "build tools in the image: $found"
}

engine=$(pick_engine)
umask 022
pip_conf >"$work/pip.conf"
chmod 600 "$work/pip.conf"
configure
case "$engine" in
docker | podman) with_engine ;;
buildah) with_buildah ;;
*) die "JOBKEY_ENGINE is docker, podman or buildah, not $engine" ;;
esac
