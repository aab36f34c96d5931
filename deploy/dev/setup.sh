#!/usr/bin/env bash
# Makes .venv: `setup.sh run` with what the programs need, `setup.sh test` with the development tools as well,
# `setup.sh fuzz` with the fuzzer as well.
# Versions are those of constraints.txt. Safe to run twice, and from two terminals at once.
set -euo pipefail
cd "$(dirname "$0")/../.."

want=${1:-test}
case $want in
  run) extras= ;;
  test) extras='[test]' ;;
  fuzz) extras='[test,fuzz]' ;;
  *) echo "setup.sh: unknown set '$want': give run, test or fuzz" >&2; exit 2 ;;
esac

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# The first Python >= 3.11 on PATH that can make an environment; else the first that is new enough.
find_python() {
  local name found=
  for name in python3 python3.11 python3.12 python3.13 python3.14; do
    name=$(command -v "$name") && new_enough "$name" || continue
    if makes_venvs "$name"; then echo "$name"; return; fi
    found=${found:-$name}
  done
  echo "$found"
}

# What Debian lacks on a fresh machine; installed only as root, said otherwise.
debian_packages() {
  if [ -z "$1" ]; then echo "python3 python3-venv"; return; fi
  "$1" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")'
}

ensure_python() {
  python=$(find_python)
  if [ -n "$python" ] && makes_venvs "$python"; then return; fi
  local packages what
  packages=$(debian_packages "$python")
  what=${python:+"$python cannot make environments (no ensurepip)"}
  what=${what:-"no Python 3.11 or newer on PATH"}
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "$what: installing $packages"
    apt-get update -qq </dev/null
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages </dev/null >/dev/null
    python=$(find_python)
    if [ -n "$python" ] && makes_venvs "$python"; then return; fi
    echo "setup: $what, and $packages did not help: put a Python 3.11 or newer with venv first on PATH" >&2
    exit 1
  fi
  echo "setup: $what. On Debian: sudo apt-get update && sudo apt-get install $packages; then run make again" >&2
  exit 1
}

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9

started=$SECONDS
# An environment that was copied from elsewhere answers with another prefix, and would change that other one.
if [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$PWD/.venv" ] \
  || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  ensure_python
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi
echo "setup: installing the versions of constraints.txt into .venv (a minute or so the first time)"
pip() { .venv/bin/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt "$@" </dev/null; }
# The build back-end is installed first and used in place, so that its version is pinned too.
pip pip hatchling editables
pip --no-build-isolation --editable ".$extras"
touch .venv/.installed
if [ "$want" != run ]; then touch .venv/.installed-test; fi
if [ "$want" = fuzz ]; then touch .venv/.installed-fuzz; fi
echo "setup: done in $((SECONDS - started)) s"
