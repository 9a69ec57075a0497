#!/usr/bin/env bash
# Prepares a host that opens connections, the other end: `tuning/load-client.sh --connections 1000000 --port 8080`.
# What has been is kept, and tuning/undo.sh brings it back. A second run changes nothing.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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
  local low high ports
  read_options load "$@"
  read_knobs "$here/knobs.conf"
  facts[L]=$((connections + 1280))
  raise_sysctls load
  say_what_comes_later
  say_what_is_left load

  read -r low high <<<"${settled[net.ipv4.ip_local_port_range]:-1024 65535}"
  ports=$((high - low + 1 - $(reserved_ports "$low" "$high")))
  if ((ports > 0)); then
    say addresses "$(((connections + ports - 1) / ports)) source addresses for each address and port of the server: $ports ports on each;"
    say '' 'crore-bench takes them out of 127.0.0.0/8 by itself where it runs on the server'\''s host'
  else
    say 'by hand' 'no local port is left: net.ipv4.ip_local_reserved_ports has all of them'
  fi
  say 'this shell' "ulimit -n ${facts[L]}"
  ((refusals == 0))
}

# How many ports from $1 to $2 are not to be local ones; the server's own is one of them.
reserved_ports() {
  local part parts first last count=0
  IFS=, read -ra parts <<<"${settled[net.ipv4.ip_local_reserved_ports]:-$port}"
  for part in "${parts[@]}"; do
    first=$((${part%-*} > $1 ? ${part%-*} : $1))
    last=$((${part#*-} < $2 ? ${part#*-} : $2))
    count=$((count + (first <= last ? last - first + 1 : 0)))
  done
  echo "$count"
}

main "$@"
