# shellcheck shell=bash
# What the kernel says of a measurement: CPU time of the whole machine, run time of eBPF programs.
# shellcheck disable=SC2154 # the ways are ways.sh's

readonly STATISTICS=/proc/sys/kernel/bpf_stats_enabled

# Nanoseconds that all CPUs were busy since boot, without what a hypervisor took.
busy() {
    awk -v hz="$(getconf CLK_TCK)" '$1 == "cpu" { printf "%.0f\n", ($2 + $3 + $4 + $7 + $8) * 1e9 / hz; exit }' /proc/stat
}

# Whether programs are timed; that costs each run some time, so it is on only where it is asked for.
time_programs() {
    printf '%s\n' "$1" >"$STATISTICS"
}

# program_time NUMBER: nanoseconds and runs.
program_time() {
    bpftool -j prog show id "$1" | jq -r '"\(.run_time_ns // 0) \(.run_cnt // 0)"'
}

# Nanoseconds per packet: sent, received.
program_times() {
    local way=$1 before after
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
