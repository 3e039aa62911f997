# shellcheck shell=bash
# What changes cost: three hosts in a lab of their own, and a domain of many endpoints of which two are attached.
#
#   first_packet  milliseconds from a call of the API on one host, which allows, to the first packet on another
#   changes       while endpoints change 30 times a second: percent of a CPU that the daemon takes where the API is called,
#                 and percent of packets that the slow path decided, at most
#   memory        bytes of a daemon for an endpoint that is elsewhere, once what writing took is given back
#
# shellcheck disable=SC2154,SC2034 # set by bench.sh and the files beside this one, or for them

# The most objects that one apply takes.
readonly BATCH=250

# make_fleet ENDPOINTS
make_fleet() {
    local count=$1 n
    fleet_manifests "$count"
    say "writing a domain of $count endpoints"
    for n in "$samples.fleet"/many-*; do
        lab exec fab1 -- fabricctl apply -f "$n" >/dev/null || die "the domain 'many' was refused"
    done
    lab exec fab1 -- fabricctl apply --wait -f "$samples.fleet/deny" >/dev/null || die "the rules were refused"
    attach_fleet asker 1
    attach_fleet answerer 3
    start_answerer
}

# attach_fleet ENDPOINT NUMBER-OF-HOST
attach_fleet() {
    namespace "$id-$1"
    (within 120 lab exec "fab$2" -- fabricctl get endpoint "$1" -d many -o json) >/dev/null 2>&1 ||
        die "fab$2 does not know the endpoint $1 after two minutes"
    lab exec "fab$2" -- fabricctl endpoint attach "many/$1" --netns "$id-$1" >&2
}

start_answerer() {
    server[fleet]=$id-answerer
    serve fleet "$load_tool" serve --listen 10.40.0.12:11113
    serve fleet sockperf server -i 10.40.0.12 -p 11111
}

# Manifests: the domain in batches, rules that allow and deny, and endpoints that rules speak of and do not, one each.
fleet_manifests() {
    local count=$1 batch n
    mkdir -p "$samples.fleet/changes"
    cat >"$samples.fleet/many-00000" <<'YAML'
kind: Domain
name: many
spec: { defaultPolicy: deny }
---
kind: Network
domain: many
name: lan
spec: { subnets: [10.40.0.0/16] }
---
kind: SecurityPolicy
domain: many
name: open
spec: { appliesTo: { matchLabels: { app: asker } }, egress: [{ action: allow }] }
---
kind: Endpoint
domain: many
name: asker
spec: { network: lan, addresses: [10.40.0.11], labels: { app: asker } }
---
kind: Endpoint
domain: many
name: answerer
spec: { network: lan, addresses: [10.40.0.12], labels: { app: answerer } }
YAML
    for ((batch = 0; batch * BATCH < count; batch++)); do
        for ((n = batch * BATCH; n < (batch + 1) * BATCH && n < count; n++)); do
            endpoint_manifest "$n" quiet
        done >"$samples.fleet/many-$(printf '%05d' $((batch + 1)))"
    done
    for ((n = 0; n < 300 && n < count; n++)); do
        endpoint_manifest "$n" answerer >"$samples.fleet/changes/a$(printf '%05d' "$n")"
        endpoint_manifest "$n" quiet >"$samples.fleet/changes/b$(printf '%05d' "$n")"
    done
    fleet_rule allow >"$samples.fleet/allow"
    fleet_rule deny >"$samples.fleet/deny"
}

# endpoint_manifest NUMBER LABEL
endpoint_manifest() {
    printf -- '---\nkind: Endpoint\ndomain: many\nname: e-%d\nspec: { network: lan, addresses: [10.40.%d.%d], labels: { app: %s } }\n' \
        "$1" $((1 + $1 / 200)) $((1 + $1 % 200)) "$2"
}

fleet_rule() {
    cat <<YAML
kind: SecurityPolicy
domain: many
name: answerer
spec:
  appliesTo: { matchLabels: { app: answerer } }
  ingress: [{ action: $1, protocol: udp, ports: [11111, 11113] }]
YAML
}

api_of() {
    printf '/run/fabric-lab/%s/%s/api.sock\n' "$id" "$1"
}

first_packet() {
    nsenter --net="/run/netns/$id-asker" "$load_tool" first --to 10.40.0.12:11113 --api "$(api_of fab1)" \
        --allow "$samples.fleet/allow" --deny "$samples.fleet/deny" --times "$1" | sort -g |
        awk '{ all[NR] = $1 } END { if (!NR) exit 1; at = int(NR * 0.99 + 0.999999); print all[at] }'
}

# changes SECONDS: percent of a CPU that the daemon of the host with the API takes, and of packets that its slow path had to
# decide, while endpoints change and the server of the routed domain is asked as fast as it answers.
changes() {
    local period=$1 before after rate slow packets asking
    lab exec fab1 -- fabricctl apply --wait -f "$samples.fleet/allow" >/dev/null
    nsenter --net="/run/netns/$id-asker" sockperf ping-pong -i 10.40.0.12 -p 11111 -t $((period + 4)) -m 64 \
        </dev/null >/dev/null 2>&1 &
    asking=$!
    sleep 2
    exec {ask}> >(exec "$(tool examples/fabric-generations)" "$(dirname "$(find "/run/fabric-lab/$id/fab1/bpf" -name FLOWS)")" >"$samples.slow")
    within 5 grep -qs 0 "$samples.slow" || die "the flows of fab1 cannot be read"
    time_programs 1
    packets=$(hooked_runs fab1)
    before=$(daemon_ticks fab1)
    rate=$("$load_tool" changes --api "$(api_of fab1)" --manifests "$samples.fleet/changes" --seconds "$period") ||
        die "the changes were refused"
    after=$(daemon_ticks fab1)
    packets=$(($(hooked_runs fab1) - packets))
    time_programs 0
    echo >&"$ask"
    within 5 two_lines "$samples.slow" || die "the flows of fab1 cannot be read again"
    exec {ask}>&-
    slow=$(tail -n 1 "$samples.slow")
    kill "$asking" 2>/dev/null || true
    say "$rate changes a second, $packets packets, of which $slow at most were decided again"
    awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v seconds="$period" -v slow="$slow" -v packets="$packets" \
        'BEGIN { if (!packets) exit 1; print ticks / hz / seconds * 100, slow / packets * 100 }'
}

two_lines() {
    (($(wc -l <"$1") >= 2))
}

# Runs of the first programs of a host: one at its underlay, one at its workloads' interfaces.
hooked_runs() {
    local pin sum=0 number
    for number in $(find "/run/fabric-lab/$id/$1/bpf/fabric" -path '*/hooks/*-from_*-tcx' | while read -r pin; do
        bpftool -j link show pinned "$pin" | jq .prog_id
    done | sort -u); do
        read -r _ number < <(program_time "$number")
        sum=$((sum + number))
    done
    printf '%s\n' "$sum"
}

# Ticks of CPU time that a host's daemon took.
daemon_ticks() {
    local pid
    read -r pid _ <"/run/fabric-lab/$id/$1/pid"
    awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat"
}

# Resident bytes of a host's daemon.
daemon_memory() {
    local pid
    read -r pid _ <"/run/fabric-lab/$id/$1/pid"
    awk '$1 == "VmRSS:" { print $2 * 1024 }' "/proc/$pid/status"
}

# The least of a minute: the allocator gives back what is free when it comes to it.
settled_memory() {
    local least now try
    least=$(daemon_memory "$1")
    for ((try = 0; try < 12; try++)); do
        sleep 5
        now=$(daemon_memory "$1")
        ((now >= least)) || least=$now
    done
    printf '%s\n' "$least"
}

# measure_fleet ENDPOINTS TIMES SECONDS: what was made for other rows goes first.
measure_fleet() {
    local memory value
    stop_servers
    unmake_ways
    lab up --hosts 3 >&2
    memory=$(daemon_memory fab3)
    make_fleet "$1"
    fleet_sample memory $((($(settled_memory fab3) - memory) / $1))
    say "allowing and denying $2 times"
    value=$(first_packet "$2") || die "no first packets"
    fleet_sample first_packet "$value"
    say "changing endpoints for $3 s"
    value=$(changes "$3") || die "no numbers of changes"
    fleet_sample changes_cpu "${value% *}"
    fleet_sample slow_share "${value#* }"
}

# fleet_sample ROW VALUE
fleet_sample() {
    printf '1 %s - fabric %s 0\n' "$1" "$2" >>"$samples"
}
