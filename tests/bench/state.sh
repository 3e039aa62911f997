# shellcheck shell=bash
# tests/bench.sh state: the table of what replicated state and membership are to cost. It measures and does not judge by its
# exit code. What no one machine runs is simulated: the cores themselves in one event queue, gossip under a paused clock.
# shellcheck disable=SC2154,SC2034 # set by bench.sh and the files beside this one, or for them

# number  at-least aim  what; where less is better, the aim is below what is enough
readonly STATE_AIMS=(
    'spread_ms 500 50 ms from a write on one peer until all others show it, p99, real peers (less)'
    'spread_800_ms 2000 1000 ms, the same with 800 simulated peers, p99 (less)'
    'copies_800 10 6 copies per write and peer, 800 simulated peers (less)'
    'idle_100 100000 60000 bytes per second that an idle peer of 100 sends, simulated (less)'
    'idle_200 300000 160000 bytes per second that an idle peer of 200 sends, simulated (less)'
    'idle_800 300000 160000 bytes per second that an idle peer of 800 sends, simulated (less)'
    'exchange_bytes 2000 500 bytes of a repair between equal peers (less)'
    'dead_50_ms 5000 2000 ms until all of 50 see a dead peer, simulated (less)'
    'dead_200_ms 5000 2500 ms until all of 200 see a dead peer at 10 % loss, simulated (less)'
    'false_alarms 0 0 living peers taken for dead in 10,000 pair-hours at 10 % loss, simulated (less)'
    'heal_200_s 5 1 seconds until 200 peers are equal after a split of 60 s, simulated (less)'
    'full_s 30 5 seconds for a peer without anything to have 100,000 endpoints, simulated links (less)'
    'full_bytes 200000000 60000000 bytes that a peer takes for them (less)'
    'acknowledged 500 5000 acknowledged writes per second on one peer, fsync on'
)
readonly STATE_ROWS=(spread acknowledged full cores gossip)

state_usage() {
    cat <<'USAGE'
usage: tests/bench.sh state [--rounds 3] [--seconds 5] [--hosts 3] [--rows ROW,…] [--json FILE] [--markdown FILE]
Measures what replicated state and membership cost and prints it beside what is aimed at: medians of the rounds for what
real peers do, one run of what is simulated.
--rows     only these: spread and acknowledged (a lab of --hosts hosts, 3 to 10), full (100,000 endpoints pulled by a new
           peer), cores (100, 200 and 800 simulated peers), gossip (50 to 800 simulated members; the longest, about 30 minutes)
--json     all samples and verdicts; --markdown: the table
Exit code 0 also where an aim is missed. Environment: FABRIC_BIN=DIR uses built binaries, and, unless DIR ends in release,
an unoptimized build of what is simulated, whose times then mean nothing.
USAGE
}

state() {
    local json='' markdown='' rows='' hosts=3 row
    rounds=3 seconds=5
    while (($#)); do
        case $1 in
            --rounds) need_value "$@" && rounds=$2 && shift 2 ;;
            --seconds) need_value "$@" && seconds=$2 && shift 2 ;;
            --hosts) need_value "$@" && hosts=$2 && shift 2 ;;
            --rows) need_value "$@" && rows=$2 && shift 2 ;;
            --json) need_value "$@" && json=$2 && shift 2 ;;
            --markdown) need_value "$@" && markdown=$2 && shift 2 ;;
            -h | --help) state_usage && return 0 ;;
            *) state_usage >&2 && usage_error "unknown argument $1" ;;
        esac
    done
    need_numbers
    [[ $hosts =~ ^([3-9]|10)$ ]] || usage_error "--hosts takes a number from 3 to 10"
    for row in $(tr ',' ' ' <<<"$rows"); do
        [[ " ${STATE_ROWS[*]} " == *" $row "* ]] || usage_error "--rows takes ${STATE_ROWS[*]}, not $row"
    done
    trap clean_up EXIT
    use_toolchain
    if wants spread || wants acknowledged; then
        measure_peers "$hosts"
    fi
    ! wants full || measure_full
    ! wants cores || measure_cores
    ! wants gossip || measure_gossip
    state_report >"$samples.json"
    state_table <"$samples.json"
    [[ -z $markdown ]] || state_markdown <"$samples.json" >"$markdown"
    keep_report "$json"
}

# wants ROW: whether it is asked for.
wants() {
    [[ -z $rows || ,$rows, == *,$1,* ]]
}

# state_sample NUMBER VALUE
state_sample() {
    printf '%s %s\n' "$1" "$2" >>"$samples"
}

# measure_peers HOSTS
measure_peers() {
    local round
    need_root "$0"
    "$repo/deploy/setup.sh" --for bench
    build_load
    lab up --hosts "$1" >&2
    write_manifests
    for ((round = 1; round <= rounds; round++)); do
        ! wants spread || state_sample spread_ms "$(spread_p99 "$1")"
        ! wants acknowledged || state_sample acknowledged "$(acknowledged)"
        say "round $round of $rounds"
    done
}

spread_p99() {
    local -a read=()
    local n
    for ((n = 2; n <= $1; n++)); do
        read+=(--read "$(api_of "fab$n")")
    done
    "$load_tool" spread --write "$(api_of fab1)" "${read[@]}" --times 200 | sort -g |
        awk '{ all[NR] = $1 } END { if (!NR) exit 1; print all[int(NR * 0.99 + 0.999999)] }'
}

write_manifests() {
    local n
    mkdir -p "$samples.state"
    printf 'kind: Domain\nname: state\nspec: {}\n---\n%s\n' \
        '{kind: Network, domain: state, name: lan, spec: {subnets: [10.60.0.0/16]}}' >"$samples.domain"
    lab exec fab1 -- fabricctl apply --wait -f "$samples.domain" >/dev/null || die "the domain 'state' was refused"
    # Twice with other labels, so that each write changes something.
    for ((n = 0; n < 400; n++)); do
        printf '{kind: Endpoint, domain: state, name: e-%d, spec: {network: lan, addresses: [10.60.1.%d], labels: {n: "%d"}}}\n' \
            $((n % 200)) $((n % 200 + 1)) "$n" >"$samples.state/$(printf '%03d' "$n")"
    done
}

acknowledged() {
    "$load_tool" changes --api "$(api_of fab1)" --manifests "$samples.state" --rate 1000000 --seconds "$seconds" --writers 64
}

# core_test NAME: the lines of JSON that a measuring test of the membership crate prints.
core_test() {
    local -a profile=(--release)
    [[ -z ${FABRIC_BIN:-} || $FABRIC_BIN == */release ]] || profile=()
    quietly "$samples.core" cargo test --manifest-path "$repo/Cargo.toml" "${profile[@]}" --locked -p membership --lib \
        -- --ignored --nocapture --exact "$1" || die "$1 failed"
    grep -oE '\{"[^}]*\}' "$samples.core" || die "$1 printed no numbers"
}

measure_full() {
    say "pulling 100,000 endpoints"
    core_test sync::bench::full |
        jq -r '"full_s \(.simulated_s + .worked_s)", "full_bytes \(.resident_bytes)"' >>"$samples"
}

measure_cores() {
    say "simulating 100, 200 and 800 peers"
    core_test sync::bench::state >"$samples.cores"
    jq -r '(select(.peers == 800) | "spread_800_ms \(.write_to_all_p99_ms)", "copies_800 \(.copies_per_write_and_peer)"),
           (select(.peers == 200) | "heal_200_s \(.split_healed_s)", "exchange_bytes \(.idle_exchange_bytes)"),
           "repair_\(.peers) \(.idle_repair_bytes_per_second_and_peer)"' "$samples.cores" >>"$samples"
}

measure_gossip() {
    local peers
    say "simulating gossip of 50 members"
    FABRIC_PEERS=50 core_test gossip::simulation::measured | jq -r '"dead_50_ms \(.death_seen_by_all_ms)"' >>"$samples"
    say "simulating gossip of 200 members for 10,000 pair-hours at 10 % loss"
    FABRIC_PEERS=200 FABRIC_LOSS=0.1 FABRIC_SECONDS=910 core_test gossip::simulation::measured |
        jq -r '"dead_200_ms \(.death_seen_by_all_ms)", "false_alarms \(.false_alarms)"' >>"$samples"
    for peers in 100 200 800; do
        say "simulating gossip of $peers members"
        FABRIC_PEERS=$peers FABRIC_SECONDS=30 core_test gossip::simulation::measured |
            jq -r '"gossip_\(.peers) \(.bytes_per_second_and_peer)"' >>"$samples"
    done
}

# What an idle peer sends is its gossip and its repairs: told if both were measured.
state_report() {
    jq -Rn --argjson rounds "$rounds" --arg kernel "$(uname -r)" --arg aims "$(printf '%s\n' "${STATE_AIMS[@]}")" '
        def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        def verdict: if .aim == .at_least then (if .measured == .aim then "aim" else "missed" end)
            elif .aim < .at_least
            then (if .measured <= .aim then "aim" elif .measured <= .at_least then "enough" else "missed" end)
            else (if .measured >= .aim then "aim" elif .measured >= .at_least then "enough" else "missed" end) end;
        [inputs | split(" ") | {key: .[0], value: (.[1] | tonumber)}] | group_by(.key)
        | map({key: .[0].key, value: map(.value)}) | from_entries as $all
        | reduce (100, 200, 800) as $n ($all; if .["repair_\($n)"] and .["gossip_\($n)"]
            then .["idle_\($n)"] = [.["repair_\($n)"][0] + .["gossip_\($n)"][0]] else . end)
        | . as $all
        | {kernel: $kernel, rounds: $rounds, samples: $all,
           aims: [$aims | split("\n")[] | split(" ") | . as $aim | $all[$aim[0]] // empty
              | {number: $aim[0], what: ($aim[3:] | join(" ")), at_least: ($aim[1] | tonumber), aim: ($aim[2] | tonumber),
                 measured: median, lowest: min, highest: max} | .verdict = verdict]}' <"$samples"
}

state_table() {
    printf '\n%-92s %10s %10s %12s  %s\n' what 'at least' aim measured verdict
    jq -r '.aims[] | [.what, .at_least, .aim, .measured, .verdict] | @tsv' |
        awk -F '\t' '{ printf "%-92s %10s %10s %12.1f  %s\n", $1, $2, $3, $4, $5 }'
}

# The table as a document has it.
state_markdown() {
    printf '| what | at least | aim | measured | rounds from–to | |\n|---|---|---|---|---|---|\n'
    jq -r 'def cut: . * 100 | round / 100;
           .aims[] | "| \(.what) | \(.at_least) | \(.aim) | \(.measured | cut) | \(.lowest | cut)–\(.highest | cut) | \(.verdict) |"'
}
