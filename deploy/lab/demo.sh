# shellcheck shell=bash
# The demo on a made cluster: objects, workloads, and the proof of what they may and may not reach.
# shellcheck disable=SC2154 # lab_id and repo are set by lab.sh

# More than three hosts: more endpoints of the same form.
more_endpoints() {
    local host number domain
    while read -r host; do
        number=${host#fab}
        ((number > 3)) || continue
        for domain in red blue; do
            cat <<YAML
---
kind: Endpoint
domain: $domain
name: web-$number
spec:
  network: lan
  addresses: [10.0.0.$((10 + number)), "fd00::$((10 + number))"]
  labels: { app: web }
YAML
        done
    done < <(hosts)
}

apply_demo() {
    local last
    last=$(hosts | tail -n 1)
    say "applying deploy/examples/demo.yaml on $last"
    { cat "$repo/deploy/examples/demo.yaml" && more_endpoints; } >"$(state)/demo.yaml"
    fabricctl "$last" apply --wait -f "$(state)/demo.yaml" >&2 || die "the demo's objects were refused"
}

# attach DOMAIN ENDPOINT HOST: a namespace as a workload.
attach() {
    local name=$1-$2
    make_namespace "$name"
    (within 10 fabricctl "$3" get endpoint "$2" -d "$1" -o json) >/dev/null 2>&1 ||
        die "$3 does not know endpoint $1/$2 after 10 s"
    fabricctl "$3" endpoint attach "$1/$2" --netns "$(namespace "$name")" >&2 || die "$1/$2 could not be attached on $3"
    printf '%s %s %s %s\n' "$name" "$1" "$2" "$3" >>"$(state)/workloads"
}

attach_demo() {
    local host domain
    say "attaching workloads"
    while read -r host; do
        for domain in red blue; do
            attach "$domain" "web-${host#fab}" "$host"
        done
    done < <(hosts)
    attach blue db-1 fab1
}

# check WORDS… -- COMMAND…: prints the outcome; failures are remembered.
check() {
    local words=()
    while [[ $1 != -- ]]; do
        words+=("$1")
        shift
    done
    shift
    # In a subshell: what a trap of this shell says is not thrown away with the command's output.
    if ("$@") >/dev/null 2>&1; then
        printf '  ok      %s\n' "${words[*]}"
    else
        printf '  FAILED  %s\n' "${words[*]}"
        failed=yes
    fi
}

pings() {
    in_workload "$1" ping -n -c 2 -i 0.2 -W 2 "$2"
}

# Nothing comes back, on a way that the caller has shown to be there for somebody else.
silent() {
    ! in_workload "$1" ping -n -c 2 -i 0.2 -W 1 "$2"
}

# MAC address that a workload has for a neighbour it has just talked to.
learned_mac() {
    ip -n "$(namespace "$1")" -j neighbour show to "$2" | jq -r '.[0].lladdr // empty'
}

own_mac() {
    ip -n "$(namespace "$1")" -j link show eth0 | jq -r '.[0].address'
}

# reaches_own A B ADDRESS: the shared address leads to the workload of A's own domain.
reaches_own() {
    pings "$1" "$3" && [[ $(learned_mac "$1" "$3") == "$(own_mac "$2")" ]]
}

show_inside() {
    local from to number family address
    while read -r to _ _ _; do
        from=$1-web-1 number=${to##*-}
        [[ $to == "$1"-web-* && $number != 1 ]] || continue
        for family in 4 6; do
            address=$(address "$to" "$family")
            check "$from -> $to ($address, fab1 -> fab$number)" -- reaches_own "$from" "$to" "$address"
        done
    done < <(workloads "$1")
}

show_between() {
    local family address
    for family in 4 6; do
        address=$(address blue-db-1 "$family")
        check "blue-web-2 -> $address, which only blue has" -- pings blue-web-2 "$address"
        check "red-web-2 gets no answer from $address" -- silent red-web-2 "$address"
        check "red-web-1, on the same host, gets no answer from $address" -- silent red-web-1 "$address"
    done
}

show_demo() {
    failed=
    echo "Inside each domain, across hosts, over IPv4 and IPv6:"
    show_inside red
    show_inside blue
    echo "Between the domains:"
    show_between
    echo "fabricctl status on fab2:"
    fabricctl fab2 status | sed 's/^/  /' || failed=yes
    [[ -z $failed ]]
}

# The answer of `list -o json`, kept so that it can be given while hosts are off.
write_list() {
    local name domain endpoint host network
    {
        while read -r host; do
            jq -nc --arg name "$host" --arg address "$(host_address "$host")" \
                '{host: {name: $name, addresses: [$address]}}'
        done < <(hosts)
        while read -r name domain endpoint host; do
            network=$(fabricctl "$host" get endpoint "$endpoint" -d "$domain" -o json |
                jq -r 'if type == "array" then .[0] else . end | .spec.network')
            jq -nc --arg name "$name" --arg domain "$domain" --arg network "$network" --arg host "$host" \
                --arg mac "$(own_mac "$name")" --arg v4 "$(address "$name" 4)" --arg v6 "$(address "$name" 6)" \
                '{workload: {name: $name, domain: $domain, network: $network, host: $host, mac: $mac,
                             addresses: [$v4, $v6]}}'
        done < <(workloads)
    } | jq -s '{hosts: map(.host // empty), workloads: map(.workload // empty)}' >"$(state)/list.json"
}
