# Raises sysctls as the table wants them; not a program. apply.sh and load-client.sh have it from common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # what common.sh has

sysctl_file=/etc/sysctl.d/90-crore.conf

# What undo.sh will find: the sysctls that have been changed, in order, and what they were before.
recorded=()
declare -A before=()
# What each sysctl of the role is in the end, and what the table wants of it.
# shellcheck disable=SC2034 # apply.sh and load-client.sh look there
declare -A settled=() wanted_of=() rule_of=()

# Raises the sysctls of a role, and writes all that have ever been raised to a file, for the next boot.
raise_sysctls() {
  local index name has value
  read_record
  for index in "${!names[@]}"; do
    [[ ${wheres[index]} == sysctl && ${applies[index]} == yes ]] || continue
    is_for "$index" "$1" || continue
    name=${names[index]}
    if ! has=$(read_line "$(sysctl_path "$name")"); then
      say absent "$name (this kernel has no such thing, or it is not loaded)"
      continue
    fi
    if (($(evaluate "${whens[index]}") == 0)); then
      say 'no matter' "$name = $has (it does not count here)"
      continue
    fi
    wanted_of[$name]=$(evaluate_all "${wants[index]}") rule_of[$name]=${rules[index]}
    value=$(reconcile "${rules[index]}" "$has" "${wanted_of[$name]}")
    if [[ $value == "$has" ]]; then
      say enough "$name = $has"
    else
      change_sysctl "$name" "$has" "$value"
    fi
    settled[$name]=$value
  done
  write_sysctls
}

read_record() {
  local line
  [[ -r $root$state/sysctl ]] || return 0
  while IFS= read -r line; do
    recorded+=("${line%%=*}")
    before[${line%%=*}]=${line#*=}
  done <"$root$state/sysctl"
}

# Sets one, which undo.sh will find as it was, and looks at what the kernel has made of it; $value, the caller's,
# becomes that.
change_sysctl() {
  local name=$1 has=$2 old
  if [[ -z ${before[$name]+is} ]]; then
    old=$(read_first_line "$(sysctl_path "$name")")
    remember sysctl "$name=$old"
    recorded+=("$name") before[$name]=$old
  fi
  if [[ -n $dry_run ]]; then
    say 'would raise' "$name = $3 (was ${has:-empty})"
  elif set_sysctl "$name" "$3" && value=$(read_line "$(sysctl_path "$name")") && is_enough "$name" "$value"; then
    # The kernel may have rounded it up.
    say raise "$name = $value (was ${has:-empty})"
  else
    value=$(read_line "$(sysctl_path "$name")")
    refused "$name" "$value" "$3"
  fi
}

# Whether a value leaves nothing to be wanted of a sysctl of the role.
is_enough() {
  [[ $(reconcile "${rule_of[$1]}" "$2" "${wanted_of[$1]}") == "$2" ]]
}

# For the next boot: what has been raised now or earlier, by this script or the other.
write_sysctls() {
  local name value text='' line
  local -A written=()
  if is_ours "$sysctl_file" && [[ -r $root$sysctl_file ]]; then
    while IFS= read -r line; do
      [[ $line != *' = '* ]] || written[${line%% = *}]=${line#* = }
    done <"$root$sysctl_file"
  fi
  for name in "${recorded[@]}"; do
    value=${settled[$name]-}
    if ! is_raised "$name" "$value" || ! is_enough "$name" "$value"; then
      # The other script's, or refused, or absent now. There is none yet where a run has been ended before this.
      value=${written[$name]-$(read_line "$(sysctl_path "$name")" || true)}
      is_raised "$name" "$value" || continue
    fi
    text+=$'\n'"$name = $value"
  done
  [[ -z $text ]] || put_file "$sysctl_file" "$written_by$text"
}

is_raised() {
  [[ -n $2 && $2 != "${before[$1]//$'\t'/ }" ]]
}

# A file of somebody else that is read after ours has the last word at the next boot: sysctl.d(5) sorts by name, and
# sysctl(8) reads /etc/sysctl.conf at the end.
say_what_comes_later() {
  local file name key value
  local -A seen=()
  for file in "$root"/{etc,run,usr/local/lib,usr/lib,lib}/sysctl.d/*.conf "$root/etc/sysctl.conf"; do
    name=${file##*/}
    # Of files of one name the first counts, also where it is a link to /dev/null.
    [[ $name > ${sysctl_file##*/} && -z ${seen[$name]-} ]] || continue
    seen[$name]=yes
    [[ -f $file && -r $file ]] || continue
    while IFS='=' read -r key value || [[ -n $key ]]; do
      key=${key//[[:space:]]/} key=${key#-}
      [[ $key != [\#\;]* ]] || continue
      read -ra value <<<"$value"
      say_if_lower "${file#"$root"}" "${key//\//.}" "${value[*]}"
    done <"$file"
  done
}

# $2: a name, which may have asterisks.
say_if_lower() {
  local name
  for name in "${!settled[@]}"; do
    # shellcheck disable=SC2053 # as systemd matches them
    [[ $name == $2 ]] || continue
    if [[ ! $3 =~ ^[0-9\ ,-]*$ ]] || ! is_enough "$name" "$3" 2>/dev/null; then
      say 'by hand' "$1 has $name = $3 and is read after $sysctl_file at the next boot: take it out there"
    fi
  done
}

# What no script should change by itself.
say_what_is_left() {
  local index name has wanted
  for index in "${!names[@]}"; do
    is_for "$index" "$1" || continue
    name=${names[index]}
    case ${wheres[index]}:${rules[index]} in
      boot:*)
        has=$(read_line "$(sysctl_path net.ipv4.tcp_ehash_entries)") || continue
        wanted=$(evaluate "${wants[index]}")
        # A network namespace that shares the table shows its size as a negative number.
        ((${has#-} >= wanted)) || say 'by hand' "boot parameter $name=$wanted (the kernel has ${has#-} chains)"
        ;;
      sysctl:at-most)
        has=$(read_line "$(sysctl_path "$name")") || continue
        ((has <= wants[index])) || say 'by hand' "$name = $has (wanted ${wants[index]}): it is there on purpose"
        ;;
    esac
  done
}
