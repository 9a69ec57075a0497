#!/usr/bin/env bash
# Raises what stands between this host and so many connections: `tuning/apply.sh --connections 1000000`.
# What has been is kept, and tuning/undo.sh brings it back. A second run changes nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tuning/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
usage: tuning/apply.sh --connections NUMBER [OPTION…]

Prepares a host that accepts connections. No value is ever lowered.

  --connections NUMBER   how many the server shall hold
  --cores NUMBER         workers of the server [default: the CPUs that this process may run on]
  --port PORT            the listening port [default: 8080]
  --descriptors KIND     regular, direct or auto [default: auto: direct from Linux 6.13 up]
  --user NAME            whose logins get the descriptor limit [default: who called sudo, else crore]
  --dry-run              says what would change, and changes nothing
  --root DIRECTORY       works on the files below a directory, /proc/sys among them, instead of the machine

Exit code: 0, or 1 if the kernel has refused a value (the others are set), or 2 for a wrong call or
where something can't be written.
TEXT
}

main() {
  local nofile memlock
  read_options "$@"
  read_knobs "$here/knobs.conf"
  facts[L]=$(limit nofile)

  raise_sysctls server
  nofile=$(at_least_the_units LimitNOFILE "${facts[L]}")
  memlock=$(at_least_the_units LimitMEMLOCK "$(limit memlock)")
  put_file /etc/systemd/system/crore.service.d/90-limits.conf "$written_by
[Service]
LimitNOFILE=$nofile
LimitMEMLOCK=$memlock"
  # Never below what systems give by themselves; nor can it be above fs.nr_open, where logins would fail: that is
  # at least as much by now.
  [[ $nofile != infinity ]] || nofile=${facts[L]}
  put_file /etc/security/limits.d/90-crore.conf "$written_by
$user soft nofile $nofile
$user hard nofile $(larger "$nofile" 1048576)"
  reload_systemd
  say_what_is_left server
  say 'this shell' "ulimit -n ${facts[L]}   (a service gets it at its next start, a user at the next login)"
  ((refusals == 0))
}

# What the table wants of a limit for the server.
limit() {
  local index
  for index in "${!names[@]}"; do
    if [[ ${names[index]} == "$1" && ${wheres[index]} == rlimit ]] && is_for "$index" server; then
      evaluate "${wants[index]}"
      return
    fi
  done
  die "knobs.conf has no limit $1"
}

# A limit for the drop-in, which must not be lower than that of the unit, or of an earlier run.
at_least_the_units() {
  local file line value=$2
  for file in /{etc,usr/local/lib,usr/lib,lib}/systemd/system/crore.service{,.d/90-limits.conf}; do
    [[ -r $root$file ]] || continue
    while IFS= read -r line; do
      [[ $line == "$1="* ]] || continue
      # Of SOFT:HARD, the hard one.
      line=${line#*=} line=${line##*:}
      case $line in
        infinity) value=infinity ;;
        *[!0-9]* | '') ;;
        *) [[ $value == infinity ]] || value=$(larger "$value" "$line") ;;
      esac
    done <"$root$file"
  done
  echo "$value"
}

main "$@"
