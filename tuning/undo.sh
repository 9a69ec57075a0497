#!/usr/bin/env bash
# Brings back what was before tuning/apply.sh and tuning/load-client.sh: files, and live values.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tuning/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
usage: tuning/undo.sh [--dry-run] [--root DIRECTORY]

Brings back what was before tuning/apply.sh and tuning/load-client.sh.

  --dry-run          says what would change, and changes nothing
  --root DIRECTORY   works on the files below a directory, /proc/sys among them, instead of the machine

Exit code: 0, or 1 if the kernel has refused a value (run it again: what is left is kept), or 2 for a wrong call.
TEXT
}

main() {
  while (($# > 0)); do
    case $1 in
      --help | -h) usage && exit ;;
      --dry-run) dry_run=yes && shift ;;
      --root) [[ $# -gt 1 && -d $2 ]] || die '--root takes a directory' && root=${2%/} && shift 2 ;;
      *) die "there is no option \`$1\`; --help lists them" ;;
    esac
  done
  must_be_root
  if [[ ! -d $root$state ]]; then
    say nothing "to undo: there is no $state"
    return
  fi
  restore_sysctls
  restore_files
  reload_systemd
  if ((refusals > 0)); then return 1; fi
  forget
}

restore_sysctls() {
  local line name old has
  [[ -r $root$state/sysctl ]] || return 0
  while IFS= read -r line; do
    name=${line%%=*} old=${line#*=}
    has=$(read_line "$(sysctl_path "$name")") || { say absent "$name" && continue; }
    [[ $has != "${old//$'\t'/ }" ]] || continue
    if ! set_sysctl "$name" "$old"; then
      refused "$name" "$has" "$old"
      continue
    fi
    say "${dry_run:+would }restore" "$name = ${old:-empty} (was $has)"
  done <"$root$state/sysctl"
}

restore_files() {
  local path
  [[ -r $root$state/files ]] || return 0
  while IFS= read -r path; do
    if [[ -f $root$state/saved$path ]]; then
      say "${dry_run:+would }restore" "$path"
      [[ -n $dry_run ]] || cp -p "$root$state/saved$path" "$root$path"
    elif [[ -f $root$path ]]; then
      say "${dry_run:+would }remove" "$path"
      [[ -n $dry_run ]] || rm -f "$root$path"
    fi
  done <"$root$state/files"
}

# Removes the record, and the directories that were made, if nothing else has come to lie in them.
forget() {
  local made=() index
  [[ -z $dry_run ]] || return 0
  mapfile -t made <"$root$state/directories"
  rm -rf "${root}${state:?}"
  for ((index = ${#made[@]} - 1; index >= 0; index--)); do
    rmdir "$root${made[index]}" 2>/dev/null || true
  done
}

main "$@"
