#!/usr/bin/env bash
# Everything that can be said without running the programs. Runs all of it, then fails if any part failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=.venv/bin
failed=()

step() {
  local name=$1 before=$SECONDS output
  shift
  if output=$("$@" 2>&1 </dev/null); then
    printf '  ok      %-18s %3d s\n' "$name" $((SECONDS - before))
  else
    printf '  FAILED  %-18s %3d s   %s\n%s\n' "$name" $((SECONDS - before)) "$*" "$output"
    failed+=("$name")
  fi
}

step "lint" $bin/ruff check
step "format" $bin/ruff format --check
step "types" $bin/mypy
step "import contracts" $bin/lint-imports --no-cache
step "generated code" $bin/python deploy/dev/generate.py --check

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
