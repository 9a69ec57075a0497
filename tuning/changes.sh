# Changes, all of which undo.sh can undo; not a program. apply.sh, load-client.sh and undo.sh have it from common.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # what common.sh has

# Right below a directory that every system has: where the record is not, nothing of it is.
state=/var/lib/crore-tuning

# The first line of every file that the scripts write.
# shellcheck disable=SC2034 # apply.sh needs it, too
written_by="# Written by Crore's tuning scripts; tuning/undo.sh removes it."

# Adds lines to a list of the record, before what they say is done: `remember LIST LINE…`. A run that ends anywhere can
# then be undone. Never half a line: the disk may be full.
remember() {
  local list=$root$state/$1
  [[ -z $dry_run ]] || return 0
  make_directory "$state"
  if ! { { [[ ! -f $list ]] || cat "$list"; } && printf '%s\n' "${@:2}"; } >"$list.new" || ! mv "$list.new" "$list"; then
    die "what has been can't be noted in $list: nothing more is changed"
  fi
}

# Makes a directory, and remembers it and all above it that are missing.
make_directory() {
  local missing=() path=$1
  while [[ -n $path && ! -d $root$path ]]; do
    missing=("$path" "${missing[@]}")
    path=${path%/*}
  done
  ((${#missing[@]} > 0)) || return 0
  # The record's own has to be there before; undo.sh knows it without the list.
  [[ $1 != "$state" ]] || mkdir -p "$root$1" || die "$root$1 can't be made"
  remember directories "${missing[@]}"
  mkdir -p "$root$1" || die "$root$1 can't be made"
}

# Writes a file whole, if it is to be another than it is; what it was is kept, a link as a link.
put_file() {
  local path=$1 text=$2 old
  if [[ -f $root$path ]]; then
    old=$(cat "$root$path" && echo .) || die "$root$path can't be read"
    [[ $old != "$text"$'\n.' ]] || { say unchanged "$path"; return; }
  fi
  say "${dry_run:+would }write" "$path"
  [[ -z $dry_run ]] || { printf '%s\n' "$text" | while IFS= read -r old; do echo "           | $old"; done; return; }
  [[ ! -d $root$path || -L $root$path ]] || die "$root$path is a directory"
  make_directory "${path%/*}"
  is_ours "$path" || keep_file "$path"
  if ! printf '%s\n' "$text" >"$root$path.new" || ! move "$root$path.new" "$root$path"; then
    die "$root$path can't be written"
  fi
}

# Keeps what lies in the place of a file that will be ours.
keep_file() {
  local kept=$root$state/saved$1
  if [[ -e $root$1 || -L $root$1 ]]; then
    # An earlier run may have been ended right after the copy.
    rm -f "$kept"
    if ! mkdir -p "${kept%/*}" || ! cp -Pp "$root$1" "$kept"; then
      die "$root$1 can't be kept"
    fi
  fi
  remember files "$1"
}

# Puts a file in the place of another: who reads it sees the old or the new one, never half of it.
move() {
  # Of a link to a directory, mv would take the directory.
  [[ ! -d $2 ]] || rm -f "$2"
  mv -f "$1" "$2"
}

is_ours() {
  local files=()
  [[ ! -r $root$state/files ]] || mapfile -t files <"$root$state/files"
  is_among "$1" "${files[@]}"
}

# Sets a live value; fails if the kernel refuses. In one write, for which there is `cat`: the kernel takes a second one
# for another value, and a shell writes 1,024 bytes at a time below /proc.
set_sysctl() {
  [[ -n $dry_run ]] || { printf '%s\n' "$2" | cat >"$root$(sysctl_path "$1")"; } 2>/dev/null
}

refusals=0
refused() {
  refusals=$((refusals + 1))
  say REFUSED "$1 = $2 (wanted $3): the kernel does not take it from here; in a container the host has to set it"
}
