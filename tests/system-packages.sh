#!/bin/sh
# Installs what is missing of PROGRAM:PACKAGE pairs, where apt and the right to use it are there.
set -u
missing=""
for pair in "$@"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "missing:$missing; no apt-get here, so the tests that need them are skipped" >&2
  exit 0
fi
if [ "$(id -u)" = 0 ]; then as_root=""
elif sudo -n true 2>/dev/null; then as_root="sudo"
else
  echo "missing:$missing; install them as root, or the tests that need them are skipped" >&2
  exit 0
fi
# Installed to be started by tests on ports of their own: no service is to start by itself.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
$as_root apt-get update -qq >/dev/null && $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
  echo "could not install:$missing" >&2
