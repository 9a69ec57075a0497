#!/usr/bin/env bash
# Can this host hold so many connections? `tuning/doctor.sh --connections 1000000`: runs the doctor of the program
# `crore`, which it looks for beside itself, where cargo builds it, and in the PATH.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}

for crore in "$here/crore" "$target/release/crore" "$target/debug/crore" "$(type -P crore || true)"; do
  [[ ! -x $crore ]] || exec "$crore" doctor "$@"
done
echo "doctor.sh: there is no program \`crore\` beside this script, in $target or in the PATH;" \
  'build it with: cargo build --release' >&2
exit 2
