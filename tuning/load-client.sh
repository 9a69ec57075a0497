#!/usr/bin/env bash
# Prepares a host that opens connections, the other end: `tuning/load-client.sh --connections 1000000 --port 8080`.
# What has been is kept, and tuning/undo.sh brings it back. A second run changes nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tuning/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
usage: tuning/load-client.sh --connections NUMBER [OPTION…]

Prepares a host that opens connections. No value is ever lowered, and the range of ports never made narrower.

  --connections NUMBER   how many the host shall open
  --port PORT            the port of the server, which is kept from being a local one [default: 8080]
  --dry-run              says what would change, and changes nothing
  --root DIRECTORY       works on the files below a directory, /proc/sys among them, instead of the machine

Exit code: 0, or 1 if the kernel has refused a value (the others are set), or 2 for a wrong call or
where something can't be written.
TEXT
}

main() {
  local range low high ports
  read_options "$@"
  read_knobs "$here/knobs.conf"
  facts[L]=$((connections + 1280))
  raise_sysctls load
  say_what_is_left load

  range=$(read_line "$(sysctl_path net.ipv4.ip_local_port_range)") || range='1024 65535'
  [[ -z $dry_run ]] || range='1024 65535'
  read -r low high <<<"$range"
  # The server's own port is reserved.
  ports=$((high - low + 1 - (low <= port && port <= high)))
  say addresses "$(((connections + ports - 1) / ports)) source addresses for each address and port of the server: $ports ports on each;"
  say '' 'crore-bench takes them out of 127.0.0.0/8 by itself where it runs on the server'\''s host'
  say 'this shell' "ulimit -n ${facts[L]}"
  ((refusals == 0))
}

main "$@"
