#!/bin/sh
# Runs PostgreSQL 18 in a pod: makes and seeds the database at first start, then serves TLS and SCRAM alone.
#   /data     writable; survives where it is a volume
#   /secret   password (of the superuser postgres), and a file a role: <role>.password for orders_reader, _writer, _owner
#   /tls      tls.crt, tls.key
#   /seed     *.sql, run as superuser in the database orders (optional; the built-in schema is /usr/share/seed.sql)
set -eu
data=/data/pgdata
if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data"
  initdb -D "$data" -U postgres --pwfile=/secret/password -A scram-sha-256 -E UTF8 --locale=C --no-sync --no-instructions >/dev/null
  # For this start only: nobody but this container reaches the socket.
  echo 'local all all trust' >"$data/pg_hba.conf"
  pg_ctl -D "$data" -w -s -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start
  sql() { psql -h /tmp -U postgres -v ON_ERROR_STOP=1 -q "$@"; }
  for role in orders_reader orders_writer orders_owner; do
    [ -f "/secret/$role.password" ] || continue
    sql -d postgres -v role="$role" -v password="$(cat "/secret/$role.password")" <<'SQL'
create role :"role" login password :'password';
SQL
  done
  sql -d postgres -c 'create database orders'
  sql -d orders -f /usr/share/seed.sql
  for file in /seed/*.sql; do [ ! -f "$file" ] || sql -d orders -f "$file"; done
  pg_ctl -D "$data" -w -s -m fast stop
  # hostssl alone: a client without TLS is refused by the server itself.
  printf 'hostssl all all all scram-sha-256\nlocal all all scram-sha-256\n' >"$data/pg_hba.conf"
fi
rm -f "$data/postmaster.pid"
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c ssl=on \
  -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key -c fsync=off -c shared_buffers=32MB -c log_statement=all \
  -c log_line_prefix='%p|%u|%a|' -c dynamic_shared_memory_type=mmap "$@"
