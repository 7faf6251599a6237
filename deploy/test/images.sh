#!/bin/bash
# Proves that an image, official or built by deploy/local, is what docker-compose.yml takes it for: each
# program is where compose starts it and runs as the uid of that service, without any capability, on a
# read-only root file system. Takes the images from the environment (NAME_IMAGE), leaves out those that are
# not set, and prints `N passed, N failed`.
set -uo pipefail

passed=0
failed=0

# check VARIABLE UID PROGRAM ARGUMENT…: the program must run and end well.
check() {
  local image=${!1:-} uid=$2 program=$3 what output
  [ -n "$image" ] || return 0
  what="$1: $program ${*:4} as $uid"
  if output=$(docker run --rm --network none --user "$uid:$uid" --read-only --cap-drop ALL \
    --security-opt no-new-privileges --tmpfs /tmp --entrypoint "$program" "$image" "${@:4}" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: %s\n%s\n' "$what" "$(tail -n 3 <<<"$output")"
  fi
}

check POSTGRES_IMAGE 999 docker-entrypoint.sh postgres --version
check POSTGRES_IMAGE 999 pg_isready --version
check REDIS_IMAGE 999 redis-server --version
check REDIS_IMAGE 999 redis-cli --version
check REDIS_IMAGE 999 /bin/sh -c true
check MOSQUITTO_IMAGE 1883 /bin/sh -c 'command -v mosquitto && command -v mosquitto_passwd && command -v mosquitto_sub'
check LAKE_IMAGE 10001 /usr/local/bin/versitygw --version
check LAKE_IMAGE 10001 /bin/sh -c 'command -v wget'
check PROMETHEUS_IMAGE 65534 /bin/prometheus --version
check PROMETHEUS_IMAGE 65534 /bin/promtool --version
check ALERTMANAGER_IMAGE 65534 /bin/alertmanager --version
check ALERTMANAGER_IMAGE 65534 /bin/amtool --version
check ALERTMANAGER_IMAGE 65534 /bin/sh -c 'command -v wget'
check LOKI_IMAGE 10001 /usr/bin/loki -version
check TEMPO_IMAGE 10001 /tempo -version
check OTEL_COLLECTOR_IMAGE 10001 /otelcol-contrib --version
check JAEGER_IMAGE 10001 /go/bin/all-in-one-linux version
check NODE_EXPORTER_IMAGE 65534 /bin/node_exporter --version
check POSTGRES_EXPORTER_IMAGE 65534 /bin/postgres_exporter --version
check REDIS_EXPORTER_IMAGE 65534 /redis_exporter --version
check BLACKBOX_EXPORTER_IMAGE 65534 /bin/blackbox_exporter --version
check GATEWAY_IMAGE 101 /usr/sbin/nginx -v

# A server that comes up proves more than a version: a first start with the options that compose uses.
first_start() {
  local image=$1 container state=""
  container=$(docker run -d --network none --user 999:999 --read-only --cap-drop ALL \
    --security-opt no-new-privileges --tmpfs /tmp:mode=1777,noexec \
    --tmpfs /var/run/postgresql:uid=999,gid=999,mode=0775 \
    --tmpfs /var/lib/postgresql/data:uid=999,gid=999,mode=0700 \
    --env POSTGRES_PASSWORD=test --env POSTGRES_DB=transactions \
    --env 'POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --data-checksums' \
    "$image" postgres -c shared_preload_libraries=pg_stat_statements)
  for _ in $(seq 60); do
    state=$(docker exec --env PGPASSWORD=test "$container" \
      psql -h 127.0.0.1 -U postgres -d transactions -Atc "show shared_preload_libraries" 2>&1) && break
    sleep 1
  done
  # Over the network a wrong password must not do.
  if [ "$state" = pg_stat_statements ] &&
    ! docker exec --env PGPASSWORD=wrong "$container" psql -h 127.0.0.1 -U postgres -c 'select 1' >/dev/null 2>&1; then
    # The server takes SIGINT for a fast shutdown, which is the image's stop signal.
    docker stop --time 20 "$container" >/dev/null
    [ "$(docker inspect --format '{{.State.ExitCode}}' "$container")" = 0 ] && state=stopped
  fi
  docker rm -f -v "$container" >/dev/null
  printf '%s\n' "$state"
}
if [ -n "${POSTGRES_IMAGE:-}" ]; then
  state=$(first_start "$POSTGRES_IMAGE")
  if [ "$state" = stopped ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'failed: POSTGRES_IMAGE: first start, login and clean stop: %s\n' "$state"
  fi
fi

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
