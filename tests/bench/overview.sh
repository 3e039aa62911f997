# shellcheck shell=bash
# tests/bench.sh without a name: a raw veth, the kernel's bridge and vxlan device, and the fabric, quickly.
# shellcheck disable=SC2154 # set by bench.sh and the files beside this one

readonly WAYS=(raw bridge_vxlan fabric)
readonly ROWS=(tcp_stream tcp_request_response udp_request_response udp_64_byte_packets)

overview() {
    local json=''
    rounds=5 seconds=3
    while (($#)); do
        case $1 in
            --rounds) need_value "$@" && rounds=$2 && shift 2 ;;
            --seconds) need_value "$@" && seconds=$2 && shift 2 ;;
            --json) need_value "$@" && json=$2 && shift 2 ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && usage_error "unknown argument $1" ;;
        esac
    done
    need_numbers
    need_root "$0"
    "$repo/deploy/setup.sh" --for bench
    trap clean_up EXIT
    make_fabric_flat
    make_raw
    make_bridge_vxlan
    start_servers "${WAYS[@]}"
    say "measuring: about $((rounds * 12 * (seconds + 1))) s"
    measure
    report >"$samples.json"
    table <"$samples.json"
    keep_report "$json"
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
