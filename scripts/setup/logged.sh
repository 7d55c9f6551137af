#!/usr/bin/env bash
# Runs a command and writes its output to a file. If the command fails, prints the last line that says why, and the file's path.
#
#   ./scripts/setup/logged.sh LOG "what failed" COMMAND ...
set -uo pipefail
log=$1 what=$2
shift 2
if "$@" >"$log" 2>&1; then
  rm -f "$log"
  exit 0
else
  code=$?
fi
# The last line about an error, without lines that only count errors or say that one occurred.
reason=$(grep -iE "error|fatal|fail|could ?n.t|cannot|can't|unable|undefined reference|not found|denied|no space|unmatched" "$log" |
  grep -viE 'could not compile|aborting due|waiting for other jobs|RUST_BACKTRACE|previous error|returned 1 exit status' | tail -1)
[ -n "$reason" ] || reason=$(grep -v '^[[:space:]]*$' "$log" | tail -1)
reason=$(printf %s "$reason" | sed -E 's/^[[:space:]]+//' | cut -c1-300)
printf 'setup.sh: %s: %s\nthe whole output: %s\n' "$what" "${reason:-exit status $code, nothing printed}" "$log" >&2
exit "$code"
