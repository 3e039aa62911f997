# shellcheck shell=bash
# The ways from a client to a server that are compared, each with two namespaces of its own as workloads. All but `raw`
# have two hosts in between, joined by a cable: what stands on the way between hosts is no part of what is measured.
#
#   raw           a cable
#   minimal       the least eBPF program that tunnels (datapath/ebpf/src/minimal.rs)
#   bridge_vxlan  the kernel's bridge and vxlan device
#   bridge_nft    the same with nftables and connection tracking, rules as in routed.yaml
#   fabric        the fabric: one network that allows all (overview), or routed behind rules (datapath)
#
# shellcheck disable=SC2154,SC2034 # id and repo are set by bench.sh; the other files read what is set here

readonly WORKLOAD_MTU=1430

# Which namespaces and addresses a way joins: client, server, address of the server. And the devices that its packets
# meet, as "namespace device": of the client's side, of the server's, and the one where the server's side takes packets
# off the wire.
declare -A client=() server=() address=() sending=() receiving=() arriving=()
# Numbers of the first programs of WAY-sends and WAY-receives: time that they tail-call counts as theirs.
declare -A program=()
declare -a made=() holders=()

lab() {
    "$repo/deploy/lab.sh" --id "$id" "$@"
}

in_namespace() {
    local name=$1
    shift
    nsenter --net="/run/netns/$name" "$@"
}

namespace() {
    ip netns add "$1"
    made+=("$1")
    ip -n "$1" link set lo up
}

mac_of() {
    ip -n "$1" -j link show "$2" | jq -r '.[0].address'
}

unmake_ways() {
    local name
    ((${#holders[@]} == 0)) || kill "${holders[@]}" 2>/dev/null || true
    for name in "${made[@]}"; do
        ip netns delete "$name" || true
    done
    made=() holders=()
    [[ ! -e /run/fabric-lab/$id ]] || lab down
}

# Two namespaces and a cable.
make_raw() {
    namespace "$id-raw1"
    namespace "$id-raw2"
    ip link add eth0 netns "$id-raw1" type veth peer name eth0 netns "$id-raw2"
    ip -n "$id-raw1" address add 10.0.0.1/24 dev eth0
    ip -n "$id-raw2" address add 10.0.0.2/24 dev eth0
    ip -n "$id-raw1" link set eth0 up
    ip -n "$id-raw2" link set eth0 up
    client[raw]=$id-raw1 server[raw]=$id-raw2 address[raw]=10.0.0.2
    sending[raw]="$id-raw1 eth0"
    receiving[raw]="$id-raw2 eth0"
    arriving[raw]="$id-raw2 eth0"
}

# make_pair WAY NET: two hosts with addresses 192.0.2.NET1 and 192.0.2.NET2, each with the host side `work` of a workload.
make_pair() {
    local way=$1 net=$2 n host work
    namespace "$id-$way-h1"
    namespace "$id-$way-h2"
    ip link add eth0 netns "$id-$way-h1" type veth peer name eth0 netns "$id-$way-h2"
    for n in 1 2; do
        host=$id-$way-h$n work=$id-$way-w$n
        ip -n "$host" address add "192.0.2.$net$n/24" dev eth0
        ip -n "$host" link set eth0 up
        namespace "$work"
        ip link add work netns "$host" type veth peer name eth0 netns "$work"
        ip -n "$host" link set work up
        ip -n "$work" link set eth0 mtu "$WORKLOAD_MTU" up
        ip -n "$work" address add "10.0.0.$n/24" dev eth0
    done
    client[$way]=$id-$way-w1 server[$way]=$id-$way-w2 address[$way]=10.0.0.2
    sending[$way]="$id-$way-w1 eth0,$id-$way-h1 work,$id-$way-h1 eth0"
    receiving[$way]="$id-$way-h2 eth0,$id-$way-h2 work,$id-$way-w2 eth0"
    arriving[$way]="$id-$way-h2 eth0"
}

# make_bridges WAY NET: a bridge and a vxlan device on each host.
make_bridges() {
    local way=$1 net=$2 n host
    make_pair "$way" "$net"
    for n in 1 2; do
        host=$id-$way-h$n
        ip -n "$host" link add br0 type bridge
        ip -n "$host" link add vxlan0 type vxlan id 7 dstport 4789 \
            local "192.0.2.$net$n" remote "192.0.2.$net$((3 - n))"
        ip -n "$host" link set vxlan0 master br0 up
        ip -n "$host" link set work master br0
        ip -n "$host" link set br0 up
    done
}

make_bridge_vxlan() {
    local n
    make_bridges bridge_vxlan 10
    for n in 1 2; do
        bridge_rules "$id-bridge_vxlan-h$n" 0
    done
}

# The rules stand at both ends, as the fabric's do.
make_bridge_nft() {
    local n host
    make_bridges bridge_nft 11
    for n in 1 2; do
        host=$id-bridge_nft-h$n
        bridge_rules "$host" 1
        in_namespace "$host" nft -f - <<'NFT'
table ip bench {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        ip daddr 10.0.0.2 tcp dport { 5201, 11112, 11113 } accept
        ip daddr 10.0.0.2 udp dport { 5201, 11111 } accept
    }
}
NFT
    done
}

# bridge_rules HOST 0|1: whether bridged packets meet the rules of IP.
bridge_rules() {
    local file=/proc/sys/net/bridge/bridge-nf-call-iptables
    in_namespace "$1" sh -c "[ ! -e $file ] || echo $2 >$file"
}

# Each workload knows the other's MAC address: the program leaves ARP to the kernel, which has no way for it.
make_minimal() {
    local n far host
    make_pair minimal 12
    for n in 1 2; do
        far=$((3 - n)) host=$id-minimal-h$n
        ip -n "$id-minimal-w$n" neighbour add "10.0.0.$far" lladdr "$(mac_of "$id-minimal-w$far" eth0)" dev eth0
        hold "$host" "$(tool examples/fabric-minimal)" \
            eth0 "192.0.2.12$n" "$(mac_of "$host" eth0)" "192.0.2.12$far" "$(mac_of "$id-minimal-h$far" eth0)" \
            work "10.0.0.$n" "$(mac_of "$id-minimal-w$n" eth0)" "10.0.0.$far" "$(mac_of "$id-minimal-w$far" eth0)" >"$samples.programs$n"
    done
    read -r "program[minimal-sends]" _ <"$samples.programs1"
    read -r _ "program[minimal-receives]" <"$samples.programs2"
}

# hold NAMESPACE COMMAND…: runs it until we end, however we do: its input ends with us. Prints what it says to be ready.
hold() {
    local said=$samples.said
    [[ -p $samples.life ]] || { mkfifo "$samples.life" && exec {life}<>"$samples.life"; }
    nsenter --net="/run/netns/$1" "${@:2}" <"$samples.life" >"$said" {life}>&- &
    holders+=("$!")
    within 20 grep -qs ready "$said" || die "${*:2:1} is not ready after 20 s"
    sed 's/ready *//' "$said"
    rm -f "$said"
}

# The demo's domain red: one network, all is allowed.
make_fabric_flat() {
    lab up --hosts 2 --underlay cable >&2
    client[fabric]=$id-red-web-1 server[fabric]=$id-red-web-2 address[fabric]=10.0.0.12
}

# Two networks, a router between them, stateful rules.
make_fabric_routed() {
    local n name
    lab up --hosts 2 --underlay cable >&2
    lab exec fab1 -- fabricctl apply --wait -f "$repo/tests/bench/routed.yaml" >&2
    for n in 1 2; do
        name=client
        ((n == 1)) || name=server
        namespace "$id-$name"
        (within 10 lab exec "fab$n" -- fabricctl get endpoint "$name" -d bench -o json) >/dev/null 2>&1 ||
            die "fab$n does not know the endpoint $name"
        lab exec "fab$n" -- fabricctl endpoint attach "bench/$name" --netns "$id-$name" >&2
    done
    client[fabric]=$id-client server[fabric]=$id-server address[fabric]=10.20.2.12
    sending[fabric]="$id-client eth0,$id-fab1 $(host_side "$id-client" "$id-fab1"),$id-fab1 eth0"
    receiving[fabric]="$id-fab2 eth0,$id-fab2 $(host_side "$id-server" "$id-fab2"),$id-server eth0"
    arriving[fabric]="$id-fab2 eth0"
    program[fabric-sends]=$(hooked fab1 "$id-fab1" "$(host_side "$id-client" "$id-fab1")" from_endpoint)
    program[fabric-receives]=$(hooked fab2 "$id-fab2" eth0 from_underlay)
}

# hooked HOST NAMESPACE DEVICE PROGRAM: number of the first program of the fabric's hook there.
hooked() {
    local index pin
    index=$(ip -n "$2" -j link show "$3" | jq '.[0].ifindex')
    pin=$(find "/run/fabric-lab/$id/$1/bpf/fabric" -path "*/hooks/$index-$4-tcx")
    [[ -n $pin ]] || die "$4 is not attached to $3 of $1"
    bpftool -j link show pinned "$pin" | jq .prog_id
}

# host_side WORKLOAD HOST: the name of the other end of its eth0.
host_side() {
    local index
    index=$(ip -n "$1" -j link show eth0 | jq '.[0].link_index')
    ip -n "$2" -j link show | jq -r --argjson index "$index" '.[] | select(.ifindex == $index) | .ifname'
}
