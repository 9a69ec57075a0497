# What apply.sh, load-client.sh and undo.sh share; not a program. Needs bash 4.4 and the commands cat, cp,
# dirname, id, mkdir, mv, rm, rmdir: busybox has all of them.
# shellcheck shell=bash

# shellcheck source=tuning/changes.sh
# shellcheck disable=SC2154 # the program has found where it is
source "$here/changes.sh"
# shellcheck source=tuning/sysctls.sh
source "$here/sysctls.sh"

# Names sort, and ranges of letters are, as those who read the files see them.
export LC_ALL=C
unset CDPATH

# Services and logins of others have to read what the scripts write.
umask 022

# Everything below $root: empty for the machine itself, a directory for a trial.
root=
dry_run=

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

# The first line of a file below the root; fails if there is none. Read by `cat`: the kernel gives a value of /proc/sys
# to the first read alone, and older shells read 128 bytes at a time.
read_first_line() {
  local text
  [[ -r $root$1 ]] && text=$(cat "$root$1" 2>/dev/null) || return
  printf '%s\n' "${text%%$'\n'*}"
}

# The same, words separated by one space.
read_line() {
  local line words
  line=$(read_first_line "$1") || return
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

smaller() {
  if [[ $(larger "$1" "$2") == "$1" ]]; then echo "$2"; else echo "$1"; fi
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

is_among() {
  local one
  for one in "${@:2}"; do
    [[ $one != "$1" ]] || return 0
  done
  return 1
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
        # The engine's own bound.
        (($2 <= 64)) || die '--cores takes 1 to 64'
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
        # shellcheck disable=SC2034 # apply.sh writes it into limits.d
        user=$2
        ;;
      --root)
        [[ -d $2 ]] || die "there is no directory $2"
        root=$(cd -- "$2" && pwd)
        root=${root%/}
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
