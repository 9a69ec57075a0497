# What apply.sh, load-client.sh and undo.sh share; not a program. Needs bash 4.4 and the commands cat, cp, id,
# mkdir, mv, rm, rmdir: busybox has all of them.
# shellcheck shell=bash

# Everything below $root: empty for the machine itself, a directory for a trial.
root=
dry_run=
state=/var/lib/crore/tuning

# The table, one array for each field, in the order of the file.
names=() wheres=() hosts=() rules=() wants=() whens=() applies=()

die() {
  echo "${0##*/}: $*" >&2
  exit 2
}

say() {
  printf '%-10s %s\n' "$1" "${*:2}"
}

# A whole number in decimal, without leading zeros that a shell would read as octal; or the end.
whole_number() {
  [[ $2 =~ ^[1-9][0-9]{0,11}$ ]] || die "$1 takes a whole number from 1 up, and not \`$2\`"
}

# ---- The table

read_knobs() {
  local line key value last=-1
  while IFS= read -r line || [[ -n $line ]]; do
    case $line in
      '' | '#'*) ;;
      '['*']')
        last=$((last + 1))
        line=${line#[}
        names[last]=${line%]} rules[last]=at-least whens[last]=1 applies[last]=yes wants[last]='' hosts[last]=''
        ;;
      *=*)
        key=${line%%=*} value=${line#*=}
        key=${key//[[:space:]]/} value=${value#"${value%%[![:space:]]*}"}
        case $key in
          where) wheres[last]=$value ;;
          host) hosts[last]=$value ;;
          rule) rules[last]=$value ;;
          want) wants[last]=$value ;;
          when) whens[last]=$value ;;
          apply) applies[last]=$value ;;
        esac
        ;;
      *) die "knobs.conf: neither a name nor a field: $line" ;;
    esac
  done <"$1"
}

# Whether knob $1 is for a host of this role: server, load, or both.
is_for() {
  [[ ${hosts[$1]} == both || $2 == both || ${hosts[$1]} == "$2" ]]
}

# The variables that the expressions are made of.
declare -A facts=()

# The value of an expression. Only what the table may consist of reaches the shell's arithmetic.
evaluate() {
  local expression=$1 name
  [[ $expression =~ ^[0-9A-Z\ ()?:\<\>=+*/%-]+$ ]] || die "knobs.conf: no expression: $expression"
  for name in "${!facts[@]}"; do
    expression=${expression//$name/${facts[$name]}}
  done
  echo $((expression))
}

# The values of a list of expressions, separated by spaces.
evaluate_all() {
  local part parts values=()
  IFS=';' read -ra parts <<<"$1"
  for part in "${parts[@]}"; do
    values+=("$(evaluate "$part")") || exit
  done
  echo "${values[*]}"
}

# ---- The host

# The first line of a file below the root, words separated by one space; fails if there is none.
read_line() {
  local line='' words
  [[ -r $root$1 ]] || return
  read -r line 2>/dev/null <"$root$1" || [[ -n $line ]] || return
  read -ra words <<<"$line"
  echo "${words[*]}"
}

sysctl_path() {
  echo "/proc/sys/${1//.//}"
}

# The CPUs that this process may run on, as the server counts them.
count_cpus() {
  local line list='' part parts count=0
  while read -r line; do
    [[ $line != Cpus_allowed_list:* ]] || list=${line#*:}
  done <"$root/proc/self/status"
  IFS=, read -ra parts <<<"${list//[[:space:]]/}"
  for part in "${parts[@]}"; do
    count=$((count + ${part#*-} - ${part%-*} + 1))
  done
  # The engine's own bound.
  echo $((count < 64 ? count : 64))
}

# Fills in what the expressions need. $1: connections, $2: cores or nothing, $3: port, $4: auto, regular or direct,
# $5: role.
gather() {
  local release major minor line memory=0
  facts[N]=$1 facts[P]=$3 facts[E]=1
  [[ $5 != both ]] || facts[E]=2
  facts[C]=${2:-$(count_cpus)}
  ((facts[C] > 0)) || die 'the number of CPUs is unknown here: give it with --cores'
  release=$(read_line /proc/sys/kernel/osrelease) || die "no kernel to ask at ${root:-/}: is proc mounted?"
  IFS=.-+ read -r major minor _ <<<"$release"
  facts[K]=$((major * 1000 + ${minor%%[!0-9]*}))
  case $4 in
    auto) facts[D]=$((facts[K] >= 6013)) ;;
    regular) facts[D]=0 ;;
    direct) facts[D]=1 ;;
    *) die "--descriptors takes auto, regular or direct, and not \`$4\`" ;;
  esac
  facts[S]=$(read_line "$(sysctl_path net.ipv4.tcp_syncookies)") || facts[S]=0
  while read -r line; do
    [[ $line != MemTotal:* ]] || { line=${line#*:} && line=${line%kB*} && memory=${line//[[:space:]]/}; }
  done <"$root/proc/meminfo"
  facts[M]=$((memory / 4))
}

# ---- The rules

# The value that a knob should have: never less than it has. $1: rule, $2: has, $3: wanted.
reconcile() {
  local has wanted result=() index
  read -ra has <<<"$2"
  read -ra wanted <<<"$3"
  case $1 in
    at-least)
      for index in "${!wanted[@]}"; do
        result+=("$(larger "${has[index]:-0}" "${wanted[index]}")")
      done
      ;;
    range)
      result=("$((has[0] < wanted[0] ? has[0] : wanted[0]))" "$(larger "${has[1]}" "${wanted[1]}")")
      ;;
    includes)
      if is_listed "$2" "$3"; then result=("$2"); else result=("${2:+$2,}$3"); fi
      ;;
    *) die "knobs.conf: nobody knows the rule $1" ;;
  esac
  echo "${result[*]}"
}

# The larger of two numbers; what has more digits than the shell can count is larger.
larger() {
  if ((${#1} > 18 || ${#2} > 18)); then
    if ((${#1} >= ${#2})); then echo "$1"; else echo "$2"; fi
  else
    echo $(($1 > $2 ? $1 : $2))
  fi
}

# Whether a port is in a list such as `80,8000-8100`.
is_listed() {
  local part parts
  IFS=, read -ra parts <<<"$1"
  for part in "${parts[@]}"; do
    if ((${part%-*} <= $2 && $2 <= ${part#*-})); then return 0; fi
  done
  return 1
}

# ---- Changes, all of which can be undone

# The first line of every file that the scripts write.
# shellcheck disable=SC2034 # apply.sh needs it, too
written_by="# Written by Crore's tuning scripts; tuning/undo.sh removes it."

# Puts the sysctls that have been changed into the caller's `raised`.
remembered_names() {
  local line
  [[ -r $root$state/sysctl ]] || return 0
  while IFS= read -r line; do
    raised+=("${line%%=*}")
  done <"$root$state/sysctl"
}

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

is_among() {
  local one
  for one in "${@:2}"; do
    [[ $one != "$1" ]] || return 0
  done
  return 1
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

refusals=0
refused() {
  refusals=$((refusals + 1))
  say REFUSED "$1 = $2 (wanted $3): the kernel does not take it from here; in a container the host has to set it"
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

# The options that apply.sh and load-client.sh share, and what follows from them. $1: the roles that the host may have,
# the usual one first.
# shellcheck disable=SC2034 # `user` is for apply.sh
connections='' cores='' port=8080 descriptors=auto user=${SUDO_USER:-crore} role=
read_options() {
  local roles
  read -ra roles <<<"$1" && shift
  role=${roles[0]}
  while (($# > 0)); do
    case $1 in
      --help | -h) usage && exit ;;
      --dry-run) dry_run=yes && shift && continue ;;
      --connections | --cores | --port | --descriptors | --user | --host | --root) ;;
      *) die "there is no option \`$1\`; --help lists them" ;;
    esac
    (($# > 1)) || die "$1 takes a value"
    case $1 in
      --connections)
        whole_number "$1" "$2"
        connections=$2
        ;;
      --cores)
        whole_number "$1" "$2"
        cores=$2
        ;;
      --port)
        whole_number "$1" "$2"
        (($2 < 65536)) || die '--port takes 1 to 65535'
        port=$2
        ;;
      --descriptors) descriptors=$2 ;;
      --host)
        is_among "$2" "${roles[@]}" || die "--host takes ${roles[*]}, and not \`$2\`"
        role=$2
        ;;
      --user)
        [[ $2 =~ ^[a-z_][a-z0-9_-]*$ ]] || die "\`$2\` is no name of a user"
        # shellcheck disable=SC2034 # apply.sh writes it into limits.d
        user=$2
        ;;
      --root)
        [[ -d $2 ]] || die "there is no directory $2"
        root=${2%/}
        ;;
    esac
    shift 2
  done
  [[ -n $connections ]] || die 'how many? --connections NUMBER'
  must_be_root
  gather "$connections" "$cores" "$port" "$descriptors" "$role"
}

must_be_root() {
  [[ -n $root || -n $dry_run || $(id -u) == 0 ]] || die 'run this as root, or look what it would do: --dry-run'
}

# Lets systemd see its changed files, where it runs.
reload_systemd() {
  if [[ -z $root && -z $dry_run && -d /run/systemd/system ]]; then
    systemctl daemon-reload || say note 'systemd was not told: systemctl daemon-reload'
  fi
}
