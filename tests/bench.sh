#!/usr/bin/env bash
# Measures what the fabric costs, in turns in one run on one underlay. Times on shared machines wobble: compare the
# ratios, not the numbers of two runs.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab/say.sh
source "$repo/deploy/lab/say.sh"
# shellcheck source=deploy/lab/toolchain.sh
source "$repo/deploy/lab/toolchain.sh"
for part in ways traffic offload kernel tools functions fleet scale report overview datapath state; do
    # shellcheck source=/dev/null
    source "$repo/tests/bench/$part.sh"
done

rounds=5 seconds=3

usage() {
    cat <<'USAGE'
usage: tests/bench.sh [--rounds 5] [--seconds 3] [--json FILE]
       tests/bench.sh datapath [OPTION…]     what the datapath is to cost, and whether it does; see datapath --help
       tests/bench.sh state [OPTION…]        the same of replicated state and membership; see state --help
Prints medians and ratios of a raw veth, the kernel's bridge and vxlan device, and the fabric: one TCP flow (iperf3), TCP
and UDP request-response (sockperf), 64-byte UDP packets received (sockperf). All are rates: more is better.
Environment: FABRIC_BIN=DIR uses built binaries.
USAGE
}

# shellcheck disable=SC2034 # for the files of bench/
id=bench$$
samples=$(mktemp)

clean_up() {
    [[ ! -w $STATISTICS ]] || time_programs 0
    stop_servers
    unmake_ways
    rm -rf "$samples" "$samples".*
}

need_numbers() {
    [[ $rounds =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ ]] || usage_error "rounds and seconds are numbers from 1"
}

# keep_report FILE|'': the JSON goes there if that is asked for.
keep_report() {
    [[ -z $1 ]] || mv "$samples.json" "$1"
}

main() {
    case ${1:-} in
        datapath) shift && datapath "$@" ;;
        state) shift && state "$@" ;;
        *) overview "$@" ;;
    esac
}

main "$@"
