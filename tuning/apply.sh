#!/usr/bin/env bash
# Raises what stands between this host and so many connections: `tuning/apply.sh --connections 1000000`.
# What has been is kept, and tuning/undo.sh brings it back. A second run changes nothing.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tuning/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
usage: tuning/apply.sh --connections NUMBER [OPTION…]

Prepares a host that accepts connections. No value is ever lowered.

  --connections NUMBER   how many the server shall hold
  --cores NUMBER         workers of the server [default: the CPUs that this process may run on]
  --port PORT            the listening port [default: 8080]
  --host END             server, or both: this host opens the connections as well [default: server]
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
  read_options "server both" "$@"
  [[ $user =~ ^[A-Za-z_][A-Za-z0-9_.@+-]*\$?$ ]] || die "\`$user\` is no name of a user: give one with --user"
  read_knobs "$here/knobs.conf"
  facts[L]=$(limit nofile server)
  [[ $role != both ]] || facts[L]=$(larger "${facts[L]}" "$(limit nofile load)")

  raise_sysctls "$role"
  nofile=$(at_least_the_units LimitNOFILE "${facts[L]}")
  memlock=$(at_least_the_units LimitMEMLOCK "$(limit memlock server)")
  put_file "$drop_in" "$written_by
[Service]
LimitNOFILE=$nofile
LimitMEMLOCK=$memlock"
  [[ $nofile != infinity ]] || nofile=${facts[L]}
  put_file "$limits_file" "$written_by$(limits_of_others)$(limits_of_logins "$nofile")"
  reload_systemd
  say_what_comes_later
  say_which_drop_ins_come_later LimitNOFILE "$nofile"
  say_which_drop_ins_come_later LimitMEMLOCK "$memlock"
  say_what_is_left "$role"
  say 'this shell' "ulimit -n ${facts[L]}   (a service gets it at its next start, a user at the next login)"
  ((refusals == 0))
}

# What the table wants of a limit for one end: `limit NAME END`.
limit() {
  local index
  for index in "${!names[@]}"; do
    if [[ ${names[index]} == "$1" && ${wheres[index]} == rlimit ]] && is_for "$index" "$2"; then
      evaluate "${wants[index]}"
      return
    fi
  done
  die "knobs.conf has no limit $1"
}

# ---- Logins

limits_file=/etc/security/limits.d/90-crore.conf

# The lines for the user: never below what systems give by themselves, and never above fs.nr_open as it is, where
# every login would fail (pam_limits.c, setup_limits).
limits_of_logins() {
  local open_max=${settled[fs.nr_open]:-1048576}
  printf '\n%s' "$user soft nofile $(smaller "$1" "$open_max")"
  printf '\n%s' "$user hard nofile $(smaller "$(larger "$1" 1048576)" "$open_max")"
}

# The lines of earlier runs for other users.
limits_of_others() {
  local name rest
  if ! is_ours "$limits_file" || [[ ! -r $root$limits_file ]]; then return; fi
  while read -r name rest; do
    [[ $name == '#'* || $name == "$user" ]] || printf '\n%s' "$name $rest"
  done <"$root$limits_file"
}

# ---- The service

drop_in=/etc/systemd/system/crore.service.d/90-limits.conf

# What the unit and its drop-ins say of a limit: lines of value and file. The unit beside this script counts before it
# is installed, too.
units_say() {
  local file line value
  for file in "$here/crore.service" "$root"/{etc,run,usr/local/lib,usr/lib,lib}/systemd/system/crore.service{,.d/*.conf}; do
    [[ -f $file && -r $file ]] || continue
    while IFS= read -r line || [[ -n $line ]]; do
      [[ $line =~ ^[[:space:]]*$1[[:space:]]*=[[:space:]]*([^[:space:]]+) ]] || continue
      # Of SOFT:HARD, the hard one.
      value=$(in_units "${BASH_REMATCH[1]##*:}") || continue
      echo "$value ${file#"$root"}"
    done <"$file"
  done
}

# A number of systemd's, such as 64M, in full; fails if it is none.
in_units() {
  local shift
  case $1 in
    infinity) echo infinity && return ;;
    *K) shift=10 ;;
    *M) shift=20 ;;
    *G) shift=30 ;;
    *) shift=0 ;;
  esac
  [[ $1 =~ ^([0-9]{1,10})[KMG]?$ ]] || return
  echo $((10#${BASH_REMATCH[1]} << shift))
}

# A limit for the drop-in, which must not be lower than those of the unit, of others, or of an earlier run.
at_least_the_units() {
  local said value=$2
  while read -r said _; do
    [[ -n $said ]] || continue
    if [[ $said == infinity || $value == infinity ]]; then value=infinity; else value=$(larger "$value" "$said"); fi
  done <<<"$(units_say "$1")"
  echo "$value"
}

# A drop-in whose name sorts after ours has the last word: `systemctl edit` makes one, override.conf.
say_which_drop_ins_come_later() {
  local said file
  while read -r said file; do
    [[ $file == *.d/* && ${file##*/} > ${drop_in##*/} && $said != infinity ]] || continue
    [[ $2 != infinity && $(larger "$said" "$2") == "$said" ]] ||
      say 'by hand' "$file has $1=$said and comes after $drop_in: take it out there"
  done <<<"$(units_say "$1")"
}

main "$@"
