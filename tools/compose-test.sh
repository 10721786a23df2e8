#!/bin/sh
# tools/compose-test.sh: docker-compose.yml for real, without a Docker engine and without an image registry.
#
# Builds the image, brings the node up, calls it, takes it down, twice on the same volume. Exit status 0: that worked;
# 1: it did not; 77: it was not run here, and says why. Needs root with the right to mount, and podman, crun,
# mmdebstrap (Debian packages) and podman-compose (PyPI; PODMAN_COMPOSE names it when it is not on PATH). What Docker
# would pull, debian:trixie-slim, is made from this machine's own Debian mirror, with its pip, apt and CA settings.
# `all` as argument brings the profiles postgres and watch up too, without Grafana: Debian's PostgreSQL, Prometheus and
# Alertmanager in images of our own making stand in under the names that Docker would pull. That shows that the compose
# file wires them, and nothing of those images themselves.
# Everything lies in one temporary folder (TMPDIR, 3 GB) and a mount namespace of its own; both are gone at the end.
# Ports are 2xxxx here; SIPAGENT_* variables set others.
set -eu
cd "$(dirname "$0")/.."
compose=${PODMAN_COMPOSE:-podman-compose}

not_here() {
    echo "compose-test: not run here, because $1" >&2
    exit 77
}

if [ "${1:-}" != inside ]; then
    what=${1:-node}
    [ "$(id -u)" = 0 ] || not_here "it needs root: mounts, and containers without a user namespace"
    for tool in podman crun mmdebstrap unshare; do
        command -v "$tool" >/dev/null ||
            not_here "$tool is missing: apt-get install podman crun mmdebstrap util-linux"
    done
    command -v "$compose" >/dev/null || not_here "podman-compose is missing: pip install podman-compose"
    unshare -m --propagation private \
        sh -c 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup' 2>/dev/null ||
        not_here "a mount namespace with its own /sys/fs/cgroup cannot be had"
    mirror=$(python3 -c 'from sipagent.asterisk.apt import system_mirror as m; print(m().uri)' 2>/dev/null) ||
        not_here "/etc/apt names no Debian mirror"
    work=$(mktemp -d)
    export work mirror what
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    unshare -m --propagation private "$0" inside
    exit
fi

# --- from here on in the mount namespace --------------------------------------------------------------

umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$work/lib" /var/lib/containers
mount --bind "$work/lib" /var/lib/containers  # podman keeps a cache here whatever it is told
cat >"$work/storage.conf" <<EOF
[storage]
driver = "${STORAGE_DRIVER:-overlay}"
graphroot = "$work/storage"
runroot = "$work/run"
EOF
cat >"$work/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "$work/tmp"
EOF
export CONTAINERS_STORAGE_CONF="$work/storage.conf" CONTAINERS_CONF="$work/containers.conf" TMPDIR="$work"
unset STORAGE_DRIVER
# The stand-in answers, also where a developer's .env has a key.
export XAI_API_KEY= COMPOSE_PROJECT_NAME=sipagent-test SIPAGENT_CONFIG=./sipagent.example.toml
export SIPAGENT_ASTERISK__HTTP_PORT="${SIPAGENT_ASTERISK__HTTP_PORT:-28088}"
export SIPAGENT_ASTERISK__SIP_PORT="${SIPAGENT_ASTERISK__SIP_PORT:-25060}"
export SIPAGENT_ASTERISK__RTP_PORTS="${SIPAGENT_ASTERISK__RTP_PORTS:-[26000,26199]}"
export SIPAGENT_MEDIA__PORTS="${SIPAGENT_MEDIA__PORTS:-[27000,27199]}"
export SIPAGENT_CONTROL__PORT="${SIPAGENT_CONTROL__PORT:-28090}"
export SIPAGENT_STANDIN__PORT="${SIPAGENT_STANDIN__PORT:-28091}"
# Secrets as files.
mkdir -m 700 "$work/secrets"
head -c 32 /dev/urandom | base64 >"$work/secrets/recording_key"
head -c 18 /dev/urandom | base64 >"$work/secrets/records_password"
chmod 444 "$work"/secrets/*
export SIPAGENT_RECORDING__KEY_FILE="$work/secrets/recording_key"

step() {
    echo "compose-test: $(($(date +%s) - begun)) s: $*"
}
compose() {
    "$compose" --in-pod=false --profile postgres --profile watch --podman-run-args="--cgroups=disabled --pull=never" \
        --podman-build-args="--isolation chroot --pull=never" "$@"
}
container() {
    podman ps -q --filter "label=com.docker.compose.service=$1"
}
leave() {
    status=$?
    trap - EXIT
    [ "$status" = 0 ] || compose logs || true
    compose down --volumes >/dev/null 2>&1 || true
    exit "$status"
}
# Docker looks at the health by itself; podman needs systemd for that, so we ask.
healthy() {
    for _ in $(seq 60); do
        if podman healthcheck run "$(container "$1")" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    echo "compose-test: $1 was not healthy within 30 s" >&2
    exit 1
}
up() {
    compose up --no-build --detach asterisk
    healthy asterisk
    compose up --no-build --detach sipagent
    healthy sipagent
}
call() {
    podman exec "$(container sipagent)" sipagent call 100 --say "When are you open?" --json | tee "$work/call.json"
    python3 - "$work/call.json" <<'EOF'
import json, sys
figures = json.load(open(sys.argv[1]))
assert figures["outcome"] == "answered" and figures["turns"] == 1, "the agent did not answer"
EOF
}

calls_kept() {
    podman exec "$(container sipagent)" sipagent calls --json |
        python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'
}
inside() {  # a Python program in the sipagent container
    podman exec "$(container sipagent)" python3 -c "$1"
}
stand_in() {  # stand_in NAME PACKAGES, the rest of its Dockerfile on stdin
    {
        echo "FROM debian:trixie-slim"
        echo "RUN apt-get update -q && apt-get install -qy --no-install-recommends $2 >/dev/null"
        cat
    } >"$work/Dockerfile"
    podman build --quiet --isolation chroot --pull=never -t "$1" -f "$work/Dockerfile" "$work/own" >/dev/null
}
profiles() {
    step "stand-ins for PostgreSQL, Prometheus, Alertmanager"
    cat >"$work/own/entrypoint" <<'EOF'
#!/bin/sh
# As the official image does it, in short.
set -eu
[ -s "$PGDATA/PG_VERSION" ] || {
    initdb -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -E UTF8 --no-sync $POSTGRES_INITDB_ARGS
    pg_ctl -w start -o "-c listen_addresses="
    createdb -h /var/run/postgresql -U "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -w stop
}
exec "$@"
EOF
    chmod 755 "$work/own/entrypoint"
    stand_in postgres:17 postgresql-17 <<'EOF'
COPY entrypoint /entrypoint
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin
RUN install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data
ENTRYPOINT ["/entrypoint"]
EOF
    stand_in docker.io/prom/prometheus:v3.5.0 "prometheus wget" <<'EOF'
RUN install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
EOF
    stand_in docker.io/prom/alertmanager:v0.28.1 "prometheus-alertmanager wget" <<'EOF'
RUN install -d -o nobody /alertmanager
USER nobody
ENTRYPOINT ["prometheus-alertmanager"]
EOF
    step "up with the profiles"
    export SIPAGENT_RECORDS__URL="postgresql+psycopg://sipagent@127.0.0.1/sipagent"
    export SIPAGENT_RECORDS__PASSWORD_FILE="$work/secrets/records_password"
    compose up --no-build --detach postgres alertmanager prometheus
    for service in postgres alertmanager prometheus; do healthy $service; done
    up
    step "a call into PostgreSQL"
    call
    [ "$(calls_kept)" = 1 ]
    step "Prometheus has our rules and its Alertmanager"
    inside '
import json, urllib.request as http
ask = lambda what: json.load(http.urlopen(f"http://127.0.0.1:9090/api/v1/{what}"))["data"]
assert len(ask("rules")["groups"]) >= 5, "rules"
assert len(ask("alertmanagers")["activeAlertmanagers"]) == 1, "alertmanager"
print("jobs:", *sorted({target["labels"]["job"] for target in ask("targets")["activeTargets"]}))
'
    podman ps
}

begun=$(date +%s)
trap leave EXIT
trap 'exit 130' INT TERM

step "debian:trixie-slim from the mirror"
mkdir -p "$work/own/etc/apt/apt.conf.d" "$work/own/usr/local/share"
apt-config dump | grep -E '^Acquire::(http|https|Check-)' >"$work/own/etc/apt/apt.conf.d/99machine" || true
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$work/own/etc/"
[ ! -e /usr/local/share/ca-certificates ] || cp -RL /usr/local/share/ca-certificates "$work/own/usr/local/share/"
mmdebstrap --quiet --variant=minbase --aptopt="$work/own/etc/apt/apt.conf.d/99machine" \
    --customize-hook="copy-in $work/own/etc $work/own/usr /" trixie "$work/debian.tar" "$mirror"
podman import --quiet "$work/debian.tar" debian:trixie-slim
rm "$work/debian.tar"

step "build"
compose build asterisk
podman images

step "up"
up
for service in asterisk sipagent; do
    [ "$(podman exec "$(container $service)" id -u)" != 0 ]
done
podman ps
podman exec "$(container asterisk)" grep -A1 '"asterisk"' /opt/switch/current/manifest.json
inside '
from pathlib import Path
from sipagent import config, media
assert media.__file__.endswith(".so"), "what every packet passes was not compiled"
settings = config.load(Path("/etc/sipagent/sipagent.toml"))
assert len(settings.recording.key_bytes) == 32, "the secret file did not arrive"
'

step "a call"
call

step "down, and up again on the same volume"
compose down
up
step "a second call"
call
[ "$(calls_kept)" = 2 ]

if [ "$what" = all ]; then
    compose down --volumes
    profiles
fi

step "down for good"
compose down --volumes
[ -z "$(podman ps -aq)$(podman volume ls -q)" ]
step "well"
