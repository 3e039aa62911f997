#!/usr/bin/env bash
# A fleet on one machine: hosts are network namespaces on one underlay, each with a daemon of its own; workloads are
# namespaces too. `up` is the demo: it ends in 0 only if the domains were reachable inside and closed to each other.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for part in say toolchain state net daemon demo fault; do
    # shellcheck source=/dev/null
    source "$repo/deploy/lab/$part.sh"
done

usage() {
    cat <<'USAGE'
usage: lab.sh [--id LAB] COMMAND
  up [--hosts 3] [--underlay ipv4|ipv6|routed|cable]
                                          install what is missing, build, make hosts fab1…, show the demo
  exec HOST -- CMD…                       run CMD in the host's namespace, FABRIC_API set, our binaries on the path
  workload NAME -- CMD…                   run CMD in a workload's namespace (red-web-1, …)
  kill HOST                               SIGKILL the host's daemon; workloads go on
  stop HOST                               SIGTERM the host's daemon and wait until it ended; workloads go on
  off HOST                                the host is gone: daemon, namespace, links
  start HOST                              bring it back after kill, stop or off
  cut HOST… | --from A --to B             drop underlay traffic between these and the rest, or one way
  loss PCT                                lose PCT percent of the underlay's packets
  heal                                    end cut and loss
  list [-o json]                          hosts and workloads
  down                                    remove all this lab made
Environment: FABRIC_BIN=DIR uses built binaries; FABRIC_LOG sets the daemons' log level; FABRIC_KEEP=1 keeps a failed lab.
Each host's files: /run/fabric-lab/LAB/HOST/log, and config.toml (fabric-node needs --config with it, also under exec)
USAGE
}

# Prints the folder of the binaries.
build() {
    local target=${CARGO_TARGET_DIR:-$repo/target}
    if [[ -n ${FABRIC_BIN:-} ]]; then
        [[ -x $FABRIC_BIN/fabric-node && -x $FABRIC_BIN/fabricctl ]] ||
            die "FABRIC_BIN=$FABRIC_BIN has no fabric-node and fabricctl"
        realpath "$FABRIC_BIN"
        return
    fi
    "$repo/deploy/setup.sh" >&2
    use_toolchain
    say "building fabric-node and fabricctl (the first time some ten minutes on two cores)"
    quietly "$(state)/build.log" cargo build --manifest-path "$repo/Cargo.toml" --release --locked -p fabric-node ||
        die "the build failed"
    printf '%s/release\n' "$target"
}

# Runs when up ends for whatever reason.
after_up() {
    local status=$?
    ((status != 0)) || return 0
    undisturbed
    if [[ -n ${FABRIC_KEEP:-} ]]; then
        say "up failed; FABRIC_KEEP is set: look at $(state), then run: $(script) down"
    else
        show_logs || true
        say "up failed; removing what it made"
        lab_down
    fi
    exit "$status"
}

show_logs() {
    local log
    for log in "$(state)"/fab*/log; do
        [[ ! -s $log ]] || { printf -- '--- %s\n' "$log" && tail -n 8 "$log"; } >&2
    done
}

lab_up() {
    local count=3 underlay=ipv4 number
    while (($#)); do
        case $1 in
            --hosts) need_value "$@" && count=$2 && shift 2 ;;
            --underlay) need_value "$@" && underlay=$2 && shift 2 ;;
            *) usage_error "up takes --hosts N and --underlay ipv4|ipv6|routed|cable, not $1" ;;
        esac
    done
    if ! [[ $count =~ ^[1-9][0-9]?$ ]] || ((count < 2 || count > 50)); then
        usage_error "--hosts takes a number from 2 to 50"
    fi
    [[ $underlay =~ ^(ipv4|ipv6|routed|cable)$ ]] ||
        usage_error "--underlay takes ipv4, ipv6, routed (ipv4, a subnet for each host) or cable (ipv4, two hosts)"
    [[ $underlay != cable ]] || ((count == 2)) || usage_error "a cable joins two hosts: --hosts 2 --underlay cable"
    [[ ! -e $(state) ]] || die "lab '$lab_id' is there already; remove it with: $(script) down"

    mkdir -p "$STATE_ROOT"
    mkdir -m 0700 "$(state)"
    trap after_up EXIT
    printf '%s\n' "$underlay" >"$(state)/underlay"
    build >"$(state)/bin"
    say "making $count hosts on an $underlay underlay"
    make_underlay
    for ((number = 1; number <= count; number++)); do
        write_config "fab$number"
        make_host "fab$number"
    done
    make_cluster "$count"
    apply_demo
    attach_demo
    write_list
    show_demo || die "the demo did not hold; see the lines marked FAILED"
    trap - EXIT
    say "up. Try: $(script) workload red-web-1 -- ping 10.0.0.12; remove it with: $(script) down"
}

lab_down() {
    local name host
    while read -r host; do
        end_daemon "$host" KILL
    done < <(hosts)
    while read -r name; do
        remove_namespace "$name"
    done < <(cat "$(state)/namespaces" 2>/dev/null)
    while read -r host; do
        unmount_bpffs "$host"
    done < <(hosts)
    rm -rf --one-file-system "$(state)"
    rmdir --ignore-fail-on-non-empty "$STATE_ROOT"
}

lab_list() {
    [[ -f $(state)/list.json ]] || die "lab '$lab_id' is not whole; remove it with: $(script) down"
    case ${*:-} in
        '-o json') cat "$(state)/list.json" ;;
        '' | '-o table')
            jq -r '(.hosts[] | [.name, "", "", (.addresses | join(" "))]),
                   (.workloads[] | [.name, .host, .mac, (.addresses | join(" "))]) | @tsv' "$(state)/list.json" |
                awk -F '\t' '{ printf "%-14s %-6s %-18s %s\n", $1, $2, $3, $4 }'
            ;;
        *) usage_error "list takes -o json or -o table" ;;
    esac
}

# lab_run NAMESPACE -- CMD…
lab_run() {
    local name=$1
    shift
    if [[ ${1:-} != -- ]] || (($# < 2)); then
        usage_error "write -- and a command after the name"
    fi
    shift
    PATH="$(<"$(state)/bin"):$PATH" exec nsenter --net="/run/netns/$(namespace "$name")" "$@"
}

lab_exec() {
    need_host "${1:-}"
    exists "$1" || die "$1 is off; bring it back with: $(script) start $1"
    FABRIC_API=unix:$(state)/$1/api.sock
    export FABRIC_API
    lab_run "$@"
}

lab_workload() {
    workloads | cut -d ' ' -f 1 | grep -Fxq -- "${1:-}" ||
        die "lab '$lab_id' has no workload '${1:-}'; it has: $(workloads | cut -d ' ' -f 1 | xargs)"
    lab_run "$@"
}

main() {
    local command
    lab_id=lab
    while (($#)); do
        case $1 in
            --id) need_value "$@" && lab_id=$2 && shift 2 ;;
            -h | --help) usage && return 0 ;;
            *) break ;;
        esac
    done
    [[ $lab_id =~ ^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$ ]] ||
        usage_error "--id takes 1 to 20 of a-z, 0-9 and '-', neither first nor last a '-'"
    (($#)) || { usage >&2 && exit 2; }
    command=$1
    shift
    case $command in
        up) ;;
        exec | workload | kill | stop | off | start | cut | loss | heal | list | down) need_root "$0" && need_lab ;;
        *) usage >&2 && usage_error "unknown command $command" ;;
    esac
    need_root "$0"
    case $command in
        kill | stop | off | start)
            need_host "${1:-}"
            no_more "$command takes one host" "${@:2}"
            "host_$command" "$1"
            ;;
        cut | loss | heal) "fault_$command" "$@" ;;
        down) no_more "down takes no argument: it removes the whole lab" "$@" && lab_down ;;
        *) "lab_$command" "$@" ;;
    esac
}

main "$@"
