#!/bin/bash
# Makes a cluster on the first start, runs /docker-entrypoint-initdb.d once, then becomes the server.
# It honours the variables of the official image: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB,
# POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD (each also as NAME_FILE) and PGDATA.
set -euo pipefail

die() {
  printf 'postgres: %s\n' "$*" >&2
  exit 1
}

# file_env NAME [DEFAULT]: NAME, or the content of the file named by NAME_FILE, or DEFAULT.
file_env() {
  local name=$1 file_name=$1_FILE
  if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
    die "$name and $file_name are both set"
  fi
  if [ -n "${!file_name:-}" ]; then
    [ -r "${!file_name}" ] || die "$file_name: cannot read ${!file_name}"
    export "$name"="$(<"${!file_name}")"
  elif [ -z "${!name:-}" ]; then
    export "$name"="${2:-}"
  fi
  unset "$file_name"
}

# Statements over the private socket of the server that runs during initialisation.
sql() {
  PGHOST=$socket_dir PGHOSTADDR='' PGPASSWORD=$POSTGRES_PASSWORD \
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc "$@"
}

make_cluster() {
  file_env POSTGRES_PASSWORD
  file_env POSTGRES_USER postgres
  file_env POSTGRES_DB "$POSTGRES_USER"
  file_env POSTGRES_INITDB_ARGS
  file_env POSTGRES_HOST_AUTH_METHOD
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    die "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE for the first start"
  fi

  # shellcheck disable=SC2086 # several options in one variable are wanted
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# The scripts see the server with the options it will have later, but nobody else sees it half made:
# it listens on no network address until all have run. The arguments are the server's.
run_init_scripts() {
  socket_dir=$(mktemp -d)
  local options
  options=$(printf '%q ' "$@" -c listen_addresses= -c unix_socket_directories="$socket_dir")
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -w start -o "$options" >/dev/null
  if [ "$POSTGRES_DB" != postgres ]; then
    sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
    *.sh)
      printf 'postgres: running %s\n' "$script"
      if [ -x "$script" ]; then
        PGHOST=$socket_dir "$script"
      else
        # As with the official image, a script that is not executable runs in this shell.
        # shellcheck disable=SC1090
        PGHOST=$socket_dir . "$script"
      fi
      ;;
    *.sql)
      printf 'postgres: running %s\n' "$script"
      sql --dbname "$POSTGRES_DB" -f "$script"
      ;;
    *.sql.gz)
      printf 'postgres: running %s\n' "$script"
      gunzip -c "$script" | sql --dbname "$POSTGRES_DB"
      ;;
    esac
  done
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
  rmdir "$socket_dir"
}

main() {
  if [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
  fi
  # Other programs, and questions that need no cluster, run as they are.
  case "$1 ${*:2}" in
  "postgres "*--help* | "postgres "*--version* | "postgres "*--describe-config*) exec "$@" ;;
  "postgres "*) ;;
  *) exec "$@" ;;
  esac
  if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
  fi

  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA" 2>/dev/null || true
  # PG_VERSION is written early by initdb; a start that was cut off while the scripts ran must not
  # pass for a finished one.
  local unfinished=$PGDATA/.initialising
  if [ -e "$unfinished" ]; then
    printf 'postgres: the first start was interrupted; starting over\n' >&2
    find "$PGDATA" -mindepth 1 -delete
  fi
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    make_cluster
    : >"$unfinished"
    run_init_scripts "${@:2}"
    rm "$unfinished"
    printf 'postgres: ready for start up\n'
  fi
  # The server has no use for the password that made it.
  unset POSTGRES_PASSWORD PGPASSWORD
  exec "$@"
}

main "$@"
