# shellcheck shell=bash
# Traffic from the client to the server of a way, as rates: more is better. The client has the first CPU and the server the
# last one, as two hosts have: where the scheduler puts them would otherwise decide what is measured.
# shellcheck disable=SC2154 # seconds and the ways are set by bench.sh and ways.sh

declare -a servers=()

# start_servers WAY…
start_servers() {
    local way at
    for way in "$@"; do
        at=${address[$way]}
        serve "$way" iperf3 --server
        serve "$way" sockperf server -i "$at" -p 11111
        serve "$way" sockperf server --tcp -i "$at" -p 11112
        [[ -z ${load_tool:-} ]] || serve "$way" "$load_tool" serve --listen "$at:11113"
        within 10 listening "${server[$way]}" || die "the servers of $way do not listen"
    done
}

serve() {
    nsenter --net="/run/netns/${server[$1]}" taskset -c "$(($(nproc) - 1))" "${@:2}" </dev/null >/dev/null 2>&1 &
    servers+=("$!")
}

listening() {
    local ports='5201|11111|11112' expected=3
    [[ -z ${load_tool:-} ]] || ports+='|11113' expected=4
    [[ $(in_namespace "$1" ss -Hlntu | grep -cE ":($ports)\b") -ge $expected ]]
}

stop_servers() {
    ((${#servers[@]})) || return 0
    kill "${servers[@]}" 2>/dev/null || true
    servers=()
}

from_client() {
    local way=$1
    shift
    in_namespace "${client[$way]}" taskset -c 0 timeout $((seconds + 20)) "$@"
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

# Connections opened and closed per second.
connections() {
    from_client "$1" "$load_tool" connect --to "${address[$1]}:11113" --seconds "$seconds"
}
