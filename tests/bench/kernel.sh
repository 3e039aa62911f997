# shellcheck shell=bash
# What the kernel says of a measurement: CPU time of the whole machine, run time of eBPF programs.
# shellcheck disable=SC2154 # the ways are ways.sh's

# Nanoseconds that all CPUs were busy since boot, without what a hypervisor took.
busy() {
    awk -v hz="$(getconf CLK_TCK)" '$1 == "cpu" { printf "%.0f\n", ($2 + $3 + $4 + $7 + $8) * 1e9 / hz; exit }' /proc/stat
}

# Whether programs are timed; that costs each run some time, so it is on only where it is asked for.
time_programs() {
    printf '%s\n' "$1" >/proc/sys/kernel/bpf_stats_enabled
}

# first_program NAMESPACE DEVICE: number of the first program at its ingress. Time that it tail-calls counts as its own.
first_program() {
    in_namespace "$1" bpftool -j net show dev "$2" |
        jq -er '[.[0].tc[] | select(.kind | test("ingress"))][0] | .id // .prog_id'
}

# program_time NUMBER: nanoseconds and runs.
program_time() {
    bpftool -j prog show id "$1" | jq -r '"\(.run_time_ns // 0) \(.run_cnt // 0)"'
}

# Where a way's first program of each side is, as "namespace device".
sends_at() {
    case $1 in
        minimal) printf '%s work\n' "$id-minimal-h1" ;;
        fabric) printf '%s %s\n' "$id-fab1" "$(host_side "${client[fabric]}" "$id-fab1")" ;;
    esac
}

receives_at() {
    printf '%s\n' "${arriving[$1]}"
}

declare -A program=()

# Nanoseconds per packet: sent, received.
program_times() {
    local way=$1 side before after
    for side in sends receives; do
        # shellcheck disable=SC2046 # two words
        [[ -n ${program[$way-$side]:-} ]] || program[$way-$side]=$(first_program $("${side}_at" "$way"))
    done
    time_programs 1
    before="$(program_time "${program[$way-sends]}") $(program_time "${program[$way-receives]}")"
    udp_64_byte_packets "$way" >/dev/null || { time_programs 0 && return 1; }
    after="$(program_time "${program[$way-sends]}") $(program_time "${program[$way-receives]}")"
    time_programs 0
    awk -v before="$before" -v after="$after" 'BEGIN {
        split(before, b); split(after, a)
        if (a[2] <= b[2] || a[4] <= b[4]) exit 1
        print (a[1] - b[1]) / (a[2] - b[2]), (a[3] - b[3]) / (a[4] - b[4]) }'
}
