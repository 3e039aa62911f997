# shellcheck shell=bash
# Numbers of `tests/bench.sh datapath` as JSON, and the JSON as tables.
# shellcheck disable=SC2154 # set by bench.sh and datapath.sh

datapath_report() {
    jq -Rn --argjson rounds "$rounds" --argjson seconds "$seconds" --arg kernel "$(uname -r)" \
        --arg traffic "$(printf '%s\n' "${TRAFFIC[@]}")" --arg aims "$(printf '%s\n' "${AIMS[@]}")" '
        def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor]
                           else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        # Where less is better, the aim is below what is enough.
        def verdict: if .aim == null then "-"
            elif (if .aim < .at_least then .measured <= .aim else .measured >= .aim end) then "aim"
            elif (if .aim < .at_least then .measured <= .at_least else .measured >= .at_least end) then "enough"
            else "missed" end;
        def number: if . == "-" then null else tonumber end;
        def lines: split("\n") | map(split(" "));
        ($traffic | lines | map({key: .[0], value: {value: .[3], cpu: .[4]}}) | from_entries) as $units
        | [inputs | split(" ") | {round: (.[0] | tonumber), row: .[1], state: .[2], way: .[3],
                                  value: (.[4] | tonumber), busy: (.[5] | tonumber)}] as $all
        | {kernel: $kernel, rounds: $rounds, seconds: $seconds,
           aims: [$aims | lines[] as $aim | ($aim[2] / "/") as $pair
              | [$all[] | select(.row == $aim[0] and .state == $aim[1])] as $of
              | [range(1; $rounds + 1) as $round
                 | [$pair[] as $way | [$of[] | select(.round == $round and .way == $way)][0].value]
                 | select(all(. != null)) | if length == 1 then .[0] else .[0] / .[1] end] as $ratios
              | select($ratios | length > 0)
              | {row: $aim[0], state: $aim[1], ratio: $aim[2], what: ($aim[5:] | join(" ")),
                 at_least: ($aim[3] | number), aim: ($aim[4] | number),
                 measured: ($ratios | median), lowest: ($ratios | min), highest: ($ratios | max)}
              | .verdict = verdict],
           rows: [$all | map(select(.state != "-")) | group_by([.row, .state, .way])[]
              | .[0] as $first | ($units[$first.row] // {value: "ns", cpu: null}) as $unit
              | {row: $first.row, state: $first.state, way: $first.way, unit: $unit.value, median: (map(.value) | median),
                 cpu_unit: $unit.cpu,
                 cpu_nanoseconds: (if $unit.cpu == null then null
                    else (map(.busy / (.value * $seconds / (if $unit.cpu == "byte" then 8 else 1 end))) | median) end),
                 samples: map(.value)}]}' <"$samples"
}

datapath_table() {
    local json
    json=$(cat)
    printf '\n%-66s %-5s %8s %8s %8s  %-8s %s\n' 'ratio (median of the rounds)' state 'at least' aim measured verdict 'lowest–highest'
    jq -r '.aims[] | [.what, .state, .at_least // "-", .aim // "-", .measured, .verdict, .lowest, .highest] | @tsv' <<<"$json" |
        awk -F '\t' '{ printf "%-66s %-5s %8s %8s %8.2f  %-8s %.2f–%.2f\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
    printf '\n%-24s %-5s %-14s %16s %-6s %12s\n' row state way median unit 'CPU'
    jq -r '.rows[] | [.row, .state, .way, .median, .unit, .cpu_nanoseconds // "", .cpu_unit // ""] | @tsv' <<<"$json" |
        awk -F '\t' '{ printf "%-24s %-5s %-14s %16.0f %-6s ", $1, $2, $3, $4, $5
                       if ($6 != "") printf "%12.2f ns a %s", $6, $7; print "" }'
}

# The table of README.md.
datapath_markdown() {
    printf '| what | offloads | at least | aim | measured | rounds from–to | |\n|---|---|---|---|---|---|---|\n'
    jq -r 'def cut: . * 100 | round / 100;
           .aims[] | "| \(.what) | \(.state) | \(.at_least // "") | \(.aim // "") | \(.measured | cut) | \(.lowest | cut)–\(.highest | cut) | \(.verdict) |"'
}
