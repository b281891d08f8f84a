#!/bin/sh
# Homes for the users whose names are given, and sshd in the foreground.
set -eu
for user in "$@"; do
  mkdir -p "/home/$user"
  chown "$user:$user" "/home/$user"
done
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f /config/sshd_config
