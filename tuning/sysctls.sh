# Raises sysctls as the table wants them; not a program. apply.sh and load-client.sh have it from common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # what common.sh has

# Puts the sysctls that have been changed into the caller's `raised`.
remembered_names() {
  local line
  [[ -r $root$state/sysctl ]] || return 0
  while IFS= read -r line; do
    raised+=("${line%%=*}")
  done <"$root$state/sysctl"
}

# Raises the sysctls of a role, and writes all that have ever been raised to a file, for the next boot.
raise_sysctls() {
  local index name has wanted value text='' raised=()
  local -A now=()
  remembered_names
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
    wanted=$(evaluate_all "${wants[index]}")
    value=$(reconcile "${rules[index]}" "$has" "$wanted")
    if [[ $value == "$has" ]]; then
      say enough "$name = $has"
    elif change_sysctl "${rules[index]}" "$name" "$has" "$value"; then
      is_among "$name" "${raised[@]}" || raised+=("$name")
      now[$name]=$value
    fi
  done
  for name in "${raised[@]}"; do
    value=${now[$name]:-$(read_line "$(sysctl_path "$name")")} || continue
    text+=$'\n'"$name = $value"
  done
  [[ -z $text ]] || put_file /etc/sysctl.d/90-crore.conf "$written_by$text"
}

# Sets one, which undo.sh will find as it was, and looks at what the kernel has made of it; $value, the caller's,
# becomes that.
change_sysctl() {
  local rule=$1 name=$2 has=$3 before
  if ! is_among "$name" "${raised[@]}"; then
    IFS= read -r before <"$root$(sysctl_path "$name")"
    remember sysctl "$name=$before"
  fi
  if ! set_sysctl "$name" "$4"; then
    refused "$name" "$has" "$4"
    return 1
  fi
  if [[ -z $dry_run ]]; then
    value=$(read_line "$(sysctl_path "$name")")
    # The kernel may round up.
    if [[ $(reconcile "$rule" "$value" "$4") != "$value" ]]; then
      refused "$name" "$has" "$4"
      return 1
    fi
  fi
  say "${dry_run:+would }raise" "$name = $value (was ${has:-empty})"
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
