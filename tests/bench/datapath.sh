# shellcheck shell=bash
# tests/bench.sh datapath: the table of what the datapath is to cost. It measures and does not judge by its exit code.
#
# A traffic row is measured for each of its ways and states in turn, in every round; from round to round the order turns
# around. A ratio is the median of the rounds' ratios.
# shellcheck disable=SC2154,SC2034 # set by bench.sh and the files beside this one, or for them

# row  states  ways  unit of value and of CPU time
readonly TRAFFIC=(
    'tcp_stream on,off,gro raw,minimal,bridge_vxlan,fabric bit/s byte'
    'tcp_request_response on raw,bridge_vxlan,fabric 1/s round-trip'
    'udp_request_response on raw,bridge_vxlan,fabric 1/s round-trip'
    'udp_64_byte_packets on raw,bridge_nft,fabric 1/s packet'
    'connections on raw,bridge_nft,fabric 1/s connection'
)

# row state  numerator/denominator  at-least aim  what; without an aim it is there to compare with
readonly AIMS=(
    'tcp_stream on fabric/minimal 0.95 1.0 one TCP flow / minimal program'
    'tcp_stream off fabric/minimal 0.95 1.0 one TCP flow / minimal program'
    'tcp_stream gro fabric/minimal 0.95 1.0 one TCP flow / minimal program'
    'tcp_stream on fabric/raw 0.85 0.95 one TCP flow / raw'
    'tcp_stream off fabric/raw 0.85 0.95 one TCP flow / raw'
    'tcp_stream gro fabric/bridge_vxlan 1.0 1.2 one TCP flow / bridge+vxlan'
    'tcp_stream on minimal/raw - - one TCP flow: minimal program / raw'
    'tcp_stream off minimal/raw - - one TCP flow: minimal program / raw'
    'tcp_request_response on fabric/raw 0.75 0.90 TCP request-response / raw'
    'udp_request_response on fabric/raw 0.75 0.90 UDP request-response / raw'
    'udp_64_byte_packets on fabric/raw 0.70 0.85 64-byte UDP received / raw'
    'udp_64_byte_packets on fabric/bridge_nft 1.3 1.8 64-byte UDP received / bridge+vxlan+nftables'
    'connections on fabric/raw 0.60 0.75 new connections / raw'
    'connections on fabric/bridge_nft - - new connections / bridge+vxlan+nftables'
    'ebpf_send on fabric/minimal 1.6 1.25 eBPF time per packet sent / minimal program (less is better)'
    'ebpf_receive on fabric/minimal 1.6 1.25 eBPF time per packet received / minimal program (less is better)'
    'functions on flow/none 1.1 1.0 eBPF time per packet sent with 8 per-flow functions / none (less)'
    'functions on each 20 5 nanoseconds for each per-packet function (less)'
    'slow_share - fabric 5 1 percent of packets decided by the slow path at 30 changes/s (less)'
    'changes_cpu - fabric 30 10 percent of a CPU for the daemon at 30 changes/s (less)'
    'memory - fabric - - bytes of the whole daemon for an endpoint elsewhere'
    'load_seconds - fabric 2 0.5 seconds to load 100,000 endpoints (less)'
    'attach_seconds - fabric 10 3 seconds to make and attach 500 interfaces (less)'
    'boot_seconds - fabric - - seconds until 500 interfaces are taken over after a restart'
    'bytes_per_endpoint - fabric 2048 1024 bytes of the datapath for an endpoint elsewhere, of 100,000 (less)'
    'core_percent - fabric 30 10 percent of a CPU for the datapath at 30 changes/s in 100,000 endpoints (less)'
    'first_packet - fabric 500 50 milliseconds from API call to first packet elsewhere, p99 (less)'
)

datapath_usage() {
    cat <<'USAGE'
usage: tests/bench.sh datapath [--rounds 15] [--seconds 2] [--rows ROW,…] [--states on,off,gro]
                                [--endpoints 10000] [--json FILE] [--markdown FILE]
Compares the fabric (routed, behind stateful rules) with a raw veth, the least eBPF program that tunnels, and the kernel's
bridge and vxlan device without and with nftables, in turns in one run. Prints ratios (medians of the rounds' ratios)
beside what is aimed at, and medians with CPU time per byte, round trip, packet or connection.
--rows     only these: tcp_stream tcp_request_response udp_request_response udp_64_byte_packets connections ebpf_time
           functions fleet scale (scale: 100,000 endpoints and 500 interfaces; functions: third-party ones that do nothing; fleet: what changes cost on three hosts in a domain of --endpoints endpoints, after all rounds)
--states   every row of traffic in these states of offloads, which otherwise only tcp_stream is: on, off, gro (the sender's TSO
           and GSO off, the receiver's GRO on)
--json     all samples, medians and verdicts; --markdown: the table of ratios as README.md has it
Exit code 0 also where an aim is missed. Environment: FABRIC_BIN=DIR uses built binaries.
USAGE
}

datapath() {
    local json='' markdown='' rows='' states=''
    rounds=15 seconds=2 endpoints=10000
    while (($#)); do
        case $1 in
            --rounds) need_value "$@" && rounds=$2 && shift 2 ;;
            --seconds) need_value "$@" && seconds=$2 && shift 2 ;;
            --json) need_value "$@" && json=$2 && shift 2 ;;
            --markdown) need_value "$@" && markdown=$2 && shift 2 ;;
            --endpoints) need_value "$@" && endpoints=$2 && shift 2 ;;
            --rows) need_value "$@" && rows=$2 && shift 2 ;;
            --states) need_value "$@" && states=$2 && shift 2 ;;
            -h | --help) datapath_usage && return 0 ;;
            *) datapath_usage >&2 && usage_error "unknown argument $1" ;;
        esac
    done
    need_numbers
    [[ $endpoints =~ ^[1-9][0-9]{0,3}$|^[1-4]0000$ ]] || usage_error "--endpoints takes a number from 1 to 10000, or 20000, 30000, 40000"
    plan "$rows" "$states"
    need_root "$0"
    "$repo/deploy/setup.sh" --for bench
    build_tools
    trap clean_up EXIT
    make_ways
    prepare_functions
    say "measuring: about $((rounds * ${#steps[@]} * (seconds + 1))) s"
    measure_datapath
    [[ -z $with_fleet ]] || measure_fleet "$endpoints" 100 20
    [[ -z $with_scale ]] || measure_scale
    datapath_report >"$samples.json"
    datapath_table <"$samples.json"
    [[ -z $markdown ]] || datapath_markdown <"$samples.json" >"$markdown"
    keep_report "$json"
}

# Steps of a round, as "row state way", and the ways they need.
declare -a steps=() needed=()

plan() {
    local wanted_rows=$1 wanted_states=$2 spec row states ways way state
    steps=() needed=()
    for spec in "${TRAFFIC[@]}" 'ebpf_time on minimal,fabric'; do
        read -r row states ways _ <<<"$spec"
        [[ -z $wanted_rows || ,$wanted_rows, == *,$row,* ]] || continue
        for state in $(tr ',' ' ' <<<"${wanted_states:-$states}"); do
            [[ $state =~ ^(on|off|gro)$ ]] || usage_error "--states takes on, off and gro, not $state"
            for way in $(tr ',' ' ' <<<"$ways"); do
                steps+=("$row $state $way")
                [[ " ${needed[*]} " == *" $way "* ]] || needed+=("$way")
            done
        done
    done
    with_fleet='' with_functions='' with_scale=''
    [[ -n $wanted_rows && ,$wanted_rows, != *,scale,* ]] || with_scale=yes
    [[ -n $wanted_rows && ,$wanted_rows, != *,fleet,* ]] || with_fleet=yes
    [[ -n $wanted_rows && ,$wanted_rows, != *,functions,* ]] || with_functions=yes
    [[ -n $with_fleet$with_functions$with_scale ]] || ((${#steps[@]})) || usage_error "--rows names no row there is; see --help"
}

prepare_functions() {
    [[ -n $with_functions ]] || return 0
    have_functions || { say "this build loads no functions" && with_functions='' && return 0; }
    make_function
}

make_ways() {
    local way
    [[ -n ${needed[*]}$with_functions ]] || return 0
    make_fabric_routed
    for way in "${needed[@]}"; do
        [[ $way == fabric ]] || "make_$way"
    done
    [[ " ${needed[*]} " == *" fabric "* ]] || needed+=(fabric)
    start_servers "${needed[@]}"
}

measure_datapath() {
    local round step
    local -a order=()
    for ((round = 1; round <= rounds; round++)); do
        order=("${steps[@]}")
        ((round % 2)) || mapfile -t order < <(printf '%s\n' "${steps[@]}" | tac)
        for step in "${order[@]}"; do
            # With other rows only, there is one empty line.
            [[ -n $step ]] || continue
            # shellcheck disable=SC2086 # three words
            sample "$round" $step
        done
        [[ -z $with_functions ]] || functions_round "$round"
        say "round $round of $rounds"
    done
}

# sample ROUND ROW STATE WAY: one line "round row state way value busy-nanoseconds" for each number.
sample() {
    local round=$1 row=$2 state=$3 way=$4 value before
    offload "$way" "$state"
    before=$(busy)
    if [[ $row == ebpf_time ]]; then
        value=$(program_times "$way") || die "no times of the programs of $way"
        printf '%s %s %s %s %s 0\n' "$round" ebpf_send "$state" "$way" "${value% *}" >>"$samples"
        printf '%s %s %s %s %s 0\n' "$round" ebpf_receive "$state" "$way" "${value#* }" >>"$samples"
        return
    fi
    value=$("$row" "$way") || value=
    [[ -n $value ]] || die "$row over $way ($state) gave no number"
    printf '%s %s %s %s %s %s\n' "$round" "$row" "$state" "$way" "$value" $(($(busy) - before)) >>"$samples"
}
