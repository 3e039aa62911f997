# shellcheck shell=bash
# Where a lab keeps what it has made, and questions about it. Everything stands in a folder per lab:
#
#   namespaces  every network namespace made, one a line      underlay   ipv4, ipv6, routed, cable
#   workloads   name domain endpoint host, one a line         bin        folder of the binaries
#   list.json   answer of `list -o json`                      fabK/      config.toml data/ bpf/ api.sock log pid
#
# shellcheck disable=SC2154 # lab_id is set by lab.sh

readonly STATE_ROOT=/run/fabric-lab

state() {
    printf '%s/%s' "$STATE_ROOT" "$lab_id"
}

# How to call lab.sh for this lab, as messages say it.
script() {
    if [[ $lab_id == lab ]]; then
        printf '%s' "$0"
    else
        printf '%s --id %s' "$0" "$lab_id"
    fi
}

need_lab() {
    [[ -d $(state) ]] || die "there is no lab '$lab_id'; make it with: $(script) up"
}

# Everything of lab.sh that asks for a host passes here.
need_host() {
    [[ $1 =~ ^fab[0-9]+$ && -d $(state)/$1 ]] || die "lab '$lab_id' has no host '$1'; it has: $(hosts | xargs)"
}

hosts() {
    find "$(state)" -mindepth 1 -maxdepth 1 -name 'fab[0-9]*' -printf '%f\n' | sort -V
}

running_hosts() {
    local host
    while read -r host; do
        ! exists "$host" || printf '%s\n' "$host"
    done < <(hosts)
}

namespace() {
    printf '%s-%s' "$lab_id" "$1"
}

exists() {
    [[ -e /run/netns/$(namespace "$1") ]]
}

# A process as "pid start-time": a pid alone may have been given to somebody else since.
process() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    stat=${stat##*) }
    printf '%s %s\n' "$1" "$(cut -d ' ' -f 20 <<<"$stat")"
}

# Prints the pid of a host's daemon if it runs.
daemon_pid() {
    local pid began
    read -r pid began 2>/dev/null <"$(state)/$1/pid" || return 1
    [[ $(process "$pid") == "$pid $began" ]] && printf '%s\n' "$pid"
}

# workloads [DOMAIN|.] [HOST|.]: those of a domain, those on a host, as "name domain endpoint host".
workloads() {
    [[ -f $(state)/workloads ]] || return 0
    awk -v domain="${1:-.}" -v host="${2:-.}" '(domain == "." || $2 == domain) && (host == "." || $4 == host)' \
        "$(state)/workloads"
}

# address NAME 4|6: a workload's address, from its own interface.
address() {
    ip -n "$(namespace "$1")" -j "-$2" address show scope global 2>/dev/null |
        jq -r '[.[].addr_info[]?.local] | first // empty'
}

fabricctl() {
    local host=$1
    shift
    FABRIC_API=unix:$(state)/$host/api.sock "$(<"$(state)/bin")/fabricctl" "$@"
}
