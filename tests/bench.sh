#!/usr/bin/env bash
# Measures what the fabric costs: a raw veth, the kernel's bridge and vxlan device, and the fabric, in turns in one run
# on one underlay. Times on shared machines wobble: compare the ratios, not the numbers of two runs.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab/say.sh
source "$repo/deploy/lab/say.sh"

usage() {
    cat <<'USAGE'
usage: tests/bench.sh [--rounds 5] [--seconds 3] [--json FILE]
Prints medians and ratios of: one TCP flow (iperf3), TCP and UDP request-response (sockperf), 64-byte UDP packets
received (sockperf). All are rates: more is better. Environment: FABRIC_BIN=DIR uses built binaries.
USAGE
}

readonly WAYS=(raw bridge_vxlan fabric)
readonly ROWS=(tcp_stream tcp_request_response udp_request_response udp_64_byte_packets)

# Which namespaces and addresses a way joins: client, server, address of the server.
declare -A client=() server=() address=()
declare -a made=()
id=bench$$
samples=$(mktemp)

lab() {
    "$repo/deploy/lab.sh" --id "$id" "$@"
}

in_namespace() {
    local name=$1
    shift
    nsenter --net="/run/netns/$name" "$@"
}

namespace() {
    ip netns add "$1"
    made+=("$1")
    ip -n "$1" link set lo up
}

clean_up() {
    local name
    stop_servers
    for name in "${made[@]}"; do
        ip netns delete "$name" || true
    done
    [[ ! -e /run/fabric-lab/$id ]] || lab down
    rm -f "$samples"
}

# Two namespaces and a cable.
make_raw() {
    namespace "$id-raw1"
    namespace "$id-raw2"
    ip link add eth0 netns "$id-raw1" type veth peer name eth0 netns "$id-raw2"
    ip -n "$id-raw1" address add 10.0.0.1/24 dev eth0
    ip -n "$id-raw2" address add 10.0.0.2/24 dev eth0
    ip -n "$id-raw1" link set eth0 up
    ip -n "$id-raw2" link set eth0 up
    client[raw]=$id-raw1 server[raw]=$id-raw2 address[raw]=10.0.0.2
}

# Two more hosts on the lab's underlay, each with a bridge, a vxlan device and a workload.
make_bridge_vxlan() {
    local n host work
    for n in 1 2; do
        host=$id-kernel$n work=$id-work$n
        namespace "$host"
        namespace "$work"
        ip link add "kernel$n" netns "$id-underlay" type veth peer name eth0 netns "$host"
        ip -n "$id-underlay" link set "kernel$n" master br0 up
        ip -n "$host" address add "192.0.2.10$n/24" dev eth0
        ip -n "$host" link set eth0 up
        ip -n "$host" link add br0 type bridge
        ip -n "$host" link add vxlan0 type vxlan id 7 dstport 4789 local "192.0.2.10$n" remote "192.0.2.10$((3 - n))"
        ip link add work netns "$host" type veth peer name eth0 netns "$work"
        ip -n "$host" link set vxlan0 master br0 up
        ip -n "$host" link set work master br0 up
        ip -n "$host" link set br0 up
        ip -n "$work" link set eth0 mtu 1430 up
        ip -n "$work" address add "10.0.0.$n/24" dev eth0
    done
    client[bridge_vxlan]=$id-work1 server[bridge_vxlan]=$id-work2 address[bridge_vxlan]=10.0.0.2
}

make_fabric() {
    lab up --hosts 2 >&2
    client[fabric]=$id-red-web-1 server[fabric]=$id-red-web-2 address[fabric]=10.0.0.12
}

declare -a servers=()

start_servers() {
    local way at
    for way in "${WAYS[@]}"; do
        at=${address[$way]}
        in_namespace "${server[$way]}" iperf3 --server >/dev/null 2>&1 &
        servers+=("$!")
        in_namespace "${server[$way]}" sockperf server -i "$at" -p 11111 >/dev/null 2>&1 &
        servers+=("$!")
        in_namespace "${server[$way]}" sockperf server --tcp -i "$at" -p 11112 >/dev/null 2>&1 &
        servers+=("$!")
        within 10 listening "${server[$way]}" || die "the servers of $way do not listen"
    done
}

listening() {
    [[ $(in_namespace "$1" ss -Hlntu | grep -cE ':(5201|11111|11112)\b') -ge 3 ]]
}

stop_servers() {
    ((${#servers[@]})) || return 0
    kill "${servers[@]}" 2>/dev/null || true
    servers=()
}

from_client() {
    local way=$1
    shift
    in_namespace "${client[$way]}" timeout $((seconds + 20)) "$@"
}

tcp_stream() {
    from_client "$1" iperf3 -c "${address[$1]}" -t "$seconds" -J | jq '.end.sum_received.bits_per_second'
}

# Round trips per second, from the mean round-trip time in microseconds.
request_response() {
    local way=$1
    shift
    from_client "$way" sockperf ping-pong -i "${address[$way]}" -t "$seconds" -m 64 --full-rtt "$@" |
        sed -n 's/.*Round trip is \([0-9.]*\) usec.*/\1/p' | awk '{ print 1e6 / $1 }'
}

tcp_request_response() {
    request_response "$1" --tcp -p 11112
}

udp_request_response() {
    request_response "$1" -p 11111
}

# Datagrams that the server's socket took, by its kernel's counter: what was sent and lost does not count.
udp_64_byte_packets() {
    local before after
    before=$(datagrams_in "${server[$1]}")
    from_client "$1" sockperf throughput -i "${address[$1]}" -p 11111 -t "$seconds" -m 64 >/dev/null || return
    after=$(datagrams_in "${server[$1]}")
    awk -v count=$((after - before)) -v seconds="$seconds" 'BEGIN { print count / seconds }'
}

datagrams_in() {
    # shellcheck disable=SC2016 # awk's own fields
    in_namespace "$1" awk '$1 == "Udp:" && $2 ~ /^[0-9]/ { print $2 }' /proc/net/snmp
}

measure() {
    local round row way value
    for ((round = 1; round <= rounds; round++)); do
        for row in "${ROWS[@]}"; do
            for way in "${WAYS[@]}"; do
                value=$("$row" "$way") || value=
                [[ -n $value ]] || die "$row over $way gave no number"
                printf '%s %s %s\n' "$row" "$way" "$value" >>"$samples"
            done
        done
        say "round $round of $rounds"
    done
}

report() {
    jq -Rn --argjson rounds "$rounds" --argjson seconds "$seconds" --arg kernel "$(uname -r)" '
        def median: sort | if length % 2 == 1 then .[length / 2 | floor]
                           else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        [inputs | split(" ") | {row: .[0], way: .[1], value: (.[2] | tonumber)}] as $all
        | {kernel: $kernel, rounds: $rounds, seconds: $seconds, rows: [
            $all | map(.row) | reduce .[] as $r ([]; if index($r) then . else . + [$r] end) | .[] as $row
            | ($all | map(select(.row == $row)) | group_by(.way)
               | map({key: .[0].way, value: map(.value)}) | from_entries) as $samples
            | ($samples | map_values(median)) as $m
            | {name: $row, unit: (if $row == "tcp_stream" then "bit/s" else "1/s" end), median: $m,
               ratio: {fabric_to_bridge_vxlan: ($m.fabric / $m.bridge_vxlan), fabric_to_raw: ($m.fabric / $m.raw)},
               samples: $samples}]}' <"$samples"
}

table() {
    printf '%-24s %14s %14s %14s %10s %10s\n' '' raw bridge+vxlan fabric 'fabric/b+v' 'fabric/raw'
    jq -r '.rows[] | [.name, .median.raw, .median.bridge_vxlan, .median.fabric,
                      .ratio.fabric_to_bridge_vxlan, .ratio.fabric_to_raw] | @tsv' |
        awk -F '\t' '{ printf "%-24s %14.0f %14.0f %14.0f %10.2f %10.2f\n", $1, $2, $3, $4, $5, $6 }'
}

main() {
    local json=''
    rounds=5 seconds=3
    while (($#)); do
        case $1 in
            --rounds) rounds=${2:-} && shift 2 ;;
            --seconds) seconds=${2:-} && shift 2 ;;
            --json) json=${2:-} && shift 2 ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && usage_error "unknown argument $1" ;;
        esac
    done
    [[ $rounds =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ ]] || usage_error "rounds and seconds are numbers from 1"
    need_root "$0"
    "$repo/deploy/setup.sh" --for bench
    trap clean_up EXIT
    make_fabric
    make_raw
    make_bridge_vxlan
    start_servers
    say "measuring: about $((rounds * 12 * (seconds + 1))) s"
    measure
    report >"$samples.json"
    table <"$samples.json"
    if [[ -n $json ]]; then
        mv "$samples.json" "$json"
    else
        rm "$samples.json"
    fi
}

main "$@"
