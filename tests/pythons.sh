#!/bin/sh
# Runs the tests that need no gateway process on each of several Pythons, in environments made from the lock.
#   tests/pythons.sh ENVIRONMENTS VERSION... [-- PYTEST-ARGUMENT...]
# A Python that is not on this machine is skipped and named; REQUIRE_ALL=1 makes that a failure.
set -u
environments=$1
shift
versions=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  versions="$versions $1"
  shift
done
[ $# = 0 ] || shift

# A shim may stand for a Python that is not installed: only one that runs counts.
runs() {
  "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1
}

# Prints the path of Python VERSION: on the PATH, of pyenv, or of uv.
python_of() {
  for candidate in "$(command -v "python$1")" \
    $(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -rV) \
    "$(command -v uv >/dev/null && uv python find --offline "$1" 2>/dev/null)"; do
    if [ -n "$candidate" ] && runs "$candidate" "$1"; then
      echo "$candidate"
      return
    fi
  done
}

# Makes the environment DIRECTORY with PYTHON, if it is not newer than what it is made from.
install() {
  made=$1/.installed
  if [ -e "$made" ] && [ -z "$(find requirements-dev.lock requirements-build.lock pyproject.toml -newer "$made")" ]; then
    return
  fi
  rm -rf "$1" && "$2" -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock -r requirements-build.lock &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . &&
    "$1/bin/pip" check && touch "$made"
}

failed=""
for version in $versions; do
  python=$(python_of "$version")
  if [ -z "$python" ]; then
    echo "Python $version: skipped, it is not on this machine" >&2
    [ "${REQUIRE_ALL:-}" != 1 ] || failed="$failed $version"
    continue
  fi
  echo "Python $version: $("$python" -c 'import sys; print(sys.version.split()[0], sys.executable)')"
  environment=$environments/py$version
  install "$environment" "$python" && "$environment/bin/pytest" tests/unit tests/contract "$@" || failed="$failed $version"
done
[ -z "$failed" ] || { echo "failed on Python$failed" >&2; exit 1; }
