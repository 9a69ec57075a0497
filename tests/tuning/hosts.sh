# Hosts that are made up, and what the tests of tuning/ say of them; not a program.
# shellcheck shell=bash

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
hosts=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# put FILE TEXT: a file of the host.
put() {
  mkdir -p "$host/${1%/*}"
  printf '%s\n' "$2" >"$host/$1"
}

# Makes a sysctl one that root itself may read and not write: a number of the real kernel.
refuse() {
  rm "$host/proc/sys/$1"
  ln -s /proc/sys/kernel/cap_last_cap "$host/proc/sys/$1"
}

# holds FILE TEXT: whether a file of the host has just this line.
holds() {
  [[ $(<"$host/$1") == "$2" ]] || fail "$test: $1 is \`$(<"$host/$1")\`, not \`$2\`"
}

has_line() {
  grep -qxF -- "$2" "$host/$1" || fail "$test: $1 has no line \`$2\`: $(<"$host/$1")"
}

lacks() {
  if grep -q -- "$2" "$host/$1"; then fail "$test: $1 has \`$2\`"; fi
}

# A host with 16 GiB, eight CPUs and the values of a fresh Linux 6.12.
new_host() {
  hosts=$((hosts + 1))
  test=$1 host=$work/${1// /-}
  mkdir "$host"
  put proc/self/status $'Name:\tbash\nCpus_allowed_list:\t0-3,8-11'
  put proc/meminfo $'MemTotal:       16777216 kB\nMemFree:        1000000 kB'
  put proc/sys/kernel/osrelease 6.12.9+deb12-amd64
  put proc/sys/kernel/io_uring_disabled 0
  put proc/sys/fs/nr_open 1048576
  put proc/sys/fs/file-max 9223372036854775807
  put proc/sys/net/core/somaxconn 4096
  put proc/sys/net/ipv4/tcp_syncookies 1
  put proc/sys/net/ipv4/tcp_max_syn_backlog 512
  put proc/sys/net/ipv4/tcp_mem $'188000\t250000\t376000'
  put proc/sys/net/ipv4/tcp_max_orphans 65536
  put proc/sys/net/ipv4/tcp_max_tw_buckets 65536
  put proc/sys/net/ipv4/tcp_ehash_entries 131072
  put proc/sys/net/ipv4/ip_local_port_range $'32768\t60999'
  put proc/sys/net/ipv4/ip_local_reserved_ports ''
  cp -a "$host" "$host.before"
}

# Runs a script on the host; what it says goes to $host.said. `true` if its exit code is $1.
run() {
  local expected=$1 script=$2 code=0
  bash "tuning/$script" --root "$host" "${@:3}" >"$host.said" 2>&1 || code=$?
  [[ $code == "$expected" ]] || fail "$test: $script ${*:3} ends with $code, not $expected: $(<"$host.said")"
}

said() {
  grep -qF -- "$1" "$host.said" || fail "$test: \`$1\` was not said: $(<"$host.said")"
}

# is_like COPY: the host is as it was, but for when its files were written.
is_like() {
  diff -r --no-dereference "$host" "$1" || fail "$test: the host differs from ${1##*.}"
}

# The last line of a program of tests.
summary() {
  if ((failures > 0)); then
    echo "$failures failures" >&2
    exit 1
  fi
  echo "the scripts of tuning/ do as they should on $hosts hosts"
}
