#!/bin/sh
# Brings the programs that the demo, tests and benchmarks run beside Sallyport: PostgreSQL clients, a second server
# version, pgbouncer, other people's drivers. Root installs Debian packages; anybody else gets them unpacked into a cache
# folder where apt allows it. What can not be had is named, and the tests that need it say so when they skip.
set -eu
purpose=${1:?usage: tools.sh demo|test|bench|conformance|identity|keycloak|ssh}
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/usr/lib/postgresql/15/bin/$1" ]; }

updated=
install_packages() {
  [ "$(id -u)" = 0 ] || return 1
  command -v apt-get >/dev/null 2>&1 || return 1
  echo "Installing Debian packages: $*" >&2
  [ -n "$updated" ] || { apt-get update -qq >/dev/null 2>&1 || true; updated=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

# PostgreSQL's own package starts a cluster of its own on installation; nobody asked for one.
no_cluster() {
  [ "$(id -u)" = 0 ] || return 0
  [ -e /etc/postgresql-common/createcluster.conf ] && return 0
  mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
}

# Built once for an own database in memory, so that a test starts it in seconds; kept by its version. True once it is there.
keycloak() {
  version=26.4.5
  folder=$cache/keycloak-$version
  [ ! -f "$folder/.built" ] || return 0
  have java || install_packages openjdk-17-jre-headless || true
  have java && { have mvn || install_packages maven; } && { have unzip || install_packages unzip; } || return 1
  echo "Fetching Keycloak (160 MB, once) ..." >&2
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/keycloak.XXXXXX")
  timeout 600 mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip -DoutputDirectory="$fresh" >"$fresh/log" 2>&1 &&
    unzip -q "$fresh/keycloak-quarkus-dist-$version.zip" -d "$fresh" &&
    timeout 300 "$fresh/keycloak-$version/bin/kc.sh" build --db=dev-mem --health-enabled=false --metrics-enabled=false >>"$fresh/log" 2>&1 &&
    touch "$fresh/keycloak-$version/.built" && rm -rf "$folder" && mv "$fresh/keycloak-$version" "$folder" ||
    { echo "tools.sh: Keycloak can not be had; the end of what was said:" >&2; tail -5 "$fresh/log" >&2; }
  rm -rf "$fresh"
  [ -f "$folder/.built" ]
}

# Servers, clients and shells that SSH is tried with; those of Python in a folder of their own.
ssh_tools() {
  have sshd && have tmux && have rsync && have zsh && have busybox && have git && have vim && have top && have less &&
    have python3 && have xauth && [ -e /etc/services ] ||
    install_packages openssh-server openssh-client openssh-sftp-server tmux rsync zsh busybox git vim procps less \
      python3 xauth netbase || true
  have plink && have lftp && have sshfs || install_packages putty-tools lftp sshfs || true
  [ ! -x "$cache/ssh-python/bin/python" ] || return 0
  have python3 || install_packages python3 || return 0
  echo "Installing paramiko, asyncssh and Ansible ..." >&2
  { python3 -m venv "$cache/ssh-python" || { install_packages python3-venv && python3 -m venv "$cache/ssh-python"; }; } &&
    "$cache/ssh-python/bin/pip" install --quiet --disable-pip-version-check \
      'paramiko==5.1.0' 'asyncssh==2.24.1' 'ansible-core==2.19.14' >&2 || rm -rf "$cache/ssh-python"
}

case $purpose in
demo) have psql || install_packages postgresql-client || true ;;
test)
  have psql || install_packages postgresql-client || true
  [ -x /usr/lib/postgresql/15/bin/postgres ] || { no_cluster; install_packages postgresql-15 || true; }
  ssh_tools
  # Without it the tests that need it say so and are skipped.
  [ -z "${CI:-}" ] || "$(dirname "$0")/psql18.sh" >/dev/null || echo "psql 18 can not be had here: its tests are skipped" >&2
  ;;
bench)
  have pgbench && [ -x /usr/lib/postgresql/15/bin/postgres ] || { no_cluster; install_packages postgresql-15 postgresql-client postgresql-contrib || true; }
  have pgbouncer || install_packages pgbouncer || true
  ;;
conformance)
  have psql && have pgbench || { no_cluster; install_packages postgresql-15 postgresql-client postgresql-contrib || true; }
  [ -x /usr/lib/postgresql/15/bin/postgres ] || { no_cluster; install_packages postgresql-15 || true; }
  if [ ! -x "$cache/python/bin/python" ] && { command -v python3 >/dev/null 2>&1 || install_packages python3 python3-venv; }; then
    echo "Installing psycopg ..." >&2
    { python3 -m venv "$cache/python" || { install_packages python3-venv && python3 -m venv "$cache/python"; }; } &&
      "$cache/python/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.2.13' 'SQLAlchemy==2.0.44' || rm -rf "$cache/python"
  fi
  have javac || install_packages openjdk-17-jdk-headless || true
  if [ ! -f "$cache/java/postgresql-42.7.8.jar" ] && { have mvn || install_packages maven; }; then
    echo "Fetching pgjdbc ..." >&2
    mkdir -p "$cache/java"
    mvn -q -B dependency:copy -Dartifact=org.postgresql:postgresql:42.7.8 -DoutputDirectory="$cache/java" >/dev/null 2>&1 || true
  fi
  ;;
keycloak) keycloak ;;
ssh) ssh_tools ;;
identity)
  have java || install_packages openjdk-17-jre-headless || true
  keycloak || true
  have chromium || install_packages chromium || true
  "$(dirname "$0")/psql18.sh" >/dev/null || true
  ;;
*) echo "tools.sh: unknown purpose $purpose" >&2; exit 2 ;;
esac
