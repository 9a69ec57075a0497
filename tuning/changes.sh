# Changes, all of which undo.sh can undo; not a program. apply.sh, load-client.sh and undo.sh have it from common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # what common.sh has

state=/var/lib/crore/tuning

# The first line of every file that the scripts write.
# shellcheck disable=SC2034 # apply.sh needs it, too
written_by="# Written by Crore's tuning scripts; tuning/undo.sh removes it."

# Notes what has been: `remember FILE LINE`.
remember() {
  [[ -z $dry_run ]] || return 0
  make_directory "$state"
  printf '%s\n' "$2" >>"$root$state/$1"
}

# Makes a directory, and remembers it and all above it that were missing.
make_directory() {
  local missing=() path=$1
  while [[ -n $path && ! -d $root$path ]]; do
    missing=("$path" "${missing[@]}")
    path=${path%/*}
  done
  ((${#missing[@]} > 0)) || return 0
  mkdir -p "$root$1"
  [[ $1 == "$state" ]] || make_directory "$state"
  printf '%s\n' "${missing[@]}" >>"$root$state/directories"
}

# Writes a file whole, if it is to be another than it is; what it was is kept.
put_file() {
  local path=$1 text=$2 old
  if [[ -f $root$path ]]; then
    old=$(cat "$root$path" && echo .)
    [[ $old != "$text"$'\n.' ]] || { say unchanged "$path"; return; }
  fi
  say "${dry_run:+would }write" "$path"
  [[ -z $dry_run ]] || { printf '%s\n' "$text" | while IFS= read -r old; do echo "           | $old"; done; return; }
  make_directory "${path%/*}"
  if ! is_ours "$path"; then
    if [[ -f $root$path ]]; then
      make_directory "$state/saved${path%/*}"
      cp -p "$root$path" "$root$state/saved$path"
    fi
    remember files "$path"
  fi
  # Never half a file: a reader sees the old or the new one.
  printf '%s\n' "$text" >"$root$path.new"
  mv "$root$path.new" "$root$path"
}

is_ours() {
  local line
  [[ -r $root$state/files ]] || return
  while IFS= read -r line; do
    [[ $line != "$1" ]] || return 0
  done <"$root$state/files"
  return 1
}

# Sets a live value; fails if the kernel refuses.
set_sysctl() {
  [[ -n $dry_run ]] || { printf '%s\n' "$2" >"$root$(sysctl_path "$1")"; } 2>/dev/null
}

refusals=0
refused() {
  refusals=$((refusals + 1))
  say REFUSED "$1 = $2 (wanted $3): the kernel does not take it from here; in a container the host has to set it"
}
