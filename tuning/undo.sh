#!/usr/bin/env bash
# Brings back what was before tuning/apply.sh and tuning/load-client.sh: files, and live values.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tuning/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
usage: tuning/undo.sh [--dry-run] [--root DIRECTORY]

Brings back what was before tuning/apply.sh and tuning/load-client.sh.

  --dry-run          says what would change, and changes nothing
  --root DIRECTORY   works on the files below a directory, /proc/sys among them, instead of the machine

Exit code: 0, or 1 if the kernel has refused a value (run it again: what is left is kept), or 2 for a wrong call or
where something can't be written.
TEXT
}

main() {
  while (($# > 0)); do
    case $1 in
      --help | -h) usage && exit ;;
      --dry-run) dry_run=yes && shift ;;
      --root)
        [[ $# -gt 1 && -d $2 ]] || die '--root takes a directory'
        root=$(cd -- "$2" && pwd)
        root=${root%/}
        shift 2
        ;;
      *) die "there is no option \`$1\`; --help lists them" ;;
    esac
  done
  must_be_root
  if [[ ! -d $root$state ]]; then
    say nothing "to undo: there is no $state"
    return
  fi
  # Files first: a login whose limit stands above fs.nr_open fails.
  restore_files
  restore_sysctls
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
  local path kept
  [[ -r $root$state/files ]] || return 0
  while IFS= read -r path; do
    kept=$root$state/saved$path
    # What a run that was ended has left.
    [[ -n $dry_run ]] || rm -f "$root$path.new"
    if [[ -e $kept || -L $kept ]]; then
      say "${dry_run:+would }restore" "$path"
      [[ -n $dry_run ]] || restore_file "$kept" "$root$path"
    elif [[ -e $root$path || -L $root$path ]]; then
      say "${dry_run:+would }remove" "$path"
      [[ -n $dry_run ]] || rm -f "$root$path"
    fi
  done <"$root$state/files"
}

restore_file() {
  if ! cp -Pp "$1" "$2.new" || ! move "$2.new" "$2"; then
    die "$2 can't be written: what it was is in $1"
  fi
}

# Removes the record, and the directories that were made, if nothing else has come to lie in them.
forget() {
  # The record's own is not in the list where a run was ended before it could write that.
  local made=("$state")
  [[ -z $dry_run ]] || return 0
  [[ ! -f $root$state/directories ]] || mapfile -t -O 1 made <"$root$state/directories"
  # In this order it can be ended anywhere: without the list of files nobody misses what they were.
  rm -f "$root$state"/{files,sysctl}{,.new}
  rm -rf "$root${state:?}/saved"
  remove_directories "${made[@]}"
  rm -f "$root$state"/directories{,.new}
  remove_directories "${made[@]}"
}

# The last ones first.
remove_directories() {
  local index
  for ((index = $#; index > 0; index--)); do
    rmdir "$root${!index}" 2>/dev/null || true
  done
}

main "$@"
